package deployment_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/deployment"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/store"
)

// host is a machine whose processors start and answer as a test says; what it
// keeps is what a real one keeps on disk and in other processes.
type host struct {
	mu       sync.Mutex
	placed   map[int]realtime.Revision
	alive    bool
	starts   int
	failing  map[int]string // revision → why its workers do not start
	serving  []realtime.Route
	desired  realtime.Desired
	said     []string
	removed  bool
	left     []deployment.Key // of which something is there when a server starts
	failNext int              // starts that end at once
	asked    int              // for the status
}

func newHost() *host {
	return &host{placed: map[int]realtime.Revision{}, failing: map[int]string{}}
}

func (h *host) locked() func() { h.mu.Lock(); return h.mu.Unlock }

func (h *host) Placed(_ deployment.Key, n int) bool {
	defer h.locked()()
	_, ok := h.placed[n]
	return ok
}

func (h *host) Place(_ deployment.Key, r realtime.Revision, _ map[string][]byte) error {
	defer h.locked()()
	h.placed[r.Number] = r
	return nil
}

func (h *host) Discard(_ deployment.Key, keep []int) error {
	defer h.locked()()
	for n := range h.placed {
		if !slices.Contains(keep, n) {
			delete(h.placed, n)
		}
	}
	return nil
}

func (h *host) Kept() ([]deployment.Key, error) { defer h.locked()(); return h.left, nil }

func (h *host) Alive(deployment.Key) bool { defer h.locked()(); return h.alive }

func (h *host) Start(_ deployment.Key, d realtime.Desired) error {
	defer h.locked()()
	h.starts++
	if h.failNext > 0 {
		h.failNext--
		return nil
	}
	h.alive, h.serving = true, nil
	h.take(d)
	return nil
}

// take serves what is desired when all of it can start, as a processor does.
func (h *host) take(d realtime.Desired) {
	h.desired = d
	for _, r := range d.Routes {
		if h.failing[r.Revision] != "" {
			return
		}
	}
	h.serving = d.Routes
}

func (h *host) Desire(_ context.Context, _ deployment.Key, d realtime.Desired) error {
	defer h.locked()()
	if !h.alive {
		return errors.New("dead")
	}
	h.take(d)
	return nil
}

func (h *host) Status(context.Context, deployment.Key) (realtime.Status, error) {
	defer h.locked()()
	h.asked++
	if !h.alive {
		return realtime.Status{}, errors.New("dead")
	}
	s := realtime.Status{PID: 1, Address: h.desired.Listen, State: realtime.StateReady, Routes: h.serving}
	for _, r := range h.desired.Routes {
		one := realtime.RevisionStatus{Number: r.Revision, State: realtime.StateReady}
		if text := h.failing[r.Revision]; text != "" {
			one.State, one.Message = realtime.StateError, text
		}
		s.Revisions = append(s.Revisions, one)
	}
	return s, nil
}

func (h *host) LastWords(deployment.Key) string { return "no memory" }

func (h *host) Metrics(context.Context, deployment.Key) ([]byte, error) { return nil, nil }

func (h *host) Stop(context.Context, deployment.Key) error {
	defer h.locked()()
	h.alive = false
	return nil
}

func (h *host) Remove(deployment.Key) error { defer h.locked()(); h.removed = true; return nil }

func (h *host) Say(_ deployment.Key, line string) { defer h.locked()(); h.said = append(h.said, line) }

func (h *host) Said(deployment.Key, int64) (string, int64) {
	defer h.locked()()
	return strings.Join(h.said, "\n"), int64(len(h.said))
}

func (h *host) FreePort(taken map[int]bool) (int, error) {
	for port := 40000; ; port++ {
		if !taken[port] {
			return port, nil
		}
	}
}

// builds is a preparer that fails for functions whose environment says so.
type builds struct{}

func (builds) Auth(_ context.Context, _ deployment.Key, front kind.Front) (*realtime.Auth, error) {
	return front.Auth(map[string]string{"keys": "k"})
}

