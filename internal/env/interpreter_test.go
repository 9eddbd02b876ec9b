package env

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/fault"
)

// machine is a made-up folder tree with executables that answer a probe.
type machine struct {
	t      *testing.T
	root   string
	values map[string]string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &machine{t: t, root: root, values: map[string]string{"HOME": root}}
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) write(name, text string, mode os.FileMode) string {
	m.t.Helper()
	path := m.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
	return path
}

func (m *machine) link(name, target string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(target, m.path(name)); err != nil {
		m.t.Fatal(err)
	}
}

// python puts a file there that the cache already knows, so that versions which
// this machine has not can be chosen among without starting anything.
func (m *machine) python(name string, v Version, implementation string) string {
	m.t.Helper()
	path := m.write(name, "\x7fELF not really: "+name, 0o700)
	info, err := os.Stat(path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.prober().remember(record{
		Stamp:       stamp{Path: path, Size: info.Size(), ModTime: info.ModTime().UnixNano()},
		Interpreter: Interpreter{Executable: path, Real: path, Implementation: implementation, Version: v, ABI: "x"},
	})
	return path
}

// abi changes what the interpreter at path says of itself.
func (m *machine) abi(path, abi string) {
	m.t.Helper()
	i, err := m.prober().probe(context.Background(), candidate{path: path})
	if err != nil {
		m.t.Fatal(err)
	}
	i.ABI = abi
	info, err := os.Stat(path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.prober().remember(record{Stamp: stamp{Path: path, Size: info.Size(), ModTime: info.ModTime().UnixNano()}, Interpreter: i})
}

func (m *machine) prober() prober {
	return newFinder(m, "").probes
}

func newFinder(m *machine, configured string) *Interpreters {
	return NewInterpreters(InterpreterConfig{
		Default: configured, CacheDir: m.path("cache"), Dir: m.path("project/sub"),
		Getenv:  func(name string) string { return m.values[name] },
		Folders: []string{m.path("usr/bin")},
	})
}

func TestSelect(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.values["PATH"] = strings.Join([]string{m.path(".pyenv/shims"), m.path("first"), "relative", m.path("missing"), m.path("usr/bin")}, ":")
	for _, shim := range []string{"python3", "python3.12", "python3.8"} {
		m.write(".pyenv/shims/"+shim, "#!/bin/sh\nexit 1\n", 0o700)
	}
	py311 := m.python("usr/bin/python3.11", Version{3, 11, 2, ""}, "cpython")
	m.link("usr/bin/python3", "python3.11")
	old := m.python(".pyenv/versions/3.8.18/bin/python3.8", Version{3, 8, 18, ""}, "cpython")
	m.link(".pyenv/versions/3.8.18/bin/python3", "python3.8")
	py3125 := m.python(".pyenv/versions/3.12.5/bin/python3", Version{3, 12, 5, ""}, "cpython")
	free := m.python(".pyenv/versions/3.12.11t/bin/python3", Version{3, 12, 11, ""}, "cpython")
	m.abi(free, "cpython-312t-x86_64-linux-gnu/x86_64")
	py3121 := m.python(".pyenv/versions/3.12.10/bin/python3", Version{3, 12, 10, ""}, "cpython")
	m.python(".pyenv/versions/3.14.0rc1/bin/python3", Version{3, 14, 0, "rc1"}, "cpython")
	m.python(".pyenv/versions/pypy3.10/bin/python3", Version{3, 10, 1, ""}, "pypy")
	m.python("first/python3.13", Version{3, 13, 0, ""}, "cpython")

	cases := []struct {
		name, request, configured string
		global, local             string
		want                      string
	}{
		{name: "PATH behind a shim for system", want: py311},
		{name: "the global version", global: "3.12.5", want: py3125},
		{name: "a prefix means its newest release", global: "3.12", want: py3121},
		{name: "the project's version wins", global: "3.12.5", local: "3.12.10 # note", want: py3121},
		{name: "the default when it fits", request: "3", want: py311},
		{name: "the newest that fits", request: "3.12", want: py3121},
		{name: "free-threaded", request: "3.12t", want: free},
		{name: "exactly", request: "3.12.5", want: py3125},
		{name: "a range without the default", request: ">=3.12,<3.13", want: py3121},
		{name: "final releases first", request: ">3.11.5", want: m.path("first/python3.13")},
		{name: "a pre-release when nothing else", request: "3.14", want: m.path(".pyenv/versions/3.14.0rc1/bin/python3")},
		{name: "configured", configured: py3125, want: py3125},
		{name: "configured by name", configured: "python3.13", want: m.path("first/python3.13")},
		{name: "configured shim", configured: m.path(".pyenv/shims/python3"), global: "3.12.5", want: py3125},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for name, text := range map[string]string{".pyenv/version": c.global, "project/.python-version": c.local} {
				m.write(name, text, 0o600)
			}
			got, err := newFinder(m, c.configured).Select(context.Background(), c.request)
			if err != nil {
				t.Fatal(err)
			}
			if got.Executable != c.want {
				t.Errorf("got %s, want %s", got.Executable, c.want)
			}
		})
	}

	refusals := []struct {
		request, configured string
		code                fault.Code
		want                []string
	}{
		{"3.10", "", fault.CodePrecondition, []string{"3.10", "3.13.0", py311, "install"}},
		{"3.8", "", fault.CodePrecondition, []string{"no Python 3.8", "3.12.5", "3.12.11t"}},
		{"x", "", fault.CodeInvalid, []string{`"x"`}},
		{"", m.path("nothing"), fault.CodePrecondition, []string{"nothing", "--python"}},
		{"", "python9", fault.CodePrecondition, []string{"python9", "PATH"}},
		{"", old, fault.CodePrecondition, []string{"3.8.18", "3.9 or newer"}},
	}
	for _, c := range refusals {
		_, err := newFinder(m, c.configured).Select(context.Background(), c.request)
		if !fault.Is(err, c.code) {
			t.Errorf("%q with %q: %v, want %s", c.request, c.configured, err, c.code)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
	}
}

func TestSelectNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	_, err := newFinder(m, "").Default(context.Background())
	if !fault.Is(err, fault.CodePrecondition) || !strings.Contains(err.Error(), "install Python 3.9") {
		t.Errorf("got %v", err)
	}
}

