package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/gpu"
)

// expect makes a check and compares what a person would see.
func expect(t *testing.T, c Check, status Status, words ...string) {
	t.Helper()
	got := c.Check(context.Background())
	if got.Status != status {
		t.Errorf("%s: %+v, want %s", c.Name(), got, status)
	}
	if (got.Status == OK) != (got.Remedy == "") {
		t.Errorf("%s: a remedy belongs to a problem: %+v", c.Name(), got)
	}
	for _, word := range words {
		if !strings.Contains(got.Detail+" "+got.Remedy, word) {
			t.Errorf("%s: %+v does not say %q", c.Name(), got, word)
		}
	}
}

func TestDataFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	expect(t, DataFolder{dir}, OK, dir, "free")
	expect(t, DataFolder{filepath.Join(dir, "a", "b")}, OK, "will be made")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, DataFolder{file}, Fail, "no folder", "--data-dir")
	expect(t, DataFolder{filepath.Join(file, "x")}, Fail, "--data-dir")
	if _, err := os.Stat("/proc/self"); err == nil {
		expect(t, DataFolder{"/proc/self"}, Fail, "cannot be written")
	}
}

func TestDatabase(t *testing.T) {
	t.Parallel()
	open := func(what string, err error) Database {
		return Database{Where: "here", Open: func(context.Context) (string, error) { return what, err }}
	}
	expect(t, open("SQLite, schema 7", nil), OK, "here, SQLite, schema 7")
	expect(t, open("", errors.New("refused")), Fail, "here: refused", "--database-url")
}

func TestPython(t *testing.T) {
	t.Parallel()
	here := env.NewInterpreters(env.InterpreterConfig{})
	chosen, err := here.Default(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, Python{here}, OK, chosen.Version.String(), chosen.Executable)
	nothing := env.NewInterpreters(env.InterpreterConfig{Getenv: func(string) string { return "" }, Folders: []string{}})
	expect(t, Python{nothing}, Fail, "install CPython 3.9")

	dir := t.TempDir()
	m, err := env.New(env.Config{Dir: filepath.Join(dir, "envs"), CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, Packages{here, m}, OK, "pip")
	expect(t, Packages{nothing, m}, Warn, "see python")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	got := Limits{}.Check(context.Background())
	if got.Status == Fail || !strings.Contains(got.Detail, "cgroup") && got.Status == OK {
		t.Errorf("got %+v", got)
	}
}

func TestGPUs(t *testing.T) {
	t.Parallel()
	with := func(list string) GPUs {
		return GPUs{gpu.Finder{LookupEnv: func(name string) (string, bool) { return list, name == gpu.Variable }}}
	}
	expect(t, with("0,1"), OK, "2: 0, 1")
	expect(t, with(""), OK, "none")
}

func TestTools(t *testing.T) {
	t.Parallel()
	expect(t, Go(), OK, "go version")
	expect(t, tool{"no-such-tool-anywhere", nil, "it cannot be done", "install it"}, Warn, "it cannot be done", "install it")
	expect(t, tool{"false", nil, "it cannot be done", "install it"}, Warn, "does not work")
}

func TestPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := httptest.NewUnstartedServer(http.NotFoundHandler())
	taken.Listener.Close()
	taken.Listener = l
	taken.Start()
	defer taken.Close()
	expect(t, Port{l.Addr().String()}, Fail, "another program", "--listen")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/healthz" {
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	expect(t, Port{server.Listener.Addr().String()}, OK, "a server answers")
	expect(t, Port{"127.0.0.1:0"}, OK, "is free")
	expect(t, Port{"nonsense"}, Fail, "nonsense")
}

func TestClockAndFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	expect(t, Clock{dir}, OK, time.Now().UTC().Format("2006-01-02"))
	expect(t, Clock{filepath.Join(dir, "missing")}, OK)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
	got := OpenFiles{}.Check(context.Background())
	if !strings.Contains(got.Detail, "at most") {
		t.Errorf("got %+v", got)
	}
}

type stuck struct{ release chan struct{} }

func (stuck) Name() string { return "stuck" }

func (s stuck) Check(context.Context) Finding {
	<-s.release
	return ok("late")
}

func TestRun(t *testing.T) {
	t.Parallel()
	s := stuck{make(chan struct{})}
	defer close(s.release)
	ctx, cancel := context.WithCancelCause(context.Background())
	first := Database{Where: "a", Open: func(context.Context) (string, error) {
		cancel(errors.New("enough"))
		return "b", nil
	}}
	results := Run(ctx, []Check{s, first})
	if len(results) != 2 || results[0].Name != "stuck" || results[0].Status != Fail || !strings.Contains(results[0].Detail, "enough") {
		t.Errorf("got %+v", results)
	}
	if results[1].Name != "database" {
		t.Errorf("got %+v", results[1])
	}
}

func TestWorst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   []Status
		want Status
	}{{nil, OK}, {[]Status{OK, OK}, OK}, {[]Status{Warn, OK}, Warn}, {[]Status{Fail, Warn}, Fail}, {[]Status{Warn, Fail, OK}, Fail}} {
		var results []Result
		for _, s := range c.in {
			results = append(results, Result{Status: s})
		}
		if got := Worst(results); got != c.want {
			t.Errorf("%v: %s", c.in, got)
		}
	}
}
