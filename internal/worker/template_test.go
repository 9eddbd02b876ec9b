package worker_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/worker"
)

// template starts a template that imports modules; verdict is its first line.
func template(t *testing.T, python string, modules ...string) (socket string, cmd *exec.Cmd, verdict string) {
	t.Helper()
	base, err := unpackDir()
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := worker.Unpack(base)
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(t.TempDir(), "t.sock")
	cmd, verdictFile := templateCommand(t, python, runtime, socket, modules)
	cmd.Env = []string{tagRoom, "PATH=" + os.Getenv("PATH"), "PYTHONDONTWRITEBYTECODE=1", "INHERITED=1"}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // it retires
		timer := time.AfterFunc(5*time.Second, func() { t.Error("the template does not retire"); cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
	})
	closeAll(cmd.ExtraFiles)
	line, err := bufio.NewReader(verdictFile).ReadString('\n')
	if err != nil {
		said, _ := os.ReadFile(cmd.Stderr.(*os.File).Name())
		t.Fatalf("the template said nothing: %v\n%s", err, said)
	}
	return socket, cmd, strings.TrimSpace(line)
}

var tagRoom = "MILLRACE_TAG=" + strings.Repeat("-", 256)

// templateCommand is the command of a template, with its descriptors 1 to 4, and
// where its verdict can be read.
func templateCommand(t *testing.T, python, runtime, socket string, modules []string) (*exec.Cmd, *os.File) {
	t.Helper()
	dir := t.TempDir()
	list := filepath.Join(dir, "modules")
	if err := os.WriteFile(list, []byte(strings.Join(modules, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	names, err := os.Open(list)
	if err != nil {
		t.Fatal(err)
	}
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll([]*os.File{names, said, ours, theirs}) })
	// A usual limit: the template needs more.
	cmd := exec.Command("/bin/sh", "-c", `ulimit -Sn 1024; exec "$0" "$@"`, python, "-S", filepath.Join(runtime, "boot.py"), "template", socket)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.ExtraFiles = []*os.File{theirs, names}
	return cmd, ours
}

func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// startFrom is start with a template.
func startFrom(t *testing.T, python, socket string, env ...string) *bench {
	t.Helper()
	base, _ := unpackDir()
	runtime, err := worker.Unpack(base)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: t.TempDir()}
	if b.log, err = os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.log.Close() })
	b.worker, err = worker.Start(context.Background(), worker.Spec{
		Interpreter: python, RuntimeDir: runtime, Template: socket, Dir: b.dir, Stdout: b.log, Stderr: b.log,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Env:    append([]string{"PATH=" + os.Getenv("PATH"), "PYTHONDONTWRITEBYTECODE=1"}, env...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.worker.Kill()
		b.worker.Wait()
		if t.Failed() {
			t.Logf("log: %s", b.logged())
		}
	})
	return b
}

