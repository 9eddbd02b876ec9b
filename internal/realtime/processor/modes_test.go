package processor_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

const coroutines = `
import asyncio, os, time

running = 0
most = 0

async def init_context(context):
    await asyncio.sleep(0)
    context.user_data.ready = True

async def handler(context, event):
    global running, most
    what, _, more = event.path.strip("/").partition("/")
    running += 1
    most = max(most, running)
    try:
        if what == "sleep":
            await asyncio.sleep(float(more))
            return "slept"
        if what == "raise":
            raise ValueError("no")
        if what == "exit":
            os._exit(5)
        if what == "block":
            time.sleep(float(more))
        if what == "most":
            return {"most": most, "ready": context.user_data.ready}
        return event.body
    finally:
        running -= 1
`

func TestCoroutines(t *testing.T) {
	t.Parallel()
	f := deploy(t, coroutines, workers(1))
	started := time.Now()
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() { f.get("/sleep/0.3").expect(t, 200, "text/plain", "slept") })
	}
	all.Wait()
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("40 coroutines that sleep 0.3 s took %s", took)
	}
	if a := f.get("/most").value(t); a["most"].(float64) < 20 || a["ready"] != true {
		t.Errorf("at once: %v", a)
	}
	if a := f.get("/raise"); a.status != 500 || !strings.Contains(a.body, "ValueError") {
		t.Errorf("raise: %d %q", a.status, a.body)
	}
	f.healthy()
	if a := f.get("/exit"); a.status != 500 {
		t.Errorf("exit: %d %q", a.status, a.body)
	}
	f.healthy()
}

func TestCoroutineTimeout(t *testing.T) {
	t.Parallel()
	f := deploy(t, coroutines, timeout(300*time.Millisecond, workers(1)))
	var all sync.WaitGroup
	all.Go(func() { f.get("/sleep/20").problem(t, 408, "handler timed out") })
	for range 10 { // beside it
		f.get("/sleep/0.05").expect(t, 200, "text/plain", "slept")
	}
	all.Wait()
	status := f.await(func(*realtime.Status) bool { return true })
	if restarts := status.Revisions[0].Triggers[0].Restarts; restarts != 0 {
		t.Errorf("a coroutine that took too long cost %d workers", restarts)
	}
	f.get("/block/20").problem(t, 408, "handler timed out") // the loop itself stands still
	f.healthy()
}

const jobs = `
def train(context, x: int = 1, y=2):
    context.logger.info("training")
    context.log_result("sum", x + y)
    return "trained"

def fails(context):
    context.log_result("before", 1)
    raise ValueError("no data")

def keeps(context):
    context.log_artifact("model", body=b"x", local_path="model.bin")

def _hidden(context):
    pass

class Thing:
    pass

from mlrun.runtimes import nuclio_init_hook
def init_context(context):
    nuclio_init_hook(context, globals(), 'mlrun')

def handler(context, event):
    return context.mlrun_handler(context, event)
`

// TestJobs: the handlers of jobs of a function of kind nuclio:mlrun, and of one of
// kind nuclio that has itself what the SDK appends to their code.
func TestJobs(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]string{"nuclio:mlrun": realtime.KindJobs, "by hand": "nuclio"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testJobs(t, deploy(t, jobs, func(r *realtime.Revision) { r.Kind = kind }))
		})
	}
}

