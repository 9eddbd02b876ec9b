package iterations

import (
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

func TestGrid(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	for _, isolation := range []string{"warm", "fork"} {
		t.Run(isolation, func(t *testing.T) {
			o := finish(t, s, task{
				code: `
def work(context, x: int, y: int, base: int):
    print("this is", x, y)
    context.log_result("value", base - (x - 7) ** 2 - (y - 3) ** 2)
    if (x, y) in ((7, 3), (1, 1)):
        context.log_artifact("note", body=f"{x} {y}", format="txt")
`,
				params: object{"base": -100},
				hyper:  object{"y": upTo(25), "x": upTo(40)},
				// All values are negative: the largest of them is the best all the same.
				options: object{"selector": "max.value", "parallel_runs": 2, "isolation": isolation},
			})
			if o.state != "completed" || o.states() != "completed:1000" {
				t.Fatalf("the task is %s: %s; its iterations are %s\n%.2000s", o.state, o.err(), o.states(), o.log)
			}
			for iter := 1; iter <= 1000; iter++ {
				child := o.children[iter]
				x, _ := at(child, "spec", "parameters", "x").(float64)
				y, _ := at(child, "spec", "parameters", "y").(float64)
				if want := -100 - (x-7)*(x-7) - (y-3)*(y-3); o.result(iter, "value") != want {
					t.Fatalf("iteration %d of %v, %v has %v, want %v", iter, x, y, o.result(iter, "value"), want)
				}
				if base := at(child, "spec", "parameters", "base"); base != -100.0 {
					t.Fatalf("iteration %d does not have the task's own parameter: %v", iter, base)
				}
				start, err := stamp(child, "start_time")
				end, err2 := stamp(child, "end_time")
				if err != nil || err2 != nil || end.Before(start) {
					t.Fatalf("iteration %d went from %v to %v (%v, %v)", iter, start, end, err, err2)
				}
				if own := slice(o.log, child); own != fmt.Sprintf("this is %v %v\n", x, y) {
					t.Fatalf("the output of iteration %d is %q", iter, own)
				}
			}
			if best := o.best(); best == 0 || at(o.children[best], "spec", "parameters", "x") != 7.0 || at(o.children[best], "spec", "parameters", "y") != 3.0 {
				t.Errorf("the best iteration is %d", best)
			}
			if value := at(o.run, "status", "results", "value"); value != -100.0 {
				t.Errorf("the task's result is %v", value)
			}
			table, _ := at(o.run, "status", "iterations").([]any)
			if len(table) != 1001 {
				t.Errorf("the table has %d rows", len(table))
			}
			artifacts := get(t, s, "/api/v1/projects/default/artifacts?tree="+o.uid)
			keys := map[string]string{}
			list, _ := artifacts["artifacts"].([]any)
			for _, entry := range list {
				key, _ := at(entry, "metadata", "key").(string)
				iter, _ := at(entry, "metadata", "iter").(float64)
				path, _ := at(entry, "spec", "target_path").(string)
				keys[fmt.Sprintf("%s %v", key, iter)] = path
			}
			if keys["note 1"] == "" || keys[fmt.Sprintf("note %d", o.best())] == "" {
				t.Errorf("the artifacts are %v", keys)
			}
			checkFiles(t, keys)
		})
	}
}

// checkFiles looks at the files that a task of 1,000 iterations leaves.
func checkFiles(t *testing.T, keys map[string]string) {
	t.Helper()
	file, err := os.Open(strings.TrimPrefix(keys["iteration_results 0"], "file://"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) != 1001 || !slices.Equal(rows[0], []string{"state", "iter", "param.base", "param.x", "param.y", "output.value"}) {
		t.Errorf("iteration_results.csv has %d rows, the first %v (error %v)", len(rows), rows[:min(1, len(rows))], err)
	}
	page, err := os.ReadFile(strings.TrimPrefix(keys["parallel_coordinates 0"], "file://"))
	if err != nil || !strings.Contains(string(page), "</html>") || strings.Contains(string(page), "src=\"http") {
		t.Errorf("the plot has %d bytes (error %v)", len(page), err)
	}
}

func stamp(child object, field string) (time.Time, error) {
	text, _ := at(child, "status", field).(string)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999-07:00", "2006-01-02T15:04:05.999999-07:00"} {
		if when, err := time.Parse(layout, text); err == nil {
			return when, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", text)
}

// slice is the part of the task's log that an iteration wrote.
func slice(log string, child object) string {
	part, _ := at(child, "status", "log").([]any)
	if len(part) != 2 {
		return ""
	}
	from, to := int(part[0].(float64)), int(part[1].(float64))
	if from < 0 || from > to || to > len(log) {
		return fmt.Sprintf("[%d:%d] of %d bytes", from, to, len(log))
	}
	return log[from:to]
}

// seeded has a result by chance.
const seeded = `
import random

def work(context, x):
    context.log_result("value", (x - 0.5) ** 2 + random.random() / 1000)
`

func TestSeededTasksGiveTheSame(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	for _, c := range []struct {
		strategy string
		parallel int
	}{{"random", 1}, {"tpe", 1}, {"tpe", 3}} {
		strategy := c.strategy
		var before map[int]any
		for _, isolation := range []string{"warm", "fork", "warm"} {
			o := finish(t, s, task{
				code: seeded, hyper: object{"x": object{"low": 0.0, "high": 1.0}},
				options: object{
					"strategy": strategy, "seed": 11, "max_iterations": 30, "selector": "min.value", "isolation": isolation, "parallel_runs": c.parallel,
				},
			})
			if o.state != "completed" || o.states() != "completed:30" || o.best() == 0 {
				t.Fatalf("%s, %s: %s %s, %s", strategy, isolation, o.state, o.err(), o.states())
			}
			values := map[int]any{}
			for iter := range o.children {
				values[iter] = o.result(iter, "value")
			}
			for iter, value := range before {
				if values[iter] != value {
					t.Fatalf("%s, %s: iteration %d gives %v, gave %v before", strategy, isolation, iter, values[iter], value)
				}
			}
			before = values
		}
	}
}

func TestParameterFiles(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	file := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	code := `
def work(context, name, size, rate):
    context.log_result("seen", repr((name, size, rate)))
`
	for _, c := range []struct {
		name, path string
		options    object
		want       []string
	}{
		{
			"a table with a mark, quotes and commas", file("p.csv", "\ufeff\"name\",size,rate\r\n\"a, b\",1,0.5\r\n\"say \"\"x\"\"\",2,1\r\n"), object{},
			[]string{"('a, b', 1, 0.5)", "('say \"x\"', 2, 1.0)"},
		},
		{
			"an object as a grid", file("p.json", `{"size": [1, 2], "name": ["a"], "rate": [0.5, 1]}`), object{},
			[]string{"('a', 1, 0.5)", "('a', 2, 0.5)", "('a', 1, 1)", "('a', 2, 1)"},
		},
		{
			"an object as a list", file("q.json", `{"size": [1, 2], "name": ["a", "b"], "rate": [0.5, null]}`), object{"strategy": "list"},
			[]string{"('a', 1, 0.5)", "('b', 2, None)"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options["param_file"] = c.path
			o := finish(t, s, task{code: code, options: c.options})
			var got []string
			for iter := range len(o.children) {
				got = append(got, fmt.Sprint(o.result(iter+1, "seen")))
			}
			if o.state != "completed" || !slices.Equal(got, c.want) {
				t.Errorf("%s %s: %q, want %q", o.state, o.err(), got, c.want)
			}
		})
	}
	for _, c := range []struct{ name, path, say string }{
		{"missing", filepath.Join(t.TempDir(), "none.csv"), "none.csv"},
		{"rows of different length", file("p.csv", "a,b\n1,2\n3\n"), "p.csv"},
		{"a list", file("p.json", "[1, 2]"), "p.json"},
		{"no rows", file("p.csv", "a,b\n"), "no rows"},
		{"nothing", file("p.csv", ""), "is empty"},
		{"an object without values", file("p.json", "{}"), "has no values"},
		{"an empty list", file("p.json", `{"a": [1], "b": []}`), "b has no values"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, status, text := submit(t, s, task{code: code, options: object{"param_file": c.path}})
			if status != 400 || !strings.Contains(text, c.say) {
				t.Errorf("%d %s", status, text)
			}
		})
	}
}

func TestACrashCostsOneIteration(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	for _, isolation := range []string{"warm", "fork"} {
		for _, parallel := range []int{1, 2} {
			o := finish(t, s, task{
				code: `
import os, signal

def work(context, x):
    print("begin", x)
    if x == 7:
        os._exit(3)
    if x == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    if x == 33:
        raise ValueError("thirty-three")
    context.log_result("value", x)
`,
				hyper: object{"x": upTo(60)}, options: object{"selector": "max.value", "isolation": isolation, "parallel_runs": parallel},
			})
			if o.state != "error" || o.states() != "completed:57 error:3" || !strings.Contains(o.err(), "3 of 60") || o.best() != 60 {
				t.Errorf("%s, %d: %s %q: %s, best %d", isolation, parallel, o.state, o.err(), o.states(), o.best())
			}
			for iter, say := range map[int]string{7: "3", 20: "KILL", 33: "thirty-three"} {
				if text, _ := at(o.children[iter], "status", "error").(string); !strings.Contains(strings.ToUpper(text), strings.ToUpper(say)) {
					t.Errorf("%s, %d: iteration %d ended with %q", isolation, parallel, iter, text)
				}
			}
			if n := strings.Count(o.log, "begin"); n != 60 {
				t.Errorf("%s, %d: %d iterations began", isolation, parallel, n)
			}
		}
	}
}

func TestTimeIsUp(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	for _, isolation := range []string{"warm", "fork"} {
		begin := time.Now()
		o := finish(t, s, task{
			code: `
import time

def work(context, x):
    context.log_result("value", x)
    if x == 2:
        time.sleep(60)
`,
			hyper: object{"x": upTo(5)}, options: object{"timeout": "1s", "isolation": isolation},
		})
		if o.state != "error" || o.states() != "completed:4 error:1" || at(o.children[2], "status", "reason") != "timeout" {
			t.Errorf("%s: %s %s: %s, %v", isolation, o.state, o.err(), o.states(), at(o.children[2], "status"))
		}
		if text, _ := at(o.children[2], "status", "error").(string); !strings.Contains(text, "1s") {
			t.Errorf("%s: the iteration ended with %q", isolation, text)
		}
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("%s: it took %v", isolation, took)
		}
	}
}

func TestIterationsThatDoBadlyEndEarly(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	for _, isolation := range []string{"warm", "fork"} {
		o := finish(t, s, task{
			code: `
import time

def work(context, x):
    for step in range(40):
        context.log_result("loss", x + 1 / (step + 1))
        context.log_result("steps", step + 1)
        time.sleep(0.005)
`,
			// The best comes first, so that the others look bad beside it.
			hyper: object{"x": upTo(12)},
			options: object{
				"selector": "min.loss", "isolation": isolation,
				"early_stopping": object{"rule": "median", "metric": "min.loss", "min": 3, "others": 3},
			},
		})
		if o.state != "completed" || o.best() != 1 {
			t.Fatalf("%s: %s %s, best %d", isolation, o.state, o.err(), o.best())
		}
		early := 0
		for iter, child := range o.children {
			if at(child, "status", "reason") != "early_stopping" {
				continue
			}
			early++
			steps, _ := o.result(iter, "steps").(float64)
			if at(child, "status", "state") != "aborted" || steps >= 40 {
				t.Errorf("%s: iteration %d ended early after %v steps as %v", isolation, iter, steps, at(child, "status", "state"))
			}
		}
		if early < 6 {
			t.Errorf("%s: %d iterations ended early: %s", isolation, early, o.states())
		}
	}
}

// A task that ends iterations early, is killed in the middle and continues decides as
// one that nobody disturbs. What was decided is in the reports that are kept: they
// end where an iteration was told to.
func TestEarlyStoppingRemembersWhatWasBefore(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	for _, rule := range []object{
		{"rule": "asha", "metric": "min.loss", "reduction": 3}, {"rule": "median", "metric": "min.loss", "others": 3},
	} {
		k := task{
			code: `
import time

def work(context, x, speed):
    for step in range(1, 13):
        context.log_result("loss", x + 9 * step ** -speed)
        time.sleep(0.004)
`,
			hyper: object{"x": object{"low": 0, "high": 10.0}, "speed": object{"low": 0.2, "high": 2.0}},
			options: object{
				"strategy": "random", "max_iterations": 60, "seed": 3, "selector": "min.loss", "early_stopping": rule,
			},
		}
		whole := finish(t, s, k)
		uid, status, text := submit(t, s, k)
		if status/100 != 2 {
			t.Fatalf("submit: %d %s", status, text)
		}
		killed := 0
		for limit := time.Now().Add(time.Minute); killed == 0 && time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
			if ended, _ := get(t, s, "/api/v1/millrace/projects/default/runs/"+uid+"/search")["ended"].(float64); ended >= 20 {
				killed = killRunner(t, uid)
			}
		}
		o := await(t, s, uid)
		if killed == 0 || o.state != "completed" || len(o.children) != 60 || whole.state != "completed" {
			t.Fatalf("%v: %d processes killed, %s %s, without it %s %s", rule["rule"], killed, o.state, o.err(), whole.state, whole.err())
		}
		decided := map[string]bool{}
		for iter, child := range whole.children {
			want := fmt.Sprint(at(child, "status", "reports"))
			if got := fmt.Sprint(at(o.children[iter], "status", "reports")); got != want {
				t.Errorf("%v: iteration %d has the reports %s, without interruption %s", rule["rule"], iter, got, want)
			}
			decided[fmt.Sprint(strings.Count(want, " "))] = true
		}
		if len(decided) < 2 || killed > 1 {
			t.Errorf("%v: every iteration has as many reports (%v), or %d runners were killed", rule["rule"], decided, killed)
		}
		if attempts, _ := at(o.run, "status", "attempts").([]any); len(attempts) == 0 {
			t.Errorf("%v: the run was killed and has no attempts", rule["rule"])
		}
	}
}

