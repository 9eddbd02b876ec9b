// Command worker measures what a function worker costs: from nothing to loaded
// code beside a bare interpreter, and calls a second in a warm one.
//
//	go run ./benchmarks/worker [-python python3] [-starts 40] [-calls 200000]
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/worker"
)

func main() {
	log.SetFlags(0)
	python := flag.String("python", "python3", "interpreter")
	starts := flag.Int("starts", 40, "processes to start of each sort")
	calls := flag.Int("calls", 200_000, "pipelined calls; a tenth of it in lock step")
	window := flag.Int("window", 64, "calls in flight when pipelined")
	flag.Parse()
	if err := run(*python, *starts, *calls, *window); err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	python, runtime, dir string
	env                  []string
}

func run(python string, starts, calls, window int) error {
	path, err := exec.LookPath(python)
	if err != nil {
		return err
	}
	// A shim or link costs time of its own: measure the interpreter behind it.
	real, err := exec.Command(path, "-c", "import sys; print(sys.executable, end='')").Output()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	dir, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := bench{python: string(real), dir: dir, env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}}
	if b.runtime, err = worker.Unpack(filepath.Join(dir, "runtime")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "empty.py"), []byte("def handler(context):\n    pass\n"), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "site.py.txt"), []byte("import os\ndef handler(context):\n    pass\n"), 0o600); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, "site.py.txt"), filepath.Join(dir, "with_os.py")); err != nil {
		return err
	}
	version, _ := exec.Command(b.python, "--version").Output()
	fmt.Printf("%s %s", b.python, version)
	if err := b.processes(starts); err != nil {
		return err
	}
	return b.calls(calls, window)
}

// processes measures sorts of starts in turn, so that a busy machine is unfair to
// none, and prints medians.
func (b bench) processes(n int) error {
	sorts := []struct {
		name string
		run  func() error
	}{
		{"python -S -c pass", func() error { return b.bare("-S", "-c", "pass") }},
		{"python -c pass", func() error { return b.bare("-c", "pass") }},
		{"worker: start, load, call, drain; no imports", func() error { return b.whole("empty.py") }},
		{"worker: start, load, call, drain; import os", func() error { return b.whole("with_os.py") }},
	}
	times := make([][]time.Duration, len(sorts))
	for range n + 1 {
		for i, sort := range sorts {
			begin := time.Now()
			if err := sort.run(); err != nil {
				return fmt.Errorf("%s: %w", sort.name, err)
			}
			times[i] = append(times[i], time.Since(begin))
		}
	}
	var base time.Duration
	for i, sort := range sorts {
		list := times[i][1:] // the first one fills caches
		slices.Sort(list)
		median := list[len(list)/2]
		if i == 0 {
			base = median
		}
		fmt.Printf("%-48s %6.1f ms (best %5.1f)  × %.2f\n", sort.name, ms(median), ms(list[0]), float64(median)/float64(base))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (b bench) bare(args ...string) error {
	p, err := worker.StartCommand(context.Background(), worker.Command{Argv: append([]string{b.python}, args...), Env: b.env})
	if err != nil {
		return err
	}
	p.Wait()
	return nil
}

func (b bench) start(file string) (*worker.Worker, error) {
	ctx := context.Background()
	w, err := worker.Start(ctx, worker.Spec{Interpreter: b.python, RuntimeDir: b.runtime, Env: b.env, Dir: b.dir, Stderr: os.Stderr})
	if err != nil {
		return nil, err
	}
	if _, err = w.Load(ctx, worker.Load{File: filepath.Join(b.dir, file), Handler: "handler"}); err != nil {
		w.Kill()
		return nil, err
	}
	return w, nil
}

func (b bench) whole(file string) error {
	ctx := context.Background()
	w, err := b.start(file)
	if err != nil {
		return err
	}
	if _, err := w.Call(ctx, worker.Call{}, nil); err != nil {
		return err
	}
	_, err = w.Drain(ctx)
	return err
}

func (b bench) calls(n, window int) error {
	ctx := context.Background()
	w, err := b.start("empty.py")
	if err != nil {
		return err
	}
	defer w.Kill()
	begin := time.Now()
	for range n / 10 {
		if _, err := w.Call(ctx, worker.Call{}, nil); err != nil {
			return err
		}
	}
	fmt.Printf("%-48s %8.0f /s\n", "calls in lock step", float64(n/10)/time.Since(begin).Seconds())

	var group sync.WaitGroup
	var left atomic.Int64
	var failed atomic.Value
	left.Store(int64(n))
	begin = time.Now()
	for range window {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := w.Call(ctx, worker.Call{}, nil); err != nil {
					failed.Store(err)
					return
				}
			}
		})
	}
	group.Wait()
	if err, ok := failed.Load().(error); ok {
		return err
	}
	fmt.Printf("%-48s %8.0f /s\n", fmt.Sprintf("calls pipelined, %d in flight", window), float64(n)/time.Since(begin).Seconds())
	return nil
}
