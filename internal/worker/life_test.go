package worker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/worker"
)

func TestDeathDuringCall(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		code string
		want string
	}{
		"segfault":    {"import ctypes\ndef h(context):\n    ctypes.string_at(0)\n", "the worker process was killed by signal SIGSEGV (segmentation fault)"},
		"abort":       {"import os\ndef h(context):\n    os.abort()\n", "the worker process was killed by signal SIGABRT (aborted, usually by a failed assertion of a native library)"},
		"exit status": {"import os\ndef h(context):\n    os._exit(3)\n", "the worker process exited with status 3"},
		"killed":      {"import os\ndef h(context):\n    os.kill(os.getpid(), 9)\n", "the worker process was killed by signal SIGKILL (from outside; usually because the memory was used up)"},
		"garbage":     {"import millrace._wire as w, posix\ndef h(context):\n    posix.write(904, b'x' * 64)\n", "worker protocol: "},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			if _, err := b.load("import millrace\ndef first(c): pass\n"+tc.code, "h"); err != nil {
				t.Fatal(err)
			}
			_, err := b.call(worker.Call{})
			var died *worker.DiedError
			if !errors.As(err, &died) || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("Call: %v, want %q", err, tc.want)
			}
			if _, err := b.call(worker.Call{}); !errors.As(err, &died) {
				t.Errorf("Call after death: %v", err)
			}
			if _, err := b.worker.Load(context.Background(), worker.Load{}); !errors.As(err, &died) {
				t.Errorf("Load after death: %v", err)
			}
		})
	}
}

func TestLoadFailure(t *testing.T) {
	t.Parallel()
	b := start(t)
	_, err := b.load("def train(): pass\nclass Model: pass\n", "trian")
	var failure *worker.Failure
	if !errors.As(err, &failure) || failure.Type != "UserError" || strings.Join(failure.Names, " ") != "train Model" ||
		!strings.Contains(failure.Message, "did you mean 'train'?") {
		t.Errorf("Load: %#v", err)
	}
	if exit, err := b.worker.Drain(context.Background()); err != nil || !exit.Success() {
		t.Errorf("Drain: %+v, %v", exit, err)
	}
}

func TestNotAnInterpreter(t *testing.T) {
	t.Parallel()
	_, err := worker.Start(context.Background(), worker.Spec{Interpreter: "/no/such/python", RuntimeDir: t.TempDir()})
	if err == nil || err.Error() != "start /no/such/python: no such file or directory" {
		t.Errorf("Start: %v", err)
	}
	w, err := worker.Start(context.Background(), worker.Spec{Interpreter: "/bin/false", RuntimeDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Ready(context.Background()); err == nil || err.Error() != "the worker process exited with status 1" {
		t.Errorf("Ready: %v", err)
	}
	if _, err := w.Load(context.Background(), worker.Load{}); err == nil {
		t.Error("Load of a process that is gone succeeded")
	}
}

func TestFailureIsData(t *testing.T) {
	t.Parallel()
	b := start(t)
	if _, err := b.load("def h(context):\n    raise KeyError('k')\n", "h"); err != nil {
		t.Fatal(err)
	}
	answer, err := b.call(worker.Call{})
	if err != nil || answer.State != run.Error || answer.Failure.Type != "KeyError" || answer.Failure.Message != "'k'" ||
		!strings.Contains(answer.Failure.Traceback, "line 2, in h") {
		t.Errorf("Call = %+v, %v", answer, err)
	}
	if b.logged() != answer.Failure.Traceback {
		t.Errorf("log = %q", b.logged())
	}
}

// begun returns an emit that closes the channel at the first emission.
func begun() (func(worker.Event) error, <-chan struct{}) {
	ch := make(chan struct{})
	var once sync.Once
	return func(worker.Event) error { once.Do(func() { close(ch) }); return nil }, ch
}

const sleeper = "import time\ndef h(context):\n    context.log_result('begun', 1)\n    time.sleep(60)\n"

func TestCancel(t *testing.T) {
	t.Parallel()
	b := start(t)
	if _, err := b.load(sleeper, "h"); err != nil {
		t.Fatal(err)
	}
	emit, running := begun()
	answers := make(chan worker.Answer, 3)
	for range 3 {
		go func() {
			answer, _ := b.worker.Call(context.Background(), worker.Call{}, emit)
			answers <- answer
		}()
	}
	<-running
	for got := 0; got < 3; {
		b.worker.Cancel()
		select {
		case answer := <-answers:
			if answer.State != run.Aborted {
				t.Errorf("answer = %+v", answer)
			}
			got++
		case <-time.After(50 * time.Millisecond): // a call that was sent after the Cancel
		}
	}
}

func TestCallContext(t *testing.T) {
	t.Parallel()
	b := start(t)
	if _, err := b.load(sleeper, "h"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	emit, running := begun()
	go func() { <-running; cancel(errors.New("enough")) }()
	if _, err := b.worker.Call(ctx, worker.Call{}, emit); err == nil || err.Error() != "enough" {
		t.Errorf("Call: %v", err)
	}
	if exit, err := b.worker.Drain(context.Background()); err != nil || !exit.Success() {
		t.Errorf("Drain: %+v, %v", exit, err)
	}
}

func TestEmitError(t *testing.T) {
	t.Parallel()
	b := start(t)
	if _, err := b.load("def h(context):\n    for i in range(100): context.log_result('i', i)\n", "h"); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	calls := 0
	_, err := b.worker.Call(context.Background(), worker.Call{}, func(worker.Event) error { calls++; return full })
	if !errors.Is(err, full) || calls != 1 {
		t.Errorf("Call: %v after %d events", err, calls)
	}
}

func TestTerminate(t *testing.T) {
	t.Parallel()
	b := start(t)
	code := "import os, signal, time\ndef h(context):\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    pid = os.fork()\n" +
		"    if pid == 0: time.sleep(60)\n    context.log_result('child', pid)\n    time.sleep(60)\n"
	if _, err := b.load(code, "h"); err != nil {
		t.Fatal(err)
	}
	child := make(chan int64, 1)
	go b.worker.Call(context.Background(), worker.Call{}, func(e worker.Event) error {
		pid, _ := document.Int(e.Doc, "results", "child")
		child <- pid
		return nil
	})
	pid := int(<-child)
	exit, err := b.worker.Terminate(10 * time.Millisecond)
	if err != nil || exit.Signal != syscall.SIGKILL || !exit.Killed || exit.String() != "was killed by signal SIGKILL" {
		t.Errorf("Terminate = %+v (%s), %v", exit, exit, err)
	}
	waitGone(t, pid)
	if err := b.worker.Kill(); err != nil {
		t.Errorf("Kill of a process that is gone: %v", err)
	}
}

// waitGone waits until pid has ended; its new parent may take a moment to reap it.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(status), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs: %s", pid, status)
		}
	}
}

