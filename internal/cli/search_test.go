package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/render"
	"github.com/millrace/millrace/internal/tune"
)

func TestParseDomain(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		{"1,2,3", `[1,2,3]`},
		{"0.1", `[0.1]`},
		{"a, b,True,None", `["a","b",true,null]`},
		{`["a,b", 2]`, `["a,b",2]`},
		{`[1,2],[3]`, ""},
		{`"a,b",c`, `["a,b","c"]`},
		{`{"low": 1, "high": 9}`, `{"high":9,"low":1}`},
		{"1..9", `{"high":9,"low":1}`},
		{"-1..1.5", `{"high":1.5,"low":-1}`},
		{"0.0001..1:log", `{"high":1,"log":true,"low":0.0001}`},
		{"50..500:50", `{"high":500,"low":50,"step":50}`},
		{"1e-5..1:log", `{"high":1,"log":true,"low":1e-5}`},
		{"a..b", `["a..b"]`},
		{"../x,../y", `["../x","../y"]`},
		{"1..x", ""},
		{"1..2:3:4", ""},
		{"1..2:", ""},
		{"", ""},
		{" ", ""},
		{"[1,", ""},
		{"['a']", ""},
	}
	for _, test := range tests {
		got, err := parseDomain("x", test.text)
		if test.want == "" {
			if err == nil || !strings.Contains(err.Error(), "--hyperparam x") {
				t.Errorf("%q: %v, %v", test.text, got, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		if text := strings.ReplaceAll(string(document.Encode(got)), ", ", ","); text != test.want {
			t.Errorf("%q is %s, not %s", test.text, text, test.want)
		}
	}
}

func TestSearchTask(t *testing.T) {
	t.Parallel()
	p, _, _ := testProcess(t)
	e := &env{Process: p}
	o := runOptions{seed: 7, searchOptions: searchOptions{
		hyperparams: []string{"z=1,2", "a=0.1..1:log"}, strategy: "tpe", selector: "max.acc", parallel: 3, maxIterations: 9, maxErrors: 2,
		stopCondition: "acc > 0.9", iterationTimeout: "30s", isolation: "fork", earlyStopping: `{"rule": "asha", "metric": "max.acc"}`,
	}}
	spec := document.Object{}
	names, err := e.search(o, spec)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"z", "a"}, names); diff != "" {
		t.Error(diff)
	}
	options, err := tune.ParseOptions(document.Object{"spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(7)
	want := tune.Options{
		Strategy: tune.TPE, Selector: tune.Selector{Result: "acc"}, StopCondition: "acc > 0.9", ParallelRuns: 3, MaxIterations: 9, MaxErrors: 2,
		Seed: &seed, Timeout: 30 * time.Second, Isolation: tune.Fork, EarlyStopping: options.EarlyStopping,
	}
	if diff := cmp.Diff(want, options, cmp.AllowUnexported(tune.EarlyStopping{})); diff != "" || options.EarlyStopping == nil {
		t.Error(diff, options.EarlyStopping)
	}
	spec = document.Object{}
	if names, err := e.search(runOptions{seed: 7}, spec); err != nil || names != nil || len(spec) > 0 {
		t.Errorf("an ordinary run: %v, %v, %v", names, spec, err)
	}
	relative := document.Object{}
	if _, err := e.search(runOptions{seed: -1, searchOptions: searchOptions{paramFile: "sets.csv"}}, relative); err != nil {
		t.Fatal(err)
	}
	if got := document.String(relative, "hyper_param_options", "param_file"); got != e.path("sets.csv") {
		t.Errorf("the parameter file is %q", got)
	}
}

func TestSearchView(t *testing.T) {
	t.Parallel()
	var s searchView
	s.of(decodeObject(t, `{"spec": {"hyper_param_options": {"selector": "max.acc"}, "hyperparams": {"x": [1]}}}`))
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if s.line(begun) != "" {
		t.Errorf("without a task there is %q", s.line(begun))
	}
	s.take(tune.Progress{Total: 200, Ended: 100, Running: 4}, begun) // resumed
	if _, known := s.left(begun.Add(time.Minute)); known {
		t.Error("nothing has ended since, and the time left is known")
	}
	now := begun.Add(10 * time.Second)
	s.take(tune.Progress{Total: 200, Ended: 120, Running: 4, Failed: 2, Best: 7, Results: document.Object{"acc": 0.5}}, now)
	want := "  " + strings.Repeat("█", 9) + strings.Repeat("░", 7) + " 120/200  4 running  2 failed  best acc = 0.5 (iteration 7)  about 40.0 s left"
	if got := s.line(now); !strings.HasSuffix(got, strings.TrimSpace(want[strings.Index(want, "120/200"):])) {
		t.Errorf("%q, not %q", got, want)
	}
	if got, want := s.text(), "iterations 120 of 200, 4 running, 2 failed, best acc = 0.5 (iteration 7)"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestPlainSearchView: a line a second at most, and the last one always.
func TestPlainSearchView(t *testing.T) {
	t.Parallel()
	p, _, stderr := testProcess(t)
	v := newRunView(&env{Process: p}, runOptions{})
	for i := range 1001 {
		v.Search(tune.Progress{Total: 1000, Ended: i, Running: min(1, 1000-i)})
	}
	v.Search(tune.Progress{Total: 1000, Ended: 1000, Stopped: tune.Exhausted})
	v.Search(tune.Progress{Total: 1000, Ended: 1000, Stopped: tune.Exhausted})
	v.close()
	if want := "millrace: iterations 1 of 1000, 1 running\nmillrace: iterations 1000 of 1000\n"; stderr.String() != want {
		t.Errorf("%q, not %q", stderr.String(), want)
	}
}

func TestSteering(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args []string
		want string // a document, or a part of the error
		code int
	}{
		{[]string{"steer", "x"}, "nothing is changed", ExitUsage},
		{[]string{"steer", "x", "--parallel", "0"}, "--parallel 0 must be from 1 on", ExitUsage},
		{[]string{"steer", "x", "--queue", "rate"}, `--queue "rate" must be NAME=VALUE`, ExitUsage},
		{[]string{"steer", "x", "--queue", "{1}"}, "is not a JSON object", ExitUsage},
		{[]string{"steer", "x", "--stop-condition", "import os"}, "stop", ExitFailed},
		{[]string{"steer", "x", "-o", "csv", "--parallel", "2"}, `-o "csv" must be json or yaml`, ExitUsage},
		{[]string{"get", "iterations"}, "of which run?", ExitUsage},
		{[]string{"get", "runs", "--sort", "iter"}, "--sort is for iterations", ExitUsage},
		{[]string{"get", "runs", "-o", "csv"}, `-o "csv" must be`, ExitUsage},
		{[]string{"get", "iterations", "x", "--state", "fast"}, `--state "fast" is not a state`, ExitUsage},
		{[]string{"run", "x.py", "--selector", "max.a"}, "--selector has a meaning only with --hyperparam or --param-file", ExitUsage},
		{[]string{"run", "x.py", "-x", "a=1", "-x", "a=2"}, "--hyperparam a is given twice", ExitUsage},
		{[]string{"run", "x.py", "-x", "a=1", "--parallel", "-1"}, "--parallel -1 must be from 1 on", ExitUsage},
		{[]string{"run", "x.py", "-x", "a=1", "--early-stopping", "asha"}, "--early-stopping \"asha\" must be a JSON object", ExitUsage},
	}
	for _, test := range tests {
		p, _, stderr := testProcess(t, test.args...)
		if code := Main(t.Context(), p, nil); code != test.code || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%v ended with %d: %s", test.args, code, stderr)
		}
	}
	point, err := parsePoint(`rate=0.1,name="a,b",flag=True`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"flag": true, "name": "a,b", "rate": 0.1}`, strings.ReplaceAll(strings.ReplaceAll(string(document.Encode(point)), ",\"", `, "`), `":`, `": `)); diff != "" {
		t.Error(diff)
	}
}

