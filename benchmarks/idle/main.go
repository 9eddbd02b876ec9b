// Command idle measures what real-time functions cost that nobody calls: the memory of
// many which are parked, beside some at zero that keep their process, and how long
// the first request to one of either sort takes.
//
//	go run ./benchmarks/idle [-n 500] [-beside 25] [-calls 20] [-python PYTHON] [-import MODULE,…]
//
// The functions are deployed through the server, each with code and a revision of its own. Memory is the
// proportional set size of all processes but the server.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

func main() {
	log.SetFlags(0)
	n := flag.Int("n", 500, "functions that are parked")
	beside := flag.Int("beside", 25, "functions that keep their process")
	calls := flag.Int("calls", 20, "functions of either sort that are called")
	python := flag.String("python", "", "interpreter; the server's default without it")
	imports := flag.String("import", "", "modules that every function imports, with commas between them")
	flag.Parse()
	if err := run(context.Background(), *n, *beside, *calls, *python, *imports); err != nil {
		log.Fatal(err)
	}
}

// sort is a server and its functions.
type sort struct {
	name   string
	data   string
	url    string
	server *exec.Cmd
	n      int
	times  []time.Duration // of first requests
	second []time.Duration // of those after them
}

func run(ctx context.Context, n, beside, calls int, python, imports string) (err error) {
	dir, err := os.MkdirTemp("", "mr") // short: paths of sockets are
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "millrace")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", binary, "./cmd/millrace").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	code := "def handler(context, event):\n    return %q\n"
	if imports != "" {
		code = "import " + imports + "\n\n" + code
	}
	parked := &sort{name: "parked", data: filepath.Join(dir, "parked"), n: n}
	kept := &sort{name: "at zero in their processes", data: filepath.Join(dir, "kept"), n: beside}
	for _, s := range []*sort{parked, kept} {
		after := "1s"
		if s == kept {
			after = "0"
		}
		if err := s.start(binary, python, "MILLRACE_PARK_AFTER="+after); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.end()) }()
		began := time.Now()
		for i := range s.n {
			if err := s.deploy(ctx, i, fmt.Sprintf(code, s.function(i))); err != nil {
				return err
			}
		}
		fmt.Printf("%d functions deployed in %.0f s\n", s.n, time.Since(began).Seconds())
		if err := s.settle(ctx, s == parked); err != nil {
			return err
		}
		if err := s.memory(); err != nil {
			return err
		}
	}
	for i := range min(calls, n, beside) {
		for _, s := range []*sort{parked, kept} { // in turn, so that a busy machine is unfair to none
			if err := s.call(ctx, i); err != nil {
				return err
			}
		}
	}
	for _, s := range []*sort{parked, kept} {
		for i, times := range [][]time.Duration{s.times, s.second} {
			slices.Sort(times)
			fmt.Printf("%-28s %-14s of %d: median %6.1f ms, best %6.1f, p90 %6.1f\n", s.name, []string{"first request", "the next"}[i], len(times), ms(times[len(times)/2]), ms(times[0]), ms(times[len(times)*9/10]))
		}
	}
	return nil
}

func (s *sort) function(i int) string { return "idle-" + strconv.Itoa(i) }

func (s *sort) dir(i int) realtime.Dir { return realtime.DirOf(s.data, "default", s.function(i)) }