// killRunner kills the process that executes a run, and returns how many it found.
func killRunner(t *testing.T, uid string) (killed int) {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		line, err := os.ReadFile(entry)
		if err != nil || !strings.Contains(string(line), "exec\x00--spool\x00") || !strings.Contains(string(line), uid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(entry)))
		if err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}

func TestTooManyErrors(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	code := `
def work(context, x):
    if x > 5:
        raise RuntimeError("over five")
`
	o := finish(t, s, task{code: code, hyper: object{"x": upTo(1000)}})
	if o.state != "error" || o.states() != "completed:5 error:4" || !strings.Contains(o.err(), "4 of 9") {
		t.Errorf("%s %q: %s", o.state, o.err(), o.states())
	}
	o = finish(t, s, task{code: code, hyper: object{"x": upTo(20)}, options: object{"max_errors": 100}})
	if o.state != "error" || o.states() != "completed:5 error:15" {
		t.Errorf("%s %q: %s", o.state, o.err(), o.states())
	}
}

func TestStopConditionsAndSelectors(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	code := `
def work(context, x):
    context.log_result("value", x)
    context.log_result("bad", float("nan") if x % 2 else -x)
    context.log_result("zero", 0)
    context.log_result("odd" if x % 2 else "even", x)
`
	for _, c := range []struct {
		name    string
		options object
		n, best int
		remark  string
	}{
		{"it holds", object{"stop_condition": "value >= 12"}, 12, 0, ""},
		{"a division by zero", object{"stop_condition": "value / zero > 1", "selector": "value"}, 20, 20, "zero"},
		{"a result that only some have", object{"stop_condition": "get('even', 0) > 6"}, 8, 0, ""},
		{"and that others lack later", object{"stop_condition": "odd > 60", "selector": "value"}, 20, 20, "no result \"odd\""},
		{"not a number at times", object{"selector": "max.bad"}, 20, 2, ""},
		{"the smallest of negative ones", object{"selector": "min.bad"}, 20, 20, ""},
		{"early stopping by nothing", object{"early_stopping": object{"rule": "asha", "metric": "min.lss"}}, 20, 0, "reported the result lss"},
		{"a selector of nothing", object{"selector": "max.accuracy"}, 20, 0, "accuracy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := finish(t, s, task{code: code, hyper: object{"x": upTo(20)}, options: c.options})
			remark, _ := at(o.run, "status", "status_text").(string)
			if o.state != "completed" || len(o.children) != c.n || o.best() != c.best || !strings.Contains(remark, c.remark) {
				t.Errorf("%s %s: %d iterations, best %d, remark %q", o.state, o.err(), len(o.children), o.best(), remark)
			}
		})
	}
}