func testJobs(t *testing.T, f *function) {
	run := `{"metadata": {"name": "r", "uid": "u1", "project": "p", "iteration": 3}, "spec": {"parameters": {"x": 5}, "handler": "train"}}`
	a := f.send("PUT", "/train", strings.NewReader(run), "Content-Type", "application/json", "X-Nuclio-Log-Level", "info")
	status, _ := a.value(t)["status"].(map[string]any)
	results, _ := status["results"].(map[string]any)
	if a.status != 200 || status["state"] != "running" || results["sum"] != 7.0 || results["return"] != "trained" {
		t.Errorf("train: %d %s", a.status, a.body)
	}
	if metadata, _ := a.value(t)["metadata"].(map[string]any); metadata["uid"] != "u1" || metadata["iteration"] != 3.0 {
		t.Errorf("metadata: %s", a.body)
	}
	if !strings.Contains(a.header.Get("X-Nuclio-Logs"), `"training"`) {
		t.Errorf("log: %q", a.header.Get("X-Nuclio-Logs"))
	}
	status, _ = f.send("PUT", "/fails", strings.NewReader(run)).value(t)["status"].(map[string]any)
	if results, _ = status["results"].(map[string]any); status["state"] != "error" || status["error"] != "no data" || results["before"] != 1.0 {
		t.Errorf("fails: %v", status)
	}
	if status, _ = f.send("PUT", "/keeps", nil).value(t)["status"].(map[string]any); status["state"] != "error" || !strings.Contains(fmt.Sprint(status["error"]), "data channel") {
		t.Errorf("keeps: %v", status)
	}
	for path, body := range map[string]string{"/none": "", "/_hidden": "", "/Thing": "", "/": "", "/handler": "", "/init_context": "", "/nuclio_init_hook": "", "/train": "{", "/fails": "[]", "/keeps": `{"spec": 5}`} {
		if a := f.send("PUT", path, strings.NewReader(body)); a.status != 400 || body != "" && !strings.Contains(a.body, "no run") {
			t.Errorf("%s %q: %d %s, want 400", path, body, a.status, a.body)
		}
	}
}

const lists = `
def handler(context, events):
    R = context.Response
    if any(e.path == "/raise" for e in events):
        raise ValueError("the batch failed")
    if any(e.path == "/none" for e in events):
        return None
    if any(e.path == "/exit" for e in events):
        import os; os._exit(3)
    out = []
    for e in reversed(events):
        if e.path == "/leave":
            continue
        if e.path == "/bad":
            out.append(R(body={"a": {1}}, event_id=e.id))
            continue
        out.append(R(body="%d %s" % (len(events), e.body.decode()), event_id=e.id, status_code=201))
    out.append(R(body="nobody's", event_id="unknown"))
    return out
`

func batch(size int, delay time.Duration) func(*realtime.Trigger) {
	return func(t *realtime.Trigger) { t.Batch = &realtime.Batch{Size: size, Delay: delay} }
}

func TestBatches(t *testing.T) {
	t.Parallel()
	f := deploy(t, lists, workers(1, batch(4, 400*time.Millisecond)))
	together := func(paths ...string) []answer {
		var all sync.WaitGroup
		out := make([]answer, len(paths))
		for i, path := range paths {
			all.Go(func() { out[i] = f.post(path, fmt.Sprint(i)) })
		}
		all.Wait()
		return out
	}
	started := time.Now()
	for i, a := range together("/", "/", "/", "/") {
		a.expect(t, 201, "text/plain", fmt.Sprintf("4 %d", i))
	}
	if took := time.Since(started); took > 300*time.Millisecond {
		t.Errorf("a full batch waited: %s", took)
	}
	started = time.Now()
	for i, a := range together("/", "/") {
		a.expect(t, 201, "text/plain", fmt.Sprintf("2 %d", i))
	}
	if took := time.Since(started); took < 350*time.Millisecond || took > 1200*time.Millisecond {
		t.Errorf("a batch that is not full left after %s; the delay is 400ms", took)
	}
	mixed := together("/", "/leave", "/bad", "/")
	mixed[0].expect(t, 201, "text/plain", "4 0")
	mixed[3].expect(t, 201, "text/plain", "4 3")
	for at, part := range map[int]string{1: "no response for this event", 2: "has no form"} {
		if a := mixed[at]; a.status != 500 || !strings.Contains(a.body, part) {
			t.Errorf("event %d of the batch: %d %q, want 500 with %q", at, a.status, a.body, part)
		}
	}
	for _, path := range []string{"/raise", "/none", "/exit"} {
		for _, a := range together("/", path, "/", "/") {
			if a.err != nil || a.status != 500 || a.body == "" {
				t.Errorf("%s: %d %q %v; want 500 for the whole batch", path, a.status, a.body, a.err)
			}
		}
	}
	for i, a := range together("/", "/", "/", "/") {
		a.expect(t, 201, "text/plain", fmt.Sprintf("4 %d", i))
	}
}

// TestBatchesAtOnce: each worker handles a batch of its own at the same time.
func TestBatchesAtOnce(t *testing.T) {
	t.Parallel()
	f := deploy(t, "import time\ndef handler(context, events):\n    time.sleep(0.5)\n    return ['done'] * len(events)\n", workers(3, batch(2, 50*time.Millisecond)))
	started := time.Now()
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() { f.get("/").expect(t, 200, "text/plain", "done") })
	}
	all.Wait()
	if took := time.Since(started); took > 1300*time.Millisecond {
		t.Errorf("three batches for three workers took %s; one takes 0.5 s", took)
	}
}

