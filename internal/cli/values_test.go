package cli

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
)

func TestParseValue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want any
	}{
		{"1", json.Number("1")},
		{"-0.50", json.Number("-0.50")},
		{"1e3", json.Number("1e3")},
		{"123456789012345678901234567890", json.Number("123456789012345678901234567890")},
		{"true", true},
		{"True", true},
		{"false", false},
		{"False", false},
		{"null", nil},
		{"None", nil},
		{" None ", nil},
		{"", ""},
		{"text", "text"},
		{"two words", "two words"},
		{"01", "01"},
		{`"01"`, "01"},
		{`"true"`, "true"},
		{"1_000", "1_000"},
		{"0x10", "0x10"},
		{"NaN", "NaN"},
		{"Infinity", "Infinity"},
		{"TRUE", "TRUE"},
		{"[1, 2]", []any{json.Number("1"), json.Number("2")}},
		{`{"a": {"b": []}}`, document.Object{"a": document.Object{"b": []any{}}}},
		{"[1, 2", "[1, 2"},
		{"{a}", "{a}"},
		{"1 2", "1 2"},
		{"a=b=c", "a=b=c"},
		{"s3://bucket/key", "s3://bucket/key"},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, parseValue(test.text)); diff != "" {
			t.Errorf("parseValue(%q): %s", test.text, diff)
		}
	}
}

// FuzzParseValue: any text has a value, and text that is JSON keeps its meaning.
func FuzzParseValue(f *testing.F) {
	for _, seed := range []string{"1", "True", `{"a":[1,"x"]}`, "01", `"\ud800"`, "NaN", "\x00", "[[[["} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		value := parseValue(text)
		switch value.(type) {
		case string:
		default:
			again := parseValue(string(document.Encode(value)))
			if diff := cmp.Diff(document.Encode(value), document.Encode(again)); diff != "" {
				t.Errorf("%q is %v and then %v", text, value, again)
			}
		}
	})
}

func TestParseParams(t *testing.T) {
	t.Parallel()
	got, err := parseParams([]string{"a=1", " b =x=y", "c=", "a=2"})
	if err != nil {
		t.Fatal(err)
	}
	want := document.Object{"a": json.Number("2"), "b": "x=y", "c": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"", "novalue", "=1", " =1"} {
		_, err := parseParams([]string{text})
		if exitStatus(err) != ExitUsage {
			t.Errorf("parseParams(%q): %v, want a usage error", text, err)
		}
	}
}

func TestInputURL(t *testing.T) {
	t.Parallel()
	e := &env{Process: Process{Dir: "/home/ada/dir", HomeDir: "/home/ada"}}
	for text, want := range map[string]string{
		"data.csv":         "/home/ada/dir/data.csv",
		"./a/../data.csv":  "/home/ada/dir/data.csv",
		"/abs/data.csv":    "/abs/data.csv",
		"~/data.csv":       "/home/ada/data.csv",
		"s3://b/k":         "s3://b/k",
		"store://datasets": "store://datasets",
		"":                 "",
	} {
		if got := e.inputURL(text); got != want {
			t.Errorf("inputURL(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestParseEnv(t *testing.T) {
	t.Parallel()
	e := &env{Process: Process{Getenv: func(name string) string { return map[string]string{"HERE": "yes"}[name] }}}
	got, err := e.parseEnv([]string{"A=1", "B=x=y", "C=", "HERE"})
	if err != nil {
		t.Fatal(err)
	}
	want := []any{
		document.Object{"name": "A", "value": "1"}, document.Object{"name": "B", "value": "x=y"},
		document.Object{"name": "C", "value": ""}, document.Object{"name": "HERE", "value": "yes"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"=1", "", "NOT_HERE"} {
		if _, err := e.parseEnv([]string{text}); exitStatus(err) != ExitUsage {
			t.Errorf("parseEnv(%q): %v, want a usage error", text, err)
		}
	}
}

func TestReadRequirements(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := writeWhole(filepath.Join(dir, name), []byte(text), false); err != nil {
			t.Fatal(err)
		}
	}
	write("good.txt", "\ufeff# what it needs\nnumpy==2.0  # pinned\r\n\n scikit-learn>=1.4 \n--index-url https://example.org/simple\n")
	write("nested.txt", "numpy\n-r other.txt\n")
	e := &env{Process: Process{Dir: dir}}
	got, err := e.readRequirements(runOptions{requirements: []string{"pandas"}, requirementsFiles: []string{"good.txt"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pandas", "numpy==2.0", "scikit-learn>=1.4", "--index-url https://example.org/simple"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := e.readRequirements(runOptions{requirementsFiles: []string{"nested.txt"}}); err == nil || err.Error() != `nested.txt:2: "-r other.txt" refers to another file; give that file with --requirements-file too` {
		t.Errorf("a nested file: %v", err)
	}
	if _, err := e.readRequirements(runOptions{requirementsFiles: []string{"none.txt"}}); err == nil {
		t.Error("a missing file is no error")
	}
}