func TestAStopConditionWithAnUnknownName(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	for _, isolation := range []string{"warm", "fork"} {
		o := finish(t, s, task{
			code: `
import time

def work(context, x):
    if x != 2:
        time.sleep(600)
    context.log_result("accuracy", 1 / x)
    context.log_result("loss", x)
`,
			hyper:   object{"x": upTo(20)},
			options: object{"stop_condition": "acuracy > 0.9", "selector": "accuracy", "parallel_runs": 2, "isolation": isolation},
		})
		want := `stop_condition "acuracy > 0.9": no iteration logs "acuracy"; results are accuracy, loss`
		if o.state != "error" || !strings.Contains(o.err(), want) || at(o.run, "status", "reason") != "unknown_result" || at(o.children[2], "status", "state") != "completed" {
			t.Errorf("%s: %s %q: %s", isolation, o.state, o.err(), o.states())
		}
		for iter, child := range o.children {
			if iter != 2 && at(child, "status", "state") != "aborted" {
				t.Errorf("%s: what ran is %v", isolation, at(child, "status", "state"))
			}
		}
		// What there is of the task is there as of any other.
		if table, _ := at(o.run, "status", "iterations").([]any); len(table) != 2 || o.best() != 2 {
			t.Errorf("%s: the table has %d rows, best %d", isolation, len(table), o.best())
		}
	}
}

