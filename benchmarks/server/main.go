// Command server measures a server: start to ready, idle memory and the size of
// the binary, with an empty database and with many runs stored, beside a bare Go
// HTTP server that answers one route.
//
//	go run ./benchmarks/server [-runs 1000000] [-n 10]
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

const bare = `package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	_ = os.WriteFile(os.Args[1], []byte(fmt.Sprintf("{\"url\":\"http://%s\"}", listener.Addr())), 0o600)
	http.HandleFunc("GET /api/v1/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	panic(http.Serve(listener, nil))
}
`

func main() {
	runs := flag.Int("runs", 1_000_000, "runs stored for the second measurement")
	n := flag.Int("n", 10, "starts of each server")
	flag.Parse()
	if err := measure(*runs, *n); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func measure(runs, n int) error {
	dir, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, plain := filepath.Join(dir, "millrace"), filepath.Join(dir, "bare")
	if err := os.WriteFile(plain+".go", []byte(bare), 0o600); err != nil {
		return err
	}
	for target, source := range map[string]string{binary: "./cmd/millrace", plain: plain + ".go"} {
		if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", target, source).CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	info, err := os.Stat(binary)
	if err != nil {
		return err
	}
	empty, full := filepath.Join(dir, "empty"), filepath.Join(dir, "full")
	if err := fill(full, runs); err != nil {
		return err
	}
	serve := func(data string) (string, []string) {
		return filepath.Join(data, "server.json"), []string{binary, "server", "--listen", "127.0.0.1:0", "--data-dir", data}
	}
	fmt.Printf("binary (stripped): %.1f MB\n", float64(info.Size())/1e6)
	fmt.Printf("%-36s %12s %12s %14s\n", "server", "ready p50", "ready max", "idle memory")
	for _, c := range []struct {
		name string
		file string
		argv []string
	}{
		{name: "bare Go server", file: filepath.Join(dir, "bare.json"), argv: []string{plain, filepath.Join(dir, "bare.json")}},
		{name: "millrace server, no runs"},
		{name: fmt.Sprintf("millrace server, %d runs", runs)},
	} {
		switch {
		case strings.HasSuffix(c.name, "no runs"):
			c.file, c.argv = serve(empty)
		case c.argv == nil:
			c.file, c.argv = serve(full)
		}
		var times []time.Duration
		var memory int
		for range n {
			took, rss, err := start(c.file, c.argv)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			times = append(times, took)
			memory = max(memory, rss)
		}
		slices.Sort(times)
		fmt.Printf("%-36s %10.1fms %10.1fms %10.1f MiB\n", c.name, ms(times[len(times)/2]), ms(times[len(times)-1]), float64(memory)/1024)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// fill stores runs the way clients do, in large transactions.
func fill(data string, runs int) error {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(data, "millrace.db")})
	if err != nil {
		return err
	}
	defer s.Close()
	start := time.Now().Add(-time.Duration(runs) * time.Second)
	const batch = 5000
	for from := 0; from < runs; from += batch {
		if err := s.Tx(ctx, func(tx *store.Tx) error {
			for i := from; i < min(from+batch, runs); i++ {
				uid := fmt.Sprintf("%032x", i)
				_, err := tx.RunPut(ctx, run.Key{Project: "default", UID: uid}, document.Object{
					"kind": "run", "metadata": document.Object{"name": fmt.Sprintf("run-%d", i%500), "uid": uid, "project": "default", "labels": document.Object{"kind": "job", "owner": "bench"}},
					"spec":   document.Object{"parameters": document.Object{"lr": 0.1, "depth": i % 10}},
					"status": document.Object{"state": "completed", "start_time": document.Time(start.Add(time.Duration(i) * time.Second)), "results": document.Object{"accuracy": float64(i%1000) / 1000}},
				})
				if err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		if from%100_000 == 0 {
			fmt.Fprintf(os.Stderr, "\rstoring runs: %d of %d", from, runs)
		}
	}
	fmt.Fprintln(os.Stderr)
	return nil
}

// start measures one start until the health route answers, and the resident
// memory in KiB two seconds later.
func start(file string, argv []string) (time.Duration, int, error) {
	_ = os.Remove(file)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = io.Discard
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	var url string
	for time.Since(begin) < time.Minute {
		if url == "" {
			var at struct{ URL string }
			if raw, err := os.ReadFile(file); err == nil && json.Unmarshal(raw, &at) == nil {
				url = at.URL
			}
		}
		if url != "" {
			if response, err := http.Get(url + "/api/v1/healthz"); err == nil {
				response.Body.Close()
				if response.StatusCode == http.StatusOK {
					took := time.Since(begin)
					time.Sleep(2 * time.Second) // idle
					rss, err := resident(cmd.Process.Pid)
					return took, rss, err
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
	return 0, 0, fmt.Errorf("not ready within a minute")
}

func resident(pid int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("no VmRSS")
}
