package iterations

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// TestForksOfLargeCalls: what goes into a fork and comes out of it may be larger than a
// pipe holds.
func TestForksOfLargeCalls(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	var texts []any
	sizes := []int{1, 4000, 4096, 70_000, 300_000}
	for i, size := range sizes {
		texts = append(texts, strings.Repeat(string(rune('a'+i)), size))
	}
	o := finish(t, s, task{
		code: `
def work(context, text):
    context.log_result("first", text)
    context.log_result("second", text.upper())
    context.log_result("size", len(text))
`,
		hyper: object{"text": texts}, options: object{"selector": "max.size", "isolation": "fork"},
	})
	if o.state != "completed" || o.best() != len(sizes) {
		t.Fatalf("%s %s: %s, best %d", o.state, o.err(), o.states(), o.best())
	}
	for i, text := range texts {
		if o.result(i+1, "first") != text || o.result(i+1, "second") != strings.ToUpper(text.(string)) || o.result(i+1, "size") != float64(sizes[i]) {
			t.Errorf("iteration %d of %d bytes has %.100v", i+1, sizes[i], at(o.children[i+1], "status", "results"))
		}
	}
}

// TestForksLeaveOutputsAlone: what a worker executes before the first fork is not taken
// for an iteration whose outputs are to be recorded.
func TestForksLeaveOutputsAlone(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	o := finish(t, s, task{
		code: `
def work(context, x):
    with open(f"note-{x}.txt", "w") as file:
        file.write("x")
    return f"note-{x}.txt"
`,
		hyper: object{"x": upTo(2)}, options: object{"isolation": "fork"}, spec: object{"returns": []any{"note : path"}},
	})
	if o.state != "completed" || strings.Contains(o.log, "not recorded") {
		t.Errorf("%s %s; the log is %.500q", o.state, o.err(), o.log)
	}
}

// TestForksEndWithTheirWorker: an iteration whose worker or whose runner is killed does
// not go on beside the one that takes its place.
func TestForksEndWithTheirWorker(t *testing.T) {
	t.Parallel()
	for _, killed := range []string{"worker", "runner"} {
		t.Run(killed, func(t *testing.T) {
			t.Parallel()
			s := harness.StartServer(t)
			folder := t.TempDir()
			uid, status, text := submit(t, s, task{
				code: `
import os, time

def work(context, folder, x):
    with open(f"{folder}/begun-{os.getpid()}", "w") as file:
        file.write(str(os.getppid()))
    while not os.path.exists(folder + "/go"):
        time.sleep(0.01)
    context.log_result("x", x)
`,
				params: object{"folder": folder}, hyper: object{"x": upTo(2)}, options: object{"isolation": "fork"},
			})
			if status/100 != 2 {
				t.Fatalf("submit: %d %s", status, text)
			}
			fork, worker := begun(t, folder)
			victim := worker
			if killed == "runner" {
				victim = parent(t, worker)
			}
			if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			for limit := time.Now().Add(30 * time.Second); lives(fork); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(limit) {
					t.Fatalf("the fork of a killed %s lives on", killed)
				}
			}
			if err := os.WriteFile(folder+"/go", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for limit := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				run, _ := get(t, s, "/api/v1/projects/default/runs/"+uid)["data"].(object)
				if state, _ := at(run, "status", "state").(string); state == "completed" || state == "error" {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("the task goes on: %v", at(run, "status"))
				}
			}
		})
	}
}

// lives says whether pid still executes; one that nobody has waited for does not.
func lives(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(raw), ") ")
	return err == nil && !strings.HasPrefix(after, "Z")
}

// begun waits for the first iteration and returns its process and that one's parent.
func begun(t *testing.T, folder string) (fork, worker int) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		paths, _ := filepath.Glob(folder + "/begun-*")
		if len(paths) == 0 {
			continue
		}
		raw, err := os.ReadFile(paths[0])
		worker, err2 := strconv.Atoi(string(raw))
		fork, err3 := strconv.Atoi(strings.TrimPrefix(filepath.Base(paths[0]), "begun-"))
		if err == nil && err2 == nil && err3 == nil {
			return fork, worker
		}
	}
	t.Fatal("no iteration begins")
	return 0, 0
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(raw), ") ")
	number, err := strconv.Atoi(strings.Fields(after)[1])
	if err != nil {
		t.Fatal(err)
	}
	return number
}
