// Command iterations measures iterative tasks end to end: a server of its own is
// given a task by HTTP, executes it and writes every iteration down as a run. Beside
// it, in the same run: a bare Python loop that calls the same function, one that
// calls it in a fork of its own each time, and the MLRun SDK's own loop
// (fn.run(local=True)), without a database and with the server.
//
//	go run ./benchmarks/iterations [-n 10000] [-long 100000] [-sdk PYTHON-WITH-MLRUN]
//
// Times are from the submission to the terminal state of the run, so that starting
// workers and writing the summary are part of them. Processor time is that of the
// server, the runner and its workers together, which other programs on the machine
// change less. Memory is the largest resident
// set that was seen of the server, and of a runner and its workers together.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// code is what is called: little enough that all of the rest is overhead.
const code = `
def handler(context, x: int = 0, y: float = 0.5):
    context.log_result("score", x * y)
`

type options struct {
	n, long, sdkN int
	sdk           string
	python        string
}

func main() {
	var o options
	flag.IntVar(&o.n, "n", 10_000, "iterations of a task")
	flag.IntVar(&o.long, "long", 100_000, "iterations of the long task; 0 leaves it out")
	flag.StringVar(&o.sdk, "sdk", "", "an interpreter that has mlrun; without one it is left out")
	flag.IntVar(&o.sdkN, "sdk-n", 200, "iterations of the SDK's loop")
	flag.StringVar(&o.python, "python", "python3", "the interpreter of everything else")
	flag.Parse()
	if err := measure(o); err != nil {
		fmt.Fprintln(os.Stderr, "iterations:", err)
		os.Exit(1)
	}
}