// TestProbe starts a real interpreter, once.
func TestProbe(t *testing.T) {
	t.Parallel()
	real := realInterpreter(t)
	m := newMachine(t)
	// A virtual environment's python keeps its name; a wrapper script is asked
	// for what it starts.
	m.write("venv/pyvenv.cfg", "home = "+filepath.Dir(real.Real)+"\n", 0o600)
	m.link("venv/bin/python3", real.Real)
	m.link("plain/python3", real.Real)
	m.write("script/python3", fmt.Sprintf("#!/bin/sh\nexec %q \"$@\"\n", real.Real), 0o700)
	m.write("broken/python3", "\x7fELF", 0o700)
	m.write("false/python3", "#!/bin/sh\necho sorry >&2\nexit 3\n", 0o700)
	cases := map[string]struct{ exe, fails string }{
		"venv/bin/python3": {m.path("venv/bin/python3"), ""},
		"plain/python3":    {real.Real, ""},
		"script/python3":   {real.Real, ""},
		"broken/python3":   {"", "start it"},
		"false/python3":    {"", "sorry"},
	}
	for name, c := range cases {
		got, err := newFinder(m, m.path(name)).Default(context.Background())
		switch {
		case c.fails != "":
			if !fault.Is(err, fault.CodePrecondition) || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v, want %q", name, err, c.fails)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case got.Executable != c.exe || got.Version != real.Version || got.Implementation != "cpython" || got.ABI == "":
			t.Errorf("%s is %+v", name, got)
		}
	}
	// Remembered: the answer comes although the file does not start any more.
	path := m.path("plain2/python3")
	data, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip("no /bin/true to copy")
	}
	m.write("plain2/python3", string(data), 0o700)
	if _, err := newFinder(m, path).Default(context.Background()); err == nil {
		t.Fatal("/bin/true passed for a Python interpreter")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	want := stamp{Path: path, Size: info.Size(), ModTime: info.ModTime().UnixNano()}
	if rec, ok := m.prober().recall(want); !ok || rec.Failure == "" {
		t.Errorf("the failure was not remembered: %+v, %v", rec, ok)
	}
	want.ModTime++
	if _, ok := m.prober().recall(want); ok {
		t.Error("a changed file is not asked again")
	}
}

func BenchmarkDefault(b *testing.B) {
	in := NewInterpreters(InterpreterConfig{CacheDir: b.TempDir()})
	if _, err := in.Default(context.Background()); err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		if _, err := in.Default(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// realInterpreter returns the machine's own default.
func realInterpreter(t testing.TB) Interpreter {
	t.Helper()
	got, err := NewInterpreters(InterpreterConfig{}).Default(context.Background())
	if err != nil {
		t.Fatalf("these tests need a Python interpreter: %v", err)
	}
	return got
}
