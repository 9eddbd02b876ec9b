package function_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

func TestParseQuantity(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]float64{
		"500m": 0.5, "100m": 0.1, "2": 2, "1.5": 1.5, "1Gi": 1 << 30, "512Mi": 512 << 20, "1G": 1e9, "2e3": 2000, "1E": 1e18, "1E2": 100,
		"+1": 1, ".5": 0.5, "1.": 1, "0": 0, "1k": 1000, "10u": 1e-5, "1Ki": 1024, " 1 ": 1,
	} {
		if got, err := function.ParseQuantity(in); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "1g", "1.5.2", "x", "-1", "1 Gi", "1GiB", "1e999", "NaN", "0x10", "1_0", "Gi", "--1", strings.Repeat("9", 65)} {
		if got, err := function.ParseQuantity(in); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]time.Duration{
		"1h": time.Hour, "30m": 30 * time.Minute, "1h30m": 90 * time.Minute, "2 days": 48 * time.Hour, "1 hour and 30 minutes": 90 * time.Minute,
		"1 Hour, 30 Min": 90 * time.Minute, "01:30:00": 90 * time.Minute, "1:30": 90 * time.Minute, "90": 90 * time.Second, "1.5h": 90 * time.Minute,
		"1w": 168 * time.Hour, "500ms": 500 * time.Millisecond, "0": 0, "3 secs": 3 * time.Second, "24 hrs": 24 * time.Hour,
	} {
		if got, err := function.ParseDuration(in); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "1x", "-1", "-5m", "1h-", "h", "1h 30", "inf", "nan", "0x10", "1_0", "1e400", "99999999w", "1:99", strings.Repeat("1h", 100)} {
		if got, err := function.ParseDuration(in); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%q: %v %v", in, got, err)
		}
	}
	for in, want := range map[string]time.Duration{"-1": function.Infinite, " -1 ": function.Infinite, "2s": 2 * time.Second, "-1.0": function.Infinite, "1m": time.Minute, "60": time.Minute} {
		if got, err := function.ParseThreshold(in); err != nil || got != want {
			t.Errorf("threshold %q: %v %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"900ms", "0", "-2", ""} {
		if got, err := function.ParseThreshold(in); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("threshold %q: %v %v", in, got, err)
		}
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]function.Retry{
		`{}`: {}, `{"count":2}`: {Count: 2}, `{"count":3,"backoff":{"base_delay":"10s"}}`: {Count: 3, BaseDelay: "10s"},
		`{"count":3,"base_delay":5}`: {Count: 3, BaseDelay: "5"}, `{"count":1.0,"backoff":null}`: {Count: 1}, `{"count":null}`: {},
	} {
		if got, err := function.ParseRetry(decode(t, in)); err != nil || got != want {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for in, say := range map[string]string{
		`{"count":-1}`: "spec.retry.count", `{"count":1.5}`: "spec.retry.count", `{"count":"2"}`: "spec.retry.count", `{"count":1000}`: "0 to 100",
		`{"count":1,"backoff":3}`: "spec.retry.backoff must be an object", `{"count":1,"backoff":{"base_delay":[]}}`: "spec.retry.backoff.base_delay must be a string",
	} {
		if got, err := function.ParseRetry(decode(t, in)); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %+v %v, want %q", in, got, err, say)
		}
	}
	r := function.Retry{Count: 3, BaseDelay: "10s"}
	for n, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 4: 80 * time.Second, 100: 24 * time.Hour} {
		if got, err := r.Delay(n); err != nil || got != want {
			t.Errorf("delay before retry %d: %v %v, want %v", n, got, err, want)
		}
	}
	if got, err := (function.Retry{Count: 1}).Delay(1); err != nil || got != function.DefaultBackoff {
		t.Errorf("default: %v %v", got, err)
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	params := decode(t, `{"lr":0.1,"n":3,"name":"a b","flag":true,"none":null,"list":[1,"x",[2.0]],"map":{"k":"v","it's":"q\"'\n"},"big":1e20}`)
	for in, want := range map[string][]string{
		"train.py --lr {lr} {name}":                    {"train.py", "--lr", "0.1", "a b"},
		`x 'a {name}' "b c" d\ e`:                      {"x", "a a b", "b c", "d e"},
		"{{n}} {n}{n} {flag} {none}":                   {"{n}", "33", "True", "None"},
		"{list} {list[1]} {list[2][0]} {map[k]} {big}": {"[1, 'x', [2.0]]", "x", "2.0", "v", "1e+20"},
		"{map}":               {`{"it's": 'q"\'\n', 'k': 'v'}`},
		"bash {codefile} {n}": {"bash", "{codefile}", "3"},
		`'' "" \"`:            {"", "", `"`}, " \t\n": nil, `"a\nb\\"`: {`a\nb\`},
	} {
		if got, err := function.FormatCommand(in, params); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q %v, want %q", in, got, err, want)
		}
	}
	if got, err := function.FormatArgument("  --x={n} ", params); err != nil || got != "  --x=3 " {
		t.Errorf("an argument: %q %v", got, err)
	}
	if got, err := function.FormatCommand("{codefile}", document.Object{"codefile": "/x"}); err != nil || got[0] != "/x" {
		t.Errorf("a code file: %q %v", got, err)
	}
	for in, say := range map[string]string{
		"{gone}": "--param gone=", "{": "without its '}'", "}": "without its '{'", "{}": "not the name of a parameter", "{n:03d}": "not the name",
		"{n!r}": "not the name", "{n.real}": "not the name", "{list[9]}": "no element", "{map[x]}": "no element", "{list[0]x[1]}": "goes on", "{list[0]x}": "not the name", "{list[0": "without its",
		"'a": "without its end", `a\`: "without its end", "{list[0}": "not the name",
	} {
		if got, err := function.FormatCommand(in, params); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %q %v, want %q", in, got, err, say)
		}
	}
	for _, word := range []string{"", "a", "a b", "it's", `"`, `\`, "{x}", "é", "a\nb"} {
		if got, err := function.FormatCommand("x "+function.Quote(word), nil); err != nil || !slices.Equal(got, []string{"x", word}) {
			t.Errorf("Quote(%q): %q %v", word, got, err)
		}
	}
}

func TestParseHandler(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]function.Handler{
		"": {}, "train": {Name: "train"}, "_p": {Name: "_p"}, "json.dumps": {Module: "json", Name: "dumps"}, "os.path.join": {Module: "os.path", Name: "join"},
		"Model::fit": {Class: "Model", Name: "fit"}, "a.b.Model::fit": {Module: "a.b", Class: "Model", Name: "fit"}, "été": {Name: "été"},
	} {
		got, err := function.ParseHandler(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("%q: %+v %v", in, got, err)
		}
	}
	for in, say := range map[string]string{
		"(event.body)": "is an expression", "a b": "does not end in the name", "a.": "does not end", ".a": "name of a module", "a..b": "name of a module", "::m": "names no class",
		"A::": "does not end", "mod::A.m": "'::' before the method only", "a-b.c": "name of a module", "1x": "does not end", "A::b::c": "does not end", "f()": "does not end",
	} {
		if got, err := function.ParseHandler(in); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %+v %v, want %q", in, got, err, say)
		}
	}
	for in, want := range map[[2]string]string{
		{"my_fn", "train"}: "my-fn-train", {"f", "pkg.mod.Fit_It"}: "f-fit-it", {"f", "a.Model::fit"}: "f-fit", {"f", ""}: "f", {"f", "dir#mod.h"}: "f-h",
	} {
		if got := function.DefaultRunName(in[0], in[1]); got != want {
			t.Errorf("%v: %q, want %q", in, got, want)
		}
	}
}