func (builds) Revision(_ context.Context, key deployment.Key, n int, f *function.Function, progress func(string)) (realtime.Revision, map[string][]byte, error) {
	progress("installing")
	spec, err := f.Spec()
	if err != nil {
		return realtime.Revision{}, nil, err
	}
	for _, env := range spec.Env {
		if env.Name == "UNBUILDABLE" {
			return realtime.Revision{}, nil, fault.Invalid("no such package")
		}
	}
	return realtime.Revision{Number: n, Project: key.Project, Name: key.Name}, nil, nil
}

type world struct {
	*testing.T
	*deployment.Deployments
	store *store.Store
	host  *host
	path  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, host: newHost(), path: filepath.Join(t.TempDir(), "db")}
	s, err := store.Open(t.Context(), store.Options{Path: w.path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w.store = s
	w.restart()
	t.Cleanup(func() { w.Stop() })
	return w
}

// restart is what a server that was killed and started again does.
func (w *world) restart() {
	if w.Deployments != nil {
		w.Stop()
	}
	w.Deployments = deployment.New(deployment.Options{
		Store: w.store, Host: w.host, Preparer: builds{}, Logger: slog.New(slog.DiscardHandler), URL: "http://127.0.0.1:8080",
	})
	w.Start(w.Context())
}

var key = deployment.Key{Project: "default", Name: "scorer"}

// deploy deploys a version that says v.
func (w *world) deploy(v string, change func(*deployment.Request)) document.Object {
	w.Helper()
	f := function.New(function.KindNuclio, "scorer")
	f.SetProject("default")
	f.SetCode([]byte("def handler(context, event):\n    return '"+v+"'\n"), "scorer.py")
	f.SetEnv(v, "1")
	request := deployment.Request{Function: f.Doc}
	if change != nil {
		change(&request)
	}
	doc, err := w.Deploy(w.Context(), request)
	if err != nil {
		w.Fatal(err)
	}
	return doc
}

// await waits until the deployment fits.
func (w *world) await(what string, fits func(store.Deployment) bool) store.Deployment {
	w.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		d, err := w.store.DeploymentGet(w.Context(), key.Project, key.Name)
		if err == nil && fits(d) {
			return d
		}
		if time.Now().After(deadline) {
			w.Fatalf("never %s: %+v, %v; said %q", what, d, err, w.host.said)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func in(state string, revision int) func(store.Deployment) bool {
	return func(d store.Deployment) bool { return d.State == state && d.Revision == revision }
}

func (w *world) serves(want string) {
	w.Helper()
	w.host.mu.Lock()
	defer w.host.mu.Unlock()
	if got := fmt.Sprint(w.host.serving); got != want {
		w.Fatalf("serves %s, want %s", got, want)
	}
}

func TestDeployBecomesReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc := w.deploy("one", nil)
	if state := document.String(doc, "status", "state"); state != "building" {
		t.Errorf("it is %q at first", state)
	}
	d := w.await("ready", in("ready", 1))
	w.serves("[{1 100 false}]")
	if d.Port != 40000 || document.String(d.Status, "address") != "127.0.0.1:40000" {
		t.Errorf("port %d, status %v", d.Port, d.Status)
	}
	stored, err := w.store.FunctionGet(t.Context(), "default", "scorer", "latest", "")
	if err != nil {
		t.Fatal(err)
	}
	want := document.Object{
		"state": "ready", "nuclio_name": "default-scorer", "address": "127.0.0.1:40000", "internal_invocation_urls": []any{"127.0.0.1:40000"},
		"external_invocation_urls": []any{"127.0.0.1:40000", "127.0.0.1:8080/fn/default/scorer"},
	}
	if got, want := string(document.Canonical(document.Map(stored, "status"))), string(document.Canonical(want)); got != want {
		t.Errorf("status %s, want %s", got, want)
	}
	if err := w.Ready(t.Context(), key); err != nil {
		t.Error(err)
	}
}

// TestNoShadowOfAnApplication: requests that stream cannot be copied, from an
// application as little as to one.
func TestNoShadowOfAnApplication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	application := function.New(function.KindApplication, "scorer")
	application.SetProject("default")
	application.SetCode([]byte("print(1)\n"), "app.py")
	w.deploy("", func(r *deployment.Request) { r.Function = application.Doc })
	w.await("ready", in("ready", 1))
	handler := function.New(function.KindNuclio, "scorer")
	handler.SetProject("default")
	handler.SetCode([]byte("def handler(context, event):\n    pass\n"), "scorer.py")
	for _, f := range []*function.Function{handler, application} {
		if _, err := w.Deploy(t.Context(), deployment.Request{Function: f.Doc, Shadow: true}); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), "cannot be copied to a shadow") {
			t.Errorf("%s: %v", f.Kind(), err)
		}
	}
	if d := w.await("as it was", in("ready", 1)); d.Revision != 1 || d.Kind != string(function.KindApplication) {
		t.Errorf("%+v", d)
	}
	if _, err := w.Deploy(t.Context(), deployment.Request{Function: handler.Doc, Canary: 10}); err != nil {
		t.Error(err)
	}
}

func TestRedeployCanaryShadowRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deploy("one", nil)
	w.await("ready", in("ready", 1))
	w.deploy("two", func(r *deployment.Request) { r.Canary = 10 })
	w.await("canary", in("ready", 2))
	w.serves("[{1 90 false} {2 10 false}]")
	w.deploy("three", func(r *deployment.Request) { r.Shadow = true })
	w.await("shadow", in("ready", 3))
	w.serves("[{1 100 false} {3 100 true}]")
	w.deploy("four", nil)
	w.await("whole", in("ready", 4))
	w.serves("[{4 100 false}]")

	revisions, err := w.store.RevisionList(t.Context(), key.Project, key.Name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := w.Rollback(t.Context(), key, "1")
	if err != nil || n != 5 {
		t.Fatalf("revision %d, %v", n, err)
	}
	w.await("rolled back", in("ready", 5))
	doc, err := w.store.FunctionGet(t.Context(), "default", "scorer", "latest", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := document.String(doc, "metadata", "hash"); got != revisions[3].Hash {
		t.Errorf("the tag is at %s, want %s", got, revisions[3].Hash)
	}
	if n, err = w.Rollback(t.Context(), key, revisions[0].Hash[:8]); err != nil || n != 6 {
		t.Fatalf("revision %d, %v", n, err)
	}
	w.await("rolled back by hash", in("ready", 6))
	for target, code := range map[string]fault.Code{"17": fault.CodeNotFound, "ffffffff": fault.CodeNotFound} {
		if _, err := w.Rollback(t.Context(), key, target); !fault.Is(err, code) {
			t.Errorf("to %s: %v", target, err)
		}
	}
}

func TestARevisionThatFailsGetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deploy("one", nil)
	w.await("ready", in("ready", 1))
	w.host.mu.Lock()
	w.host.failing[2] = "ModuleNotFoundError: nothing"
	w.host.mu.Unlock()
	w.deploy("two", nil)
	d := w.await("error", in("error", 2))
	if !strings.Contains(d.Message, "ModuleNotFoundError") {
		t.Errorf("message %q", d.Message)
	}
	w.await("back", func(store.Deployment) bool {
		w.host.mu.Lock()
		defer w.host.mu.Unlock()
		return fmt.Sprint(w.host.serving) == "[{1 100 false}]"
	})
	if err := w.Ready(t.Context(), key); err != nil {
		t.Errorf("the first revision serves on, but: %v", err)
	}
	// What served is known after a restart too, and a crash brings it back.
	w.restart()
	w.host.mu.Lock()
	w.host.alive, w.host.serving = false, nil
	w.host.mu.Unlock()
	w.await("back", func(store.Deployment) bool {
		w.host.mu.Lock()
		defer w.host.mu.Unlock()
		return w.host.alive && fmt.Sprint(w.host.serving) == "[{1 100 false}]"
	})
	w.deploy("UNBUILDABLE", nil)
	if d := w.await("unbuildable", in("error", 3)); d.Message != "no such package" {
		t.Errorf("message %q", d.Message)
	}
	w.serves("[{1 100 false}]")
	asked := func() int { defer w.host.locked()(); return w.host.asked }
	before := asked()
	w.await("looked at again", func(store.Deployment) bool { return asked() > before+3 })
	if said, _ := w.host.Said(key, 0); strings.Count(said, "the function is error: no such package") != 1 {
		t.Errorf("the error was not said once:\n%s", said)
	}
	w.deploy("three", nil)
	w.await("ready again", in("ready", 4))
	w.serves("[{4 100 false}]")
}

