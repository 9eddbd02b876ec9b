package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/worker"
	"github.com/millrace/millrace/sdk"
)

// The program of the tests is this test binary, started as a worker.
func TestMain(m *testing.M) {
	if os.Getenv("MILLRACE_WORKER") != "" {
		sdk.Serve(handle)
	}
	os.Exit(m.Run())
}

var (
	meeting = make(chan struct{})
)

// broken is a body that ends with an error.
type broken struct{ left io.Reader }

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.left.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("the disk is gone")
	}
	return n, err
}

func (b *broken) Close() error { return nil }

func handle(ctx *sdk.Context, event *sdk.Event) (any, error) {
	switch event.Path {
	case "/echo":
		return event.Body, nil
	case "/nothing":
		return nil, nil
	case "/value":
		return map[string]any{
			"id": event.ID, "method": event.Method, "fields": event.Fields, "headers": event.Headers, "type": event.ContentType,
			"time": event.Timestamp.Unix(), "trigger": event.Trigger, "worker": ctx.Worker, "variable": os.Getenv("GREETING"),
			"marked": os.Getenv("MILLRACE_WORKER"),
		}, nil
	case "/whole":
		return &sdk.Response{Status: 201, ContentType: "text/csv", Headers: map[string][]string{"X-N": {"1", "2"}}, Body: []byte("a,b")}, nil
	case "/missing":
		return nil, sdk.Errorf(404, "there is no %s", "x")
	case "/error":
		return nil, errors.New("it went wrong")
	case "/panic":
		panic("oh no")
	case "/odd":
		return func() {}, nil
	case "/status":
		return &sdk.Response{Status: 7}, nil
	case "/stream":
		return strings.NewReader(strings.Repeat("0123456789", 20_000)), nil
	case "/broken":
		return &broken{strings.NewReader("begun")}, nil
	case "/log":
		ctx.Logger.Debug("quiet")
		ctx.Logger.With("a", 1).Warn("loud", "b", "two")
		return "logged", nil
	case "/meet": // answered only while another one waits
		meeting <- struct{}{}
		return "met", nil
	case "/wait":
		<-meeting
		return "waited", nil
	case "/slow":
		time.Sleep(200 * time.Millisecond)
		return "slow", nil
	}
	return nil, sdk.Errorf(400, "what is %s?", event.Path)
}

// outcome is what becomes of one event.
type outcome struct {
	mu     sync.Mutex
	reply  worker.Reply
	body   string
	pieces int
	failed bool
	err    error
	done   chan struct{}
}

func (o *outcome) Reply(r *worker.Reply, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err = err; err == nil {
		if r.Status != 0 {
			o.reply = *r
		}
		o.body += string(r.Body)
		o.pieces++
		o.failed = r.Failed
		if r.More {
			return
		}
	}
	close(o.done)
}

type program struct {
	t      *testing.T
	worker *worker.Worker
	log    string
}

func start(t *testing.T) *program {
	t.Helper()
	p := &program{t: t, log: filepath.Join(t.TempDir(), "log")}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.worker, err = worker.Start(context.Background(), worker.Spec{Program: []string{os.Args[0]}, Env: []string{"GREETING=early"}, Stdout: log, Stderr: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.worker.Kill(); p.worker.Wait() })
	return p
}

func (p *program) logged() string {
	raw, _ := os.ReadFile(p.log)
	return string(raw)
}

func serve(t *testing.T) *program {
	t.Helper()
	p := start(t)
	name, err := p.worker.Load(context.Background(), worker.Load{
		Mode: worker.ModeEvent, Handler: "main", Env: map[string]string{"GREETING": "hello"},
		Event: &worker.EventLoad{TriggerKind: "http", TriggerName: "web", Worker: "3"},
	})
	if err != nil || name != "main" || !p.worker.Async() {
		t.Fatalf("Load = %q, %v, async %v", name, err, p.worker.Async())
	}
	return p
}

func (p *program) begin(r *worker.Request) *outcome {
	p.t.Helper()
	o := &outcome{done: make(chan struct{})}
	if err := p.worker.Begin(r, o); err != nil {
		p.t.Fatal(err)
	}
	return o
}

func (o *outcome) wait(t *testing.T) {
	t.Helper()
	select {
	case <-o.done:
	case <-time.After(20 * time.Second):
		t.Fatal("no reply within 20 seconds")
	}
	if o.err != nil {
		t.Fatal(o.err)
	}
}

