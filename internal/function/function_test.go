package function_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

func decode(t testing.TB, text string) document.Object {
	t.Helper()
	doc, err := document.DecodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

const vector = `{"kind":"job","metadata":{"name":"trainer","project":"demo","tag":"v1","labels":{"team":"ml"}},
 "spec":{"image":"mlrun/mlrun","default_handler":"train","description":"café <b>&","replicas":1,"x":1.0},
 "status":{"state":"ready"},"verbose":false}`

func TestHash(t *testing.T) {
	t.Parallel()
	const want = "2f667eb0246065cee182356054db2c22f6237aaf"
	doc := decode(t, vector)
	before := string(document.Encode(doc))
	if got := function.Hash(doc); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if after := string(document.Encode(doc)); after != before {
		t.Errorf("Hash changed its input to %s", after)
	}
	for name, change := range map[string]func(document.Object){
		"tag":     func(d document.Object) { document.Set(d, "v2", "metadata", "tag") },
		"state":   func(d document.Object) { document.Set(d, "error", "status", "state") },
		"updated": func(d document.Object) { document.Set(d, "2024-01-01", "metadata", "updated") },
		"created": func(d document.Object) { document.Set(d, "2024-01-01", "metadata", "created") },
		"hash":    func(d document.Object) { document.Set(d, "0", "metadata", "hash") },
	} {
		doc := decode(t, vector)
		change(doc)
		if got := function.Hash(doc); got != want {
			t.Errorf("%s changed the hash to %s", name, got)
		}
	}
	for name, change := range map[string]func(document.Object){
		"label":   func(d document.Object) { document.Set(d, "x", "metadata", "labels", "k") },
		"project": func(d document.Object) { document.Set(d, "x", "metadata", "project") },
		"float":   func(d document.Object) { document.Set(d, 1.0, "spec", "replicas") },
		"unknown": func(d document.Object) { d["extra"] = true },
	} {
		doc := decode(t, vector)
		change(doc)
		if function.Hash(doc) == want {
			t.Errorf("%s left the hash as it was", name)
		}
	}
}

func TestStored(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 10, 23, 8, 15, 52, 123456000, time.UTC)
	doc := decode(t, `{"kind":"job","metadata":{"tag":"v1"},"spec":{"unknown":[3,1.0]},"status":{"state":"ready"}}`)
	body, hash, err := function.Stored(doc, "demo", "trainer", now)
	if err != nil {
		t.Fatal(err)
	}
	want := decode(t, `{"kind":"job","metadata":{"tag":"","name":"trainer","project":"demo","hash":"`+hash+`","updated":"2024-10-23T08:15:52.123456+00:00"},"spec":{"unknown":[3,1.0]},"status":{"state":"ready"}}`)
	if diff := cmp.Diff(want, body); diff != "" {
		t.Error(diff)
	}
	if again := function.Hash(body); again != hash {
		t.Errorf("the stored body hashes to %s, it was stored as %s", again, hash)
	}
	if document.String(doc, "metadata", "tag") != "v1" || document.String(doc, "metadata", "name") != "" {
		t.Error("Stored changed its input")
	}
	if _, _, err := function.Stored(body, "demo", "other", now); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), `"trainer"`) {
		t.Errorf("another name in the body: %v", err)
	}
}

