package limits

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// create makes a group of this test, which is emptied and removed at its end.
func create(t *testing.T, l Limits) *Group {
	t.Helper()
	g, err := Create(fmt.Sprintf("test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := errors.Join(g.Kill(ctx), g.Close()); err != nil {
			t.Error(err)
		}
	})
	return g
}

// needCgroup skips where this user has no control groups.
func needCgroup(t *testing.T, g *Group) {
	t.Helper()
	if g.cgroup != nil && len(g.applied.Unenforced) == 0 && g.rlimits == (Limits{}) {
		return
	}
	t.Skipf("this user is given no control groups here: %+v", g.Applied())
}

func python(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("these tests need python3: %v", err)
	}
	// What is found may be a script that starts the interpreter, with children of its own.
	out, err := exec.Command(path, "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatalf("ask %s for its executable: %v", path, err)
	}
	return strings.TrimSpace(string(out))
}

// start runs a command inside g; its output can be read line by line.
func start(t *testing.T, g *Group, argv ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	argv = g.Wrap(argv)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

func gone(t *testing.T, pid int) bool {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(data), ") ")
	return strings.HasPrefix(state, "Z")
}

func TestMemory(t *testing.T) {
	t.Parallel()
	g := create(t, Limits{Memory: 64 << 20})
	needCgroup(t, g)
	if a := g.Applied(); a.Memory != 64<<20 || !strings.HasPrefix(a.Mechanism, "cgroup v") {
		t.Errorf("applied %+v", a)
	}
	cmd, out := start(t, g, python(t), "-c", "print(len(bytearray(20 << 20)), flush=True)\nb = b'x' * (300 << 20)\nprint('too much', len(b))")
	if !out.Scan() || out.Text() != strconv.Itoa(20<<20) {
		t.Errorf("within the limit: %q", out.Text())
	}
	if g.OOM() {
		t.Error("killed for memory before it used too much")
	}
	if out.Scan() {
		t.Errorf("over the limit: %q", out.Text())
	}
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
	if !g.OOM() {
		t.Error("not seen as killed for memory")
	}
	if err := errors.Join(g.Kill(context.Background()), g.Close()); err != nil {
		t.Fatal(err)
	}
	if !g.OOM() {
		t.Error("forgotten once it is closed")
	}
}