// TestLiveSearchView: on a terminal there is one line that is drawn again.
func TestLiveSearchView(t *testing.T) {
	t.Parallel()
	p, _, stderr := testProcess(t)
	p.Terminal = func(stream io.Writer) (int, bool) { return 120, stream == p.Stderr }
	v := newRunView(&env{Process: p}, runOptions{})
	v.Created(decodeObject(t, `{"spec": {"hyper_param_options": {"selector": "min.loss"}, "hyperparams": {"x": [1]}}}`))
	v.Phase(PhaseChange{Phase: PhaseRunning, Attempt: 1})
	for i := range 11 {
		v.Search(tune.Progress{Total: 10, Ended: i, Running: min(2, 10-i), Best: min(i, 1), Results: document.Object{"loss": 0.25}})
	}
	v.close()
	text := render.StripEscapes(stderr.String())
	for _, want := range []string{"5/10  2 running  best loss = 0.25 (iteration 1)", "10/10  best loss = 0.25"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in %q", want, text)
		}
	}
	if strings.Contains(text, "millrace: iterations") {
		t.Errorf("there are lines of the plain form in %q", text)
	}
}

func TestIterationTable(t *testing.T) {
	t.Parallel()
	items := []document.Object{
		decodeObject(t, `{"iter": 2, "state": "completed", "start_time": "2026-01-01T00:00:00.000000+00:00", "end_time": "2026-01-01T00:00:01.500000+00:00", "parameters": {"a": 1, "z": [1, 2]}, "results": {"y": {"deep": 0.5}}}`),
		decodeObject(t, `{"iter": 1, "state": "error", "start_time": "2026-01-01T00:00:00.000000+00:00", "end_time": null, "parameters": {"a": 2, "z": "text"}, "results": {}, "error": "no\nluck"}`),
		decodeObject(t, `{"iter": 3, "state": "aborted", "start_time": null, "parameters": {"a": 3, "z": null}, "results": {"x": true}, "reason": "early_stopping"}`),
	}
	var out bytes.Buffer
	if err := iterationTable(items, []string{"z", "a"}, false).Write(&out, 0, render.Palette{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "iterations.txt", out.String())
	p, stdout, _ := testProcess(t)
	if err := (&env{Process: p}).printIterationsCSV(items, []string{"z", "a"}); err != nil {
		t.Fatal(err)
	}
	golden(t, "iterations.csv", stdout.String())
}
