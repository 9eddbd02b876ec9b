package tune

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

func object(t testing.TB, text string) document.Object {
	t.Helper()
	o, err := document.DecodeObject([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return o
}

func values(t testing.TB, text string) *Values {
	t.Helper()
	v, err := ParseValues([]byte(text), "hyperparams")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// all runs a search to its end, with results made from parameters.
func all(t testing.TB, s *Search, results func(document.Object) document.Object) []Row {
	t.Helper()
	var rows []Row
	for {
		trial, ok := s.Next()
		if !ok {
			return rows
		}
		r := results(trial.Point.Object())
		s.Tell(Outcome{Iter: trial.Iter, State: "completed", Results: r})
		rows = append(rows, Row{Iter: trial.Iter, State: "completed", Parameters: trial.Point, Results: r})
	}
}

func nothing(document.Object) document.Object { return nil }

func encoded(rows []Row) []string {
	var out []string
	for _, row := range rows {
		out = append(out, string(document.Encode(row.Parameters.Object())))
	}
	return out
}

func search(t testing.TB, options Options, text string) *Search {
	t.Helper()
	s, err := New(options, values(t, text), 7)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGridVariesTheFirstNameFastest(t *testing.T) {
	got := encoded(all(t, search(t, Options{}, `{"z":[2,1.0,"x"],"a":[true,null]}`), nothing))
	want := []string{
		`{"a":true,"z":2}`, `{"a":true,"z":1.0}`, `{"a":true,"z":"x"}`,
		`{"a":null,"z":2}`, `{"a":null,"z":1.0}`, `{"a":null,"z":"x"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestKeyOrderIsThatOfTheText(t *testing.T) {
	raw := []byte(` {"task" : {"x":[{"q":1}], "hyperparams": { "b\"}" :[1,"},{"], "a":{"low":1,"high":2} ,"c":[] }}}`)
	if diff := cmp.Diff([]string{`b"}`, "a", "c"}, KeyOrder(raw, "task", "hyperparams")); diff != "" {
		t.Error(diff)
	}
	for _, none := range []string{`[]`, `3`, `{}`, `"x"`, ``} {
		if keys := KeyOrder([]byte(none), "task"); keys != nil {
			t.Errorf("%s: keys %q", none, keys)
		}
	}
}

func TestAMillionPointsStartAtOnce(t *testing.T) {
	axis := make([]any, 1000)
	for i := range axis {
		axis[i] = i
	}
	v := &Values{Names: []string{"a", "b"}, By: map[string]Domain{"a": {List: axis}, "b": {List: axis}}}
	s, err := New(Options{}, v, 0)
	if err != nil {
		t.Fatal(err)
	}
	if allocs := testing.AllocsPerRun(100, func() { s.Next() }); allocs > 5 {
		t.Errorf("%.0f allocations a point: the grid is not lazy", allocs)
	}
	if s.Total() != 1_000_000 {
		t.Errorf("total %d", s.Total())
	}
}

func TestRandomIsReproducibleAndCapped(t *testing.T) {
	space := `{"a":[1,2,3],"b":{"low":0.001,"high":1,"log":true},"c":{"low":1,"high":9}}`
	first := encoded(all(t, search(t, Options{Strategy: Random}, space), nothing))
	if len(first) != DefaultMaxIterations {
		t.Errorf("%d iterations, want the default", len(first))
	}
	again := encoded(all(t, search(t, Options{Strategy: Random, MaxIterations: 40}, space), nothing))
	if len(again) != 40 || !slices.Equal(first, again[:10]) {
		t.Errorf("a longer search begins otherwise:\n%q\n%q", first, again)
	}
	seed := uint64(8)
	other := encoded(all(t, search(t, Options{Strategy: Random, Seed: &seed}, space), nothing))
	if slices.Equal(first, other) {
		t.Error("another seed gives the same points")
	}
	for _, text := range again {
		p := object(t, text)
		b, _ := document.ToFloat(p["b"])
		c, whole := document.ToInt(p["c"])
		if b < 0.001 || b > 1 || !whole || c < 1 || c > 9 {
			t.Errorf("%s is outside of its ranges", text)
		}
	}
}

func TestRangesWithSteps(t *testing.T) {
	for text, want := range map[string]string{
		`{"low":1,"high":4}`:                "1 2 3 4",
		`{"low":1,"high":6,"step":2}`:       "1 3 5",
		`{"low":0.1,"high":0.4,"step":0.1}`: "0.1 0.2 0.3 0.4",
		`{"low":3,"high":3}`:                "3",
	} {
		var got []string
		for _, row := range all(t, search(t, Options{}, `{"p":`+text+`}`), nothing) {
			got = append(got, string(document.Encode(row.Parameters.Values[0])))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s gives %s, want %s", text, strings.Join(got, " "), want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"unequal lists":          {`{"hyperparams":{"a":[1,2],"b":[1]},"hyper_param_options":{"strategy":"list"}}`, "a has 2 values and b has 1"},
		"an empty list":          {`{"hyperparams":{"a":[]}}`, "a has no values"},
		"no values":              {`{"hyperparams":{}}`, "no values to iterate over"},
		"a text for a list":      {`{"hyperparams":{"a":"abc"}}`, "hyperparams.a must be a list"},
		"a number for a list":    {`{"hyperparams":{"a":3}}`, "hyperparams.a must be a list"},
		"a wrong strategy":       {`{"hyperparams":{"a":[1]},"hyper_param_options":{"strategy":"genetic"}}`, `strategy "genetic" is not known`},
		"max_iterations, grid":   {`{"hyperparams":{"a":[1]},"hyper_param_options":{"max_iterations":3}}`, "max_iterations is for"},
		"max_errors of 0":        {`{"hyperparams":{"a":[1]},"hyper_param_options":{"max_errors":0}}`, "max_errors must be a whole number from 1 on, got 0"},
		"a negative parallel":    {`{"hyperparams":{"a":[1]},"hyper_param_options":{"parallel_runs":-1}}`, "parallel_runs must be"},
		"an unknown option":      {`{"hyperparams":{"a":[1]},"hyper_param_options":{"budget":1}}`, "budget is not known"},
		"a wrong selector":       {`{"hyperparams":{"a":[1]},"hyper_param_options":{"selector":"best.acc"}}`, `selector "best.acc"`},
		"an empty selector":      {`{"hyperparams":{"a":[1]},"selector":"max."}`, `selector "max."`},
		"tpe without selector":   {`{"hyperparams":{"a":[1]},"hyper_param_options":{"strategy":"tpe"}}`, "set selector"},
		"a range in a grid":      {`{"hyperparams":{"a":{"low":0.0,"high":1}}}`, "a is a range without steps"},
		"a range upside down":    {`{"hyperparams":{"a":{"low":2,"high":1}}}`, "low 2 is above high 1"},
		"a log range from 0":     {`{"hyperparams":{"a":{"low":0,"high":1,"log":true}}}`, "begins above 0"},
		"a step of 0":            {`{"hyperparams":{"a":{"low":0,"high":1,"step":0}}}`, "step must be above 0"},
		"half a range":           {`{"hyperparams":{"a":{"low":0}}}`, "needs low and high"},
		"an unknown range key":   {`{"hyperparams":{"a":{"low":0,"high":1,"dist":"x"}}}`, "dist is not known"},
		"a huge grid":            {`{"hyperparams":{"a":{"low":1,"high":100000},"b":{"low":1,"high":100000}}}`, "the grid has more than"},
		"an isolation":           {`{"hyperparams":{"a":[1]},"hyper_param_options":{"isolation":"vm"}}`, `isolation "vm"`},
		"a timeout":              {`{"hyperparams":{"a":[1]},"hyper_param_options":{"timeout":"soon"}}`, `timeout: "soon"`},
		"an early rule":          {`{"hyperparams":{"a":[1]},"hyper_param_options":{"early_stopping":{"rule":"x"}}}`, "rule must be asha or median"},
		"an early metric":        {`{"hyperparams":{"a":[1]},"hyper_param_options":{"early_stopping":{"rule":"asha"}}}`, "metric must name"},
		"a condition":            {`{"hyperparams":{"a":[1]},"hyper_param_options":{"stop_condition":"a >"}}`, "stop_condition"},
		"options as a list":      {`{"hyperparams":{"a":[1]},"hyper_param_options":[]}`, "hyper_param_options must be an object"},
		"a strategy as a number": {`{"hyperparams":{"a":[1]},"hyper_param_options":{"strategy":3}}`, "strategy must be a string"},
	} {
		t.Run(name, func(t *testing.T) {
			run := document.Object{"spec": object(t, c.spec)}
			o, err := ParseOptions(run)
			if err == nil {
				var v *Values
				raw := document.Encode(document.Get(run, "spec", "hyperparams"))
				if v, err = ParseValues(raw, "hyperparams"); err == nil {
					_, err = New(o, v, 0)
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			if fault.CodeOf(err) != fault.CodeInvalid {
				t.Errorf("code %s", fault.CodeOf(err))
			}
		})
	}
}

func TestOptionsAsClientsSendThem(t *testing.T) {
	run := object(t, `{"spec":{"hyperparams":{"a":[1]},"selector":"min.loss","hyper_param_options":{"param_file":null,"strategy":"random",
		"selector":null,"stop_condition":"loss < 1","parallel_runs":2,"dask_cluster_uri":null,"max_iterations":5,"max_errors":1,"teardown_dask":null}}}`)
	o, err := ParseOptions(run)
	if err != nil {
		t.Fatal(err)
	}
	want := Options{Strategy: Random, Selector: Selector{"loss", true}, StopCondition: "loss < 1", ParallelRuns: 2, MaxIterations: 5, MaxErrors: 1}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
	for spec, want := range map[string]bool{
		`{"hyperparams":{"a":[1]}}`:                      true,
		`{"hyperparams":{}}`:                             false,
		`{"param_file":"p.csv"}`:                         true,
		`{"hyper_param_options":{"param_file":"p.csv"}}`: true,
		`{"hyperparams":{"a":[1]},"hyper_param_options":{"strategy":"custom"}}`: false,
		`{"hyper_param_options":{"strategy":null}}`:                             false,
	} {
		if got := Iterative(document.Object{"spec": object(t, spec)}); got != want {
			t.Errorf("%s: iterative %v", spec, got)
		}
	}
}

func TestParameterFiles(t *testing.T) {
	content := "\ufeffname,n,f,flag,mixed,gap\n\"a, \"\"b\"\"\",1,1,True,1,4\nc,-2,.5,false,x,\n\n"
	v, err := ParseFile("https://host/p.CSV", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{}, v, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"f":1.0,"flag":true,"gap":4,"mixed":"1","n":1,"name":"a, \"b\""}`,
		`{"f":0.5,"flag":false,"gap":null,"mixed":"x","n":-2,"name":"c"}`,
	}
	if diff := cmp.Diff(want, encoded(all(t, s, nothing))); diff != "" {
		t.Error(diff)
	}
	if _, err := New(Options{Strategy: Grid}, v, 0); err == nil {
		t.Error("a table was taken as a grid")
	}
	file, err := ParseFile("p.json", []byte("\ufeff{\"b\":[1],\"a\":[1,2]}"))
	if err != nil {
		t.Fatal(err)
	}
	merged := Merge(file, values(t, `{"c":[5],"b":[7,8]}`))
	s, err = New(Options{}, merged, 0)
	if err != nil {
		t.Fatal(err)
	}
	want = []string{`{"a":1,"b":7,"c":5}`, `{"a":1,"b":8,"c":5}`, `{"a":2,"b":7,"c":5}`, `{"a":2,"b":8,"c":5}`}
	if diff := cmp.Diff(want, encoded(all(t, s, nothing))); diff != "" {
		t.Error(diff)
	}
	for name, c := range map[string]struct{ file, content, want string }{
		"empty":         {"p.csv", "", "is empty"},
		"only a header": {"p.csv", "a,b\n", "no rows"},
		"too many":      {"p.csv", "a,b\n1,2\n1,2,3\n", "line 3: 3 cells where the first line has 2"},
		"twice":         {"p.csv", "a,a\n1,2\n", `"a" stands twice`},
		"no name":       {"p.csv", "a,\n1,2\n", "has no name"},
		"an open quote": {"p.csv", "a\n\"1\n", "p.csv"},
		"bad JSON":      {"p.json", "{", "p.json: malformed JSON"},
		"a JSON list":   {"p.json", "[1]", "must be a JSON object"},
		"no JSON value": {"p.json", "{}", "has no values"},
	} {
		if _, err := ParseFile(c.file, []byte(c.content)); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestSelector(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		selector string
		values   []any
		want     int
	}{
		"largest":              {"acc", []any{0.1, 0.3, 0.2}, 2},
		"smallest":             {"min.acc", []any{0.3, 0.1, 0.2}, 2},
		"all negative":         {"max.acc", []any{-3, -1, -2}, 2},
		"zero":                 {"max.acc", []any{-1, 0, -2}, 2},
		"NaN never":            {"max.acc", []any{nan, 1, nan}, 2},
		"NaN alone":            {"max.acc", []any{nan, nan}, 0},
		"first of equal":       {"max.acc", []any{1, 2, 2.0}, 2},
		"texts and booleans":   {"max.acc", []any{"0.5", true, "x"}, 2},
		"lists are not values": {"max.acc", []any{[]any{9}, 1}, 2},
		"missing":              {"max.other", []any{1, 2}, 0},
		"a number as text":     {"min.acc", []any{json.Number("2"), json.Number("1e-3")}, 2},
		"infinite":             {"max.acc", []any{1, math.Inf(1)}, 2},
	} {
		s, err := ParseSelector(c.selector)
		if err != nil {
			t.Fatal(err)
		}
		for _, backwards := range []bool{false, true} {
			var best Best
			for i := range c.values {
				if backwards {
					i = len(c.values) - 1 - i
				}
				best.consider(s, i+1, document.Object{"acc": c.values[i]})
			}
			if best.Iter != c.want {
				t.Errorf("%s (backwards %v): iteration %d, want %d", name, backwards, best.Iter, c.want)
			}
		}
	}
	dotted, _ := ParseSelector("max.val.acc")
	if v, ok := dotted.Value(document.Object{"val.acc": 1}); !ok || v != 1 {
		t.Errorf("a dotted name: %v, %v", v, ok)
	}
	if v, ok := dotted.Value(document.Object{"val": document.Object{"acc": 2}}); !ok || v != 2 {
		t.Errorf("a nested result: %v, %v", v, ok)
	}
}

func TestMaxErrorsIsMoreThan(t *testing.T) {
	s := search(t, Options{MaxErrors: 2}, `{"a":[1,2,3,4,5,6]}`)
	given := 0
	for {
		trial, ok := s.Next()
		if !ok {
			break
		}
		given++
		s.Tell(Outcome{Iter: trial.Iter, State: "error"})
	}
	if given != 3 || s.Stopped() != Errors {
		t.Errorf("%d iterations, stopped %q; want 3 and max_errors", given, s.Stopped())
	}
	if text := ErrorText(s.Failed(), s.Ended()); text != "3 of 3 tasks failed, check logs in db for details" {
		t.Error(text)
	}
}

func TestTable(t *testing.T) {
	table := NewTable([]Row{
		{Iter: 2, State: "error", Parameters: Point{[]string{"z", "a"}, []any{json.Number("2"), document.Object{"k": json.Number("1")}}}},
		{Iter: 1, State: "completed", Parameters: Point{[]string{"z", "a"}, []any{json.Number("1.0"), document.Object{"k": "x,y"}}},
			Results: document.Object{"acc": json.Number("0.5"), "ok": true, "nan": math.NaN(), "l": []any{1, 2}, "deep": document.Object{"er": 1}}},
	})
	want := []any{
		[]any{"state", "iter", "param.z", "param.a.k", "output.acc", "output.deep.er", "output.l", "output.nan", "output.ok"},
		[]any{"completed", 1, json.Number("1.0"), "x,y", json.Number("0.5"), 1, []any{1, 2}, nil, true},
		[]any{"error", 2, json.Number("2"), json.Number("1"), nil, nil, nil, nil, nil},
	}
	if diff := cmp.Diff(want, table.Document()); diff != "" {
		t.Error(diff)
	}
	text := "state,iter,param.z,param.a.k,output.acc,output.deep.er,output.l,output.nan,output.ok\n" +
		"completed,1,1.0,\"x,y\",0.5,1,\"[1,2]\",,True\nerror,2,2,1,,,,,\n"
	if diff := cmp.Diff(text, string(table.CSV())); diff != "" {
		t.Error(diff)
	}
}

// TestResume interrupts searches at every point, with iterations out, and expects
// the same iterations as without, each once.
func TestResume(t *testing.T) {
	space := `{"a":{"low":-5.0,"high":5},"b":["x","y"],"c":[1,2,3]}`
	score := func(p document.Object) document.Object {
		a, ok := document.ToFloat(p["a"])
		if !ok {
			a = 1
		}
		return document.Object{"loss": a * a}
	}
	for _, strategy := range []Strategy{Grid, Random, TPE} {
		options := Options{Strategy: strategy, Selector: Selector{"loss", true}}
		if strategy != Grid {
			options.MaxIterations = 30
		}
		text := space
		if strategy == Grid {
			text = `{"a":[3,-1,2],"b":["x","y"]}`
		}
		whole := search(t, options, text)
		want := encoded(all(t, whole, score))
		for cut := range want {
			s := search(t, options, text)
			done := map[int]document.Object{}
			var outcomes []Outcome
			finish := func(trial Trial) {
				if _, twice := done[trial.Iter]; twice {
					t.Fatalf("iteration %d is executed twice", trial.Iter)
				}
				done[trial.Iter] = trial.Point.Object()
				o := Outcome{Iter: trial.Iter, State: "completed", Results: score(trial.Point.Object())}
				outcomes = append(outcomes, o)
				s.Tell(o)
			}
			for range cut {
				trial, _ := s.Next()
				finish(trial)
			}
			s.Next() // is out when it is killed
			raw, err := json.Marshal(s.State())
			if err != nil {
				t.Fatal(err)
			}
			doc, err := document.Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			var state State
			if err := json.Unmarshal(document.Encode(doc), &state); err != nil {
				t.Fatal(err)
			}
			s = search(t, options, text)
			if err := s.Restore(state, outcomes, func(i int) document.Object { return done[i] }); err != nil {
				t.Fatal(err)
			}
			for {
				trial, ok := s.Next()
				if !ok {
					break
				}
				finish(trial)
			}
			for i, text := range want {
				if string(document.Encode(done[i+1])) != text {
					t.Fatalf("%s cut at %d: iteration %d is %s, uninterrupted %s", strategy, cut, i+1, document.Encode(done[i+1]), text)
				}
			}
			if len(done) != len(want) || s.Best() != whole.Best() {
				t.Fatalf("%s cut at %d: %d iterations, best %v; uninterrupted %d, %v", strategy, cut, len(done), s.Best(), len(want), whole.Best())
			}
		}
	}
}

func TestQueuedPointsComeNext(t *testing.T) {
	s := search(t, Options{}, `{"a":[1,2]}`)
	s.Next()
	if err := s.Queue(document.Object{"a": json.Number("9")}); err != nil {
		t.Fatal(err)
	}
	if s.Total() != 3 {
		t.Errorf("total %d, want 3", s.Total())
	}
	var got []string
	for {
		trial, ok := s.Next()
		if !ok {
			break
		}
		got = append(got, fmt.Sprint(trial.Iter, " ", trial.Point.Values[0]))
	}
	if diff := cmp.Diff([]string{"2 9", "3 2"}, got); diff != "" {
		t.Error(diff)
	}
	if err := s.Queue(document.Object{"a": json.Number("8")}); err != nil {
		t.Fatal(err)
	}
	if trial, ok := s.Next(); !ok || trial.Iter != 4 {
		t.Errorf("a point queued after the last: %v, %v", trial, ok)
	}
}
