package processor_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// TestTriggersThatShareWorkers: triggers with one allocator have one pool, in which each
// event says where it comes from.
func TestTriggersThatShareWorkers(t *testing.T) {
	t.Parallel()
	f := deploy(t, `
import os
ticks = 0
def handler(context, event):
    global ticks
    if event.trigger.kind == "cron":
        ticks += 1
    return {"pid": os.getpid(), "ticks": ticks, "event": [event.trigger.kind, event.trigger.name], "context": [context.trigger.kind, context.trigger.name], "about": os.environ["NUCLIO_FUNCTION_DESCRIPTION"]}
`, func(r *realtime.Revision) {
		r.Description = "counts"
		r.Triggers = []realtime.Trigger{
			{Name: "tick", Kind: realtime.TriggerCron, Allocator: "few", Cron: &realtime.Cron{Interval: 20 * time.Millisecond}},
			{Name: "web", Kind: realtime.TriggerHTTP, Allocator: "few"},
		}
	})
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Handled >= 3 })
	got := f.get("/").value(t)
	if got["ticks"].(float64) < 3 { // in the same process
		t.Errorf("%v", got)
	}
	delete(got, "ticks")
	delete(got, "pid")
	want := `map[about:counts context:[ few] event:[http web]]`
	if text := strings.TrimSpace(fmt.Sprint(got)); text != want {
		t.Errorf("%s, want %s", text, want)
	}
	status := f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[1].Handled == 1 })
	workers := 0
	for _, trigger := range status.Revisions[0].Triggers {
		workers += trigger.Workers
	}
	if workers != 1 {
		t.Errorf("%d workers of both triggers together, want 1", workers)
	}
}

// TestCronFiresOnce: beside a canary the times of the revision with most of the traffic
// count, and nobody else's.
func TestCronFiresOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fired")
	cron := func(r *realtime.Revision) {
		r.Env = append(r.Env, "FIRED="+path)
		r.Triggers = []realtime.Trigger{{Name: "tick", Kind: realtime.TriggerCron, Cron: &realtime.Cron{Interval: 20 * time.Millisecond}}}
	}
	code := func(n string) string {
		return "import os\ndef handler(context, event):\n    if event.trigger.kind == 'cron':\n        open(os.environ['FIRED'], 'a').write('" + n + "')\n    return '" + n + "'\n"
	}
	f := deploy(t, code("1"), cron)
	f.revision(2, code("2"), cron)
	handled := func(s *realtime.Status, number int) uint64 {
		r, _ := s.Revision(number)
		for _, trigger := range r.Triggers {
			if trigger.Kind == realtime.TriggerCron {
				return trigger.Handled
			}
		}
		return 0
	}
	f.apply(realtime.Route{Revision: 1, Weight: 60}, realtime.Route{Revision: 2, Weight: 40})
	f.serves(map[int]realtime.State{1: realtime.StateReady, 2: realtime.StateReady})
	status, err := f.client.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	before := handled(&status, 1)
	status = f.await(func(s *realtime.Status) bool { return handled(s, 1) >= before+5 })
	if fired := handled(&status, 2); fired > 0 {
		t.Errorf("the canary fired %d times", fired)
	}
	f.apply(realtime.Route{Revision: 1, Weight: 40}, realtime.Route{Revision: 2, Weight: 60})
	f.await(func(s *realtime.Status) bool { return handled(s, 2) >= 5 })
	fired, err := os.ReadFile(path)
	if err != nil || strings.Contains(strings.TrimLeft(string(fired), "1"), "1") {
		t.Errorf("%s, %v: want those of 1, then those of 2", fired, err)
	}
}

// TestPatience: with Patient a worker that cannot be started is no error while there is time.
func TestPatience(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "there")
	f := prepare(t, "import os\nopen(os.environ['FILE'])\ndef handler(context, event):\n    return 'up'\n", func(r *realtime.Revision) {
		r.Patient, r.Env = true, append(r.Env, "FILE="+path)
	})
	f.run()
	tried := func(s *realtime.Status) bool { return len(s.Revisions) == 1 && s.Revisions[0].Message != "" }
	status := f.await(tried)
	if got := status.Revisions[0]; got.State != realtime.StateStarting || !strings.Contains(got.Message, "there") {
		t.Errorf("%s: %s", got.State, got.Message)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.await(func(s *realtime.Status) bool { return s.State == realtime.StateReady })
	f.get("/").expect(t, 200, "text/plain", "up")
}

// TestTakenAddress: an own address that something else has is an error that says so, while
// the socket serves; the function takes it as soon as it is free.
func TestTakenAddress(t *testing.T) {
	t.Parallel()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	f := prepare(t, numbered(1), nil)
	d := f.desired(realtime.Route{Revision: 1, Weight: 100})
	d.Listen = other.Addr().String()
	if err := f.dir.WriteDesired(d); err != nil {
		t.Fatal(err)
	}
	f.run()
	status := f.await(func(s *realtime.Status) bool { return len(s.Routes) == 1 })
	if status.State != realtime.StateError || !strings.Contains(status.Message, d.Listen) {
		t.Errorf("%s: %s", status.State, status.Message)
	}
	f.get("/").expect(t, 200, "text/plain", "1")
	other.Close()
	f.await(func(s *realtime.Status) bool { return s.State == realtime.StateReady && s.Address == d.Listen })
	conn := f.dial()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%+v %v", response, err)
	}
}
