package processor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// numbered is a function that says which revision it is of.
func numbered(n int) string {
	return fmt.Sprintf("import os, time\n\ndef handler(context, event):\n    if event.path == '/slow':\n        time.sleep(0.5)\n    if event.path == '/pid':\n        return str(os.getpid())\n    return '%d'\n", n)
}

// apply makes routes what should be.
func (f *function) apply(routes ...realtime.Route) {
	f.t.Helper()
	f.desire(routes...)
	if _, err := f.client.Apply(context.Background(), f.desired(routes...)); err != nil {
		f.t.Fatal(err)
	}
}

// serves waits until the revisions alone are there, with those states.
func (f *function) serves(states map[int]realtime.State) {
	f.t.Helper()
	f.await(func(s *realtime.Status) bool {
		if len(s.Revisions) != len(states) {
			return false
		}
		for _, r := range s.Revisions {
			if states[r.Number] != r.State {
				return false
			}
		}
		return true
	})
}

// load sends requests until the function it returns is called, which returns how
// often each answer came. Any failure fails the test. It returns after the first
// answer, so that what serves now has answered before anything is changed.
func (f *function) load(clients int) func() map[string]int {
	var mu sync.Mutex
	var all sync.WaitGroup
	got := map[string]int{}
	stop := make(chan struct{})
	answered := make(chan struct{})
	var first sync.Once
	for range clients {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a := f.get("/")
				mu.Lock()
				if a.err != nil || a.status != 200 {
					f.t.Errorf("a request failed: %d %q %v", a.status, a.body, a.err)
				}
				got[a.body]++
				mu.Unlock()
				first.Do(func() { close(answered) })
			}
		})
	}
	<-answered
	return func() map[string]int {
		close(stop)
		all.Wait()
		return got
	}
}

// TestRedeploy: traffic moves from one revision to the next and back without one
// request that fails, and what a revision had is gone after it.
func TestRedeploy(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), workers(2))
	stop := f.load(6)
	for n := 2; n <= 5; n++ {
		f.revision(n, numbered(n), workers(2))
		f.apply(realtime.Route{Revision: n, Weight: 100})
		f.serves(map[int]realtime.State{n: realtime.StateReady})
	}
	f.apply(realtime.Route{Revision: 1, Weight: 100}) // back again
	f.serves(map[int]realtime.State{1: realtime.StateReady})
	f.get("/").expect(t, 200, "text/plain", "1")
	got := stop()
	for n := 1; n <= 5; n++ {
		if got[strconv.Itoa(n)] == 0 {
			t.Errorf("revision %d answered nothing: %v", n, got)
		}
	}
}

// TestRedeployFinishesEvents: an event that has begun in the old revision is answered by it.
func TestRedeployFinishesEvents(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), nil)
	var slow sync.WaitGroup
	slow.Go(func() { f.get("/slow").expect(t, 200, "text/plain", "1") })
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Busy == 1 })
	f.revision(2, numbered(2), nil)
	f.apply(realtime.Route{Revision: 2, Weight: 100})
	slow.Wait()
	f.serves(map[int]realtime.State{2: realtime.StateReady})
	f.get("/").expect(t, 200, "text/plain", "2")
}

func TestBadRevisionGetsNothing(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), nil)
	stop := f.load(2)
	f.revision(2, "import no_such_module\n", nil)
	f.apply(realtime.Route{Revision: 2, Weight: 100})
	f.serves(map[int]realtime.State{1: realtime.StateReady, 2: realtime.StateError})
	f.apply(realtime.Route{Revision: 7, Weight: 100}) // there is none
	f.await(func(s *realtime.Status) bool { r, ok := s.Revision(7); return ok && r.State == realtime.StateError })
	f.get("/").expect(t, 200, "text/plain", "1")
	if got := stop(); len(got) != 1 {
		t.Errorf("answers: %v", got)
	}
	f.apply(realtime.Route{Revision: 1, Weight: 100})
	f.serves(map[int]realtime.State{1: realtime.StateReady})
}

