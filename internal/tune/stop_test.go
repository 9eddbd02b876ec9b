package tune

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

func TestStopCondition(t *testing.T) {
	results := document.Object{
		"acc": json.Number("0.91"), "n": json.Number("7"), "zero": json.Number("0"), "name": "it's", "none": nil, "ok": true,
		"xs": []any{json.Number("1"), json.Number("3")}, "m": document.Object{"loss": json.Number("0.5")}, "nan": math.NaN(),
		"odd name": json.Number("3"), "get": json.Number("4"), "max": json.Number("2"),
	}
	for text, want := range map[string]bool{
		"acc > 0.9": true, "acc>0.95": false, "acc > 0.9 and n < 5": false, "acc > 0.9 or missing": true, "not acc": false, "not zero": true,
		"n ** 2 == 49": true, "n % 4 == 3": true, "-n % 4 == 1": true, "ok == True": true, "ok and not False": true, "none is None": true,
		"none is not None": false, "acc is not None": true, "len(xs) == 2": true, "max(n, 3) == 7": true, "min(xs) == 1": true, "abs(-n) == 7": true,
		"name == 'it\\'s'": true, `name == "True is //"`: false, "xs[1] == 3": true, "m['loss'] < 1": true, "m.loss < 1": true, "3 in xs": true,
		"3 not in xs": false, "0 < acc < 1": true, "1 < n < 3": false, "acc": true, "zero": false, "name": true, "none": false, "n / 2 == 3.5": true,
		"(acc or 0) > 0.5": true, "(none or 2) == 2": true, "n >= 7 and (acc > 1 or n == 7)": true, "acc != acc": false, "nan > 0": false,
		"acc > 9e-1": true, "zero and missing": false, "round(acc) == 1": true, "floor(n / 2) == 3": true, "1e3 > n": true, "not (acc > 0.5)": false,
		"n == 7.0": true, "abs(acc - 0.9) < 0.02": true, "True": true, "sum(xs) == 4": true, "get('acc', 0) > 0.9": true, "get('missing', 7) == n": true,
		"get('odd name', 1) == 3": true, "get > 3": true, "max == 2": true,
	} {
		c, err := CompileStop(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := c.Holds(results)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"missing > 1": `no result "missing"`, "n / zero > 1": "division by zero", "n % zero": "division by zero", "name > 3": "stop_condition",
		"acc and missing": `no result "missing"`, "name / 2": "not a number", "none > 1": "stop_condition", "n ^ 2": "use **",
	} {
		c, err := CompileStop(text)
		if err != nil {
			if text == "n ^ 2" {
				continue
			}
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := c.Holds(results); got || !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, error %v, want %q", text, got, err, want)
		}
	}
}

func TestStopConditionIsRefusedBeforeAnythingStarts(t *testing.T) {
	for _, text := range []string{
		"acc >", "acc = 1", "import os", "__import__('os')", "open('x')", "acc // 2 > 1", "acc > 1 # note", "lambda: 1", "1 if acc else 0",
		"acc; acc", "$results", "acc > ", "'open", "len()", "nosuch(acc)", "[x for x in acc]", "now()", "{1}", "acc ? 1 : 2", "acc | len", "acc && acc",
		"acc.item() > 1", "name.startswith('x')", "m.get('loss', 1) > 0", "acc.__class__ == 1", "acc['__class__']", "__import__ > 1", "class > 1",
		"yield", "get(acc, 1)", "get('acc')", "get('acc', 1, 2)", "get()",
	} {
		if c, err := CompileStop(text); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%s: compiled to %v, error %v", text, c, err)
		}
	}
}

func TestStopEndsTheSearch(t *testing.T) {
	s := search(t, Options{StopCondition: "loss / d < 1"}, `{"loss":[0,4,1,5],"d":[2]}`)
	seen := 0
	for {
		trial, ok := s.Next()
		if !ok {
			break
		}
		seen++
		results := trial.Point.Object()
		if trial.Iter == 1 {
			results["d"] = 0 // cannot be evaluated: does not hold
		}
		s.Tell(Outcome{Iter: trial.Iter, State: "completed", Results: results})
	}
	if seen != 3 || s.Stopped() != Condition {
		t.Errorf("%d iterations, stopped %q", seen, s.Stopped())
	}
	if !strings.Contains(s.Problem(), "division by zero") {
		t.Errorf("problem %q", s.Problem())
	}
}