func TestSpec(t *testing.T) {
	t.Parallel()
	f, err := function.Parse(decode(t, `{"kind":"job","spec":{"command":"c","args":["a",1,2.50],"mode":null,"python_version":3.10,"env":[{"name":"A","value":"1"},{"name":"B","valueFrom":{}},{"name":"A","value":2},{"name":"C"}],
	 "resources":{"requests":{"cpu":"100m","memory":null},"limits":{"cpu":2,"memory":"1Gi","nvidia.com/gpu":1}},"state_thresholds":{"executing":"1h","pending_scheduled":-1,"image_pull_backoff":null},
	 "retry":{"count":2,"backoff":{"base_delay":"1m"}},"build":{"functionSourceCode":"cHJp\nbnQoKQ","origin_filename":"a.py","source":"./","load_source_on_run":true,
	 "requirements":[" numpy ","","# c","scipy # why","numpy"],"commands":["x"],"base_image":"b"},"default_handler":"h","workdir":"w","pythonpath":"a:b","image":"i"}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Spec()
	if err != nil {
		t.Fatal(err)
	}
	want := function.Spec{
		Command: "c", Args: []string{"a", "1", "2.50"}, PythonVersion: "3.10", Language: "python", Env: []function.EnvVar{{Name: "A", Value: "2"}, {Name: "C"}},
		Requests: map[string]string{"cpu": "100m"}, Limits: map[string]string{"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"},
		Thresholds: map[string]string{"executing": "1h", "pending_scheduled": "-1"}, Retry: function.Retry{Count: 2, BaseDelay: "1m"},
		Code: []byte("print()"), OriginFilename: "a.py", Source: "./", LoadSourceOnRun: true, Requirements: []string{"numpy", "scipy"}, Commands: []string{"x"},
		BaseImage: "b", DefaultHandler: "h", Workdir: "w", PythonPath: "a:b", Image: "i",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
	limits, err := got.ResourceLimits()
	if diff := cmp.Diff(function.Resources{CPU: 2, Memory: 1 << 30, GPUs: 1, GPUType: "nvidia.com/gpu"}, limits); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	for _, c := range []struct{ spec, say string }{
		{`{"mode":"noctx"}`, `spec.mode "noctx"`},
		{`{"resources":{"limits":{"memory":"1g"}}}`, `spec.resources.limits.memory: "1g" is not a quantity`},
		{`{"resources":{"limits":{"nvidia.com/gpu":"0.5"}}}`, "whole number of GPUs"},
		{`{"resources":{"limits":{"nvidia.com/gpu":1,"amd.com/gpu":1}}}`, "second type of GPU"},
		{`{"state_thresholds":{"executing":"3x"}}`, `spec.state_thresholds.executing: "3x" is not a duration`},
		{`{"state_thresholds":{"running":"1h"}}`, `no state "running"`},
		{`{"retry":{"count":1,"base_delay":"soon"}}`, "spec.retry.backoff.base_delay"},
		{`{"python_version":"3.x"}`, `spec.python_version "3.x"`},
	} {
		f, err := function.Parse(document.Object{"kind": "job", "spec": decode(t, c.spec)})
		if err != nil {
			t.Errorf("%s cannot be kept: %v", c.spec, err)
			continue
		}
		spec, err := f.Spec()
		if err != nil {
			t.Fatal(err)
		}
		if err := spec.Check(); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want %q", c.spec, err, c.say)
		}
	}
}

// A function of any kind keeps every field through Parse, YAML and JSON.
func TestEveryKindRoundTrips(t *testing.T) {
	t.Parallel()
	for _, kind := range append(function.Kinds(), function.KindDefault) {
		doc := nasty(t)
		doc["kind"] = string(kind)
		document.Set(doc, []any{document.Object{"name": "v", "emptyDir": document.Object{}}}, "spec", "volumes")
		before := function.Hash(doc)
		f, err := function.Parse(doc)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		for _, format := range []function.Format{function.YAML, function.JSON} {
			text, err := f.Export(format, false)
			if kind == function.KindHandler {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			back, err := function.Import(text)
			if err != nil || function.Hash(back.Doc) != before {
				t.Errorf("%s as %s changed: %v", kind, format, err)
			}
		}
	}
	for kind, want := range map[function.Kind][4]bool{ // local, pod, remote, nuclio
		"": {true, false, false, false}, "handler": {true, false, false, false}, "local": {true, false, false, false}, "job": {false, true, true, false},
		"dask": {false, true, false, false}, "spark": {false, true, true, false}, "nuclio": {false, true, false, true}, "serving": {false, true, false, true}, "Job": {},
	} {
		if got := [4]bool{kind.Local(), kind.Pod(), kind.Remote(), kind.Nuclio()}; got != want {
			t.Errorf("%q: %v", kind, got)
		}
	}
}

func TestSetters(t *testing.T) {
	t.Parallel()
	f := function.New(function.KindJob, "a")
	f.SetEnv("A", "1")
	f.SetEnv("B", "2")
	f.SetEnv("A", "3")
	f.SetProject("p")
	f.SetTag("t")
	f.SetLabel("mlrun.io/x.y", "z")
	f.SetCode([]byte("é"), "a.py")
	f.SetRequirements([]string{"a", "a", "#"})
	f.SetSpec("x", "image")
	f.SetSpec(nil, "image")
	f.SetSpec(nil, "no", "such")
	want := `{"kind":"job","metadata":{"labels":{"mlrun.io/x.y":"z"},"name":"a","project":"p","tag":"t"},"spec":{"build":{"functionSourceCode":"w6k=","origin_filename":"a.py","requirements":["a"]},"env":[{"name":"A","value":"3"},{"name":"B","value":"2"}]},"verbose":false}`
	if got := string(document.Encode(f.Doc)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if uri := f.URI().DB(); uri != "db://p/a:t" {
		t.Error(uri)
	}
	clone := f.Clone()
	clone.SetName("b")
	if f.Name() != "a" {
		t.Error("the clone shares its document")
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"n", "p/n:t", "p/n@h", "p/n@h:t", "db://a/b/c:t@h", "", "/:@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u := function.ParseURI(text)
		if u.Check() != nil || u.Tag != "" && u.Hash != "" {
			return
		}
		if again := function.ParseURI(u.DB()); again != u {
			t.Fatalf("%q: %+v is written %q and read %+v", text, u, u.DB(), again)
		}
	})
}

func FuzzYAML(f *testing.F) {
	for _, s := range []string{"a: 1\nb: [x, yes, 0x1, 1:2, .inf]\n", "&a {x: *a}", "a: !!int '3'", "{<<: {a: 1}}", "? a\n: b", "- |\n  x\n- >-\n  y\n", `{"a": "\ud83d\ude00"}`, "a: \"\\x00\"", "'': ''", "\ufeffa: 1", "a: 1.\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := function.DecodeYAML(data)
		if err != nil {
			if c := fault.CodeOf(err); c != fault.CodeInvalid && c != fault.CodeTooLarge {
				t.Fatalf("not the caller's fault: %v", err)
			}
			return
		}
		object, ok := value.(document.Object)
		if !ok {
			return
		}
		text, err := function.EncodeYAML(object)
		if err != nil {
			t.Fatalf("cannot write what was read: %v", err)
		}
		again, err := function.DecodeYAML(text)
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%q", err, text)
		}
		if want, got := string(document.Canonical(value)), string(document.Canonical(again)); want != got {
			t.Fatalf("%s became %s by way of %q", want, got, text)
		}
	})
}

func FuzzQuantityAndDuration(f *testing.F) {
	for _, s := range []string{"1Gi", "500m", "1e3", "1h30m", "-1", "2 days", "1:30", "and 1h", "١h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if amount, err := function.ParseQuantity(text); err == nil && (amount < 0 || math.IsNaN(amount) || math.IsInf(amount, 0)) {
			t.Fatalf("the quantity %q is %v", text, amount)
		}
		if d, err := function.ParseDuration(text); err == nil && d < 0 {
			t.Fatalf("the duration %q is %v", text, d)
		}
		if d, err := function.ParseThreshold(text); err == nil && d != function.Infinite && d < time.Second {
			t.Fatalf("the threshold %q is %v", text, d)
		}
	})
}

func FuzzFormat(f *testing.F) {
	for _, s := range []string{"a {b} 'c d'", "{a[0]}", "{{}}", `\ "`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ToValidUTF8(text, "") != text {
			return
		}
		got, err := function.FormatCommand("x "+function.Quote(text), nil)
		if err != nil || !slices.Equal(got, []string{"x", text}) {
			t.Fatalf("%q: %q %v", text, got, err)
		}
		_, _ = function.FormatCommand(text, document.Object{"a": []any{"x"}})
		_, _ = function.ParseHandler(text)
	})
}