func TestCanaryAndShadow(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), nil)
	f.revision(2, numbered(2), nil)
	f.apply(realtime.Route{Revision: 1, Weight: 75}, realtime.Route{Revision: 2, Weight: 25})
	f.serves(map[int]realtime.State{1: realtime.StateReady, 2: realtime.StateReady})
	got := map[string]int{}
	for range 1000 {
		got[f.get("/").body]++
	}
	if got["1"]+got["2"] != 1000 || got["2"] < 180 || got["2"] > 320 {
		t.Errorf("a quarter of 1000 events for revision 2: %v", got)
	}
	f.apply(realtime.Route{Revision: 1, Weight: 100}, realtime.Route{Revision: 2, Weight: 100, Shadow: true})
	f.await(func(s *realtime.Status) bool { return len(s.Routes) == 2 && s.Routes[1].Shadow })
	status, _ := f.client.Status(context.Background())
	before, _ := status.Revision(2)
	for range 100 {
		f.get("/").expect(t, 200, "text/plain", "1")
	}
	f.await(func(s *realtime.Status) bool {
		r, _ := s.Revision(2)
		return r.Triggers[0].Handled == before.Triggers[0].Handled+100
	})
}

func TestDrainAnswersWhatHasBegun(t *testing.T) {
	t.Parallel()
	f := deploy(t, `
import time
def init_context(context):
    def bye():
        print("bye", flush=True)
    context.platform.set_termination_callback(bye)
def handler(context, event):
    time.sleep(0.5)
    return "done"
`, workers(2))
	var slow sync.WaitGroup
	for range 6 { // some wait behind others
		slow.Go(func() { f.get("/").expect(t, 200, "text/plain", "done") })
	}
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Waiting == 4 })
	if err := f.client.Drain(context.Background()); err != nil {
		t.Fatal(err)
	}
	slow.Wait()
	select {
	case err := <-f.over:
		if err != nil {
			t.Error(err)
		}
		close(f.over)
	case <-time.After(10 * time.Second):
		t.Fatal("the processor does not end")
	}
	if got := strings.Count(f.log(), "bye"); got != 2 {
		t.Errorf("%d of 2 workers called what they were to call at their end\nlog: %s", got, f.log())
	}
	if f.dir.Alive() {
		t.Error("the lock is held")
	}
	status, err := f.dir.Status()
	if err != nil || status.State != realtime.StateDraining {
		t.Errorf("the last status: %+v %v", status, err)
	}
}

// TestThreadsThatAreLeft: a thread that the code has started, and which never ends, does
// not keep a worker that has answered everything.
func TestThreadsThatAreLeft(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]string{"plain": "def handler", "coroutine": "async def handler"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := deploy(t, `
import threading, time
threading.Thread(target=time.sleep, args=(100000,), name="forgotten").start()
`+handler+`(context, event):
    return "done"
`, func(r *realtime.Revision) { r.Grace = time.Hour }) // nothing but the worker itself ends it
			f.get("/").expect(t, 200, "text/plain", "done")
			f.stop()
			if !strings.Contains(f.log(), "threads of its code run: forgotten") {
				t.Errorf("log: %s", f.log())
			}
		})
	}
}

func TestScaleToZero(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), func(r *realtime.Revision) {
		r.Replicas, r.IdleToZero = realtime.Replicas{Min: 0, Max: 1}, 300*time.Millisecond
		workers(2)(r)
	})
	pid, _ := strconv.Atoi(f.get("/pid").body)
	for range 2 {
		f.await(func(s *realtime.Status) bool {
			return s.State == realtime.StateScaledToZero && s.Revisions[0].Triggers[0].Workers == 0
		})
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("the worker %d is there: %v", pid, err)
		}
		var all sync.WaitGroup
		for range 5 { // held until a worker is up
			all.Go(func() { f.get("/").expect(t, 200, "text/plain", "1") })
		}
		all.Wait()
		pid, _ = strconv.Atoi(f.get("/pid").body)
	}
}

// TestScaleToZeroAfterALongStart: workers that load the code for longer than they may be
// idle become ready before they go.
func TestScaleToZeroAfterALongStart(t *testing.T) {
	t.Parallel()
	f := prepare(t, "import time\ntime.sleep(4)\n"+numbered(1), func(r *realtime.Revision) {
		r.Replicas, r.IdleToZero = realtime.Replicas{Min: 0, Max: 1}, time.Millisecond
	})
	f.run()
	f.await(func(s *realtime.Status) bool { return s.State == realtime.StateScaledToZero })
}

func TestScaleUp(t *testing.T) {
	t.Parallel()
	f := deploy(t, hostile, func(r *realtime.Revision) { r.Replicas = realtime.Replicas{Min: 1, Max: 3} })
	var all sync.WaitGroup
	var stop atomic.Bool
	for range 6 {
		all.Go(func() {
			for !stop.Load() {
				f.get("/sleep/0.1").expect(t, 200, "text/plain", "slept")
			}
		})
	}
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Workers == 3 })
	stop.Store(true)
	all.Wait()
}

