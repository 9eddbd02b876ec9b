package chaos

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// searched is the handler of iterative tasks: it notes what it has done after it
// has said it, so that an iteration that the server knows of is in the notes, and in
// which process.
const searched = `
import os

def work(context, folder, x, y):
    value = (x - 0.3) ** 2 + (y + 0.2) ** 2
    context.log_result("value", value)
    with open(os.path.join(folder, context.uid.split("-")[0]), "a") as notes:
        notes.write(f"{context.iteration} {os.getpid()}\n")
`

// searches is how many tasks are killed and resumed.
func searches() int {
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_CHAOS_SEARCHES")); err == nil {
		return n
	}
	if testing.Short() {
		return 1
	}
	return 3
}

// iterations of a task.
func iterations() int {
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_CHAOS_ITERATIONS")); err == nil {
		return n
	}
	return 5000
}

func TestTasksThatAreKilledContinueWhereTheyWere(t *testing.T) {
	w := newWorld(t)
	w.start()
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("MILLRACE_CHAOS_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("MILLRACE_CHAOS_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	n := iterations()
	for round := range searches() {
		s := search{world: w, uid: fmt.Sprintf("5ea4c4%026x", round+1), n: n}
		s.submit()
		kills := s.harass(random)
		s.verify(kills)
		if t.Failed() {
			return
		}
	}
}

// search is one task.
type search struct {
	*world
	uid string
	n   int
}

func (s *search) submit() {
	s.t.Helper()
	body := map[string]any{
		"task": map[string]any{
			"metadata": map[string]any{"name": "search", "uid": s.uid, "project": "default"},
			"spec": map[string]any{
				"handler": "work", "parameters": map[string]any{"folder": s.notes},
				"hyperparams": map[string]any{"x": values(101), "y": values(89)},
				"hyper_param_options": map[string]any{
					"strategy": "random", "max_iterations": s.n, "seed": 7, "selector": "min.value", "parallel_runs": 2, "max_errors": s.n,
				},
			},
		},
		"function": map[string]any{
			"kind": "job", "metadata": map[string]any{"name": "search", "project": "default"},
			"spec": map[string]any{"build": map[string]any{
				"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(searched)), "origin_filename": "search.py",
			}},
		},
	}
	if !s.post(s.t.Context(), "/api/v1/submit_job", body) {
		s.t.Fatal("the task was not accepted")
	}
}

// values are n numbers from -1 to 1.
func values(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = 2*float64(i)/float64(n-1) - 1
	}
	return out
}

type kills struct{ workers, runners, servers int }

// kills of a task, spread over its iterations.
const killings = 12

// harass kills something whenever the task has come to one of some iterations, which
// are drawn at random, until it is over, resuming it whenever it ended because its
// runner was lost.
func (s *search) harass(random *rand.Rand) (done kills) {
	s.t.Helper()
	at := make([]int, killings)
	for i := range at {
		at[i] = random.IntN(s.n)
	}
	slices.Sort(at)
	for limit := time.Now().Add(10 * time.Minute); time.Now().Before(limit); {
		time.Sleep(10 * time.Millisecond) // between two looks
		executed, pid := s.progress()
		if len(at) == 0 || executed < at[0] {
			state, reason := s.now()
			switch {
			case state == "completed", state == "error" && reason == "iterations":
				return done
			case state == "error" || state == "aborted":
				s.resume()
			}
			continue
		}
		at = at[1:]
		switch random.IntN(3) {
		case 0:
			done.servers++
			s.mu.Lock()
			server := s.server
			s.mu.Unlock()
			_ = server.Process.Kill()
			_ = server.Wait()
			s.start()
		case 1:
			done.runners++
			s.killOne(random, "exec\x00--spool\x00"+s.data)
		default:
			done.workers++
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); bytes.Contains(line, []byte(s.data)) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // the one that executed the last iteration
			} else {
				s.killOne(random, "boot.py")
			}
		}
	}
	s.t.Fatal("the task did not end within ten minutes")
	return done
}