const endless = `
import time
def pieces(n, pause):
    for i in range(n):
        yield "x" * 65536
        time.sleep(pause)

def handler(context, event):
    if event.path == "/stream":
        return pieces(10**9, 0)
    if event.path == "/ticks":
        return pieces(5, 0.2)
    return event.body
`

const streams = `
import asyncio, sys

def numbers(count):
    try:
        for n in range(count):
            yield b"%7d\n" % n * 1024
    finally:
        print("ended", flush=True)

async def anumbers(count):
    try:
        for n in range(count):
            yield b"%7d\n" % n * 1024
    finally:
        print("ended", flush=True)

def handler(context, event):
    return numbers(int(event.path[8:])) if event.path.startswith("/stream/") else event.body

async def ahandler(context, event):
    return anumbers(int(event.path[8:])) if event.path.startswith("/stream/") else event.body
`

// TestSlowClientsHoldNobodyUp: a client that reads nothing of a stream keeps no other
// answer of the same worker waiting; one that reads on gets all of it in order, and one
// that leaves ends the stream, which waits.
func TestSlowClientsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*realtime.Revision){
		"coroutines": func(r *realtime.Revision) { r.Handler = "ahandler"; workers(1)(r) },
		"threads":    workers(1, threads(3)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := prepare(t, streams, timeout(3*time.Second, change))
			d := f.desired(realtime.Route{Revision: 1, Weight: 100})
			d.Limits.Slow = time.Hour // nothing but holding helps
			if err := f.dir.WriteDesired(d); err != nil {
				t.Fatal(err)
			}
			f.run()
			f.await(func(s *realtime.Status) bool { return s.State == realtime.StateReady })
			const pieces = 4000 // of 8 KiB: more than sockets, pipe and buffers hold together
			slow, left := f.dial(), f.dial()
			for _, conn := range []net.Conn{slow, left} {
				fmt.Fprintf(conn, "GET /stream/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", pieces)
			}
			response, err := http.ReadResponse(bufio.NewReader(slow), nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 80 { // while the streams fill what there is, and long after; also longer than an event may take
				f.healthy()
				time.Sleep(50 * time.Millisecond)
			}
			if strings.Contains(f.log(), "ended") {
				t.Fatal("a stream that nobody reads has been made to its end")
			}
			left.Close()
			for until := time.Now().Add(20 * time.Second); !strings.Contains(f.log(), "ended"); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(until) {
					t.Fatal("the stream whose client has left waits on")
				}
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || len(body) != pieces*8192 {
				t.Fatalf("%d bytes, %v", len(body), err)
			}
			for n := range pieces {
				if want := fmt.Sprintf("%7d\n", n); string(body[n*8192:n*8192+8]) != want {
					t.Fatalf("piece %d begins with %q", n, body[n*8192:n*8192+8])
				}
			}
			status := f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Busy == 0 })
			if restarts := status.Revisions[0].Triggers[0].Restarts; restarts > 0 {
				t.Errorf("the worker was replaced %d times", restarts)
			}
		})
	}
}

// TestStreams: pieces arrive when they are made, and a client that leaves or does
// not read costs no worker for ever.
func TestStreams(t *testing.T) {
	t.Parallel()
	f := prepare(t, endless, workers(1))
	d := f.desired(realtime.Route{Revision: 1, Weight: 100})
	d.Limits.Slow = 700 * time.Millisecond
	if err := f.dir.WriteDesired(d); err != nil {
		t.Fatal(err)
	}
	f.run()
	f.await(func(s *realtime.Status) bool { return s.State == realtime.StateReady })

	response, err := f.http.Get("http://function/ticks")
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if _, err := io.ReadFull(response.Body, make([]byte, 65536)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took > 300*time.Millisecond {
		t.Errorf("the first piece came after %s", took)
	}
	rest, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || len(rest) != 4*65536 {
		t.Errorf("the rest: %d bytes, %v", len(rest), err)
	}

	response, err = f.http.Get("http://function/stream")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close() // leaves
	f.healthy()

	conn := f.dial()
	fmt.Fprint(conn, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	f.healthy() // though that one reads nothing more
}