func TestProcessorIsAdoptedAndRestarted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deploy("one", nil)
	w.await("ready", in("ready", 1))
	w.restart()
	w.deploy("two", nil)
	d := w.await("ready", in("ready", 2))
	if w.host.starts != 1 {
		t.Errorf("a living processor was started %d times", w.host.starts)
	}
	if d.Port != 40000 {
		t.Errorf("the port became %d", d.Port)
	}
	w.host.mu.Lock()
	w.host.alive, w.host.failNext = false, 5
	w.host.mu.Unlock()
	if d := w.await("unhealthy", in("unhealthy", 2)); !strings.Contains(d.Message, "it said: no memory") {
		t.Errorf("message %q", d.Message)
	}
	w.await("ready again", in("ready", 2))
	if w.host.starts < 6 {
		t.Errorf("%d starts", w.host.starts)
	}
}

func TestIntentSurvives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Stop() // nobody keeps anything: the server was killed after it had acknowledged
	w.deploy("one", nil)
	w.restart()
	w.await("ready", in("ready", 1))
}

func TestRemove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deploy("one", nil)
	w.await("ready", in("ready", 1))
	if err := w.RemoveFunction(t.Context(), "default", "other"); err != nil {
		t.Fatal(err)
	}
	if err := w.RemoveFunction(t.Context(), "default", "scorer"); err != nil {
		t.Fatal(err)
	}
	if w.host.alive || !w.host.removed {
		t.Errorf("alive %v, removed %v", w.host.alive, w.host.removed)
	}
	if err := w.Ready(t.Context(), key); !fault.Is(err, fault.CodeNotFound) {
		t.Errorf("got %v", err)
	}
	if err := w.Remove(t.Context(), key); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestDeployRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	valid := func() *function.Function {
		f := function.New(function.KindNuclio, "f")
		f.SetProject("default")
		f.SetCode([]byte("def handler(context, event): pass\n"), "f.py")
		return f
	}
	for name, c := range map[string]struct {
		change func(*function.Function)
		code   fault.Code
		part   string
	}{
		"a job":                      {func(f *function.Function) { f.SetKind(function.KindJob) }, fault.CodeInvalid, "not a nuclio runtime"},
		"a graph":                    {func(f *function.Function) { f.SetKind(function.KindServing) }, fault.CodeInvalid, "mock"},
		"no code":                    {func(f *function.Function) { f.SetSpec(nil, "build") }, fault.CodeInvalid, "functionSourceCode"},
		"a project that is not":      {func(f *function.Function) { f.SetProject("nowhere") }, fault.CodeNotFound, "nowhere"},
		"a long name":                {func(f *function.Function) { f.SetName(strings.Repeat("n", 60)) }, fault.CodeInvalid, "63"},
		"a trigger that is not here": {func(f *function.Function) { f.SetSpec(document.Object{"kind": "kafka"}, "config", "spec.triggers.k") }, fault.CodeInvalid, "http and cron"},
	} {
		f := valid()
		c.change(f)
		if _, err := w.Deploy(t.Context(), deployment.Request{Function: f.Doc}); !fault.Is(err, c.code) || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Deploy(t.Context(), deployment.Request{Function: valid().Doc, Canary: 10}); !fault.Is(err, fault.CodePrecondition) {
		t.Errorf("a canary beside nothing: %v", err)
	}
	if all, err := w.store.DeploymentList(t.Context(), ""); err != nil || len(all) != 0 {
		t.Errorf("left behind: %+v, %v", all, err)
	}
	if _, err := w.store.FunctionGet(t.Context(), "default", "f", "", ""); !fault.Is(err, fault.CodeNotFound) {
		t.Errorf("a refused function was stored: %v", err)
	}
}
