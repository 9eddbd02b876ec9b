package processor_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// The processor does as it is told: with an interpreter that has a global lock,
// threads take turns, which is all that these tests are indifferent to.

func threads(n int) func(*realtime.Trigger) {
	return func(t *realtime.Trigger) { t.Threads = n }
}

const together = `
import os, threading, time

barrier = threading.Barrier(4, timeout=20)

def init_context(context):
    context.user_data.loaded = object()

def pieces():
    for n in range(8):
        time.sleep(0.25)
        yield str(n)

def handler(context, event):
    if event.path == "/together":
        barrier.wait()
        return "%d %d" % (os.getpid(), id(context.user_data.loaded))
    if event.path == "/hang":
        time.sleep(60)
    if event.path == "/exit":
        os._exit(3)
    if event.path == "/pieces":
        return pieces()
    if event.path.startswith("/sleep"):
        time.sleep(float(event.path[7:]))
    return str(os.getpid())
`

// at sends requests at once and returns their answers.
func (f *function) at(paths ...string) []answer {
	out := make([]answer, len(paths))
	var all sync.WaitGroup
	for i, path := range paths {
		all.Go(func() { out[i] = f.get(path) })
	}
	all.Wait()
	return out
}

func TestThreadsShareWhatIsLoaded(t *testing.T) {
	t.Parallel()
	f := deploy(t, together, workers(1, threads(4)))
	answers := f.at("/together", "/together", "/together", "/together")
	for _, a := range answers {
		if a.status != http.StatusOK || a.body != answers[0].body {
			t.Errorf("got %d %q, want all to be %q", a.status, a.body, answers[0].body)
		}
	}
	// More than there are threads wait for their turn.
	for _, a := range f.at("/sleep/0.05", "/sleep/0.05", "/sleep/0.05", "/sleep/0.05", "/sleep/0.05", "/sleep/0.05", "/sleep/0.05", "/sleep/0.05", "/sleep/0.05") {
		if a.status != http.StatusOK || !strings.HasPrefix(answers[0].body, a.body+" ") {
			t.Errorf("got %d %q", a.status, a.body)
		}
	}
}

// TestThreadsThatHang: the time of an event counts from its own beginning, whatever is
// answered beside it.
func TestThreadsThatHang(t *testing.T) {
	t.Parallel()
	f := deploy(t, together, timeout(time.Second, workers(1, threads(3))))
	over := make(chan answer, 1)
	started := time.Now()
	go func() { over <- f.get("/hang") }()
	for time.Since(started) < 700*time.Millisecond {
		f.get("/").expect(t, 200, "text/plain", f.get("/").body)
	}
	hung := <-over
	hung.problem(t, 408, "handler timed out")
	if took := time.Since(started); took < time.Second || took > 5*time.Second {
		t.Errorf("given up after %s; the limit is 1s", took)
	}
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Workers == 1 })
	if a := f.get("/"); a.status != http.StatusOK {
		t.Errorf("after that: %d %q", a.status, a.body)
	}
}

// TestThreadsBesideOneThatHangs: what is in progress beside it is finished by the same
// process, what comes later goes to another one.
func TestThreadsBesideOneThatHangs(t *testing.T) {
	t.Parallel()
	f := deploy(t, together, timeout(4*time.Second, workers(1, threads(3))))
	first := f.get("/").body
	over, beside := make(chan answer, 1), make(chan answer, 1)
	go func() { over <- f.get("/hang") }()
	time.Sleep(2500 * time.Millisecond)
	go func() { beside <- f.get("/sleep/2.5") }()
	hung := <-over
	hung.problem(t, 408, "handler timed out")
	if a := f.get("/"); a.status != http.StatusOK || a.body == first {
		t.Errorf("after that: %d %q, which is the process that hangs: %q", a.status, a.body, first)
	}
	a := <-beside
	a.expect(t, 200, "text/plain", first)
	status := f.await(func(*realtime.Status) bool { return true }).Revisions[0].Triggers[0]
	if status.Restarts != 1 || status.Failed != 0 && status.Failed != 1 {
		t.Errorf("restarts %d, failed %d", status.Restarts, status.Failed)
	}
	// It is killed when only the one that hangs is left.
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Failed == 1 })
}