// progress is how often an iteration came to its end, and the process of the last.
func (s *search) progress() (executed, pid int) {
	raw, err := os.ReadFile(filepath.Join(s.notes, s.uid))
	if err != nil {
		return 0, 0 // none so far
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if fields := strings.Fields(lines[len(lines)-1]); len(fields) == 2 {
		pid, _ = strconv.Atoi(fields[1])
	}
	return len(lines), pid
}

// now is the state of the task and why it ended.
func (s *search) now() (state, reason string) {
	doc := s.get("/api/v1/projects/default/runs/" + s.uid)
	state, _ = at(doc, "data", "status", "state").(string)
	reason, _ = at(doc, "data", "status", "reason").(string)
	return state, reason
}

func (s *search) resume() {
	s.t.Helper()
	response, err := http.Post("http://"+s.address+"/api/v1/millrace/projects/default/runs/"+s.uid+"/resume", "application/json", nil)
	if err != nil {
		return // the server was killed; the loop looks again
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusConflict && response.StatusCode != http.StatusAccepted {
		body, _ := io.ReadAll(response.Body)
		s.t.Fatalf("resume: %s %s", response.Status, body)
	}
}

// verify checks that each iteration ended once, that those which were not killed
// have the result that they should have, that the best of them is named, and that
// nothing that had ended was executed again.
func (s *search) verify(done kills) {
	s.t.Helper()
	t := s.t
	doc := s.get("/api/v1/projects/default/runs/" + s.uid)
	table, _ := at(doc, "data", "status", "iterations").([]any)
	children := s.children()
	if len(children) != s.n {
		t.Fatalf("there are %d iterations, not %d (%+v killed)", len(children), s.n, done)
	}
	best, bestIter, failed := math.Inf(1), 0, 0
	for iter := 1; iter <= s.n; iter++ {
		child := children[iter]
		switch child.State {
		case "completed":
			x, y := child.Parameters["x"], child.Parameters["y"]
			value := (x-0.3)*(x-0.3) + (y+0.2)*(y+0.2)
			if math.Abs(value-child.Value) > 1e-9 {
				t.Errorf("the iteration %d of %v has the value %v", iter, child.Parameters, child.Value)
			}
			if child.Value < best {
				best, bestIter = child.Value, iter
			}
		case "error":
			failed++
		default:
			t.Errorf("the iteration %d is %q", iter, child.State)
		}
	}
	if failed > done.workers {
		t.Errorf("%d iterations failed though %d workers were killed", failed, done.workers)
	}
	if got, _ := at(doc, "data", "status", "results", "best_iteration").(float64); int(got) != bestIter {
		t.Errorf("the best iteration is %d with %v; the run says %v", bestIter, best, got)
	}
	if len(table) > 0 && len(table) != s.n+1 && s.n <= 10000 {
		t.Errorf("the table has %d rows for %d iterations", len(table), s.n)
	}
	executed := s.executed()
	again := 0
	for iter, times := range executed {
		again += times - 1
		if iter < 1 || iter > s.n {
			t.Errorf("the iteration %d was executed", iter)
		}
	}
	// What was in flight when a runner was killed, eight iterations a process at most,
	// had not ended for anybody. The end of a server or a worker repeats nothing.
	if most := done.runners * 2 * 8; again > most {
		t.Errorf("%d iterations were executed again; %d could have been in flight", again, most)
	}
	t.Logf("%s: %d iterations, %+v killed: %d failed, %d executed again, best %d", s.uid, s.n, done, failed, again, bestIter)
}

type child struct {
	State      string
	Value      float64
	Parameters map[string]float64
}

// children reads the iterations, page by page.
func (s *search) children() map[int]child {
	s.t.Helper()
	out := map[int]child{}
	token := ""
	for {
		path := "/api/v1/projects/default/runs?name=search&iter=true&uid=" + s.uid + "&page-size=500"
		if token != "" {
			path = "/api/v1/projects/default/runs?page-token=" + token
		}
		response, err := http.Get("http://" + s.address + path)
		if err != nil {
			s.t.Fatal(err)
		}
		var page struct {
			Runs []struct {
				Metadata struct{ Iteration int }
				Spec     struct{ Parameters map[string]any }
				Status   struct {
					State   string
					Results map[string]any
				}
			}
			Pagination map[string]any
		}
		err = json.NewDecoder(response.Body).Decode(&page)
		response.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		for _, run := range page.Runs {
			if run.Metadata.Iteration == 0 {
				continue
			}
			if _, twice := out[run.Metadata.Iteration]; twice {
				s.t.Errorf("the iteration %d is there twice", run.Metadata.Iteration)
			}
			c := child{State: run.Status.State, Parameters: map[string]float64{}}
			c.Value, _ = run.Status.Results["value"].(float64)
			for _, name := range []string{"x", "y"} {
				c.Parameters[name], _ = run.Spec.Parameters[name].(float64)
			}
			out[run.Metadata.Iteration] = c
		}
		token, _ = page.Pagination["page-token"].(string)
		if token == "" {
			return out
		}
	}
}

// executed counts how often the handler came to the end of each iteration.
func (s *search) executed() map[int]int {
	s.t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.notes, s.uid))
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[int]int{}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue // the process was killed within the line
		}
		iter, err := strconv.Atoi(fields[0])
		if err != nil {
			continue
		}
		out[iter]++
	}
	return out
}
