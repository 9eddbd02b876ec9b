// Command coldstart measures how long a function that nothing of is running takes
// to its first line, forked from a template and in a fresh process, and what many
// idle functions cost in memory.
//
//	go run ./benchmarks/coldstart [-python PYTHON] [-rounds 30] [-idle 500]
//
// The heavy function imports numpy, pandas and scikit-learn. Without -python an
// environment with these is made in a temporary folder, which takes minutes.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/template"
	"github.com/millrace/millrace/internal/worker"
)

const (
	bare  = "def handler(context):\n    print(%q)\n"
	heavy = "import numpy\nimport pandas\nfrom sklearn.linear_model import LinearRegression\n\n" + bare
)

type function struct{ name, code string }

var functions = []function{{"nothing imported", bare}, {"numpy, pandas, scikit-learn", heavy}}

func main() {
	log.SetFlags(0)
	python := flag.String("python", "", "interpreter of an environment with numpy, pandas and scikit-learn")
	rounds := flag.Int("rounds", 30, "processes of each sort, in turn")
	idle := flag.Int("idle", 500, "idle functions, each a worker of its own; 0 leaves them out")
	flag.Parse()
	if err := run(context.Background(), *python, *rounds, *idle); err != nil {
		log.Fatal(err)
	}
}

type bench struct {
	python, runtime, dir string
	env                  []string
	pool                 *template.Pool
	output               *os.File
}

func run(ctx context.Context, python string, rounds, idle int) (err error) {
	dir, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if python == "" {
		if python, err = environment(ctx, dir); err != nil {
			return err
		}
	}
	b := bench{python: python, dir: dir, env: []string{"HOME=" + os.Getenv("HOME"), "PATH=" + filepath.Dir(python) + ":" + os.Getenv("PATH")}}
	if b.runtime, err = worker.Unpack(filepath.Join(dir, "runtime")); err != nil {
		return err
	}
	if b.output, err = os.Create(filepath.Join(dir, "output")); err != nil {
		return err
	}
	defer b.output.Close()
	if b.pool, err = template.New(template.Options{Dir: filepath.Join(dir, "templates")}); err != nil {
		return err
	}
	defer func() {
		wait, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		err = errors.Join(err, b.pool.Close(wait))
	}()
	version, _ := exec.Command(python, "--version").Output()
	fmt.Printf("%s %s", python, version)
	sockets, err := b.starts(ctx, rounds)
	if err != nil || idle == 0 {
		return err
	}
	for i, one := range functions {
		if err := b.idle(ctx, one, sockets[i], idle); err != nil {
			return err
		}
	}
	return nil
}

// environment makes one as the product does.
func environment(ctx context.Context, dir string) (string, error) {
	interpreter, err := env.NewInterpreters(env.InterpreterConfig{CacheDir: filepath.Join(dir, "cache")}).Select(ctx, "")
	if err != nil {
		return "", err
	}
	manager, err := env.New(env.Config{Dir: filepath.Join(dir, "envs"), CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		return "", err
	}
	defer manager.Close()
	requirements, err := env.ParseRequirements([]string{"numpy", "pandas", "scikit-learn"}, "")
	if err != nil {
		return "", err
	}
	made, err := manager.Ensure(ctx, env.Request{Interpreter: interpreter, Requirements: requirements}, func(env.Progress) {})
	return made.Python, err
}

// function writes the code of a function and returns its file. Each function has
// a file of its own, and prints its name.
func (b *bench) function(code, name string) (string, error) {
	file := filepath.Join(b.dir, name, "function.py")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return "", err
	}
	return file, os.WriteFile(file, fmt.Appendf(nil, code, name), 0o600)
}

// worker starts a worker that has loaded a function.
func (b *bench) worker(ctx context.Context, file, socket string, report bool) (*worker.Worker, error) {
	w, err := worker.Start(ctx, worker.Spec{
		Interpreter: b.python, RuntimeDir: b.runtime, Env: b.env, Template: socket, Stdout: b.output, Stderr: b.output,
	})
	if err != nil {
		return nil, err
	}
	if w.Forked() != (socket != "") {
		return nil, errors.Join(errors.New("the worker was not forked from its template"), w.Kill())
	}
	if _, err := w.Load(ctx, worker.Load{File: file, Handler: "handler", Report: report}); err != nil {
		return nil, errors.Join(err, w.Kill())
	}
	return w, nil
}

