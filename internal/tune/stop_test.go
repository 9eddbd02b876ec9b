package tune

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

func TestStopCondition(t *testing.T) {
	results := document.Object{
		"acc": json.Number("0.91"), "n": json.Number("7"), "zero": json.Number("0"), "name": "it's", "none": nil, "ok": true,
		"xs": []any{json.Number("1"), json.Number("3")}, "m": document.Object{"loss": json.Number("0.5")}, "nan": math.NaN(),
	}
	for text, want := range map[string]bool{
		"acc > 0.9": true, "acc>0.95": false, "acc > 0.9 and n < 5": false, "acc > 0.9 or missing": true, "not acc": false, "not zero": true,
		"n ** 2 == 49": true, "n % 4 == 3": true, "-n % 4 == 1": true, "ok == True": true, "ok and not False": true, "none is None": true,
		"none is not None": false, "acc is not None": true, "len(xs) == 2": true, "max(n, 3) == 7": true, "min(xs) == 1": true, "abs(-n) == 7": true,
		"name == 'it\\'s'": true, `name == "True is //"`: false, "xs[1] == 3": true, "m['loss'] < 1": true, "m.loss < 1": true, "3 in xs": true,
		"3 not in xs": false, "0 < acc < 1": true, "1 < n < 3": false, "acc": true, "zero": false, "name": true, "none": false, "n / 2 == 3.5": true,
		"(acc or 0) > 0.5": true, "(none or 2) == 2": true, "n >= 7 and (acc > 1 or n == 7)": true, "acc != acc": false, "nan > 0": false,
		"acc > 9e-1": true, "zero and missing": false, "round(acc) == 1": true, "floor(n / 2) == 3": true, "1e3 > n": true, "not (acc > 0.5)": false,
		"n == 7.0": true, "abs(acc - 0.9) < 0.02": true, "True": true, "sum(xs) == 4": true,
	} {
		c, err := CompileStop(text, nil)
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
		c, err := CompileStop(text, nil)
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
	} {
		if c, err := CompileStop(text, nil); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%s: compiled to %v, error %v", text, c, err)
		}
	}
	if _, err := CompileStop("acc > 0.9 and loss < 1", []string{"acc"}); err == nil || !strings.Contains(err.Error(), `there is no result "loss"; the results are acc`) {
		t.Errorf("an unknown name among declared results: %v", err)
	}
	if c, err := CompileStop("max(acc, loss) > 0.9", []string{"acc", "loss"}); err != nil || len(c.Names()) != 2 {
		t.Errorf("known names: %v, %v", c, err)
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
		c, err := CompileStop(strings.Repeat("a"+op, 300)+"b", nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Holds(document.Object{"a": op == " and ", "b": true})
		if err != nil || !got {
			t.Errorf("300 times %q: %v, %v", op, got, err)
		}
		right := strings.Repeat("(a"+op, 200) + "b" + strings.Repeat(")", 200)
		if c, err = CompileStop(right, nil); err != nil {
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
		c, err := CompileStop(text, nil)
		if err != nil && !fault.Is(err, fault.CodeInvalid) {
			t.Fatalf("%q: %v", text, err)
		}
		if c != nil {
			_, _ = c.Holds(document.Object{"acc": 1, "xs": []any{1}, "name": "x"})
		}
	})
}