func TestMinimal(t *testing.T) {
	t.Parallel()
	got := function.Minimal(decode(t, `{"kind":"job","metadata":{"name":"a"},"spec":{"image":"i","command":"","env":[],"build":{"functionSourceCode":"eA=="},"node_selector":{}},"status":{"state":"ready"},"verbose":false}`))
	want := decode(t, `{"kind":"job","metadata":{"name":"a"},"spec":{"image":"i","command":"","node_selector":{}},"status":{"state":"ready"}}`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestURI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want function.URI
		out  string
	}{
		{"n", function.URI{Name: "n"}, "n"},
		{"p/n:t", function.URI{Project: "p", Name: "n", Tag: "t"}, "p/n:t"},
		{"p/n@h", function.URI{Project: "p", Name: "n", Hash: "h"}, "p/n@h"},
		{"p/n@h:t", function.URI{Project: "p", Name: "n", Tag: "t", Hash: "h"}, "p/n@h"},
		{"p/n:t@h", function.URI{Project: "p", Name: "n", Tag: "t@h"}, "p/n:t@h"},
		{"a/b/c:t", function.URI{Project: "a", Name: "b/c", Tag: "t"}, "a/b/c:t"},
		{"db://p/n@h", function.URI{Project: "p", Name: "n", Hash: "h"}, "p/n@h"},
		{"", function.URI{}, ""},
	} {
		got := function.ParseURI(c.in)
		if got != c.want || got.String() != c.out || got.DB() != "db://"+c.out {
			t.Errorf("%q: got %+v %q", c.in, got, got.String())
		}
	}
	for text, say := range map[string]string{"": "no name", "p/": "no name", "Bad_P/n": "project", "p/n:a b": "tag", "p/n:t@h": "tag", "/0@/": "hash", "n@a:b@": "tag", "n@é": "hash"} {
		if err := function.ParseURI(text).Check(); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %q", text, err, say)
		}
	}
	if err := function.ParseURI("p/n@h:t").Check(); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a b_C.d": "a-b-c.d", " a ": "-a-", "A.B": "a.b", "My\t \nFn": "my-fn", "é_Ü": "é-ü", "": "", "a/b:c": "a/b:c",
	} {
		if got := function.NormalizeName(in); got != want {
			t.Errorf("NormalizeName(%q) = %q, want %q", in, got, want)
		}
	}
	long := strings.Repeat("x", 64)
	for _, c := range []struct {
		what string
		err  error
		ok   bool
	}{
		{"name", function.ValidateName("f", "my-file.v2"), true},
		{"name with a colon", function.ValidateName("f", "n:t"), false},
		{"no name", function.ValidateName("f", ""), false},
		{"long name", function.ValidateName("f", strings.Repeat("x", 256)), false},
		{"name with NUL", function.ValidateName("f", "a\x00b"), false},
		{"project", function.ValidateProjectName("f", "a-1"), true},
		{"project with a newline", function.ValidateProjectName("f", "a\n"), false},
		{"upper-case project", function.ValidateProjectName("f", "A"), false},
		{"no project", function.ValidateProjectName("f", ""), false},
		{"long project", function.ValidateProjectName("f", long), false},
		{"tag", function.ValidateTag("f", "v1.0_B"), true},
		{"no tag", function.ValidateTag("f", ""), true},
		{"tag with a dash first", function.ValidateTag("f", "-v"), false},
		{"long tag", function.ValidateTag("f", long), false},
		{"run name", function.ValidateRunName("f", "a.b"), true},
		{"run name with a blank", function.ValidateRunName("f", "a b"), false},
		{"labels", function.ValidateLabels("f", map[string]string{"mlrun.io/a": "", "k": "v"}), true},
		{"label without name", function.ValidateLabels("f", map[string]string{"a/": ""}), false},
		{"label with a bad prefix", function.ValidateLabels("f", map[string]string{"A_/x": ""}), false},
		{"bad label value", function.ValidateLabels("f", map[string]string{"k": "a b"}), false},
	} {
		if c.ok != (c.err == nil) || c.err != nil && !fault.Is(c.err, fault.CodeInvalid) {
			t.Errorf("%s: %v", c.what, c.err)
		}
	}
	if err := function.ValidateTag("metadata.tag", strings.Repeat("é", 100)); !strings.Contains(err.Error(), strings.Repeat("é", 63)+"…") || !strings.Contains(err.Error(), "metadata.tag") {
		t.Errorf("the message does not cut the value: %v", err)
	}
}