func TestResponses(t *testing.T) {
	t.Parallel()
	p := serve(t)
	for _, c := range []struct {
		path, body  string
		status      int
		contentType string
		want        string
		failed      bool
	}{
		{"/echo", "x\xff", 200, "text/plain", "x\xff", false},
		{"/nothing", "", 204, "", "", false},
		{"/whole", "", 201, "text/csv", "a,b", false},
		{"/missing", "", 404, "text/plain", "there is no x", false},
		{"/error", "", 500, "text/plain", "it went wrong", true},
		{"/panic", "", 500, "text/plain", "panic: oh no", true},
		{"/odd", "", 500, "text/plain", "the response cannot be written as JSON: json: unsupported type: func()", true},
		{"/status", "", 500, "text/plain", "the handler returned the status 7, which is none of 200 to 599", true},
		{"/stream", "", 200, "application/octet-stream", strings.Repeat("0123456789", 20_000), false},
		{"/broken", "", 200, "application/octet-stream", "begun", true},
	} {
		o := p.begin(&worker.Request{Path: c.path, Body: []byte(c.body)})
		o.wait(t)
		if o.reply.Status != c.status || o.reply.ContentType != c.contentType || o.body != c.want || o.failed != c.failed {
			t.Errorf("%s: %d %q %.100q failed %v", c.path, o.reply.Status, o.reply.ContentType, o.body, o.failed)
		}
		if c.path == "/whole" && fmt.Sprint(o.reply.Headers) != "[[X-N 1] [X-N 2]]" {
			t.Errorf("headers %v", o.reply.Headers)
		}
		if c.path == "/stream" && o.pieces < 3 {
			t.Errorf("the stream came in %d pieces", o.pieces)
		}
	}
	for _, want := range []string{"it went wrong\n", "panic: oh no\n\n", "sdk_test.handle", "the disk is gone"} {
		if !strings.Contains(p.logged(), want) {
			t.Errorf("the log has no %q:\n%s", want, p.logged())
		}
	}
	if strings.Contains(p.logged(), "there is no x") {
		t.Error("the caller's mistake is in the log")
	}
}

func TestEvent(t *testing.T) {
	t.Parallel()
	p := serve(t)
	o := p.begin(&worker.Request{
		ID: "7", Method: "PUT", Path: "/value", ContentType: "text/x", Timestamp: time.Unix(1700000000, 0),
		Fields: [][2]string{{"q", "a b"}}, Headers: [][2]string{{"X-A", "1"}},
	})
	o.wait(t)
	const want = `{"fields":{"q":"a b"},"headers":{"X-A":"1"},"id":"7","marked":"","method":"PUT","time":1700000000,"trigger":{"kind":"http","name":"web"},"type":"text/x","variable":"hello","worker":"3"}`
	if o.body != want || o.reply.ContentType != "application/json" {
		t.Errorf("%s %s", o.reply.ContentType, o.body)
	}
}

// TestAtOnce: events do not wait for each other, and those that have begun are
// answered before a drained worker ends.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	p := serve(t)
	first := p.begin(&worker.Request{Path: "/wait"})
	second := p.begin(&worker.Request{Path: "/meet"})
	first.wait(t)
	second.wait(t)
	var all []*outcome
	for range 5000 {
		all = append(all, p.begin(&worker.Request{Path: "/echo", Body: []byte("x")}))
	}
	slow := p.begin(&worker.Request{Path: "/slow"})
	exit, err := p.worker.Drain(context.Background())
	if err != nil || !exit.Success() {
		t.Errorf("Drain = %v, %v", exit, err)
	}
	for _, o := range append(all, slow) {
		o.wait(t)
	}
	if slow.body != "slow" {
		t.Errorf("body %q", slow.body)
	}
}

func TestLogRecords(t *testing.T) {
	t.Parallel()
	p := serve(t)
	o := p.begin(&worker.Request{Path: "/log", LogLevel: "info"})
	o.wait(t)
	var records []map[string]any
	if err := json.Unmarshal(o.reply.Logs, &records); err != nil || len(records) != 1 {
		t.Fatalf("logs %s, %v", o.reply.Logs, err)
	}
	if r := records[0]; r["level"] != "warn" || r["message"] != "loud" || r["a"] != "1" || r["b"] != "two" {
		t.Errorf("record %v", r)
	}
	if log := p.logged(); !strings.Contains(log, "level=DEBUG msg=quiet") || !strings.Contains(log, "level=WARN msg=loud a=1 b=two") {
		t.Errorf("log %q", log)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		load worker.Load
		want string
	}{
		{worker.Load{Handler: "main"}, "this program serves events and cannot be run; deploy it with kind nuclio"},
		{worker.Load{Mode: worker.ModeEvent, Event: &worker.EventLoad{Batch: true}}, "a handler in Go takes one event at a time; leave the batch out of its trigger"},
		{worker.Load{Mode: worker.ModeEvent, Workdir: "/nowhere", Event: &worker.EventLoad{}}, "the working directory cannot be entered: chdir /nowhere: no such file or directory"},
	} {
		_, err := start(t).worker.Load(context.Background(), c.load)
		var failure *worker.Failure
		if !errors.As(err, &failure) || failure.Message != c.want {
			t.Errorf("Load = %v, want %q", err, c.want)
		}
	}
}