// TestAdd: a process that waits is limited before it goes on.
func TestAdd(t *testing.T) {
	t.Parallel()
	g := create(t, Limits{Memory: 64 << 20, Pids: 50, CPU: 0.5})
	needCgroup(t, g)
	cmd := exec.Command(python(t), "-c", "input()\nb = b'x' * (300 << 20)")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() //nolint:errcheck // it has ended unless the test failed
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Members(); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("members %v, %v", pids, err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !g.OOM() {
		t.Errorf("it ended with %v, killed for memory: %v", err, g.OOM())
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Errorf("adding a process that has ended: %v", err)
	}
	if err := g.Add(1); err == nil {
		t.Error("process 1 was added")
	}
}

const forkBomb = `import os, sys, time
n = 0
while True:
    try:
        os.fork()
    except OSError:
        if n == 0:
            os.write(1, b"full\n")
        n += 1
        time.sleep(0.001)
`

func TestForkBomb(t *testing.T) {
	t.Parallel()
	g := create(t, Limits{Pids: 20})
	needCgroup(t, g)
	_, out := start(t, g, python(t), "-c", forkBomb)
	if !out.Scan() || out.Text() != "full" {
		t.Fatalf("it says %q", out.Text())
	}
	pids, err := g.Members()
	if err != nil || len(pids) < 2 || len(pids) > 20 {
		t.Errorf("%d members, %v", len(pids), err)
	}
	if err := g.Kill(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if !gone(t, pid) {
			t.Errorf("process %d is alive", pid)
		}
	}
}

const daemon = `import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.close(1)
        time.sleep(600)
    os._exit(0)
os.wait()
`

// TestDaemon: a process that left its session is ended all the same, by another
// process that only knows the path.
func TestDaemon(t *testing.T) {
	t.Parallel()
	g := create(t, Limits{})
	needCgroup(t, g)
	cmd, out := start(t, g, python(t), "-c", daemon)
	if !out.Scan() {
		t.Fatal("it says nothing")
	}
	pid, err := strconv.Atoi(out.Text())
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if gone(t, pid) {
		t.Fatal("the daemon ended by itself")
	}
	if err := g.Close(); err == nil {
		t.Error("closed with a process inside")
	}
	opened, err := Open(g.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(opened.Kill(context.Background()), opened.Close(), opened.Close()); err != nil {
		t.Fatal(err)
	}
	if !gone(t, pid) {
		t.Error("the daemon is alive")
	}
	for _, folder := range g.cgroup.folders() {
		if _, err := os.Stat(folder); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", folder, err)
		}
	}
	if _, err := Open(g.Path()); !fault.Is(err, fault.CodeNotFound) {
		t.Errorf("opening what is gone: %v", err)
	}
}

func TestCPU(t *testing.T) {
	t.Parallel()
	g := create(t, Limits{CPU: 0.2})
	needCgroup(t, g)
	cmd, _ := start(t, g, python(t), "-c", "import time\nwhile time.process_time() < 0.3: pass")
	began := time.Now()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	// 0.3 s of work on a fifth of a core: more than a second; half of it allows
	// for the quota of the period it starts in.
	if took := time.Since(began); took < 600*time.Millisecond {
		t.Errorf("it took %s", took)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	g := create(t, Limits{Memory: 256 << 20, Pids: 100, CPU: 1})
	run := func(argv ...string) (string, int) {
		t.Helper()
		argv = g.Wrap(argv)
		cmd := exec.Command(argv[0], argv[1:]...)
		out, err := cmd.Output()
		if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := run("printf", "%s|", "a b", "", "$HOME", "'\"\\", "-n"); out != `a b||$HOME|'"\|-n|` || code != 0 {
		t.Errorf("arguments arrive as %q, status %d", out, code)
	}
	if _, code := run("sh", "-c", "exit 7"); code != 7 {
		t.Errorf("status %d", code)
	}
	if _, code := run("/no/such/program"); code != 127 {
		t.Errorf("status %d of a program that is not there", code)
	}
	out, _ := run("sh", "-c", "echo $$; cat /proc/self/cgroup")
	if g.cgroup != nil && strings.Count(out, groupPrefix) != len(g.cgroup.folders()) {
		t.Errorf("it is in %s, not in %v", out, g.cgroup.folders())
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if g.cgroup != nil {
		if _, code := run("true"); code != 125 {
			t.Errorf("status %d in a group that is gone", code)
		}
	}
}

// TestRlimits: the means of last resort, as where no control group can be made.
func TestRlimits(t *testing.T) {
	t.Parallel()
	if !rlimitMemory {
		t.Skip("this system cannot limit a running process")
	}
	want := Limits{Memory: 200 << 20, CPU: 1}
	g := &Group{rlimits: rlimitsFor(want, Limits{})}
	g.applied = describe(nil, want, Limits{}, g.rlimits)
	if a := g.Applied(); a.Mechanism != MechanismRlimit || a.Memory != want.Memory || strings.Join(a.Unenforced, ",") != "cpu" {
		t.Errorf("applied %+v", a)
	}
	const code = "input()\ntry:\n    b = b'x' * (400 << 20)\nexcept MemoryError:\n    print('refused', flush=True)\ninput()"
	for _, how := range []string{"added", "wrapped"} {
		argv := []string{python(t), "-c", code}
		if how == "wrapped" {
			argv = g.Wrap(argv)
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := g.Add(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write([]byte("go\n")); err != nil {
			t.Fatal(err)
		}
		if out := bufio.NewScanner(pipe); !out.Scan() || out.Text() != "refused" {
			t.Errorf("%s: it says %q", how, out.Text())
		}
		if err := g.Kill(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("%s: it was not killed", how)
		}
	}
	if g.OOM() || g.Path() != "" {
		t.Error("there is no group to ask")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

const manyTagged = `import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for i in range(4):
    if os.fork() == 0:
        os.setsid()
        for j in range(3):
            if os.fork() == 0:
                break
        break
os.write(1, b"x")
while True:
    time.sleep(0.01)
    if os.getpid() % 3 == 0 and time.monotonic() - float(sys.argv[1]) < 2:
        if os.fork() == 0:
            time.sleep(600)
`

func TestKillTagged(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("processes can be looked into on Linux only")
	}
	g := create(t, Limits{Pids: 200}) // should the test fail, it takes all with it
	value := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	argv := g.Wrap([]string{python(t), "-c", "import sys,time\nsys.argv=['', str(time.monotonic())]\n" + manyTagged})
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LIMITS_TEST="+value)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "600")
	other.Env = append(os.Environ(), "LIMITS_TEST="+value+"0")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	ready := make([]byte, 17) // one, four, and twelve
	for n := 0; n < len(ready); {
		read, err := out.Read(ready[n:])
		if err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		n += read
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	n, err := KillTagged(ctx, "LIMITS_TEST", value)
	if err != nil || n < 17 {
		t.Errorf("killed %d, %v", n, err)
	}
	_ = cmd.Wait()
	if left := tagged([]byte("LIMITS_TEST=" + value)); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
	if gone(t, other.Process.Pid) {
		t.Error("another value was killed too")
	}
	if n, err := KillTagged(ctx, "LIMITS_TEST", value); n != 0 || err != nil {
		t.Errorf("second time: %d, %v", n, err)
	}
	if _, err := KillTagged(ctx, "A=B", "c"); err == nil {
		t.Error("a name with = was accepted")
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	for _, l := range []Limits{{CPU: -1}, {Memory: -1}, {Pids: -1}, {Memory: 1000}} {
		if _, err := Create("x", l); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	for _, id := range []string{"../../etc", "a b", "", strings.Repeat("x", 500)} {
		if name := folderName(id); filepath.Base(name) != name || !strings.HasPrefix(name, groupPrefix) || len(name) > 255 {
			t.Errorf("%q is named %q", id, name)
		}
	}
	var none *Group
	if err := errors.Join(none.Add(5), none.Kill(context.Background()), none.Close()); err != nil || none.OOM() || none.Path() != "" || none.Applied().Mechanism != "none" {
		t.Error("a nil group does something")
	}
	if got := none.Wrap([]string{"a"}); len(got) != 1 {
		t.Errorf("wrapped as %q", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), groupPrefix+"x")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "v2:", "v3:/a", "v1:pids", "v2:" + dir, "v2:/sys/fs/cgroup", "v2:/sys/fs/cgroup/../millrace-x", "v1:pids=/tmp", "v2:relative/millrace-x"} {
		if _, err := Open(path); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := Open("v2:/nowhere/millrace-x"); !fault.Is(err, fault.CodeNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestMechanism(t *testing.T) {
	t.Parallel()
	a, err := Mechanism()
	if err != nil || a.Mechanism == "" {
		t.Errorf("got %+v, %v", a, err)
	}
	t.Logf("%+v", a)
}

func BenchmarkCreate(b *testing.B) {
	for b.Loop() {
		g, err := Create(fmt.Sprintf("bench-%d", os.Getpid()), Limits{})
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(g.Kill(context.Background()), g.Close()); err != nil {
			b.Fatal(err)
		}
	}
}
