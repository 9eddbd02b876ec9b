package render_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/render"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 0: "0 ms", 850 * time.Millisecond: "850 ms", 3290 * time.Millisecond: "3.2 s",
		59990 * time.Millisecond: "59.9 s", 65 * time.Second: "1m05s", 2*time.Hour + 3*time.Minute: "2h03m", 75 * time.Hour: "3d03h",
	} {
		if got := render.Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 1 << 40: "1.0 TiB"} {
		if got := render.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	if got := render.Bar(1, 4, 8); got != "██░░░░░░" {
		t.Errorf("a quarter is %q", got)
	}
	if got := render.Bar(9, 4, 4); got != "████" {
		t.Errorf("more than all is %q", got)
	}
	if got := render.Bar(1, 0, 4); got != "" {
		t.Errorf("of nothing it is %q", got)
	}
}

func TestStripEscapes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain": "plain", "a\tb": "a b", "\x1b[31mred\x1b[0m": "red", "\x1b]0;title\x07x": "x", "\x1b]8;;u\x1b\\l": "l",
		"bell\x07": "bell", "\x1b[": "", "\x1b": "", "ü\x1b[2K": "ü", "a\xffb": "a\ufffdb",
	} {
		if got := render.StripEscapes(text); got != want {
			t.Errorf("StripEscapes(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzStripEscapes(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m")
	f.Add("\x1b]0;t\x1b\\")
	f.Fuzz(func(t *testing.T, text string) {
		got := render.StripEscapes(text)
		if strings.ContainsAny(got, "\x1b\x07\r\n") {
			t.Errorf("%q still controls the terminal: %q", text, got)
		}
	})
}

func TestTable(t *testing.T) {
	t.Parallel()
	table := &render.Table{
		Headers:  []string{"NAME", "STATE", "RESULTS"},
		Rows:     [][]string{{"train", "completed", "accuracy=0.93 f1=0.91"}, {"日本", "", "two\nlines"}},
		Flexible: 2,
	}
	tests := []struct {
		name  string
		width int
		want  string
	}{
		{"piped", 0, "NAME   STATE      RESULTS\ntrain  completed  accuracy=0.93 f1=0.91\n日本   -          two lines\n"},
		{"narrow", 32, "NAME   STATE      RESULTS\ntrain  completed  accuracy=0.93…\n日本   -          two lines\n"},
		{"narrower than possible", 5, "NAME   STATE     RESULTS\ntrain  complet…  accurac…\n日本   -         two lin…\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := table.Write(&out, test.width, render.Palette{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTableStyles(t *testing.T) {
	t.Parallel()
	table := &render.Table{Headers: []string{"S"}, Rows: [][]string{{"error"}}, Flexible: -1, Styles: func(int, int) render.Style { return render.Red }}
	var out bytes.Buffer
	if err := table.Write(&out, 80, render.Palette{Colour: true}); err != nil {
		t.Fatal(err)
	}
	if want := "\x1b[1mS\x1b[0m\n\x1b[31merror\x1b[0m\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
