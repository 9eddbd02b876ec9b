package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
)

// serve starts a server of handler and returns a client of it.
func serve(t *testing.T, handler http.HandlerFunc) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return dial(t, client.Options{URL: server.URL, Token: "secret"})
}

func dial(t *testing.T, options client.Options) *client.Client {
	t.Helper()
	c, err := client.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestErrorsHaveTheirCodesAndSentences(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status  int
		body    string
		code    fault.Code
		message string
	}{
		{404, `{"detail": "MLRunNotFoundError('Project not found: name=demo, project_id=None')"}`, fault.CodeNotFound, "Project not found: name=demo, project_id=None"},
		{404, `{"detail": "MLRunNotFoundError(\"it isn't here\")"}`, fault.CodeNotFound, "it isn't here"},
		{400, `{"detail": {"reason": "Runtime error: metadata.name is required"}}`, fault.CodeInvalid, "metadata.name is required"},
		{422, `{"detail": [{"loc": ["query", "page"], "msg": "must be greater than 0", "type": "value_error"}]}`, fault.CodeInvalid, "query.page: must be greater than 0"},
		{409, `{"detail": "exists"}`, fault.CodeConflict, "exists"},
		{412, `{"detail": "first this (then that)"}`, fault.CodePrecondition, "first this (then that)"},
		{413, `{"detail": "too large"}`, fault.CodeTooLarge, "too large"},
		{403, `{"detail": "no"}`, fault.CodeForbidden, "no"},
		{501, `{"detail": "not here"}`, fault.CodeNotSupported, "not here"},
		{500, `{"detail": "internal error"}`, fault.CodeInternal, "internal error"},
		{418, ``, fault.CodeInvalid, "POST /api/v1/projects was answered with status 418 I'm a teapot"},
		{400, `<html>`, fault.CodeInvalid, "POST /api/v1/projects was answered with status 400 Bad Request"},
		{401, `{"detail": "who are you?"}`, fault.CodeUnauthorized, "who are you?; give a token in MILLRACE_TOKEN or --token-file"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.status, test.body), func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			})
			_, err := c.CreateProject(t.Context(), document.Object{})
			if got := fault.CodeOf(err); got != test.code {
				t.Errorf("code %q, want %q", got, test.code)
			}
			if err == nil || err.Error() != test.message {
				t.Errorf("message %v, want %q", err, test.message)
			}
		})
	}
}

func TestWhatIsRepeated(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	tests := []struct {
		name string
		call func(*client.Client) error
		want int32 // requests when the first two answers are 503
	}{
		{"reading", func(c *client.Client) error { _, err := c.Project(ctx, "p"); return err }, 3},
		{"storing a function", func(c *client.Client) error {
			_, err := c.StoreFunction(ctx, "p", "f", "", true, document.Object{})
			return err
		}, 3},
		{"deleting", func(c *client.Client) error { return c.DeleteRun(ctx, "p", "u") }, 3},
		{"submitting", func(c *client.Client) error { _, err := c.Submit(ctx, client.Submission{}); return err }, 1},
		{"creating", func(c *client.Client) error { _, err := c.CreateProject(ctx, document.Object{}); return err }, 1},
		{"aborting", func(c *client.Client) error { return c.Abort(ctx, "p", "u", "") }, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if requests.Add(1) <= 2 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				_, _ = io.WriteString(w, "{}")
			})
			err := test.call(c)
			if got := requests.Load(); got != test.want {
				t.Errorf("%d requests, want %d", got, test.want)
			}
			if test.want == 1 && !fault.Is(err, fault.CodeUnavailable) || test.want == 3 && err != nil {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	_ = listener.Close()
	c := dial(t, client.Options{URL: url})
	begun := time.Now()
	_, err = c.Project(t.Context(), "p")
	if !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("error %v", err)
	}
	if want := "no server answers at " + url + "; start one with 'millrace server' or correct --server (MILLRACE_URL)"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "localhost:8080", "http://", "ftp://host", "unix://", "http://a b/"} {
		if _, err := client.New(client.Options{URL: url}); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("New(%q): %v, want an invalid argument", url, err)
		}
	}
}

func TestTokenAndPathAreSent(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("Authorization %q", got)
		}
		if got := r.URL.EscapedPath(); got != "/api/v2/projects/p/artifacts/a%2Fb%20c" {
			t.Errorf("path %q", got)
		}
		_, _ = io.WriteString(w, `{"kind": "model"}`)
	})
	doc, err := c.Artifact(t.Context(), "p", client.Artifact{Key: "a/b c", Iter: -1})
	if err != nil || document.String(doc, "kind") != "model" {
		t.Errorf("%v, %v", doc, err)
	}
}

func TestAnswersThatAreNotTheAPI(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>a router's login page") })
	if _, err := c.Project(t.Context(), "p"); !fault.Is(err, fault.CodeUnavailable) || !strings.Contains(err.Error(), "not its API") {
		t.Errorf("error %v", err)
	}
}