func TestCron(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fired")
	f := deploy(t, `
import os
def handler(context, event):
    with open(os.environ["FIRED"], "a") as file:
        file.write("%s %s %s %s %s\n" % (event.trigger.kind, event.body, event.headers, event.path, event.id))
`, func(r *realtime.Revision) {
		r.Env = append(r.Env, "FIRED="+path)
		r.Triggers = []realtime.Trigger{{Name: "tick", Kind: realtime.TriggerCron, Cron: &realtime.Cron{
			Interval: 50 * time.Millisecond, Body: `{"n": 1}`, Headers: map[string]string{"Content-Type": "application/json"}, Path: "/tick",
		}}}
	})
	f.await(func(s *realtime.Status) bool {
		for _, trigger := range s.Revisions[0].Triggers {
			if trigger.Kind == realtime.TriggerCron && trigger.Handled >= 5 {
				return true
			}
		}
		return false
	})
	f.stop()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if !strings.HasPrefix(line, "cron {'n': 1} {'Content-Type': 'application/json'} /tick ") {
			t.Errorf("event %q", line)
		}
		ids[line[strings.LastIndex(line, " "):]] = true
	}
	if len(ids) < 5 {
		t.Errorf("%d different ids of at least 5 events", len(ids))
	}
}

func TestOneFunctionCallsAnother(t *testing.T) {
	t.Parallel()
	callee := deploy(t, hostile, nil)
	f := deploy(t, `
def handler(context, event):
    name = event.fields.get("name")
    try:
        made = type(event)(body={"a": 1}, path="/some")
        answer = context.platform.call_function(name, made, timeout=float(event.fields.get("timeout", 5)))
        return [answer.status_code, answer.content_type, str(answer.body)]
    except OSError as error:
        return [type(error).__name__, str(error)]
`, nil)
	name := filepath.Base(callee.dir.Path)
	f.get("/?name="+name).expect(t, 200, "application/json", `[200, "application/json", "{'a': 1}"]`)
	if a := f.get("/?name=none-such"); !strings.Contains(a.body, "ConnectionError") || !strings.Contains(a.body, "none-such is not deployed") {
		t.Errorf("a function that is not there: %d %q", a.status, a.body)
	}
	callee.stop()
	if a := f.get("/?name=" + name); !strings.Contains(a.body, "does not serve") {
		t.Errorf("a function that has ended: %d %q", a.status, a.body)
	}
}

func TestOneProcessorAtATime(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), nil)
	if !f.dir.Alive() {
		t.Fatal("nobody holds the lock")
	}
	second := &function{t: t, dir: f.dir, client: f.client, http: f.http}
	second.run()
	err := <-second.over
	close(second.over)
	if err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second processor: %v", err)
	}
	f.get("/").expect(t, 200, "text/plain", "1")
}

// TestFolderIsDeleted: a processor whose folder somebody has deleted, with all that the
// server would find it by, serves nobody for ever.
func TestFolderIsDeleted(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), nil)
	if err := os.RemoveAll(f.dir.Path); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.over:
		close(f.over)
	case <-time.After(30 * time.Second):
		t.Fatal("it serves on")
	}
}

// TestAgain: a processor that begins where another one ended serves the same.
func TestAgain(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), nil)
	f.revision(2, numbered(2), nil)
	f.apply(realtime.Route{Revision: 2, Weight: 100})
	f.serves(map[int]realtime.State{2: realtime.StateReady})
	f.stop()
	f.run()
	f.serves(map[int]realtime.State{2: realtime.StateReady})
	f.get("/").expect(t, 200, "text/plain", "2")
}

// TestNothingIsServedUnprotected: what a processor cannot protect it does not serve.
func TestDesiredIsChecked(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), nil)
	for name, change := range map[string]func(*realtime.Desired){
		"weights": func(d *realtime.Desired) { d.Routes[0].Weight = 50 },
		"twice":   func(d *realtime.Desired) { d.Routes = append(d.Routes, d.Routes[0]) },
		"listen":  func(d *realtime.Desired) { d.Listen = "nowhere" },
		"open":    func(d *realtime.Desired) { d.Listen = "0.0.0.0:0" },
	} {
		d := f.desired(realtime.Route{Revision: 1, Weight: 100})
		change(&d)
		if _, err := f.client.Apply(context.Background(), d); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	f.get("/").expect(t, 200, "text/plain", "1")
}