// TestLongConditions would not end if an operand were compiled twice.
func TestLongConditions(t *testing.T) {
	for _, op := range []string{" or ", " and "} {
		c, err := CompileStop(strings.Repeat("a"+op, 300) + "b")
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Holds(document.Object{"a": op == " and ", "b": true})
		if err != nil || !got {
			t.Errorf("300 times %q: %v, %v", op, got, err)
		}
		right := strings.Repeat("(a"+op, 200) + "b" + strings.Repeat(")", 200)
		if c, err = CompileStop(right); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Holds(document.Object{"a": op == " and ", "b": true}); err != nil || !got {
			t.Errorf("200 times %q in brackets: %v, %v", op, got, err)
		}
	}
}

func FuzzStopCondition(f *testing.F) {
	for _, text := range []string{"acc > 0.9", "a and b or not c", "xs[0] ** 2 % 3", "'x' in name", "is is not None"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := CompileStop(text)
		if err != nil && !fault.Is(err, fault.CodeInvalid) {
			t.Fatalf("%q: %v", text, err)
		}
		if c != nil {
			_, _ = c.Holds(document.Object{"acc": 1, "xs": []any{1}, "name": "x"})
		}
	})
}

// told makes a search of ten points and tells it of completed iterations with these
// results, one after the other, until it has stopped.
func told(t *testing.T, o Options, results ...document.Object) *Search {
	t.Helper()
	s := search(t, o, `{"depth":[0,1,2,3,4,5,6,7,8,9]}`)
	for _, r := range results {
		trial, ok := s.Next()
		if !ok {
			break
		}
		s.Tell(Outcome{Iter: trial.Iter, State: "completed", Results: r})
	}
	return s
}

func TestANameThatNoIterationLogsEndsTheSearch(t *testing.T) {
	acc := document.Object{"accuracy": 0.5, "loss": 1}
	nothing := document.Object{}
	for _, c := range []struct {
		name      string
		condition string
		results   []document.Object
		ended     int
		stopped   Reason
		say       string
	}{
		{"a typing error", "acuracy > 0.9", []document.Object{acc, acc}, 1, Unknown, `no iteration logs "acuracy"; results are accuracy, loss (of one that only some log, write get("acuracy", 0)`},
		{"behind a choice", "accuracy > 0.9 and acuracy > 0.9", []document.Object{acc, acc}, 1, Unknown, `"acuracy"`},
		{"two of them", "a > b", []document.Object{acc}, 1, Unknown, `no iteration logs "a", "b"; results`},
		{"a parameter", "depth > 3", []document.Object{acc, acc}, 1, Unknown, `the parameter "depth" is not one of them`},
		{"one without results tells nothing", "accuracy > 0.9", []document.Object{nothing, acc, acc}, 3, "", ""},
		{"nor does another after it was there", "accuracy > 0.9", []document.Object{acc, {"loss": 2}, acc}, 3, "", `no result "accuracy"`},
		{"the first one lacks it", "accuracy > 0.9", []document.Object{nothing, {"loss": 2}, acc}, 2, Unknown, `"accuracy"; results are loss`},
		{"unless it is asked for with another value", `get("accuracy", 0) > 0.4`, []document.Object{{"loss": 2}, acc}, 2, Condition, ""},
		{"no results at all", "accuracy > 0.9", slices.Repeat([]document.Object{nothing}, 10), 10, Unknown, `no iteration logs "accuracy"; there are no results`},
	} {
		s := told(t, Options{StopCondition: c.condition}, c.results...)
		if s.Ended() != c.ended || s.Stopped() != c.stopped || !strings.Contains(s.Problem(), c.say) {
			t.Errorf("%s: after %d iterations %q %q", c.name, s.Ended(), s.Stopped(), s.Problem())
		}
	}
}

// What an iteration logged that did not complete is a result as well, and only one
// that completed tells that another name is none.
func TestOnlyCompletedIterationsTellThatANameIsUnknown(t *testing.T) {
	s := search(t, Options{StopCondition: "a > 1 and b > 1"}, `{"x":[1,2,3,4]}`)
	for i, o := range []Outcome{
		{State: "error", Results: document.Object{"a": 1}}, {State: "aborted", Results: document.Object{"c": 1}}, {State: "completed", Results: document.Object{"b": 1}},
	} {
		trial, ok := s.Next()
		if !ok {
			t.Fatalf("stopped before iteration %d: %q %q", i+1, s.Stopped(), s.Problem())
		}
		o.Iter = trial.Iter
		s.Tell(o)
	}
	if s.Stopped() != "" {
		t.Errorf("stopped %q: %s", s.Stopped(), s.Problem())
	}
}

