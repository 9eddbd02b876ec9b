package template_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/template"
	"github.com/millrace/millrace/internal/worker"
)

// fixture is a pool and what its templates are made of.
type fixture struct {
	t    *testing.T
	pool *template.Pool
	spec template.Spec
}

func open(t *testing.T, options template.Options) *fixture {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 in the PATH")
	}
	runtime, err := worker.Unpack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if options.Dir == "" {
		options.Dir = filepath.Join(t.TempDir(), "templates")
	}
	options.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	pool, err := template.New(options)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, pool: pool, spec: template.Spec{
		Interpreter: python, RuntimeDir: runtime, Env: []string{"PATH=" + os.Getenv("PATH"), "PYTHONDONTWRITEBYTECODE=1"},
	}}
	t.Cleanup(f.close)
	return f
}

// close closes the pool and demands that nothing is left.
func (f *fixture) close() {
	var pids []int
	for _, info := range f.pool.List() {
		if info.PID != 0 {
			pids = append(pids, info.PID)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := f.pool.Close(ctx); err != nil || ctx.Err() != nil {
		f.t.Errorf("Close = %v, %v", err, ctx.Err())
	}
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			f.t.Errorf("template %d is left", pid)
		}
	}
}

func (f *fixture) importing(modules ...string) template.Spec {
	spec := f.spec
	spec.Modules = modules
	return spec
}

func (f *fixture) ready(spec template.Spec) string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	socket, err := f.pool.Ready(ctx, spec)
	if err != nil {
		f.t.Fatal(err)
	}
	return socket
}

// pid is the process of the only template that imports so many modules.
func (f *fixture) pid(modules int) int {
	f.t.Helper()
	for _, info := range f.pool.List() {
		if info.Modules == modules && info.PID != 0 {
			return info.PID
		}
	}
	f.t.Fatalf("no template with %d modules is ready: %+v", modules, f.pool.List())
	return 0
}

// fork starts a worker from a socket and returns it with the process id of its
// parent.
func (f *fixture) fork(socket string, env ...string) (*worker.Worker, int) {
	f.t.Helper()
	w, err := worker.Start(context.Background(), worker.Spec{
		Interpreter: f.spec.Interpreter, RuntimeDir: f.spec.RuntimeDir, Env: append(env, f.spec.Env...), Template: socket,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = w.Kill(); w.Wait() })
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.PID()))
	if err != nil {
		f.t.Fatal(err)
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	parent, _ := strconv.Atoi(fields[1])
	return w, parent
}

func (f *fixture) drain(w *worker.Worker) {
	f.t.Helper()
	if exit, err := w.Drain(context.Background()); err != nil || !exit.Success() {
		f.t.Errorf("Drain = %v, %v", exit, err)
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 seconds: %s", what)
		}
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	f := open(t, template.Options{})
	json := f.importing("json")
	if socket, reason := f.pool.Socket(json); socket != "" || reason != "its template is being started" {
		t.Errorf("Socket = %q, %q", socket, reason)
	}
	socket := f.ready(json)
	if got, reason := f.pool.Socket(json); got != socket || reason != "" {
		t.Errorf("Socket = %q, %q, want %q", got, reason, socket)
	}
	if info, err := os.Stat(filepath.Dir(socket)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder of the sockets: %v, %v", info.Mode(), err)
	}
	w, parent := f.fork(socket)
	if want := f.pid(1); parent != want {
		t.Errorf("the worker's parent is %d, not the template %d", parent, want)
	}
	f.drain(w)
	// One that has imported a part serves until the right one is ready; one that has
	// imported more does not.
	both := f.importing("json", "csv")
	if got, reason := f.pool.Socket(both); got != socket {
		t.Errorf("Socket = %q, %q, want that of the smaller template", got, reason)
	}
	larger := f.ready(both)
	if larger == socket {
		t.Error("two sets of modules are one template")
	}
	if got, _ := f.pool.Socket(both); got != larger {
		t.Errorf("Socket = %q, want %q", got, larger)
	}
	if got, _ := f.pool.Socket(f.importing("csv")); got != "" {
		t.Errorf("Socket = %q of a template that has imported more", got)
	}
}

// TestPoolEnds: a template that is killed is noticed, and replaced after a pause.
func TestPoolEnds(t *testing.T) {
	t.Parallel()
	f := open(t, template.Options{})
	spec := f.importing("json")
	first := f.ready(spec)
	pid := f.pid(1)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Who asks sooner may find its socket closed, which makes the pool replace it at once.
	eventually(t, "the end is noticed", func() bool {
		return slices.ContainsFunc(f.pool.List(), func(info template.Info) bool { return info.Reason == "its template ended: signal: killed" })
	})
	if socket, reason := f.pool.Socket(spec); socket != "" || reason != "its template ended: signal: killed" {
		t.Errorf("Socket = %q, %q before the pause is over", socket, reason)
	}
	if _, err := os.Stat(first); err == nil {
		t.Errorf("%s is left", first)
	}
	w, parent := f.fork(first) // who had asked before
	if parent != os.Getpid() {
		t.Errorf("the worker's parent is %d", parent)
	}
	f.drain(w)
	eventually(t, "another one is ready", func() bool { socket, _ := f.pool.Socket(spec); return socket != "" })
	if f.pid(1) == pid {
		t.Error("the number of the killed process is listed")
	}
}

