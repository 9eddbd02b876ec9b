package diff_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/diff"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
)

// answer is a Comparer that always says the same.
type answer struct {
	diff.Comparison
	err error
}

func (a answer) Compare(context.Context, []byte, []byte) (diff.Comparison, error) {
	return a.Comparison, a.err
}

func object(t *testing.T, text string) document.Object {
	t.Helper()
	doc, err := document.DecodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, a, b string
		code       diff.Comparison
		verdict    diff.Verdict
		fields     string // "meaning path: a -> b" of each
		same       bool
	}{
		{"nothing", `{}`, `{"metadata":{"hash":"x","tag":"v2","updated":"now"},"status":{"state":"ready"},"spec":{"image":"","env":[],"args":null}}`, diff.Comparison{}, diff.Identical, "", true},
		{"cosmetic code", `{"spec":{"build":{"functionSourceCode":"YT0x"}}}`, `{"spec":{"build":{"functionSourceCode":"YSA9IDE="}}}`, diff.Comparison{Same: true}, diff.Cosmetic, "", true},
		{"other code", `{"spec":{"build":{"functionSourceCode":"YT0x"}}}`, `{"spec":{"build":{"functionSourceCode":"YT0y"}}}`, diff.Comparison{}, diff.MayDiffer, "", false},
		{"no Python", `{"spec":{"language":"shell","build":{"functionSourceCode":"YT0x"}}}`, `{"spec":{"language":"shell","build":{"functionSourceCode":"YSA9IDE="}}}`, diff.Comparison{Same: true}, diff.MayDiffer, "", false},
		{"code on one side", `{}`, `{"spec":{"build":{"functionSourceCode":"YT0y"}}}`, diff.Comparison{Same: true}, diff.MayDiffer, "", false},
		{"fields", `{"kind":"job","metadata":{"labels":{"a":"1"}},"spec":{"resources":{"limits":{"cpu":"1"}},"node_selector":{"gpu":"yes"}}}`, `{"kind":"local","metadata":{"labels":{"a":"2"}},"spec":{"resources":{"limits":{"cpu":"2"}}}}`, diff.Comparison{}, diff.Identical,
			`behaviour kind: "job" -> "local"; resources spec.resources.limits.cpu: "1" -> "2"; placement spec.node_selector.gpu: "yes" -> null; metadata metadata.labels.a: "1" -> "2"`, false},
		{"unknown fields are behaviour", `{"spec":{"new_field":1}}`, `{"spec":{"new_field":2}}`, diff.Comparison{}, diff.Identical, `behaviour spec.new_field: 1 -> 2`, false},
		{"only resources", `{"spec":{"resources":{"limits":{"cpu":"1"}}}}`, `{}`, diff.Comparison{}, diff.Identical, `resources spec.resources.limits.cpu: "1" -> null`, true},
		{"environment by name", `{"spec":{"env":[{"name":"A","value":"1"},{"name":"B","value":"2"}]}}`, `{"spec":{"env":[{"name":"B","value":"3"},{"name":"A","value":"1"}]}}`, diff.Comparison{}, diff.Identical, `behaviour spec.env.B: "2" -> "3"`, false},
		{"requirements by package", `{"spec":{"build":{"requirements":["Pandas==2.0","numpy"]}}}`, `{"spec":{"build":{"requirements":["numpy","pandas==2.1"]}}}`, diff.Comparison{}, diff.Identical, `behaviour spec.build.requirements.pandas: "==2.0" -> "==2.1"`, false},
		{"secrets", `{"spec":{"env":[{"name":"DB_PASSWORD","value":"one"},{"name":"URL","value":"http://u:pw1@h/x?api_token=t1"}]}}`, `{"spec":{"env":[{"name":"DB_PASSWORD","value":"two"},{"name":"URL","value":"http://u:pw2@h/x?api_token=t2"}]}}`, diff.Comparison{}, diff.Identical,
			`behaviour spec.env.DB_PASSWORD: "(hidden)" -> "(hidden)"; behaviour spec.env.URL: "http://u:(hidden)@h/x?api_token=(hidden)" -> "http://u:(hidden)@h/x?api_token=(hidden)"`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := &function.Function{Doc: object(t, c.a)}, &function.Function{Doc: object(t, c.b)}
			d, err := diff.CompareFunctions(t.Context(), "a", "b", a, b, answer{Comparison: c.code})
			if err != nil {
				t.Fatal(err)
			}
			var fields []string
			for _, f := range d.Fields {
				fields = append(fields, string(f.Meaning)+" "+f.Path+": "+string(document.Encode(f.A))+" -> "+string(document.Encode(f.B)))
			}
			if got := strings.Join(fields, "; "); got != c.fields || d.Verdict != c.verdict || d.SameBehaviour() != c.same {
				t.Errorf("%s, same behaviour %v, fields %s", d.Verdict, d.SameBehaviour(), cmp.Diff(c.fields, got))
			}
			if d.Equal() != (c.fields == "" && c.verdict == diff.Identical) || (d.Code == "") != (c.verdict == diff.Identical) {
				t.Errorf("equal %v, code %q", d.Equal(), d.Code)
			}
		})
	}
	broken := errors.New("broken")
	a, b := function.New("job", "f"), function.New("job", "f")
	a.SetCode([]byte("a"), "f.py")
	b.SetCode([]byte("b"), "f.py")
	if _, err := diff.CompareFunctions(t.Context(), "a", "b", a, b, answer{err: broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestUnified(t *testing.T) {
	t.Parallel()
	if got := diff.Unified("a", "b", "x\n", "x\n"); got != "" {
		t.Errorf("equal texts: %q", got)
	}
	want := "--- a\n+++ b\n@@ -1,2 +1,2 @@\n x\n-y\n\\ No newline at end of file\n+z\n"
	if diff := cmp.Diff(want, diff.Unified("a", "b", "x\ny", "x\nz\n")); diff != "" {
		t.Error(diff)
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	a := diff.RunSide{Doc: object(t, `{"metadata":{"uid":"u1"},"spec":{"function":"p/f@1","handler":"h","parameters":{"lr":0.5,"token":"s1","same":[1]},"inputs":{"d":"s3://a"}},
		"status":{"state":"completed","results":{"acc":0.8,"zero":0},"start_time":"2024-01-01T00:00:00+00:00","last_update":"2024-01-01T00:00:10+00:00",
		"provenance":{"code":"sha256:1","inputs":{"d":{"digest":"sha256:d"}},"environment":{"python":"3.11.7"},"machine":{"host":"h1"}}}}`), Packages: map[string]string{"numpy": "1", "torch": "2"}}
	b := diff.RunSide{Doc: object(t, `{"metadata":{"uid":"u2"},"spec":{"function":"p/f@2","handler":"h","parameters":{"lr":1,"token":"s2","same":[1]},"inputs":{"d":"s3://moved"}},
		"status":{"state":"error","error":"no","results":{"acc":0.4,"zero":1},"start_time":"2024-01-01T00:00:00+00:00","last_update":"2024-01-01T00:00:05+00:00",
		"provenance":{"code":"sha256:2","seed":7,"inputs":{"d":{"digest":"sha256:d"}},"environment":{"python":"3.11.7"},"machine":{"host":"h2"}}}}`), Packages: map[string]string{"numpy": "1.5"}}
	d := diff.CompareRuns(a, b)
	got := string(document.Encode(d.Document()))
	want := `{"a":"u1","b":"u2","equal":false,"functions":["p/f@1","p/f@2"],"kind":"runs","sections":{"artifacts":[],"code":[{"a":"sha256:1","b":"sha256:2","path":"digest"}],` +
		`"duration":[{"a":10.0,"b":5.0,"path":"seconds","relative":-0.5}],"environment":[{"a":"1","b":"1.5","path":"packages.numpy"},{"a":"2","b":null,"path":"packages.torch"}],"inputs":[],` +
		`"machine":[{"a":"h1","b":"h2","path":"host"}],"parameters":[{"a":0.5,"b":1,"path":"lr","relative":1.0},{"a":"(hidden)","b":"(hidden)","path":"token"}],` +
		`"results":[{"a":0.8,"b":0.4,"path":"acc","relative":-0.5},{"a":0,"b":1,"path":"zero"}],"seed":[{"a":null,"b":7,"path":"seed"}],"state":[{"a":null,"b":"no","path":"error"},{"a":"completed","b":"error","path":"state"}]}}`
	wantDoc, gotDoc := object(t, want), object(t, got)
	if diff := cmp.Diff(wantDoc, gotDoc); diff != "" {
		t.Errorf("%s\n%s", diff, got)
	}
	if !diff.CompareRuns(a, a).Equal() || diff.CompareRuns(b, b).Section("results") != nil {
		t.Error("a run differs from itself")
	}
}

// A run in another state, of another client, has other things recorded: what is
// known of both is compared.
func TestRunsOfWhichUnlikeIsKnown(t *testing.T) {
	t.Parallel()
	side := func(text string) diff.RunSide { return diff.RunSide{Doc: object(t, text)} }
	done := side(`{"metadata":{"uid":"u1","project":"p"},"spec":{"function":"p/f@1","handler":"h","parameters":{"password":"s1"},"inputs":{"d : str":"in.csv","e":"x"}},
		"status":{"state":"completed","artifacts":[{"kind":"a","metadata":{"key":"m","hash":"aa"},"spec":{"size":3}}],"start_time":"2024-01-01T00:00:00+00:00","end_time":"2024-01-01T00:00:10+00:00",
		"provenance":{"code":"sha256:1","inputs":{"d":{"digest":"sha256:d","url":"in.csv"}},"outputs":{"m":{"digest":"sha256:m"}},"environment":{"python":"3.11.7","lock":"sha256:l"}}}}`)
	for name, c := range map[string]struct {
		other diff.RunSide
		want  map[string]string // by section; others have nothing
	}{
		"pending": {
			side(`{"metadata":{"uid":"u2"},"spec":{"function":"p/f@1","handler":"h","parameters":{"password":"s1"},"inputs":{"d":"in.csv","e":"x"}},"status":{"state":"pending"}}`),
			map[string]string{"state": "state", "artifacts": "m", "environment": "lock python", "duration": "seconds"},
		},
		"running": {
			side(`{"metadata":{"uid":"u2"},"spec":{"function":"p/f@1","handler":"h","parameters":{"password":"s1"},"inputs":{"d":"in.csv","e":"x"}},
				"status":{"state":"running","start_time":"2024-01-01T00:00:00+00:00","last_update":"2024-01-01T00:00:10+00:00","provenance":{"code":"sha256:1","environment":{"python":"3.11.7","lock":"sha256:l"}}}}`),
			map[string]string{"state": "state", "artifacts": "m"},
		},
		"executed by its client": {
			side(`{"metadata":{"uid":"u2"},"spec":{"function":"p/f@1","handler":"h","parameters":{"password":"s2"},"inputs":{"d":"in.csv","e":"y"}},
				"status":{"state":"completed","artifacts":[{"kind":"a","metadata":{"key":"m","hash":"aa"},"spec":{"size":3}}],"start_time":"2024-01-01T00:00:00+00:00","end_time":"2024-01-01T00:00:10+00:00","provenance":{"code":"sha256:1"}}}`),
			map[string]string{"parameters": "password", "inputs": "e", "environment": "lock python"},
		},
		"aborted, of another project and version": {
			side(`{"metadata":{"uid":"u2","project":"q"},"spec":{"function":"q/f@2","handler":"h","parameters":{"password":"s1"},"inputs":{"d":"in.csv","e":"x"}},
				"status":{"state":"aborted","error":"aborted by its user","start_time":"2024-01-01T00:00:00+00:00","end_time":"2024-01-01T00:00:10+00:00","provenance":{"environment":{"python":"3.11.7","lock":"sha256:l"}}}}`),
			map[string]string{"state": "error state", "artifacts": "m", "code": "function"},
		},
	} {
		for _, d := range []*diff.Runs{diff.CompareRuns(done, c.other), diff.CompareRuns(c.other, done)} {
			for _, s := range d.Sections {
				var paths []string
				for _, change := range s.Changes {
					paths = append(paths, change.Path)
				}
				if got := strings.Join(paths, " "); got != c.want[s.Name] {
					t.Errorf("%s: %s: %q, want %q", name, s.Name, got, c.want[s.Name])
				}
			}
			if text := string(document.Encode(d.Document())); strings.Contains(text, `"s1"`) || d.Equal() {
				t.Errorf("%s: equal %t, %s", name, d.Equal(), text)
			}
		}
		if d := diff.CompareRuns(c.other, c.other); !d.Equal() || d.FunctionA != "" {
			t.Errorf("%s differs from itself: %s", name, document.Encode(d.Document()))
		}
	}
}