// A stop condition is changed while the task runs: to one with a name that it does
// not log, which is refused, and to one that holds.
func TestAChangedStopCondition(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	uid, status, text := submit(t, s, task{
		code: `
import time

def work(context, x):
    time.sleep(0.05)
    context.log_result("accuracy", x)
`,
		hyper: object{"x": upTo(5000)},
	})
	if status/100 != 2 {
		t.Fatalf("submit: %d %s", status, text)
	}
	path := "/api/v1/millrace/projects/default/runs/" + uid + "/search"
	for limit := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if ended, _ := get(t, s, path)["ended"].(float64); ended > 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("no iteration ended within a minute")
		}
	}
	status, text = steer(t, s, path, `{"stop_condition": "acuracy > 3"}`)
	if status != 400 || !strings.Contains(text, `no iteration logs \"acuracy\"; results are accuracy`) {
		t.Errorf("an unknown name: %d %s", status, text)
	}
	if status, text = steer(t, s, path, `{"stop_condition": "accuracy > 3"}`); status != 200 {
		t.Fatalf("a known name: %d %s", status, text)
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		progress := get(t, s, path)
		if progress["state"] == "completed" && progress["stopped"] == "stop_condition" {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("after a minute the task is at %v", progress)
		}
	}
}

func steer(t *testing.T, s *harness.Server, path, change string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, s.URL+path, strings.NewReader(change))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

