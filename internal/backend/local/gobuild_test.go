package local_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/backend/local"
	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/worker"
)

type reply struct {
	status int
	body   string
	err    error
}

type sink chan reply

func (s sink) Reply(r *worker.Reply, err error) {
	if err != nil {
		s <- reply{err: err}
		return
	}
	s <- reply{status: r.Status, body: string(r.Body)}
}

// TestExampleOfTheDocumentation builds the handler of docs/sdk.md as a function
// without a module of its own, and sends it events.
func TestExampleOfTheDocumentation(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	text, err := os.ReadFile("../../../docs/sdk.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```go\n")
	example, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("docs/sdk.md has no example")
	}
	ctx := context.Background()
	build := local.GoBuilder(filepath.Join(t.TempDir(), "with space", "go"))
	executable, err := build(ctx, &kind.Plan{Files: map[string][]byte{"code/main.go": []byte(example)}}, func(control.Step) {})
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.Start(ctx, worker.Spec{Program: []string{executable}, Env: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Kill(); w.Wait() })
	if _, err := w.Load(ctx, worker.Load{Mode: worker.ModeEvent, Event: &worker.EventLoad{}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		request worker.Request
		status  int
		want    string
	}{
		{worker.Request{Path: "/health"}, 200, "well"},
		{worker.Request{Path: "/", Body: []byte(`{"item": "tea", "count": 3, "price": 2.5}`)}, 200, `{"item":"tea","total":7.5}`},
		{worker.Request{Path: "/", Body: []byte(`{"item": "tea", "count": 3}`), Fields: [][2]string{{"as", "text"}}}, 200, "3 TEA"},
		{worker.Request{Path: "/", Body: []byte(`{"item": "tea"}`)}, 422, "an order of 0 tea is none"},
		{worker.Request{Path: "/", Body: []byte(`{`)}, 400, "the body is no order: unexpected end of JSON input"},
	} {
		got := make(sink, 1)
		if err := w.Begin(&c.request, got); err != nil {
			t.Fatal(err)
		}
		select {
		case r := <-got:
			if r.err != nil || r.status != c.status || r.body != c.want {
				t.Errorf("%s: %+v, want %d %s", c.request.Body, r, c.status, c.want)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no reply within 20 seconds")
		}
	}
	out, err := exec.Command(executable).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "this program is a function; deploy it") {
		t.Errorf("started by hand: %v, %s", err, out)
	}
	again, err := build(ctx, &kind.Plan{Files: map[string][]byte{"code/main.go": []byte(example)}}, func(control.Step) { t.Error("built again") })
	if err != nil || again != executable {
		t.Errorf("again: %s, %v", again, err)
	}
}

// TestGoBuildIsMadeOnce: what is built is decided by content alone, equal code becomes
// an equal program, and what a folder takes in from outside of it is not missed.
func TestGoBuildIsMadeOnce(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	caches := []func(context.Context, *kind.Plan, func(control.Step)) (string, error){local.GoBuilder(t.TempDir()), local.GoBuilder(t.TempDir())}
	build := func(n int, plan *kind.Plan) (path string, built bool) {
		t.Helper()
		path, err := caches[n](t.Context(), plan, func(control.Step) { built = true })
		if err != nil {
			t.Fatal(err)
		}
		return path, built
	}
	source := func(text string) *kind.Plan {
		return &kind.Plan{Files: map[string][]byte{"code/main.go": []byte("package main\n\nfunc main() { println(\"" + text + "\") }\n")}}
	}
	one, built := build(0, source("one"))
	if !built {
		t.Error("the first was not built")
	}
	if again, built := build(0, source("one")); built || again != one {
		t.Error("the same code was built again", again, one)
	}
	if other, built := build(0, source("two")); !built || other == one {
		t.Error("other code was not built")
	}
	elsewhere, _ := build(1, source("one"))
	if a, b := read(t, one), read(t, elsewhere); string(a) != string(b) {
		t.Error("equal code became different programs in two caches")
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module outer\n\ngo 1.24\n")
	write("said/said.go", "package said\n\nconst Text = \"before\"\n")
	write("function/main.go", "package main\n\nimport \"outer/said\"\n\nfunc main() { println(said.Text) }\n")
	folder := &kind.Plan{Folder: filepath.Join(dir, "function")}
	before, _ := build(0, folder)
	if again, _ := build(0, folder); again != before {
		t.Error("the same folder became another program", again, before)
	}
	write("said/said.go", "package said\n\nconst Text = \"after\"\n")
	after, _ := build(0, folder)
	out, err := exec.Command(after).CombinedOutput()
	if err != nil || string(out) != "after\n" || after == before {
		t.Errorf("after a package beside the folder has changed it says %q, %v", out, err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(one)), ".build-*"))
	if err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