// TestPoolOutdated: what is installed later is seen by the next worker.
func TestPoolOutdated(t *testing.T) {
	t.Parallel()
	f := open(t, template.Options{})
	dir := t.TempDir()
	f.spec.Env = append(f.spec.Env, "PYTHONPATH="+dir)
	spec := f.importing("json")
	socket := f.ready(spec)
	if err := os.WriteFile(filepath.Join(dir, "later.py"), []byte("x = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := f.pid(1)
	w, parent := f.fork(socket)
	if parent == pid {
		t.Error("forked from a template that does not know what is installed")
	}
	f.drain(w)
	eventually(t, "it has gone", func() bool { return syscall.Kill(pid, 0) != nil })
	w, parent = f.fork(f.ready(spec))
	if parent != f.pid(1) {
		t.Errorf("the parent is %d", parent)
	}
	f.drain(w)
}

func TestPoolReasons(t *testing.T) {
	t.Parallel()
	f := open(t, template.Options{MaxMemory: 1 << 40})
	dir := t.TempDir()
	for name, code := range map[string]string{
		"threaded":  "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
		"talkative": "print('hello')\n",
		"deadly":    "import os\nos.write(2, b'first\\nlast words\\n')\nos.abort()\n",
		"wrong":     "1 / 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".py"), []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.spec.Env = append(f.spec.Env, "PYTHONPATH="+dir)
	for name, want := range map[string]string{
		"threaded":  "the imports left 1 thread",
		"talkative": "the imports wrote 6 bytes, which belong into the log of each run",
		"deadly":    "its template ended before it was ready: signal: aborted: last words",
		"wrong":     "import wrong: division by zero",
	} {
		_, err := f.pool.Ready(context.Background(), f.importing(name))
		if err == nil || err.Error() != want {
			t.Errorf("%s: Ready = %v, want %q", name, err, want)
		}
		if _, reason := f.pool.Socket(f.importing(name)); reason != want {
			t.Errorf("%s: reason = %q, want %q", name, reason, want)
		}
	}
	f.spec.Interpreter = filepath.Join(dir, "python")
	if _, err := f.pool.Ready(context.Background(), f.spec); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Ready = %v", err)
	}
}

func TestPoolBounds(t *testing.T) {
	t.Parallel()
	f := open(t, template.Options{Max: 1})
	first := f.ready(f.importing("json"))
	if _, reason := f.pool.Socket(f.importing("csv")); reason != "all of the 1 templates are in use" {
		t.Errorf("reason = %q", reason)
	}
	if got, _ := f.pool.Socket(f.importing("json")); got != first {
		t.Errorf("Socket = %q, want %q", got, first)
	}
	small := open(t, template.Options{MaxMemory: 1 << 20})
	if _, err := small.pool.Ready(context.Background(), small.spec); err == nil || !strings.Contains(err.Error(), "and all together may have 1") {
		t.Errorf("Ready = %v", err)
	}
	// Each holds 32 MiB that are its own: how much of the rest is shared with
	// the templates of other tests changes while these run.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large.py"), []byte("held = b'x' * (32 << 20)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	two := open(t, template.Options{MaxMemory: 63 << 20})
	two.spec.Env = append(two.spec.Env, "PYTHONPATH="+dir)
	two.ready(two.importing("large"))
	pid := two.pid(1)
	two.ready(two.importing("large", "csv"))
	if list := two.pool.List(); len(list) != 1 || list[0].Modules != 2 {
		t.Errorf("List = %+v, want the younger template alone", list)
	}
	eventually(t, "the older one has gone", func() bool { return syscall.Kill(pid, 0) != nil })
}

// TestPoolIdle: a template that nobody asks for goes, but not before its last
// worker has.
func TestPoolIdle(t *testing.T) {
	t.Parallel()
	f := open(t, template.Options{Idle: 300 * time.Millisecond})
	socket := f.ready(f.spec)
	pid := f.pid(0)
	w, _ := f.fork(socket)
	eventually(t, "it is released", func() bool { return len(f.pool.List()) == 0 })
	eventually(t, "it listens no more", func() bool { _, err := os.Stat(socket); return err != nil })
	if syscall.Kill(pid, 0) != nil {
		t.Fatal("the template went before its worker")
	}
	f.drain(w)
	eventually(t, "it has gone", func() bool { return syscall.Kill(pid, 0) != nil })
}

// TestPoolKilled: a killed owner leaves no template, whether it was ready or still
// importing.
func TestPoolKilled(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("MILLRACE_TEST_OWNER"); dir != "" { // the owner that will be killed
		f := open(t, template.Options{Dir: filepath.Join(dir, "sockets")})
		f.ready(f.spec)
		f.spec.Env = append(f.spec.Env, "PYTHONPATH="+dir)
		f.pool.Socket(f.importing("slow"))
		fmt.Printf("ready %d\n", f.pid(0))
		time.Sleep(time.Minute)
	}
	dir := t.TempDir()
	slow := "import os, time\nopen(" + strconv.Quote(dir+"/pid") + ", 'w').write('%d\\n' % os.getpid())\ntime.sleep(60)\n"
	if err := os.WriteFile(filepath.Join(dir, "slow.py"), []byte(slow), 0o600); err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(os.Args[0], "-test.run=^TestPoolKilled$")
	owner.Env = append(os.Environ(), "MILLRACE_TEST_OWNER="+dir)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var pids [2]int
	for reader := bufio.NewReader(out); pids[0] == 0; {
		line, err := reader.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Sscanf(line, "ready %d", &pids[0])
	}
	eventually(t, "the second one imports", func() bool {
		raw, _ := os.ReadFile(filepath.Join(dir, "pid"))
		_, err := fmt.Sscanf(string(raw), "%d\n", &pids[1])
		return err == nil
	})
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("template %d has gone", pid), func() bool { return syscall.Kill(pid, 0) != nil })
	}
}