func TestTasksThatAreRefused(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	code := "def work(context, x=1, y=1):\n    pass\n"
	for _, c := range []struct {
		name    string
		hyper   object
		options object
		say     string
	}{
		{"lists of unequal length", object{"x": upTo(3), "y": upTo(2)}, object{"strategy": "list"}, "equally long"},
		{"an empty list", object{"x": []any{}}, nil, "x"},
		{"a text for a list", object{"x": "abc"}, nil, "x"},
		{"a number for a list", object{"x": 3}, nil, "x"},
		{"a selector that is none", object{"x": upTo(3)}, object{"selector": "best.value"}, "selector"},
		{"a condition that is none", object{"x": upTo(3)}, object{"stop_condition": "value >"}, "stop"},
		{"a condition that does more", object{"x": upTo(3)}, object{"stop_condition": "__import__('os').system('true')"}, "stop"},
		{"a condition that calls a method", object{"x": upTo(3)}, object{"stop_condition": "value.item() > 1"}, "only functions can be called"},
		{"a condition over a keyword", object{"x": upTo(3)}, object{"stop_condition": "class > 1"}, "class is no name"},
		{"a strategy that is none", object{"x": upTo(3)}, object{"strategy": "magic"}, "magic"},
		{"a limit of zero", object{"x": upTo(3)}, object{"max_errors": 0}, "max_errors"},
		{"a limit for a grid", object{"x": upTo(3)}, object{"max_iterations": 2}, "max_iterations"},
		{"an option that is none", object{"x": upTo(3)}, object{"paralel_runs": 2}, "paralel_runs"},
		{"tpe without a selector", object{"x": upTo(3)}, object{"strategy": "tpe"}, "selector"},
		{"a time that is none", object{"x": upTo(3)}, object{"timeout": "soon"}, "soon"},
		{"an isolation that is none", object{"x": upTo(3)}, object{"isolation": "vm"}, "vm"},
		{"early stopping without a rule", object{"x": upTo(3)}, object{"early_stopping": object{"metric": "max.x"}}, "rule"},
		{"a range upside down", object{"x": object{"low": 3, "high": 1}}, object{"strategy": "random"}, "x"},
		{"a range in a grid", object{"x": object{"low": 0.5, "high": 1}}, nil, "x"},
		{"a Dask cluster", object{"x": upTo(3)}, object{"dask_cluster_uri": "db://default/cluster"}, "leave it out"},
		{"a table for a grid", nil, object{"param_file": "p.csv", "strategy": "grid"}, "csv"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, status, text := submit(t, s, task{code: code, hyper: c.hyper, options: c.options})
			if status != 400 && status != 422 || !strings.Contains(strings.ToLower(text), c.say) {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	runs, _ := get(t, s, "/api/v1/projects/default/runs?iter=true")["runs"].([]any)
	if len(runs) > 0 {
		t.Errorf("%d runs are stored of tasks that were refused", len(runs))
	}
}

func TestCodeThatMakesItsOwnIterations(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	o := finish(t, s, task{
		code: `
def work(context, n):
    best, number = None, 0
    for x in range(n):
        child = context.get_child_context(x=x)
        value = -(x - n // 3) ** 2
        child.log_result("value", value)
        if x == 5:
            child.log_artifact("note", body="five", format="txt")
        child.mark_complete() if hasattr(child, "mark_complete") else child.commit(completed=True)
        if best is None or value > best:
            best, number = value, x + 1
    context.update_child_iterations(best_run=number)
`,
		params: object{"n": 600}, options: object{"strategy": "custom"},
	})
	if o.state != "completed" || o.states() != "completed:600" || o.best() != 201 {
		t.Fatalf("%s %s: %s, best %d\n%s", o.state, o.err(), o.states(), o.best(), o.log)
	}
	if value := at(o.run, "status", "results", "value"); value != 0.0 {
		t.Errorf("the task's result is %v", value)
	}
	table, _ := at(o.run, "status", "iterations").([]any)
	if len(table) != 601 {
		t.Errorf("the table has %d rows", len(table))
	}
	// A child that its code leaves open when it fails has failed as well.
	o = finish(t, s, task{
		code: `
def work(context):
    with context.get_child_context(x=1) as child:
        child.log_result("value", 1)
    context.get_child_context(x=2)
    raise ValueError("in between")
`,
		options: object{"strategy": "custom"},
	})
	if o.state != "error" || o.states() != "completed:1 error:1" {
		t.Errorf("%s %s: %s", o.state, o.err(), o.states())
	}
	// Of what a generator yields the best is found by the same rules: negative ones too,
	// never NaN or what is no number, of equal ones the first.
	o = finish(t, s, task{
		code: `
def work(context):
    for x, value in enumerate((float("nan"), -3, None, -1, "-1", [5], -2)):
        yield {"x": x}, {"value": value}
    yield {"other": 1}
`,
		options: object{"strategy": "custom", "selector": "max.value"},
	})
	if o.state != "completed" || o.states() != "completed:8" || o.best() != 4 || at(o.run, "status", "results", "value") != -1.0 {
		t.Errorf("%s %s: %s, best %d\n%s", o.state, o.err(), o.states(), o.best(), o.log)
	}
}

// Artifacts of the best iteration that have no file, or no name of their own in the
// database, are those of the task as all others.
func TestTheBestIterationsArtifactsOfEveryForm(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	o := finish(t, s, task{
		code: `
def work(context, x):
    context.log_result("value", -x)
    context.log_artifact("inline", body="text", upload=False)
    context.log_artifact("hidden", body="text", db_key=False)
    context.log_artifact("named", body="text", db_key="another")
`,
		hyper: object{"x": upTo(3)}, options: object{"selector": "max.value"},
	})
	keys := map[any]any{} // key → iteration
	list, _ := at(o.run, "status", "artifacts").([]any)
	for _, entry := range list {
		keys[at(entry, "metadata", "key")] = at(entry, "metadata", "iter")
	}
	if o.state != "completed" || o.states() != "completed:3" || o.best() != 1 || keys["inline"] != 1.0 || keys["named"] != 1.0 {
		t.Errorf("%s %s: %s, best %d, artifacts %v\n%.2000s", o.state, o.err(), o.states(), o.best(), keys, o.log)
	}
}

// Without values there is nothing to iterate over: the run is a plain one.
func TestNoValues(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	o := finish(t, s, task{code: "def work(context, x=1):\n    context.log_result('x', x)\n", hyper: object{}, options: object{"selector": "max.x"}})
	if o.state != "completed" || len(o.children) != 0 || at(o.run, "status", "results", "x") != 1.0 || at(o.run, "status", "iterations") != nil {
		t.Errorf("%s %s: %s, results %v", o.state, o.err(), o.states(), at(o.run, "status", "results"))
	}
}

func TestCodeThatCannotBeLoaded(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	marker := filepath.Join(t.TempDir(), "once")
	// The first process dies while it loads, as when somebody kills it.
	o := finish(t, s, task{
		code: fmt.Sprintf(`
import os, signal
if not os.path.exists(%q):
    open(%q, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)

def work(context, x):
    pass
`, marker, marker),
		hyper: object{"x": upTo(5)},
	})
	if o.state != "completed" || o.states() != "completed:5" {
		t.Errorf("%s %s: %s", o.state, o.err(), o.states())
	}
	for code, say := range map[string]string{
		"import os\nos._exit(4)\n":                 "status 4 while it loaded the code",
		"raise ImportError('no module of mine')\n": "no module of mine",
		"def other(context):\n    pass\n":          "work",
		"def work(context, x):\n    return x +\n":  "code.py",
	} {
		o := finish(t, s, task{code: code, hyper: object{"x": upTo(5)}})
		if o.state != "error" || len(o.children) > 0 || !strings.Contains(o.err(), say) {
			t.Errorf("%s %s: %s", o.state, o.err(), o.states())
		}
	}
}
