package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/millrace/millrace/internal/api"
	realcontrol "github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/logs"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/submit"
	"github.com/millrace/millrace/internal/tune"
)

// system is a whole API on a real SQLite store and real log files. Only runs are
// not executed: control keeps them, and tests say what becomes of them.
type system struct {
	t      *testing.T
	dir    string
	url    string
	store  *store.Store
	logs   *logs.Logs
	server *api.Server
	http   *httptest.Server

	control *control
}

// start brings up a system with a project called demo.
func start(t *testing.T, change ...func(*api.Options)) *system {
	t.Helper()
	s := &system{t: t, dir: t.TempDir()}
	s.open(change...)
	s.do("POST", "/api/v1/projects", `{"metadata":{"name":"demo"}}`).is(201)
	return s
}

// open opens the store and serves it; restart closes and opens again.
func (s *system) open(change ...func(*api.Options)) {
	s.t.Helper()
	st, err := store.Open(s.t.Context(), store.Options{Path: filepath.Join(s.dir, "millrace.db")})
	if err != nil {
		s.t.Fatal(err)
	}
	s.store, s.logs = st, logs.New(s.dir, st)
	s.control = &control{store: st, logs: s.logs}
	opts := api.Options{
		Store: st, Controller: s.control, Logs: s.logs,
		Secrets: secret.NewVault(st, secret.Keys{File: filepath.Join(s.dir, "secret.key"), Create: true}), ArtifactPath: "/data/artifacts/{{project}}",
		Logger: slog.New(slog.NewTextHandler(testWriter{s.t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for _, f := range change {
		f(&opts)
	}
	s.server = api.New(opts)
	s.http = httptest.NewServer(s.server)
	s.url = s.http.URL
	s.t.Cleanup(s.close)
}

func (s *system) close() {
	s.server.Drain()
	s.http.Close()
	_ = s.store.Close()
}

func (s *system) restart() {
	s.close()
	s.open()
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// answer is a response read to its end.
type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	body   []byte
}

type header struct{ name, value string }

// do sends a request without Content-Type, as clients do, and checks the answer
// against the OpenAPI document. Body: nil, a string or bytes, or a document.
func (s *system) do(method, path string, body any, headers ...header) *answer {
	s.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	case []byte:
		reader = bytes.NewReader(b)
	default:
		reader = bytes.NewReader(document.Encode(b))
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, reader)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		req.Header.Set(h.name, h.value)
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	conforms(s.t, s, req, resp)
	return &answer{s.t, method + " " + path, resp.StatusCode, resp.Header, data}
}

var noRedirects = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{MaxIdleConnsPerHost: 16},
}

// is checks the status and returns the answer.
func (a *answer) is(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %.500s", a.what, a.status, status, a.body)
	}
	return a
}

// says checks that the body contains text.
func (a *answer) says(text string) *answer {
	a.t.Helper()
	if !strings.Contains(string(a.body), text) {
		a.t.Fatalf("%s: %.500s does not contain %q", a.what, a.body, text)
	}
	return a
}

// json decodes the body as an object.
func (a *answer) json() document.Object {
	a.t.Helper()
	doc, err := document.DecodeObject(a.body)
	if err != nil {
		a.t.Fatalf("%s: %v: %.200s", a.what, err, a.body)
	}
	return doc
}

// items decodes a list under key.
func (a *answer) items(key string) []document.Object {
	a.t.Helper()
	list, ok := a.json()[key].([]any)
	if !ok {
		a.t.Fatalf("%s: no list %s: %.200s", a.what, key, a.body)
	}
	out := make([]document.Object, len(list))
	for i, item := range list {
		out[i], _ = item.(document.Object)
	}
	return out
}

// description is the API's document, parsed once for all tests.
var description = sync.OnceValues(func() (validator.Validator, error) {
	recorder := httptest.NewRecorder()
	api.New(api.Options{}).ServeHTTP(recorder, httptest.NewRequest("GET", "/api/openapi.json", nil))
	doc, err := libopenapi.NewDocument(recorder.Body.Bytes())
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		return nil, fmt.Errorf("read the OpenAPI document: %v", errs)
	}
	return v, nil
})

var describing sync.Mutex // the validator is not safe for concurrent use

// conforms checks an answer against the OpenAPI document. Errors of routes that
// do not exist are not in it.
func conforms(t *testing.T, s *system, req *http.Request, resp *http.Response) {
	t.Helper()
	if !strings.HasPrefix(req.URL.Path, "/api/v") || strings.HasSuffix(req.URL.Path, "/") || req.Method == http.MethodHead ||
		resp.StatusCode == http.StatusMethodNotAllowed || strings.Contains(req.URL.EscapedPath(), "%") {
		return
	}
	data, _ := io.ReadAll(resp.Body)
	if string(data) == `{"detail":"Not Found"}` {
		return
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	v, err := description()
	if err != nil {
		t.Fatal(err)
	}
	describing.Lock()
	defer describing.Unlock()
	if ok, errs := v.ValidateHttpResponse(req, resp); !ok {
		for _, e := range errs {
			t.Errorf("%s %s: %d does not conform: %s: %s %v: %.300s", req.Method, req.URL.Path, resp.StatusCode, e.Message, e.Reason, e.SchemaValidationErrors, data)
		}
	}
}

// control keeps runs in the store as the control loop does, and executes none.
type control struct {
	store *store.Store
	logs  *logs.Logs
	mu    sync.Mutex
	next  int
	names []string // of the hyperparameters of the last submission
}

// iterative is what control knows of iterative tasks: that none was executed.
func (c *control) iterative() *realcontrol.Control {
	return realcontrol.New(realcontrol.Options{Name: "test", Store: c.store, Logger: slog.New(slog.DiscardHandler)})
}

func (c *control) Resume(ctx context.Context, key run.Key) (document.Object, error) {
	return c.iterative().Resume(ctx, key)
}

func (c *control) Steer(ctx context.Context, key run.Key, change tune.Steering) error {
	return c.iterative().Steer(ctx, key, change)
}

func (c *control) Search(ctx context.Context, key run.Key) (tune.Progress, error) {
	return c.iterative().Search(ctx, key)
}

func (c *control) uid() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	return fmt.Sprintf("%032x", c.next)
}

