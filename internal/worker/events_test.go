package worker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/worker"
)

// outcome collects what becomes of one event.
type outcome struct {
	mu     sync.Mutex
	status int
	body   string
	err    error
	done   chan struct{}
}

func newOutcome() *outcome { return &outcome{done: make(chan struct{})} }

func (o *outcome) Reply(r *worker.Reply, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err = err; err == nil {
		o.status = max(o.status, r.Status)
		o.body += string(r.Body)
		if r.More {
			return
		}
	}
	close(o.done)
}

func (o *outcome) wait(t *testing.T) {
	t.Helper()
	select {
	case <-o.done:
	case <-time.After(30 * time.Second):
		t.Fatal("no reply within 30 seconds")
	}
}

// serve starts a worker that serves events with code.
func serve(t *testing.T, code string) *worker.Worker {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "handler.py")
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	begun, err := os.Create(filepath.Join(dir, "begun"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { begun.Close() })
	if err := begun.Truncate(4); err != nil {
		t.Fatal(err)
	}
	w := start(t).worker
	_, err = w.Load(context.Background(), worker.Load{
		Mode: worker.ModeEvent, File: file, Handler: "handler",
		Event: &worker.EventLoad{TriggerKind: "http", TriggerName: "web", Worker: "0", Begun: begun.Name(), Mark: worker.MarkOf(begun)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestEventsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	w := serve(t, `
def handler(context, event):
    return context.Response(body=event.body + b" " + event.path.encode("utf-8", "surrogateescape"), status_code=201, headers={"n": 1})
`)
	var all []*outcome
	for range 1000 {
		o := newOutcome()
		all = append(all, o)
		if err := w.Begin(&worker.Request{ID: "1", Path: "/a\xff\"", Body: []byte("body")}, o); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range all {
		o.wait(t)
		if o.err != nil || o.status != 201 || o.body != "body /a\xff\"" {
			t.Fatalf("status %d, body %q, error %v", o.status, o.body, o.err)
		}
	}
}

func TestEventsThatHadNotBegunSaySo(t *testing.T) {
	t.Parallel()
	w := serve(t, `
import os, time
def handler(context, event):
    if event.body == b"die":
        time.sleep(0.2)
        os._exit(3)
    return event.body
`)
	first, second, third := newOutcome(), newOutcome(), newOutcome()
	if err := w.Begin(&worker.Request{Body: []byte("first")}, first); err != nil {
		t.Fatal(err)
	}
	first.wait(t)
	if err := errors.Join(w.Begin(&worker.Request{Body: []byte("die")}, second), w.Begin(&worker.Request{Body: []byte("later")}, third)); err != nil {
		t.Fatal(err)
	}
	second.wait(t)
	third.wait(t)
	var died *worker.DiedError
	if !errors.As(second.err, &died) || !died.Begun || died.Exit.Code != 3 {
		t.Errorf("the event that killed the worker: %v", second.err)
	}
	if !errors.As(third.err, &died) || died.Begun {
		t.Errorf("the event behind it: %v", third.err)
	}
	if err := w.Begin(&worker.Request{}, newOutcome()); !errors.As(err, &died) || died.Begun {
		t.Errorf("an event for a worker that is gone: %v", err)
	}
}