func measure(o options) error {
	dir, err := os.MkdirTemp("", "millrace-iterations-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("%s, %d cores\n\n", runtime.Version(), runtime.NumCPU())
	fmt.Println("| what | iterations | seconds | iterations/s | microseconds each | of a processor | server MiB | runner and workers MiB |")
	fmt.Println("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, c := range []struct{ name, call string }{{"bare Python loop", "call(x)"}, {"bare Python loop, a fork each", "forked(x)"}} {
		took, err := bareLoop(o, dir, c.call, o.n)
		if err != nil {
			return err
		}
		row(c.name, o.n, result{took: took})
	}
	took, err := bareLoops(o, dir)
	if err != nil {
		return err
	}
	row("two bare Python loops, a fork each", o.n/2*2, result{took: took})
	s, err := startServer(dir, o.python)
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := s.task(100, "warm", 1); err != nil { // the environment, once
		return err
	}
	for _, c := range []struct {
		isolation string
		workers   int
		n         int
	}{
		{"warm", 1, o.n}, {"warm", 2, o.n}, {"fork", 1, o.n}, {"fork", 2, o.n}, {"warm", 1, o.long}, {"warm", 2, o.long},
	} {
		if c.n == 0 {
			continue
		}
		result, err := s.task(c.n, c.isolation, c.workers)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s, %d worker", c.isolation, c.workers)
		if c.workers > 1 {
			name += "s"
		}
		row(name, c.n, result)
	}
	if o.sdk == "" {
		return nil
	}
	for _, database := range []struct{ name, url string }{{"no database", ""}, {"this server as its database", s.url}} {
		took, err := sdkLoop(o, dir, database.url)
		if err != nil {
			return err
		}
		row("MLRun SDK, local, "+database.name, o.sdkN, result{took: took})
	}
	return nil
}

func row(name string, n int, r result) {
	known := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	fmt.Printf("| %s | %d | %.2f | %.0f | %.0f | %s | %s | %s |\n", name, n, r.took.Seconds(), float64(n)/r.took.Seconds(),
		float64(r.took.Microseconds())/float64(n), known(r.processor.Microseconds()/int64(n)), known(r.server>>20), known(r.rest>>20))
}

// bareLoop calls the function in a loop, keeping what it logs; a fork sends it by a
// pipe.
func bareLoop(o options, dir, call string, n int) (time.Duration, error) {
	script := fmt.Sprintf(`%s
import json, os, time
class Context:
    def __init__(self): self.results = {}
    def log_result(self, key, value): self.results[key] = value
def call(x):
    context = Context()
    handler(context, x=x)
    return context.results
def forked(x):
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.write(write, json.dumps(call(x)).encode())
        os._exit(0)
    os.close(write)
    results = json.loads(os.read(read, 65536))
    os.close(read)
    os.waitpid(process, 0)
    return results
begin = time.perf_counter()
table = []
for x in range(%d):
    table.append(%s)
print(time.perf_counter() - begin)
`, code, n, call)
	return timed(o.python, filepath.Join(dir, "bare.py"), script)
}

// bareLoops has two processes fork at once, each half of the calls, and returns how long
// the slower one took: what the machine's processors can fork.
func bareLoops(o options, dir string) (time.Duration, error) {
	var took [2]time.Duration
	var failed [2]error
	var work sync.WaitGroup
	for i := range took {
		work.Go(func() {
			own := filepath.Join(dir, strconv.Itoa(i))
			if failed[i] = os.Mkdir(own, 0o700); failed[i] == nil {
				took[i], failed[i] = bareLoop(o, own, "forked(x)", o.n/2)
			}
		})
	}
	work.Wait()
	return max(took[0], took[1]), errors.Join(failed[:]...)
}

// sdkLoop is what a user of the SDK does who has it execute the iterations; url is
// the server that they are written to, "" for none.
func sdkLoop(o options, dir, url string) (time.Duration, error) {
	script := fmt.Sprintf(`
import logging, os, time
os.environ["MLRUN_DBPATH"] = %q
os.environ["MLRUN_LOG_LEVEL"] = "ERROR"
import mlrun
fn = mlrun.code_to_function("bench", project="default", filename=%q, kind="job", handler="handler", image="mlrun/mlrun")
begin = time.perf_counter()
fn.run(local=True, handler="handler", hyperparams={"x": list(range(%d))}, hyper_param_options=mlrun.model.HyperParamOptions(selector="max.score"), artifact_path=%q)
took = time.perf_counter() - begin
print()
print(took)
`, url, filepath.Join(dir, "handler.py"), o.sdkN, filepath.Join(dir, "artifacts"))
	if err := os.WriteFile(filepath.Join(dir, "handler.py"), []byte(code), 0o600); err != nil {
		return 0, err
	}
	return timed(o.sdk, filepath.Join(dir, "sdk.py"), script)
}

// timed runs a script and reads the seconds that it prints last.
func timed(python, path, script string) (time.Duration, error) {
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.Command(python, path)
	cmd.Dir = filepath.Dir(path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", filepath.Base(path), err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	seconds, err := strconv.ParseFloat(strings.TrimSpace(lines[len(lines)-1]), 64)
	return time.Duration(seconds * float64(time.Second)), err
}

// server is a server process of this measurement.
type server struct {
	cmd *exec.Cmd
	url string
}

func startServer(dir, python string) (*server, error) {
	binary := filepath.Join(dir, "millrace")
	build := exec.Command("go", "build", "-o", binary, "./cmd/millrace")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build: %w (run this from the repository)", err)
	}
	data := filepath.Join(dir, "data")
	cmd := exec.Command(binary, "server", "--listen", "127.0.0.1:0", "--data-dir", data, "--python", python, "--log-level", "error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd}
	for range 200 {
		raw, err := os.ReadFile(filepath.Join(data, "server.json"))
		var at struct{ URL string }
		if err == nil && json.Unmarshal(raw, &at) == nil && at.URL != "" {
			s.url = at.URL
			return s, nil
		}
		time.Sleep(20 * time.Millisecond) // until it listens
	}
	s.stop()
	return nil, errors.New("the server did not start")
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt)
	_ = s.cmd.Wait()
}

type result struct {
	took, processor time.Duration
	server, rest    int64 // bytes
}

// task has n iterations executed.
func (s *server) task(n int, isolation string, workers int) (result, error) {
	xs := make([]int, n)
	for i := range xs {
		xs[i] = i
	}
	body := map[string]any{
		"function": map[string]any{
			"kind": "job", "metadata": map[string]any{"name": "bench", "project": "default"},
			"spec": map[string]any{"build": map[string]any{"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(code)), "origin_filename": "bench.py"}},
		},
		"task": map[string]any{
			"metadata": map[string]any{"name": "bench", "project": "default"},
			"spec": map[string]any{
				"handler": "handler", "hyperparams": map[string]any{"x": xs},
				"hyper_param_options": map[string]any{"strategy": "list", "selector": "max.score", "parallel_runs": workers, "isolation": isolation},
			},
		},
	}
	watch := s.watch()
	defer watch.stop()
	used := processor(s.cmd.Process.Pid)
	begin := time.Now()
	var submitted struct {
		Data struct {
			Metadata struct{ UID string }
		}
	}
	if err := s.call(http.MethodPost, "submit_job", body, &submitted); err != nil {
		return result{}, err
	}
	for {
		var run struct {
			Data struct {
				Status struct {
					State, Error string
					Results      map[string]any
				}
			}
		}
		if err := s.call(http.MethodGet, "run/default/"+submitted.Data.Metadata.UID, nil, &run); err != nil {
			return result{}, err
		}
		switch run.Data.Status.State {
		case "completed":
			if best := run.Data.Status.Results["best_iteration"]; best != float64(n) {
				return result{}, fmt.Errorf("the best iteration is %v, not %d", best, n)
			}
			took := time.Since(begin)
			watch.stop()
			for below(s.cmd.Process.Pid) > 0 && time.Since(begin) < took+5*time.Second {
				time.Sleep(20 * time.Millisecond) // until the runner is gone, and its time known
			}
			used = processor(s.cmd.Process.Pid) - used
			return result{took: took, processor: used, server: watch.server, rest: watch.rest}, nil
		case "error", "aborted":
			return result{}, fmt.Errorf("the task ended as %s: %s", run.Data.Status.State, run.Data.Status.Error)
		}
		// Between two looks, which cost the server something: a run of many values is large.
		time.Sleep(min(max(20*time.Millisecond, time.Since(begin)/50), 500*time.Millisecond))
	}
}

func (s *server) call(method, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, s.url+"/api/v1/"+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s %s", method, path, response.Status, answer)
	}
	return json.Unmarshal(answer, into)
}

// watch notes the largest memory of the server and of what it started.
type watch struct {
	server, rest int64
	once         sync.Once
	over, done   chan struct{}
}

func (s *server) watch() *watch {
	w := &watch{over: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.over:
				return
			case <-time.After(100 * time.Millisecond):
			}
			w.server = max(w.server, resident(s.cmd.Process.Pid))
			w.rest = max(w.rest, below(s.cmd.Process.Pid))
		}
	}()
	return w
}

func (w *watch) stop() {
	w.once.Do(func() { close(w.over) })
	<-w.done
}

func resident(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(raw))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// processor is what pid and its children that have ended used.
func processor(pid int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, found := strings.Cut(string(raw), ") ")
	fields := strings.Fields(after)
	if err != nil || !found || len(fields) < 15 {
		return 0
	}
	ticks := int64(0)
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, _ := strconv.ParseInt(field, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

// below sums the memory of all processes that descend from pid.
func below(pid int) int64 {
	total := int64(0)
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range tasks {
		raw, _ := os.ReadFile(path)
		for _, field := range strings.Fields(string(raw)) {
			child, _ := strconv.Atoi(field)
			total += resident(child) + below(child)
		}
	}
	return total
}