func (c *control) Submit(ctx context.Context, s api.Submission) (document.Object, error) {
	c.mu.Lock()
	c.names = s.Names
	c.mu.Unlock()
	project, err := c.store.ProjectGet(ctx, s.Project)
	if err != nil {
		return nil, err
	}
	fn, doc, err := submit.Enrich(submit.Input{
		Task: s.Task, Function: s.Function, Project: project, ProjectName: s.Project, ArtifactPath: "/data/artifacts/{{project}}", NewUID: c.uid,
		AllowLocal: s.AllowLocal, ClientVersion: s.ClientVersion, PythonVersion: s.PythonVersion, RemoteUser: s.RemoteUser,
	})
	if err != nil {
		return nil, err
	}
	name := document.String(fn, "metadata", "name")
	hash, err := c.store.FunctionPut(ctx, store.FunctionPut{Project: s.Project, Name: name, Tag: document.String(fn, "metadata", "tag"), Versioned: true, Doc: fn})
	if err != nil {
		return nil, err
	}
	document.Set(doc, s.Project+"/"+name+"@"+hash, "spec", "function")
	return c.store.RunPut(ctx, run.Key{Project: s.Project, UID: document.String(doc, "metadata", "uid")}, doc)
}

func task(name, project, state, failure string) document.Object {
	now := document.Time(time.Now())
	out := document.Object{
		"kind": "BackgroundTask", "spec": document.Object{}, "status": document.Object{"state": state, "error": nil},
		"metadata": document.Object{"name": name, "project": project, "kind": "test", "created": now, "updated": now, "timeout": 900},
	}
	if failure != "" {
		document.Set(out, failure, "status", "error")
	}
	return out
}

func (c *control) Abort(ctx context.Context, key run.Key, updates document.Object) (document.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	doc, err := c.store.RunGet(ctx, key)
	if err != nil {
		return nil, err
	}
	if id := document.String(doc, "status", "abort_task_id"); id != "" {
		return c.store.TaskGet(ctx, key.Project, id)
	}
	c.next++
	name := fmt.Sprintf("abort-%d", c.next)
	made := task(name, key.Project, "succeeded", "")
	if run.State(document.String(doc, "status", "state")).Terminal() {
		made = task(name, key.Project, "failed", "Run is already in terminal state, can not be aborted")
	} else {
		changes := document.Object{"status.state": "aborting", "status.abort_task_id": name}
		for key, value := range updates {
			changes[key] = value
		}
		if _, err := c.store.RunUpdate(ctx, key, changes); err != nil {
			return nil, err
		}
		if _, err := c.store.RunUpdate(ctx, key, document.Object{"status.state": "aborted"}); err != nil {
			return nil, err
		}
	}
	return made, c.store.TaskPut(ctx, made)
}

func (c *control) DeleteRun(ctx context.Context, project, uid string) error {
	doc, err := c.store.RunGet(ctx, run.Key{Project: project, UID: uid})
	if fault.Is(err, fault.CodeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if state := document.String(doc, "status", "state"); state == "running" || state == "pending" {
		return fault.Invalid("Can not delete run in %s state", state)
	}
	if err := c.store.RunDelete(ctx, project, uid); err != nil {
		return err
	}
	return c.logs.Remove(project, uid)
}

func (c *control) DeleteProject(ctx context.Context, name string) (document.Object, error) {
	if err := c.store.ProjectDelete(ctx, name); err != nil {
		return nil, err
	}
	made := task("delete-"+name, "", "succeeded", "")
	return made, c.store.TaskPut(ctx, made)
}

func (c *control) Build(_ context.Context, function document.Object, _ bool) (api.BuildStatus, error) {
	return api.BuildStatus{State: "ready", Image: document.String(function, "spec", "image"), Function: function}, nil
}

func (c *control) BuildStatus(ctx context.Context, project, name, tag string) (api.BuildStatus, error) {
	doc, err := c.store.FunctionGet(ctx, project, name, tag, "")
	if err != nil {
		return api.BuildStatus{}, err
	}
	log := io.NopCloser(strings.NewReader("nothing to build\n"))
	return api.BuildStatus{State: "ready", Image: document.String(doc, "spec", "image"), Function: doc, Log: log}, nil
}

func debugLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