// parent is the parent process of pid, 0 when there is no such process.
func parent(pid int) int {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	python := interpreter(t)
	socket, cmd, verdict := template(t, python, "json", "random", "multiprocessing")
	if verdict != "ready" {
		t.Fatalf("verdict = %q", verdict)
	}
	const code = `import os, sys, random, multiprocessing
def train(context):
    print(os.environ.get("INHERITED"), os.environ.get("MINE"), os.getcwd() == sys.path[0], len(os.listdir("/proc/self/task")))
    return [random.random(), multiprocessing.current_process().authkey.hex()]
def leave(context):
    os._exit(7)
`
	seen := map[string]bool{}
	for i := range 3 {
		b := startFrom(t, python, socket, "MINE=value"+strconv.Itoa(i))
		if got := parent(b.worker.PID()); got != cmd.Process.Pid {
			t.Fatalf("the parent of the worker is %d, not the template %d", got, cmd.Process.Pid)
		}
		if _, err := b.load(code, "train"); err != nil {
			t.Fatal(err)
		}
		if answer, err := b.call(worker.Call{}); err != nil || !answer.Succeeded() {
			t.Fatalf("Call = %+v, %v\n%s", answer, err, b.logged())
		}
		if want := "None value" + strconv.Itoa(i) + " True 1\n"; b.logged() != want {
			t.Errorf("log = %q, want %q", b.logged(), want)
		}
		for _, value := range b.events[0].Doc["results"].(map[string]any)["return"].([]any) {
			text := stringOf(value)
			if seen[text] {
				t.Errorf("two workers of a template share %s", text)
			}
			seen[text] = true
		}
		if exit, err := b.worker.Drain(context.Background()); err != nil || !exit.Success() || exit.MaxRSS == 0 {
			t.Errorf("Drain = %+v, %v", exit, err)
		}
	}
	b := startFrom(t, python, socket)
	if _, err := b.load(code, "leave"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.call(worker.Call{}); err == nil || !strings.Contains(err.Error(), "exited with status 7") {
		t.Errorf("Call = %v", err)
	}
	b = startFrom(t, python, socket)
	if err := b.worker.Signal(syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	if exit := b.worker.Wait(); exit.SignalName() != "SIGSEGV" {
		t.Errorf("exit = %+v", exit)
	}
}

// TestTemplateFallback: each reason for which a process cannot be forked ends in a
// fresh one that works.
func TestTemplateFallback(t *testing.T) {
	t.Parallel()
	python := interpreter(t)
	socket, cmd, verdict := template(t, python, "json", "logging")
	if verdict != "ready" {
		t.Fatalf("verdict = %q", verdict)
	}
	works := func(b *bench, forked bool) {
		t.Helper()
		if got := parent(b.worker.PID()) == cmd.Process.Pid; got != forked {
			t.Errorf("forked = %v, want %v", got, forked)
		}
		if _, err := b.load("import logging\ndef train(context):\n    return getattr(logging, 'mine', 0)\n", "train"); err != nil {
			t.Fatal(err)
		}
		if answer, err := b.call(worker.Call{}); err != nil || !answer.Succeeded() {
			t.Fatalf("Call = %+v, %v\n%s", answer, err, b.logged())
		}
	}
	works(startFrom(t, python, socket), true)
	works(startFrom(t, python, socket, "PYTHONHASHSEED=5"), false)
	works(startFrom(t, python, socket+"no"), false)
	// A module of the function in the place of one that was imported: the forked
	// process starts over, under the same number, before it loads anything.
	b := startFrom(t, python, socket)
	b.file("logging.py", "mine = 1\n")
	works(b, true)
	if got := stringOf(b.events[0].Doc["results"].(map[string]any)["return"]); got != "1" {
		t.Errorf("the handler saw %s of its own module", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	works(startFrom(t, python, socket), false)
	for _, module := range []struct{ code, want string }{
		{"import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n", "left 1 thread"},
		{"import socket\nkept = socket.socketpair()\n", "open"},
		{"print('hello')\n", "log"},
		{"import mmap\nkept = mmap.mmap(-1, 4096)\n", "share"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "unfit.py"), []byte(module.code), 0o600); err != nil {
			t.Fatal(err)
		}
		if said := verdictOf(t, python, dir, "unfit"); !strings.HasPrefix(said, "unfit: ") || !strings.Contains(said, module.want) {
			t.Errorf("verdict = %q, want one with %q", said, module.want)
		}
	}
}

func verdictOf(t *testing.T, python, path, module string) string {
	t.Helper()
	base, _ := unpackDir()
	runtime, err := worker.Unpack(base)
	if err != nil {
		t.Fatal(err)
	}
	cmd, verdict := templateCommand(t, python, runtime, filepath.Join(t.TempDir(), "t.sock"), []string{module})
	cmd.Env = []string{tagRoom, "PYTHONPATH=" + path, "PYTHONDONTWRITEBYTECODE=1"}
	stdin, err := cmd.StdinPipe() // closed by Wait
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	closeAll(cmd.ExtraFiles)
	line, _ := bufio.NewReader(verdict).ReadString('\n')
	stdin.Close()
	_ = cmd.Wait()
	return line
}

func stringOf(value any) string { return strings.TrimSpace(fmt.Sprint(value)) }

// TestTemplateDeaths: a killed host takes its forked workers along, with what they
// forked in their group; a killed template takes nobody along.
func TestTemplateDeaths(t *testing.T) {
	t.Parallel()
	python := interpreter(t)
	if socket := os.Getenv("MILLRACE_TEST_TEMPLATE"); socket != "" { // the host that will be killed
		b := startFrom(t, python, socket)
		if _, err := b.load("import os, time\npid = os.fork()\nif not pid:\n    time.sleep(600)\ndef train(context):\n    return pid\n", "train"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.call(worker.Call{}); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pids %d %s\n", b.worker.PID(), stringOf(b.events[0].Doc["results"].(map[string]any)["return"]))
		time.Sleep(time.Minute)
	}
	socket, cmd, verdict := template(t, python)
	if verdict != "ready" {
		t.Fatalf("verdict = %q", verdict)
	}
	host := exec.Command(os.Args[0], "-test.run=^TestTemplateDeaths$")
	host.Env = append(os.Environ(), "MILLRACE_TEST_TEMPLATE="+socket)
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	var pids [2]int
	reader := bufio.NewReader(out)
	for pids[0] == 0 {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Sscanf(line, "pids %d %d", &pids[0], &pids[1])
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	for _, pid := range pids {
		for deadline := time.Now().Add(5 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d outlives its host", pid)
			}
		}
	}
	b := startFrom(t, python, socket)
	if _, err := b.load("def train(context):\n    return 1\n", "train"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if answer, err := b.call(worker.Call{}); err != nil || !answer.Succeeded() {
		t.Fatalf("Call = %+v, %v", answer, err)
	}
	if exit, err := b.worker.Drain(context.Background()); err != nil || !exit.Unknown {
		t.Errorf("Drain = %+v, %v", exit, err)
	}
}

// TestTemplateForksMany looks for what many forks could leave in the template.
func TestTemplateForksMany(t *testing.T) {
	t.Parallel()
	python := interpreter(t)
	socket, cmd, verdict := template(t, python)
	if verdict != "ready" {
		t.Fatalf("verdict = %q", verdict)
	}
	proc := "/proc/" + strconv.Itoa(cmd.Process.Pid)
	before, _ := os.ReadDir(proc + "/fd")
	var kept []*worker.Worker // so that descriptors get high numbers
	defer func() {
		for _, w := range kept {
			w.Kill()
			w.Wait()
		}
	}()
	for range 600 {
		b := startFrom(t, python, socket)
		if got := parent(b.worker.PID()); got != cmd.Process.Pid {
			t.Fatalf("the parent of worker %d is %d, not the template", len(kept), got)
		}
		kept = append(kept, b.worker)
		b.log.Close()
	}
	last := kept[len(kept)-1]
	if _, err := last.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", last.PID())); err != nil || !strings.Contains(string(limits), "Max open files            1024 ") {
		t.Errorf("a worker has not the limits that its template began with: %v\n%s", err, limits)
	}
	for _, w := range kept {
		w.Kill()
		w.Wait()
	}
	kept = nil
	for range 100 {
		b := startFrom(t, python, socket)
		if got := parent(b.worker.PID()); got != cmd.Process.Pid {
			t.Fatalf("the parent of the worker is %d, not the template", got)
		}
		if _, err := b.worker.Drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		b.log.Close()
	}
	children, err := os.ReadFile(proc + "/task/" + strconv.Itoa(cmd.Process.Pid) + "/children")
	if err != nil || len(children) > 0 {
		t.Errorf("children = %q, %v", children, err)
	}
	// It says how a worker ended before it closes what belonged to it, and that it is
	// ready before it closes where it says so.
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
		after, _ := os.ReadDir(proc + "/fd")
		if len(after) <= len(before) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors before, %d after", len(before), len(after))
		}
	}
}