// TestThreadsStream: a stream may last longer than an event, each of its pieces may not.
func TestThreadsStream(t *testing.T) {
	t.Parallel()
	f := deploy(t, together, timeout(1500*time.Millisecond, workers(1, threads(2))))
	a := f.get("/pieces")
	if a.status != http.StatusOK || a.body != "01234567" {
		t.Errorf("%d %q", a.status, a.body)
	}
}

// TestThreadsThatDie: what had begun beside is told so, the next events are served.
func TestThreadsThatDie(t *testing.T) {
	t.Parallel()
	f := deploy(t, together, workers(1, threads(3)))
	beside := make(chan answer, 1)
	go func() { beside <- f.get("/sleep/20") }()
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Busy == 1 })
	f.get("/exit").problem(t, 500, "another one takes its place")
	a := <-beside
	a.problem(t, 500, "another one takes its place")
	if a := f.get("/"); a.status != http.StatusOK {
		t.Errorf("after that: %d %q", a.status, a.body)
	}
}

// TestThreadsScale: two workers of two threads each are enough for three events at once.
func TestThreadsScale(t *testing.T) {
	t.Parallel()
	f := deploy(t, together, func(r *realtime.Revision) {
		workers(1, threads(2))(r)
		r.Replicas, r.TargetUtilisation = realtime.Replicas{Min: 1, Max: 4}, 1
	})
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if a := f.get("/sleep/0.1"); a.status != http.StatusOK {
					t.Errorf("%d %q", a.status, a.body)
				}
			}
		})
	}
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Workers == 2 })
	time.Sleep(3 * time.Second) // the keeper looks three times
	if n := f.await(func(*realtime.Status) bool { return true }).Revisions[0].Triggers[0].Workers; n > 2 {
		t.Errorf("%d workers for three events at once", n)
	}
	close(stop)
	all.Wait()
}

// TestScaleAfterLongEvents: the time of an event counts when it passes, not when the event
// is answered.
func TestScaleAfterLongEvents(t *testing.T) {
	t.Parallel()
	f := deploy(t, together, func(r *realtime.Revision) {
		workers(1)(r)
		r.Replicas, r.TargetUtilisation = realtime.Replicas{Min: 1, Max: 8}, 1
	})
	if a := f.get("/sleep/6"); a.status != http.StatusOK {
		t.Errorf("%d %q", a.status, a.body)
	}
	time.Sleep(3 * time.Second) // the keeper looks three times
	if n := f.await(func(*realtime.Status) bool { return true }).Revisions[0].Triggers[0].Workers; n > 2 {
		t.Errorf("%d workers for one event at once", n)
	}
}

func TestThreadsAreChecked(t *testing.T) {
	t.Parallel()
	base := realtime.Revision{Number: 1, Project: "p", Name: "f", Mode: realtime.ModeHandler, Python: "python3", Runtime: "/r", Handler: "h"}
	for name, c := range map[string]struct {
		change func(*realtime.Revision)
		say    string
	}{
		"many":  {workers(1, threads(257)), "from 1 to 256"},
		"batch": {workers(1, threads(2), func(t *realtime.Trigger) { t.Batch = &realtime.Batch{} }), "a batch and threads"},
		"jobs":  {func(r *realtime.Revision) { workers(1, threads(2))(r); r.Kind = realtime.KindJobs }, "handlers of events in Python"},
		"go": {func(r *realtime.Revision) {
			workers(1, threads(2))(r)
			r.Mode, r.Command = realtime.ModeProgram, []string{"x"}
		}, "handlers of events in Python"},
	} {
		r := base
		c.change(&r)
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := base
	workers(3, threads(4))(&r)
	if got := r.WithoutThreads().Triggers[0]; got.Workers != 12 || got.Threads > 1 || r.Triggers[0].Threads != 4 {
		t.Errorf("without threads: %+v, before: %+v", got, r.Triggers[0])
	}
}