// start starts the server and waits until it is ready.
func (s *sort) start(binary, python, environ string) error {
	args := []string{"server", "--listen", "127.0.0.1:0", "--data-dir", s.data, "--log-level", "error"}
	if python != "" {
		args = append(args, "--python", python)
	}
	s.server = exec.Command(binary, args...)
	s.server.Env = append(os.Environ(), environ)
	s.server.Stderr = os.Stderr
	if err := s.server.Start(); err != nil {
		return err
	}
	for range 600 {
		raw, err := os.ReadFile(filepath.Join(s.data, "server.json"))
		var at struct{ URL string }
		if err == nil && json.Unmarshal(raw, &at) == nil {
			if response, err := http.Get(at.URL + "/api/v1/healthz"); err == nil {
				response.Body.Close()
				s.url = at.URL
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the server did not become ready in 30 s")
}

// deploy deploys a function and waits until it has been ready.
func (s *sort) deploy(ctx context.Context, i int, code string) error {
	body, err := json.Marshal(map[string]any{"function": map[string]any{
		"kind": "nuclio", "metadata": map[string]any{"name": s.function(i), "project": "default"},
		"spec": map[string]any{
			"build":        map[string]any{"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(code)), "origin_filename": "function.py"},
			"min_replicas": 0, "readiness_timeout": 300, // the first imports of a package are slow
			"config": map[string]any{"spec.scaleToZero.scaleResources": []any{map[string]any{"windowSize": "1s"}}},
		},
	}})
	if err != nil {
		return err
	}
	if _, err := s.ask(ctx, http.MethodPost, "/api/v1/projects/default/nuclio/"+s.function(i)+"/deploy", body); err != nil {
		return err
	}
	for until := time.Now().Add(5 * time.Minute); time.Now().Before(until); {
		raw, err := s.ask(ctx, http.MethodGet, "/api/v1/millrace/projects/default/deployments/"+s.function(i), nil)
		if err != nil {
			return err
		}
		var doc struct{ Status struct{ State, Error string } }
		if err := json.Unmarshal(raw, &doc); err != nil {
			return err
		}
		switch doc.Status.State {
		case "ready", "scaledToZero":
			return nil
		case "error", "unhealthy":
			return fmt.Errorf("%s: %s", s.function(i), doc.Status.Error)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s is not ready after 5 minutes", s.function(i))
}

func (s *sort) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, raw)
	}
	return raw, err
}

// settle waits until no function has a worker, nor a process if they are parked.
func (s *sort) settle(ctx context.Context, parked bool) error {
	for until := time.Now().Add(5 * time.Minute); time.Now().Before(until); time.Sleep(500 * time.Millisecond) {
		waiting := 0
		for i := range s.n {
			if dir := s.dir(i); parked && !dir.Parked() {
				waiting++
			} else if status, err := realtime.NewClient(dir).Status(ctx); err != nil || status.State != realtime.StateScaledToZero {
				waiting++
			}
		}
		if waiting == 0 {
			time.Sleep(2 * time.Second) // what has ended is gone
			return nil
		}
	}
	return fmt.Errorf("not all functions are %s after 5 minutes", s.name)
}

// memory prints what the processes have that belong to the functions.
func (s *sort) memory() error {
	type group struct{ n, pss int64 }
	groups := map[string]*group{}
	for pid, line := range s.processes() {
		name := "other"
		switch {
		case pid == s.server.Process.Pid:
			name = "server"
		case strings.Contains(line, " activator "):
			name = "activator"
		case strings.Contains(line, " processor "):
			name = "processors"
		case strings.Contains(line, "boot.py template"):
			name = "templates"
		case strings.Contains(line, "boot.py"):
			name = "workers"
		}
		pss, err := proportional(pid)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		if groups[name] == nil {
			groups[name] = &group{}
		}
		groups[name].n++
		groups[name].pss += pss
	}
	total, processes := int64(0), int64(0)
	fmt.Printf("%d functions %s:\n", s.n, s.name)
	for _, name := range []string{"server", "activator", "templates", "processors", "workers", "other"} {
		if g := groups[name]; g != nil {
			fmt.Printf("  %-12s %4d  %8.1f MiB\n", name, g.n, mib(g.pss))
			if name != "server" {
				total += g.pss
				processes += g.n
			}
		}
	}
	fmt.Printf("  %-12s %4d  %8.1f MiB without the server, %.2f MiB a function\n", "together", processes, mib(total), mib(total)/float64(s.n))
	return nil
}

// processes are those of the data directory, with their command lines.
func (s *sort) processes() map[int]string {
	out := map[int]string{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		pid, _ := strconv.Atoi(filepath.Base(entry))
		line, _ := os.ReadFile(filepath.Join(entry, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(entry, "environ"))
		if pid != os.Getpid() && (bytes.Contains(line, []byte(s.data)) || bytes.Contains(environ, []byte(s.data))) {
			out[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return out
}

// call sends a request, and another one, to a function's own address.
func (s *sort) call(ctx context.Context, i int) error {
	status, err := s.dir(i).Status()
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, times := range []*[]time.Duration{&s.times, &s.second} {
		began := time.Now()
		response, err := client.Get("http://" + status.Address + "/")
		if err != nil {
			return err
		}
		raw, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || string(raw) != s.function(i) {
			return fmt.Errorf("%s answered %s %q: %w", s.function(i), response.Status, raw, err)
		}
		*times = append(*times, time.Since(began))
	}
	return nil
}

// end ends the server and everything that belongs to it.
func (s *sort) end() error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	slots := make(chan struct{}, 4)
	for i := range s.n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if _, err := s.ask(context.Background(), http.MethodDelete, "/api/v1/millrace/projects/default/deployments/"+s.function(i), nil); err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	all.Wait()
	_ = s.server.Process.Signal(syscall.SIGTERM)
	_ = s.server.Wait()
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if len(s.processes()) == 0 {
			return failed
		}
	}
	for pid := range s.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return errors.Join(failed, errors.New("processes were left over after all functions had been deleted"))
}

// proportional is the memory of a process in bytes, with its share of what it shares.
func proportional(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(raw) {
		if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
			var kib int64
			_, err := fmt.Sscan(string(rest), &kib)
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel does not tell the memory of a process")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mib(n int64) float64 { return float64(n) / (1 << 20) }