// TestTag: what a forked worker forks in turn can be found by the execution that
// its environment names, as if it had been executed with it.
func TestTag(t *testing.T) {
	t.Parallel()
	f := open(t, template.Options{})
	w, _ := f.fork(f.ready(f.spec), "MILLRACE_EXECUTION=abc-1", "MILLRACE_REVISION=7")
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.PID()))
	if err != nil || !strings.Contains("\x00"+string(raw), "\x00MILLRACE_EXECUTION=abc-1\x00MILLRACE_REVISION=7\x00") {
		t.Errorf("environ = %q, %v", raw, err)
	}
	f.drain(w)
}

// TestAsk: another process asks by a socket, also where the folder's path is longer
// than that of a socket may be.
func TestAsk(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"templates", strings.Repeat("long/", 30)} {
		folder := filepath.Join(t.TempDir(), dir)
		client := template.Client{Dir: folder}
		if _, reason := client.Socket(t.Context(), template.Spec{}); !strings.HasPrefix(reason, "the owner of templates cannot be asked: ") {
			t.Errorf("reason = %q", reason)
		}
		f := open(t, template.Options{Dir: folder})
		if err := f.pool.Listen(); err != nil {
			t.Fatal(err)
		}
		spec := f.importing("json")
		if socket, reason := client.Socket(t.Context(), spec); socket != "" || reason != "its template is being started" {
			t.Errorf("Socket = %q, %q", socket, reason)
		}
		want := f.ready(spec)
		socket, reason := client.Socket(t.Context(), spec)
		if socket != want || reason != "" {
			t.Errorf("Socket = %q, %q, want %q", socket, reason, want)
		}
		w, parent := f.fork(socket)
		if parent != f.pid(1) {
			t.Errorf("the parent is %d", parent)
		}
		f.drain(w)
	}
}

func TestEnviron(t *testing.T) {
	t.Parallel()
	base := []string{"PATH=/bin", "HOME=/home", "MILLRACE_EXECUTION=x", "PYTHONHASHSEED=1"}
	env := []string{"PYTHONHASHSEED=2", "PYTHONPATH=/p", "MINE=1", "VIRTUAL_ENV=/v", "PATH=/v/bin:/bin"}
	if got, want := strings.Join(template.Environ(base, env, "/v"), " "), "HOME=/home PATH=/v/bin:/bin PYTHONHASHSEED=2 VIRTUAL_ENV=/v"; got != want {
		t.Errorf("Environ = %s, want %s", got, want)
	}
	if got, want := strings.Join(template.Environ(base, env, ""), " "), "HOME=/home PATH=/bin PYTHONHASHSEED=2"; got != want {
		t.Errorf("Environ = %s, want %s", got, want)
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	imports := template.Imports{Dir: filepath.Join(t.TempDir(), "imports")}
	file := imports.File("sha256:1", "/usr/bin/python3")
	if _, ok := template.Learnt(file); ok {
		t.Error("modules of a file that does not exist")
	}
	if err := template.Learn(file, []string{"json", "numpy.linalg"}); err != nil {
		t.Fatal(err)
	}
	if got, ok := template.Learnt(file); !ok || len(got) != 2 || got[1] != "numpy.linalg" {
		t.Errorf("Learnt = %v, %v", got, ok)
	}
	if imports.File("sha256:1", "/usr/bin/python4") == file || imports.File("sha256:2", "/usr/bin/python3") == file {
		t.Error("one file for two")
	}
	if err := imports.Prune(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, ok := template.Learnt(file); ok {
		t.Error("the file is not pruned")
	}
}
