package worker_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/worker"
)

var unpackDir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-worker-test-")
	if err != nil {
		return "", err
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := unpackDir(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// bench is what a test needs to run code in a worker.
type bench struct {
	t      *testing.T
	dir    string
	log    *os.File
	worker *worker.Worker
	events []worker.Event
}

func interpreter(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("MILLRACE_TEST_PYTHON"), "/usr/bin/python3", "python3"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no python3 on this machine")
	return ""
}

func start(t *testing.T, env ...string) *bench {
	t.Helper()
	python := interpreter(t)
	base, err := unpackDir()
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := worker.Unpack(base)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: t.TempDir()}
	b.log, err = os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.log.Close() })
	b.worker, err = worker.Start(context.Background(), worker.Spec{
		Interpreter: python, RuntimeDir: runtime, Dir: b.dir, Stdout: b.log, Stderr: b.log,
		Env: append([]string{"PATH=" + os.Getenv("PATH"), "PYTHONDONTWRITEBYTECODE=1"}, env...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.worker.Kill(); b.worker.Wait() })
	return b
}

func (b *bench) file(name, code string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bench) load(code, handler string) (string, error) {
	b.t.Helper()
	return b.worker.Load(context.Background(), worker.Load{File: b.file("code.py", code), Handler: handler})
}

func (b *bench) call(c worker.Call) (worker.Answer, error) {
	return b.worker.Call(context.Background(), c, func(e worker.Event) error {
		b.events = append(b.events, e)
		return nil
	})
}

func (b *bench) logged() string {
	b.t.Helper()
	data, err := os.ReadFile(b.log.Name())
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

func TestCall(t *testing.T) {
	t.Parallel()
	b := start(t)
	name, err := b.load("def train(context, x, y=2):\n    context.log_result('acc', 0.5)\n    print('x is', x)\n    return x + y\n", "train")
	if err != nil || name != "train" {
		t.Fatalf("Load = %q, %v", name, err)
	}
	answer, err := b.call(worker.Call{Parameters: document.Object{"x": 40}})
	if err != nil || !answer.Succeeded() {
		t.Fatalf("Call = %+v, %v", answer, err)
	}
	if got := string(document.Encode([]any{b.events[0].Doc, b.events[1].Doc})); got != `[{"iter":0,"results":{"acc":0.5},"t":"update"},{"iter":0,"results":{"return":42},"t":"update"}]` {
		t.Errorf("events = %s", got)
	}
	if b.logged() != "x is 40\n" {
		t.Errorf("log = %q", b.logged())
	}
	exit, err := b.worker.Drain(context.Background())
	if err != nil || !exit.Success() {
		t.Errorf("Drain = %+v, %v", exit, err)
	}
}

// TestClosedDescriptors: user code closes every descriptor it can find, and what
// the host says to the worker then must neither be lost nor wait for ever.
func TestClosedDescriptors(t *testing.T) {
	t.Parallel()
	b := start(t)
	code := "import os, time\n\ndef train(context):\n    os.closerange(3, 1000)\n    context.log_result('closed', 1)\n    time.sleep(600)\n"
	if _, err := b.load(code, "train"); err != nil {
		t.Fatal(err)
	}
	closed, over := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	go func() {
		_, err := b.worker.Call(ctx, worker.Call{}, func(worker.Event) error { close(closed); return nil })
		over <- err
	}()
	select {
	case <-closed:
	case err := <-over:
		t.Fatalf("Call = %v before the handler said anything", err)
	}
	b.worker.Cancel()
	if err := <-over; err != nil && ctx.Err() != nil {
		t.Fatalf("Call = %v; the worker did not hear that it is cancelled", err)
	}
	if exit, err := b.worker.Drain(ctx); err != nil {
		t.Errorf("Drain = %+v, %v", exit, err)
	}
}
