package env

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// builderVar makes the test binary build an environment and say so; it is how
// tests have other processes.
const builderVar = "ENV_TEST_BUILDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(builderVar); dir != "" {
		os.Exit(builderMain(dir))
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} { // the tests' own index is on this machine
		if err := os.Setenv(name, "127.0.0.1,localhost,"+os.Getenv(name)); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// builderMain reads requirement lines from standard input and prints each phase
// of the build, then the environment's path.
func builderMain(dir string) int {
	var lines []string
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		lines = append(lines, in.Text())
	}
	err := func() error {
		req, err := ParseRequirements(lines, "")
		if err != nil {
			return err
		}
		interp, err := NewInterpreters(InterpreterConfig{}).Default(context.Background())
		if err != nil {
			return err
		}
		m, err := New(Config{Dir: filepath.Join(dir, "envs"), CacheDir: filepath.Join(dir, "cache")})
		if err != nil {
			return err
		}
		env, err := m.Ensure(context.Background(), Request{Interpreter: interp, Requirements: req}, func(p Progress) {
			fmt.Println(p.Phase)
		})
		if err != nil {
			return err
		}
		fmt.Println(env.Path)
		return nil
	}()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func startBuilder(t *testing.T, dir string, lines []string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), builderVar+"="+dir)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
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

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func newTestManager(t *testing.T, dir string) *Manager {
	t.Helper()
	m, err := New(Config{
		Dir: filepath.Join(dir, "envs"), CacheDir: filepath.Join(dir, "cache"),
		Logger: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func request(t *testing.T, lines ...string) Request {
	t.Helper()
	req, err := ParseRequirements(lines, "")
	if err != nil {
		t.Fatal(err)
	}
	return Request{Interpreter: realInterpreter(t), Requirements: req}
}

// fromIndex prepends the options that make pip ask x alone.
func fromIndex(x *packageIndex, lines ...string) []string {
	return append([]string{"--index-url " + x.URL + "/simple"}, lines...)
}

func pythonSays(t *testing.T, python, code string) string {
	t.Helper()
	out, err := exec.Command(python, "-I", "-c", code).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	x := newPackageIndex(t)
	x.add(t, "millapple", "1.0", "millpear>=2")
	x.add(t, "millpear", "2.1")
	x.add(t, "millpear", "1.0")
	m := newTestManager(t, t.TempDir())
	ctx := context.Background()

	r := request(t, fromIndex(x, "MillApple")...)
	if _, ok := m.Known(r); ok {
		t.Fatal("known before it is built")
	}
	var phases []Phase
	env, err := m.Ensure(ctx, r, func(p Progress) {
		if p.LogPath != m.LogPath(r) {
			t.Errorf("progress names the log %q", p.LogPath)
		}
		if p.Total != 0 && p.Done > p.Total {
			t.Errorf("%d of %d", p.Done, p.Total)
		}
		phases = append(phases, p.Phase)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(env.Lock) != 2 || !strings.HasPrefix(env.Lock[0], "millapple==1.0 --hash=sha256:") || !strings.HasPrefix(env.Lock[1], "millpear==2.1 --hash=sha256:") {
		t.Errorf("lock is %q", env.Lock)
	}
	if !strings.HasPrefix(env.LockDigest, "sha256:") || env.Interpreter != r.Interpreter {
		t.Errorf("got %+v", env)
	}
	if got := pythonSays(t, env.Python, "import millapple, millpear; print(millapple.version, millpear.version)"); got != "1.0 2.1" {
		t.Errorf("the environment says %q", got)
	}
	if out, err := exec.Command(filepath.Join(env.Path, "bin", "millapple-tool")).CombinedOutput(); err != nil || string(out) != "1.0\n" {
		t.Errorf("script: %v: %s", err, out)
	}
	if phases = slices.Compact(phases); phases[len(phases)-1] != PhaseInstall {
		t.Errorf("phases are %q", phases)
	}
	if log := readText(t, m.LogPath(r)); !strings.Contains(log, "Collecting millapple") || !strings.Contains(log, "ready in") {
		t.Errorf("log: %s", log)
	}

	// Two spellings that resolve to the same share the environment; the second
	// one installs nothing.
	other, err := m.Ensure(ctx, request(t, fromIndex(x, "millapple==1.*", "millpear>1")...), nil)
	if err != nil || other.Path != env.Path {
		t.Errorf("another spelling gives %s, %v; want %s", other.Path, err, env.Path)
	}
	if known, ok := m.Known(r); !ok || known.Path != env.Path || !slices.Equal(known.Lock, env.Lock) {
		t.Errorf("known is %+v, %v", known, ok)
	}

	// A new release is not taken by itself, but by Refresh.
	x.add(t, "millpear", "3.0")
	if again, err := m.Ensure(ctx, r, nil); err != nil || again.Path != env.Path {
		t.Errorf("got %s, %v", again.Path, err)
	}
	r.Refresh = true
	fresh, err := m.Ensure(ctx, r, nil)
	if err != nil || fresh.Path == env.Path || !strings.HasPrefix(fresh.Lock[1], "millpear==3.0 ") {
		t.Errorf("refreshed: %+v, %v", fresh, err)
	}
	if known, ok := m.Known(r); !ok || known.Path != fresh.Path {
		t.Errorf("after refresh known is %s", known.Path)
	}
}

func TestEnsureNothing(t *testing.T) {
	t.Parallel()
	m := newTestManager(t, t.TempDir())
	r := request(t, "# nothing")
	env, err := m.Ensure(context.Background(), r, nil)
	if err != nil || env.Path != "" || env.Python != r.Interpreter.Executable || env.LockDigest != "" {
		t.Errorf("got %+v, %v", env, err)
	}
	lease, err := Use(env.Path)
	if err != nil || lease.Close() != nil {
		t.Errorf("lease: %v", err)
	}
}

// TestEnsureTogether: a hundred callers in this process and callers in others
// make one build.
func TestEnsureTogether(t *testing.T) {
	t.Parallel()
	x := newPackageIndex(t)
	file := x.add(t, "millplum", "1.0")
	dir := t.TempDir()
	lines := fromIndex(x, "millplum")
	waiting, release := x.stall()
	defer release()
	m := newTestManager(t, dir)
	r := request(t, lines...)
	const callers = 100
	paths := make([]string, callers)
	var wg, joined sync.WaitGroup
	joined.Add(callers)
	for i := range callers {
		wg.Go(func() {
			once := sync.OnceFunc(joined.Done)
			env, err := m.Ensure(context.Background(), r, func(Progress) { once() })
			if err != nil {
				t.Error(err)
				once()
			}
			paths[i] = env.Path
		})
	}
	<-waiting
	joined.Wait()
	var others []*bufio.Scanner
	for range 3 {
		_, out := startBuilder(t, dir, lines)
		for out.Scan() && out.Text() != string(PhaseWaiting) { // it met the lock
		}
		others = append(others, out)
	}
	if log := readText(t, m.LogPath(r)); !strings.Contains(log, "Collecting millplum") {
		t.Errorf("the log cannot be read while it builds: %q", log)
	}
	release()
	wg.Wait()
	for _, out := range others {
		last := ""
		for out.Scan() {
			last = out.Text()
		}
		paths = append(paths, last)
	}
	if paths = slices.Compact(paths); len(paths) != 1 || paths[0] == "" {
		t.Fatalf("they got %q", paths)
	}
	// One build pulls the wheel at most twice: to resolve, and to install.
	if n := x.downloads(file); n > 2 {
		t.Errorf("%d downloads", n)
	}
	if log := readText(t, m.LogPath(r)); strings.Count(log, "Successfully installed") != 1 {
		t.Errorf("log: %s", log)
	}
}

// TestEnsureKilled: the builder is killed in the middle; the next one recovers.
func TestEnsureKilled(t *testing.T) {
	t.Parallel()
	x := newPackageIndex(t)
	x.add(t, "millkiwi", "1.0")
	for _, c := range []struct {
		name  string
		phase Phase
	}{{"resolving", PhaseResolve}, {"installing", PhaseDownload}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			lines := fromIndex(x, "millkiwi")
			m := newTestManager(t, dir)
			r := request(t, lines...)
			if c.phase == PhaseDownload {
				// Known lock, environment gone: the next build only installs.
				env, err := m.Ensure(context.Background(), r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if done, err := m.Prune(context.Background(), PrunePolicy{MaxAge: 1, Grace: -1}); err != nil || done.Environments != 1 {
					t.Fatalf("pruned %+v, %v", done, err)
				}
				if _, err := os.Stat(env.Path); !os.IsNotExist(err) {
					t.Fatalf("it is still there: %v", err)
				}
			}
			waiting, release := x.stall()
			defer release()
			cmd, out := startBuilder(t, dir, lines)
			for out.Scan() && out.Text() != string(c.phase) {
			}
			<-waiting
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Fatal("it ended well")
			}
			release()
			env, err := m.Ensure(context.Background(), r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := pythonSays(t, env.Python, "import millkiwi; print(millkiwi.version)"); got != "1.0" {
				t.Errorf("the environment says %q", got)
			}
		})
	}
}

// TestEnsureHalfBuilt: a folder without the marker is replaced, whatever is in it.
func TestEnsureHalfBuilt(t *testing.T) {
	t.Parallel()
	x := newPackageIndex(t)
	x.add(t, "millfig", "1.0")
	m := newTestManager(t, t.TempDir())
	r := request(t, fromIndex(x, "millfig")...)
	env, err := m.Ensure(context.Background(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(env.Path, markerFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(env.Path, "leftover"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Use(env.Path); !fault.Is(err, fault.CodePrecondition) {
		t.Errorf("a half-built environment can be used: %v", err)
	}
	if _, err := m.Ensure(context.Background(), r, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(env.Path, "leftover")); !os.IsNotExist(err) {
		t.Error("the half-built folder was kept")
	}
}

// TestEnsureAbandoned: a build lives as long as somebody waits for it.
func TestEnsureAbandoned(t *testing.T) {
	t.Parallel()
	x := newPackageIndex(t)
	x.add(t, "millquince", "1.0")
	m := newTestManager(t, t.TempDir())
	r := request(t, fromIndex(x, "millquince")...)
	waiting, release := x.stall()
	defer release()
	gone := errors.New("the caller went away")
	start := func() (context.CancelCauseFunc, <-chan error) {
		ctx, cancel := context.WithCancelCause(context.Background())
		result := make(chan error, 1)
		joined := make(chan struct{})
		once := sync.OnceFunc(func() { close(joined) })
		go func() {
			_, err := m.Ensure(ctx, r, func(Progress) { once() })
			result <- err
		}()
		<-joined
		return cancel, result
	}
	first, firstResult := start()
	second, secondResult := start()
	<-waiting
	first(gone)
	if err := <-firstResult; !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	m.mu.Lock()
	b := m.builds[r.key()]
	m.mu.Unlock()
	if b == nil {
		t.Fatal("the build ended while somebody waited")
	}
	second(gone)
	if err := <-secondResult; !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	select {
	case <-b.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the build goes on with nobody waiting")
	}
	if !errors.Is(b.err, errAbandoned) {
		t.Errorf("the build ended with %v", b.err)
	}
	release()
	if _, err := m.Ensure(context.Background(), r, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestEnsureFailures(t *testing.T) {
	t.Parallel()
	x := newPackageIndex(t)
	x.add(t, "millgrape", "1.0", "millnut==1.0")
	x.add(t, "millnut", "1.0")
	x.add(t, "millnut", "2.0")
	x.files["milljunk-1.0-py3-none-any.whl"] = []byte("no zip")
	x.files["millsource-1.0.tar.gz"] = tarball(t, map[string]string{
		"millsource-1.0/pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
		"millsource-1.0/backend.py":     "raise SystemExit('no way')\n",
		"millsource-1.0/PKG-INFO":       "Metadata-Version: 2.1\nName: millsource\nVersion: 1.0\n",
	})
	x.files["millneedy-1.0.tar.gz"] = tarball(t, map[string]string{
		"millneedy-1.0/pyproject.toml": "[build-system]\nrequires = ['millbuilder']\nbuild-backend = 'millbuilder'\n",
	})
	m := newTestManager(t, t.TempDir())
	cases := map[string]struct {
		lines []string
		code  fault.Code
		want  []string
	}{
		"no such package": {fromIndex(x, "millnothing"), fault.CodeInvalid, []string{"millnothing", "spelling"}},
		"no such version": {fromIndex(x, "millnut>3"), fault.CodeInvalid, []string{"millnut>3", "1.0, 2.0"}},
		"conflict":        {fromIndex(x, "millgrape", "millnut==2.0"), fault.CodeInvalid, []string{"cannot be installed together", "millgrape"}},
		"hash": {fromIndex(x, "millnut==1.0 --hash=sha256:"+strings.Repeat("0", 64)), fault.CodeInvalid,
			[]string{"hash"}},
		"build fails": {fromIndex(x, "millsource"), fault.CodeInvalid, []string{"millsource", "build failed"}},
		"build needs": {fromIndex(x, "millneedy"), fault.CodeInvalid, []string{"millneedy", "millbuilder"}},
		"unreachable": {[]string{"--index-url http://127.0.0.1:9/simple", "six"}, fault.CodeUnavailable, []string{"cannot be reached", "PIP_INDEX_URL"}},
		"no git":      {[]string{"git+file:///nowhere/at/all"}, fault.CodeInvalid, []string{"nowhere"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request(t, c.lines...)
			_, err := m.Ensure(context.Background(), r, nil)
			if !fault.Is(err, c.code) {
				t.Fatalf("got %v (%s), want %s\n%s", err, fault.CodeOf(err), c.code, readText(t, m.LogPath(r)))
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if _, err := os.Stat(m.lockPath(r.key())); !os.IsNotExist(err) {
				t.Error("a failure was remembered")
			}
		})
	}
}

// TestEnsureRealIndex asks the machine's own package index.
func TestEnsureRealIndex(t *testing.T) {
	t.Parallel()
	m := newTestManager(t, t.TempDir())
	r := request(t, "six==1.16.0", "idna; python_version >= '3'")
	env, err := m.Ensure(context.Background(), r, nil)
	if fault.Is(err, fault.CodeUnavailable) {
		skip(t, "no package index answers: "+err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := pythonSays(t, env.Python, "import six, idna; print(six.__version__)"); got != "1.16.0" {
		t.Errorf("the environment says %q", got)
	}
	if len(env.Lock) != 2 {
		t.Errorf("lock is %q", env.Lock)
	}
}

// TestEnsureInterpreters builds with every interpreter of the machine, one with
// neither pip nor ensurepip among them.
func TestEnsureInterpreters(t *testing.T) {
	t.Parallel()
	x := newPackageIndex(t)
	x.add(t, "millpeach", "1.0")
	wheel, data := bundledPip(t)
	m := newTestManager(t, t.TempDir())
	m.finder.getenv = func(name string) string { return map[string]string{"PIP_INDEX_URL": x.URL + "/simple"}[name] }
	x.files[filepath.Base(wheel)] = data
	all := NewInterpreters(InterpreterConfig{}).List(context.Background())
	all = slices.DeleteFunc(all, func(i Interpreter) bool { return !i.Usable() })
	for _, interp := range append(all, withoutPip(t)) {
		r := request(t, fromIndex(x, "millpeach")...)
		r.Interpreter = interp
		env, err := m.Ensure(context.Background(), r, nil)
		if err != nil {
			t.Errorf("%s: %v", interp.Executable, err)
			continue
		}
		want := fmt.Sprintf("%d.%d 1.0", interp.Version.Major, interp.Version.Minor)
		if got := pythonSays(t, env.Python, "import sys, millpeach; print('%d.%d' % sys.version_info[:2], millpeach.version)"); got != want {
			t.Errorf("%s says %q, want %q", env.Python, got, want)
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	x := newPackageIndex(t)
	x.add(t, "millsloe", "1.0")
	waiting, release := x.stall()
	defer release()
	m := newTestManager(t, t.TempDir())
	r := request(t, fromIndex(x, "millsloe")...)
	result := make(chan error, 1)
	go func() {
		_, err := m.Ensure(context.Background(), r, nil)
		result <- err
	}()
	<-waiting
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := m.Ensure(context.Background(), r, nil); !errors.Is(err, errClosed) {
		t.Errorf("afterwards: %v", err)
	}
}

func BenchmarkKnown(b *testing.B) {
	dir := b.TempDir()
	m, err := New(Config{Dir: filepath.Join(dir, "envs"), CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	req, err := ParseRequirements([]string{"six==1.16.0"}, "")
	if err != nil {
		b.Fatal(err)
	}
	r := Request{Interpreter: realInterpreter(b), Requirements: req}
	if _, err := m.Ensure(context.Background(), r, nil); err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		if _, err := m.Ensure(context.Background(), r, nil); err != nil {
			b.Fatal(err)
		}
	}
}