// first returns the time until the function's first line is in its log.
func (b *bench) first(ctx context.Context, file, socket string) (time.Duration, error) {
	before, err := b.output.Stat()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	w, err := b.worker(ctx, file, socket, false)
	if err != nil {
		return 0, err
	}
	answer, err := w.Call(ctx, worker.Call{}, nil)
	took := time.Since(began)
	if err == nil && !answer.Succeeded() {
		err = answer.Failure
	}
	after, statErr := b.output.Stat()
	if err == nil && statErr == nil && after.Size() <= before.Size() {
		err = errors.New("the function printed nothing")
	}
	_, drained := w.Drain(ctx)
	return took, errors.Join(err, statErr, drained)
}

// learn returns the template of a function: what it had imported when it was loaded.
func (b *bench) learn(ctx context.Context, file string) (string, error) {
	w, err := b.worker(ctx, file, "", true)
	if err != nil {
		return "", err
	}
	modules, ok := w.Modules()
	if _, err := w.Drain(ctx); err != nil || !ok {
		return "", errors.Join(err, errors.New("what the function imports was not told"))
	}
	began := time.Now()
	socket, err := b.pool.Ready(ctx, template.Spec{Interpreter: b.python, RuntimeDir: b.runtime, Env: b.env, Modules: modules})
	if err == nil {
		fmt.Printf("template of %d modules: ready after %.0f ms\n", len(modules), ms(time.Since(began)))
	}
	return socket, err
}

// starts measures the sorts of starts in turn, so that a busy machine is unfair to
// none, and returns the sockets of the functions' templates.
func (b *bench) starts(ctx context.Context, rounds int) ([]string, error) {
	type sort struct {
		name  string
		run   func() (time.Duration, error)
		times []time.Duration
	}
	var sorts []*sort
	var sockets []string
	for _, one := range functions {
		file, err := b.function(one.code, fmt.Sprintf("function-%d", len(sorts)))
		if err != nil {
			return nil, err
		}
		socket, err := b.learn(ctx, file)
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, socket)
		sorts = append(sorts,
			&sort{name: one.name + ": fresh process", run: func() (time.Duration, error) { return b.first(ctx, file, "") }},
			&sort{name: one.name + ": forked from a template", run: func() (time.Duration, error) { return b.first(ctx, file, socket) }},
		)
	}
	sorts = append(sorts, &sort{name: "python -c 'import numpy, pandas, sklearn.linear_model'", run: func() (time.Duration, error) {
		began := time.Now()
		err := exec.CommandContext(ctx, b.python, "-c", "import numpy, pandas, sklearn.linear_model").Run()
		return time.Since(began), err
	}})
	for round := range rounds + 1 {
		for _, one := range sorts {
			took, err := one.run()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", one.name, err)
			}
			if round > 0 { // the first one fills caches
				one.times = append(one.times, took)
			}
		}
	}
	fmt.Printf("until the function's first line is in its log, of %d:\n", rounds)
	for _, one := range sorts {
		slices.Sort(one.times)
		fmt.Printf("  %-56s median %7.1f ms, best %7.1f, p90 %7.1f\n", one.name, ms(one.times[len(one.times)/2]), ms(one.times[0]), ms(one.times[len(one.times)*9/10]))
	}
	return sockets, nil
}

// idle starts functions that wait for their first call, and prints their memory.
func (b *bench) idle(ctx context.Context, what function, socket string, n int) (err error) {
	var workers []*worker.Worker
	defer func() {
		for _, w := range workers {
			err = cmp.Or(err, w.Kill())
			w.Wait()
		}
	}()
	file, err := b.function(what.code, "alone")
	if err != nil {
		return err
	}
	fresh, err := b.worker(ctx, file, "", false)
	if err != nil {
		return err
	}
	alone, err := proportional(fresh.PID())
	if err = errors.Join(err, fresh.Kill()); err != nil {
		return err
	}
	fresh.Wait()
	began := time.Now()
	for i := range n {
		file, err := b.function(what.code, "idle-"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		w, err := b.worker(ctx, file, socket, false)
		if err != nil {
			return err
		}
		workers = append(workers, w)
	}
	took := time.Since(began)
	var total int64
	for _, w := range workers {
		memory, err := proportional(w.PID())
		if err != nil {
			return err
		}
		total += memory
	}
	for _, info := range b.pool.List() {
		memory, err := proportional(info.PID)
		if err != nil {
			return err
		}
		total += memory
	}
	fmt.Printf("%d idle functions (%s), each a process of its own, started in %.1f s:\n", n, what.name, took.Seconds())
	fmt.Printf("  %.0f MiB with all templates (proportional set size), %.2f MiB each; a fresh process alone: %.0f MiB\n", mib(total), mib(total)/float64(n), mib(alone))
	return nil
}

// proportional is the memory of a process in bytes, with its share of what it
// shares.
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