func TestListFollowsPages(t *testing.T) {
	t.Parallel()
	var requests []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.URL.Query().Get("page-token"))
		switch r.URL.Query().Get("page-token") {
		case "":
			_, _ = io.WriteString(w, `{"runs": [{"n": 1}, {"n": 2}], "pagination": {"page": 1, "page-size": 2, "page-token": "next"}}`)
		default:
			_, _ = io.WriteString(w, `{"runs": [{"n": 3}], "pagination": {"page": 2, "page-size": 2, "page-token": null}}`)
		}
	})
	count := func(limit int) (n int) {
		requests = nil
		for doc, err := range c.Runs(t.Context(), "p", client.RunQuery{Limit: limit}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
			if got, _ := document.Int(doc, "n"); int(got) != n {
				t.Errorf("item %d is %v", n, doc)
			}
		}
		return n
	}
	if got := count(0); got != 3 {
		t.Errorf("all are %d", got)
	}
	if diff := cmp.Diff([]string{"", "next"}, requests); diff != "" {
		t.Error(diff)
	}
	if got := count(2); got != 2 || len(requests) != 1 {
		t.Errorf("two are %d in %d requests", got, len(requests))
	}
	if got := count(1); got != 1 {
		t.Errorf("one is %d", got)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	const log = "first\nsecond\nthird\n"
	var requests atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := int(requests.Add(1))
		var offset int
		_, _ = fmt.Sscan(r.URL.Query().Get("offset"), &offset)
		available, state := log[:min(6*n, len(log))], "running"
		if n >= 5 {
			available, state = log, "completed"
		}
		w.Header().Set("x-mlrun-run-state", state)
		_, _ = io.WriteString(w, available[min(offset, len(available)):])
	})
	var got strings.Builder
	var states []run.State
	state, err := c.Follow(t.Context(), client.LogQuery{Project: "p", UID: "u"}, client.Follower{
		Log:   func(data []byte) error { got.Write(data); return nil },
		State: func(state run.State) error { states = append(states, state); return nil },
	})
	if err != nil || state != run.Completed {
		t.Errorf("ended with %q, %v", state, err)
	}
	if got.String() != log {
		t.Errorf("followed %q", got.String())
	}
	if len(states) == 0 || states[len(states)-1] != run.Completed {
		t.Errorf("states %v", states)
	}
}

func TestFollowEndsWithItsReader(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-mlrun-run-state", "running")
		_, _ = io.WriteString(w, "more")
	})
	full := errors.New("full")
	if _, err := c.Follow(t.Context(), client.LogQuery{}, client.Follower{Log: func([]byte) error { return full }}); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	_, err := c.Follow(ctx, client.LogQuery{}, client.Follower{Log: func([]byte) error { cancel(gone); return nil }})
	if !errors.Is(err, gone) {
		t.Errorf("error %v, want the cause of the end", err)
	}
}

func TestTasks(t *testing.T) {
	t.Parallel()
	var polls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		task := `{"kind": "BackgroundTask", "metadata": {"name": "t1"}, "spec": {}, "status": {"state": %q, "error": %q}}`
		switch {
		case strings.HasSuffix(r.URL.Path, "/abort"):
			w.WriteHeader(http.StatusAccepted)
			_, _ = fmt.Fprintf(w, task, "running", "")
		case r.URL.Path != "/api/v1/projects/p/background-tasks/t1":
			t.Errorf("path %s", r.URL.Path)
		case polls.Add(1) < 3:
			_, _ = fmt.Fprintf(w, task, "running", "")
		default:
			_, _ = fmt.Fprintf(w, task, "failed", "MLRunConflictError('the run is over')")
		}
	})
	err := c.Abort(t.Context(), "p", "u", "why")
	if err == nil || err.Error() != "the run is over" {
		t.Errorf("error %v", err)
	}
	if polls.Load() != 3 {
		t.Errorf("%d polls", polls.Load())
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status": "ok"}`) })}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	c := dial(t, client.Options{URL: "unix://" + path})
	doc, err := c.Health(t.Context())
	if err != nil || document.String(doc, "status") != "ok" {
		t.Errorf("%v, %v", doc, err)
	}
	gone := dial(t, client.Options{URL: "unix://" + path + "x"})
	if _, err := gone.Health(t.Context()); !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("error %v", err)
	}
}

// handlerClient is a plain HTTP client of a handler in this process.
func handlerClient(handler http.HandlerFunc) *http.Client {
	return &http.Client{Transport: client.HandlerTransport(handler)}
}

func TestHandlerTransport(t *testing.T) {
	t.Parallel()
	hc := handlerClient(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Answer", r.Method+" "+r.URL.Query().Get("q"))
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-Late", "not sent")
		_, _ = w.Write(body)
	})
	response, err := hc.Post("http://in-process/path?q=1", "", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "hello" || response.StatusCode != http.StatusTeapot {
		t.Errorf("%d %q %v", response.StatusCode, body, err)
	}
	if response.Header.Get("X-Answer") != "POST 1" || response.Header.Get("X-Late") != "" {
		t.Errorf("headers %v", response.Header)
	}
}

func TestHandlerTransportStreams(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	ended := make(chan struct{})
	hc := handlerClient(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		for {
			if _, err := io.WriteString(w, "line\n"); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	response, err := hc.Get("http://in-process/")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(response.Body)
	for range 3 {
		if !lines.Scan() || lines.Text() != "line" {
			t.Fatalf("got %q, %v", lines.Text(), lines.Err())
		}
		next <- struct{}{}
	}
	_ = response.Body.Close() // waits for the handler
	select {
	case <-ended:
	default:
		t.Error("the handler goes on after its body was closed")
	}
}

func TestHandlerTransportPanicsAreErrors(t *testing.T) {
	t.Parallel()
	hc := handlerClient(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	})
	response, err := hc.Get("http://in-process/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("half an answer passes for a whole one: %q", body)
	}
}

func TestHandlerTransportCancel(t *testing.T) {
	t.Parallel()
	hc := handlerClient(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://in-process/", nil)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := hc.Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