func TestLeftOverProcessesDoNotDelayTheEnd(t *testing.T) {
	t.Parallel()
	b := start(t)
	code := "import subprocess\ndef h(context):\n    return subprocess.Popen(['sleep', '60'], close_fds=False).pid\n"
	if _, err := b.load(code, "h"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.call(worker.Call{}); err != nil {
		t.Fatal(err)
	}
	pid, _ := document.Int(b.events[0].Doc, "results", "return")
	if exit, err := b.worker.Drain(context.Background()); err != nil || !exit.Success() {
		t.Errorf("Drain: %+v, %v", exit, err)
	}
	waitGone(t, int(pid))
}

func TestPipelinedCalls(t *testing.T) {
	t.Parallel()
	b := start(t)
	if _, err := b.load("def h(x, pad=''):\n    return x\n", "h"); err != nil {
		t.Fatal(err)
	}
	pad := strings.Repeat("x", 20_000)
	var group sync.WaitGroup
	for i := range 500 {
		group.Go(func() {
			var got int64 = -1
			answer, err := b.worker.Call(context.Background(), worker.Call{Iter: i + 1, Parameters: document.Object{"x": i, "pad": pad}},
				func(e worker.Event) error {
					got, _ = document.Int(e.Doc, "results", "return")
					if e.Iter != i+1 {
						return fmt.Errorf("iteration %d in call %d", e.Iter, i+1)
					}
					return nil
				})
			if err != nil || !answer.Succeeded() || got != int64(i) {
				t.Errorf("call %d = %d, %+v, %v", i, got, answer, err)
			}
		})
	}
	group.Wait()
}

func TestUnpackConcurrently(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "runtime")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			path, err := worker.Unpack(dir)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(path, "millrace", "_worker.py")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestStartCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p, err := worker.StartCommand(context.Background(), worker.Command{
		Argv: []string{"/bin/sh", "-c", `echo "$A $(pwd)"; cat; exit 5`}, Env: []string{"A=b", "PATH=/usr/bin:/bin"}, Dir: dir, Stdout: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	exit := p.Wait()
	data, _ := os.ReadFile(out.Name())
	if exit.Code != 5 || exit.String() != "exited with status 5" || exit.MaxRSS == 0 || string(data) != "b "+dir+"\n" {
		t.Errorf("exit = %+v, output %q", exit, data)
	}
	for _, c := range []worker.Command{{}, {Argv: []string{filepath.Join(dir, "out")}}, {Argv: []string{"/bin/true"}, Dir: "/no/such"}} {
		if _, err := worker.StartCommand(context.Background(), c); err == nil {
			t.Errorf("StartCommand(%v) succeeded", c.Argv)
		}
	}
}

// TestDiesWithParent starts this test binary as a host and kills that.
func TestDiesWithParent(t *testing.T) {
	if os.Getenv("MILLRACE_TEST_HOST") != "" {
		b := start(t)
		if _, err := b.load(sleeper, "h"); err != nil {
			t.Fatal(err)
		}
		emit, running := begun()
		go b.worker.Call(context.Background(), worker.Call{}, emit)
		<-running
		fmt.Printf("worker %d\n", b.worker.PID())
		select {}
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiesWithParent$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "MILLRACE_TEST_HOST=1")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	var pid int
	scanner := bufio.NewScanner(stdout)
	for scanner.Scan() {
		if _, err := fmt.Sscanf(scanner.Text(), "worker %d", &pid); err == nil {
			break
		}
	}
	if pid == 0 {
		t.Fatal("the host did not start a worker")
	}
	cmd.Process.Kill()
	cmd.Wait()
	waitGone(t, pid)
}