func TestAChangedConditionIsCheckedAgainstWhatIsKnown(t *testing.T) {
	s := told(t, Options{}, document.Object{"accuracy": 0.5})
	change, err := ParseSteering(document.Object{"stop_condition": "acuracy > 0.9"})
	if err != nil {
		t.Fatal(err)
	}
	if err := change.CheckLogged(LoggedOf(document.Object{})); err != nil {
		t.Errorf("before any result: %v", err)
	}
	state := document.Object{"results": s.logged.Document()}
	if err := change.CheckLogged(LoggedOf(state)); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), `"acuracy"; results are accuracy`) {
		t.Errorf("with a result: %v", err)
	}
	if s.Change(change); s.Stopped() != Unknown {
		t.Errorf("taken up all the same: %q", s.Stopped())
	}
	// What stopped for it stays so when it is continued.
	again := search(t, Options{}, `{"depth":[0,1,2,3,4,5,6,7,8,9]}`)
	if err := again.Restore(s.State(), []Outcome{{Iter: 1, State: "completed", Results: document.Object{"accuracy": 0.5}}}, params); err != nil || again.Stopped() != Unknown || again.Problem() != s.Problem() {
		t.Errorf("continued as %q %q, error %v", again.Stopped(), again.Problem(), err)
	}
}

// A resumed search knows what was logged before.
func TestAResumedSearchKnowsTheNames(t *testing.T) {
	o := Options{StopCondition: "a > 1 and b > 1"}
	s := told(t, o, document.Object{"a": 1, "b": 1})
	again := search(t, o, `{"depth":[0,1,2,3,4,5,6,7,8,9]}`)
	if err := again.Restore(s.State(), []Outcome{{Iter: 1, State: "completed", Results: document.Object{"a": 1, "b": 1}}}, params); err != nil {
		t.Fatal(err)
	}
	trial, _ := again.Next()
	again.Tell(Outcome{Iter: trial.Iter, State: "completed", Results: document.Object{"a": 1}})
	if again.Stopped() != "" {
		t.Errorf("stopped %q: %s", again.Stopped(), again.Problem())
	}
}

func params(int) document.Object { return document.Object{"depth": 0} }

// Names beyond those that are kept are not taken for unknown ones.
func TestManyNames(t *testing.T) {
	results := document.Object{"wanted": 1}
	for i := range 3 * maxLogged {
		results[fmt.Sprintf("r%03d", i)] = i
	}
	s := told(t, Options{StopCondition: "wanted > 1"}, results)
	if s.Stopped() != "" || len(s.logged.names) != maxLogged || s.logged.Document() != nil {
		t.Errorf("%q %q, %d names kept, document %v", s.Stopped(), s.Problem(), len(s.logged.names), s.logged.Document())
	}
	text := "wanted > 2"
	if s.Change(Steering{StopCondition: &text}); s.Stopped() != "" {
		t.Errorf("changed: %q %q", s.Stopped(), s.Problem())
	}
	if s = told(t, Options{StopCondition: "wnted > 1"}, results); s.Stopped() != Unknown {
		t.Errorf("a name that is none of many: %q", s.Stopped())
	}
}

func TestTPEEndsWithoutAnythingToLearnFrom(t *testing.T) {
	for _, c := range []struct {
		from int // the first iteration that has the number
		want int
	}{{tpeStartup, 30}, {31, tpeStartup}} {
		s := search(t, Options{Strategy: TPE, Selector: Selector{Result: "acc"}, MaxIterations: 30}, `{"x":{"low":0,"high":1}}`)
		for trial, ok := s.Next(); ok; trial, ok = s.Next() {
			results := document.Object{"acc": "none", "loss": 1}
			if trial.Iter >= c.from {
				results["acc"] = 1
			}
			s.Tell(Outcome{Iter: trial.Iter, State: "completed", Results: results})
		}
		if s.Ended() != c.want || (s.Stopped() == Unknown) != (c.want < 30) {
			t.Errorf("with a number from %d on it has stopped after %d: %q %q", c.from, s.Ended(), s.Stopped(), s.Problem())
		}
	}
}
