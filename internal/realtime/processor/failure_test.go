package processor_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// hostile does what it is told, by the path; anything else it echoes.
const hostile = `
import asyncio, os, signal, sys, threading, time

def handler(context, event):
    what, _, more = event.path.strip("/").partition("/")
    if what == "sleep":
        time.sleep(float(more))
        return "slept"
    if what == "exit":
        os._exit(int(more))
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "fork":
        pid = os.fork()
        if pid == 0:
            return "from the child"
        os.waitpid(pid, 0)
        return "from the parent"
    if what == "print":
        for i in range(20000):
            print("x" * 100)
        print("\x00\xff no line end", end="")
        return "printed"
    if what == "stdout":
        os.write(1, b"raw bytes \xff\x00")
        sys.stdout.close()
        return "closed"
    if what == "deep":
        return deep()
    if what == "cycle":
        a = []; a.append(a)
        return a
    if what == "interrupt":
        raise KeyboardInterrupt()
    if what == "generator_exit":
        raise GeneratorExit()
    if what == "bad_str":
        class Bad(Exception):
            def __str__(self): raise ValueError("no text")
        raise Bad()
    if what == "bad_object":
        class Bad:
            def __str__(self): raise ValueError("no text")
        return Bad()
    if what == "surrogate":
        return "\udcff\ud800"
    if what == "threads":
        for i in range(20):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        return "started"
    if what == "closefds":
        os.closerange(3, 256)
        return "closed"
    if what == "busy":
        while True:
            pass
    if what == "forever":
        while True:
            print("x" * 1000)
    if what == "children":
        import subprocess
        subprocess.Popen(["sleep", "300"])
        time.sleep(300)
    if what == "pid":
        return str(os.getpid())
    return event.body

def deep():
    return deep()
`

func availability(d time.Duration) func(*realtime.Trigger) {
	return func(t *realtime.Trigger) { t.AvailabilityTimeout = &d }
}

func timeout(d time.Duration, more func(*realtime.Revision)) func(*realtime.Revision) {
	return func(r *realtime.Revision) {
		r.EventTimeout = d
		if more != nil {
			more(r)
		}
	}
}

// problem fails the test unless a is a refusal as JSON with the status, whose
// sentence contains part.
func (a answer) problem(t testing.TB, status int, part string) {
	t.Helper()
	if a.err != nil {
		t.Fatal(a.err)
	}
	if text, _ := a.value(t)["error"].(string); a.status != status || !strings.Contains(text, part) || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("answer %d %q %q; want %d with %q", a.status, a.header.Get("Content-Type"), a.body, status, part)
	}
}

// TestHandlersThatFail: whatever a handler does, its caller gets an answer and the
// next one an echo.
func TestHandlersThatFail(t *testing.T) {
	t.Parallel()
	f := deploy(t, hostile, workers(1))
	for _, row := range []struct {
		path   string
		status int
		part   string
	}{
		{"/exit/0", 500, "before it had answered this event"}, {"/exit/7", 500, "7"}, {"/kill", 500, "signal"}, {"/segv", 500, "signal"},
		{"/fork", 200, "from the parent"}, {"/print", 200, "printed"}, {"/stdout", 200, "closed"}, {"/deep", 500, "recursion"},
		{"/cycle", 500, "contains itself"}, {"/interrupt", 500, "KeyboardInterrupt"}, {"/generator_exit", 500, "GeneratorExit"},
		{"/bad_str", 500, "Bad"}, {"/bad_object", 500, "no text"}, {"/surrogate", 500, ""}, {"/threads", 200, "started"}, {"/closefds", 200, "closed"},
	} {
		t.Run(row.path[1:], func(t *testing.T) {
			a := f.get(row.path)
			if a.err != nil || a.status != row.status || !strings.Contains(a.body, row.part) {
				t.Errorf("answer %d %.300q %v; want %d with %q", a.status, a.body, a.err, row.status, row.part)
			}
			f.healthy()
		})
	}
}

func TestEventTimeout(t *testing.T) {
	t.Parallel()
	f := deploy(t, hostile, timeout(400*time.Millisecond, workers(2)))
	for _, path := range []string{"/busy", "/sleep/30", "/children", "/forever"} {
		started := time.Now()
		a := f.get(path)
		took := time.Since(started)
		a.problem(t, 408, "handler timed out")
		if took < 400*time.Millisecond || took > 1200*time.Millisecond {
			t.Errorf("%s: given up after %s; the limit is 400ms", path, took)
		}
		f.healthy()
	}
	f.get("/sleep/0.2").expect(t, 200, "text/plain", "slept")
	f.await(func(s *realtime.Status) bool {
		trigger := s.Revisions[0].Triggers[0]
		return trigger.Workers == 2 && trigger.Restarts == 4 && trigger.Failed == 4
	})
}

func TestNoWorkerInTime(t *testing.T) {
	t.Parallel()
	f := deploy(t, hostile, workers(1, availability(200*time.Millisecond)))
	var slow sync.WaitGroup
	slow.Go(func() { f.get("/sleep/1.2").expect(t, 200, "text/plain", "slept") })
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Busy == 1 })
	started := time.Now()
	a := f.post("/", "x")
	a.problem(t, 503, "no worker became free in time")
	if took := time.Since(started); took < 150*time.Millisecond || took > 800*time.Millisecond {
		t.Errorf("refused after %s; the limit is 200ms", took)
	}
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	slow.Wait()
	f.healthy()
}

func TestNoWaiting(t *testing.T) {
	t.Parallel()
	f := deploy(t, hostile, workers(1, availability(0)))
	var slow sync.WaitGroup
	slow.Go(func() { f.get("/sleep/0.8").expect(t, 200, "text/plain", "slept") })
	f.await(func(s *realtime.Status) bool { return s.Revisions[0].Triggers[0].Busy == 1 })
	started := time.Now()
	f.post("/", "x").problem(t, 503, "no worker")
	if took := time.Since(started); took > 300*time.Millisecond {
		t.Errorf("refused after %s; it should be at once", took)
	}
	slow.Wait()
	f.healthy()
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	f := deploy(t, hostile, workers(1, func(t *realtime.Trigger) { t.Queue = 3 }))
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range 12 {
		all.Go(func() {
			a := f.get("/sleep/0.3")
			mu.Lock()
			got[a.status]++
			mu.Unlock()
		})
	}
	all.Wait()
	if got[200] < 4 || got[503] < 5 || got[200]+got[503] != 12 {
		t.Errorf("answers %v; want 200 for what runs and waits, 503 for the rest", got)
	}
	f.healthy()
}

func TestCodeThatCannotServe(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ code, part string }{
		"import":       {"import no_such_module\ndef handler(context, event): pass\n", "no_such_module"},
		"syntax":       {"def handler(context, event:\n", "function.py"},
		"missing":      {"def other(context, event): pass\n", "handler"},
		"init":         {"def init_context(context): raise ValueError('no model')\ndef handler(context, event): pass\n", "no model"},
		"exit":         {"import os; os._exit(4)\n", "4"},
		"not callable": {"handler = 5\n", "handler"},
	} {
		t.Run(name, func(t *testing.T) {
			f := prepare(t, row.code, nil)
			f.run()
			status := f.await(func(s *realtime.Status) bool { return s.State == realtime.StateError })
			if message := status.Revisions[0].Message; !strings.Contains(message, row.part) || strings.Contains(message, "Traceback") {
				t.Errorf("message %q; want a sentence that tells of %q", message, row.part)
			}
			f.get("/").problem(t, 503, row.part)
		})
	}
}

func TestReadyTimeout(t *testing.T) {
	t.Parallel()
	f := prepare(t, "import time\ntime.sleep(60)\ndef handler(context, event): pass\n", func(r *realtime.Revision) { r.ReadyTimeout = 400 * time.Millisecond })
	f.run()
	status := f.await(func(s *realtime.Status) bool { return s.State == realtime.StateError })
	if !strings.Contains(status.Revisions[0].Message, "not ready within 400ms") {
		t.Errorf("message %q", status.Revisions[0].Message)
	}
}

// TestCrashLoop: a worker that dies again and again costs its own events alone.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	f := deploy(t, hostile, workers(2))
	var all sync.WaitGroup
	defer all.Wait()
	stop := make(chan struct{})
	lost := 0
	all.Go(func() {
		for i := 0; i < 15; i++ {
			if a := f.get("/exit/1"); a.status != 500 && a.status != 503 {
				t.Errorf("exit: %d %q %v", a.status, a.body, a.err)
			}
		}
		close(stop)
	})
	for over := false; !over; {
		select {
		case <-stop:
			over = true
		default:
		}
		switch a := f.post("/", "x"); {
		case a.status == 200 && a.body == "x":
		case a.status == 500 && lost == 0: // handled, and its answer was about to leave when the worker died for the first time
			lost++
		default:
			t.Fatalf("beside a crash loop: %d %q %v", a.status, a.body, a.err)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	f := prepare(t, hostile, workers(1))
	d := f.desired(realtime.Route{Revision: 1, Weight: 100})
	d.Limits = realtime.Limits{Body: 1 << 20, Headers: 8 << 10, Slow: 500 * time.Millisecond}
	if err := f.dir.WriteDesired(d); err != nil {
		t.Fatal(err)
	}
	f.run()
	f.await(func(s *realtime.Status) bool { return s.State == realtime.StateReady })
	t.Run("large", func(t *testing.T) {
		f.send("POST", "/", big(1<<20)).expect(t, 200, "text/plain", strings.Repeat("x", 1<<20))
		f.send("POST", "/", big(1<<20+1)).problem(t, 413, "larger than 1048576 bytes")
	})
	t.Run("chunked", func(t *testing.T) {
		chunked := func(n int) io.Reader { return struct{ io.Reader }{big(n)} } // of unknown length
		f.send("POST", "/", chunked(1<<20)).expect(t, 200, "text/plain", strings.Repeat("x", 1<<20))
		f.send("POST", "/", chunked(1<<20+1)).problem(t, 413, "larger")
	})
	t.Run("invalid UTF-8", func(t *testing.T) {
		f.post("/%ff%00%c3?%ff=%ff&a=%zz&;", "\xff\xfe", "X-Bytes", "a\xff").expect(t, 200, "text/plain", "\xff\xfe")
	})
	t.Run("content types", func(t *testing.T) {
		for _, kind := range []string{"application/json", ";;;", "json", "\xff", strings.Repeat("a", 4000), "multipart/form-data"} {
			if a := f.post("/", "x", "Content-Type", kind); a.status != 200 || a.body != "x" {
				t.Errorf("%q: %d %q %v", kind, a.status, a.body, a.err)
			}
		}
	})
	for name, row := range map[string]struct {
		sent   string
		status string
	}{
		"flood":         {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Flood: "+strings.Repeat("y", 100)+"\r\n", 1000) + "\r\n", "431"},
		"long line":     {"GET /" + strings.Repeat("z", 100_000) + " HTTP/1.1\r\nHost: x\r\n\r\n", "431"},
		"no HTTP":       {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
		"bad length":    {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", "400"},
		"two lengths":   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400"},
		"bad chunk":     {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n", "400"},
		"promised":      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nhello", "413"},
		"stopped body":  {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello", "408"},
		"stopped chunk": {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "408"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := f.dial()
			go func() { _, _ = io.WriteString(conn, row.sent) }()
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if !strings.HasPrefix(response.Status, row.status) {
				t.Errorf("%s, want %s", response.Status, row.status)
			}
		})
	}
	t.Run("slow head", func(t *testing.T) {
		conn := f.dial()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHos")
		started := time.Now()
		_, _ = io.ReadAll(conn)
		if took := time.Since(started); took > 5*time.Second {
			t.Errorf("the connection was open for %s", took)
		}
	})
	t.Run("left early", func(t *testing.T) {
		for range 20 {
			conn := f.dial()
			fmt.Fprint(conn, "GET /sleep/0.01 HTTP/1.1\r\nHost: x\r\n\r\n")
			conn.Close()
		}
	})
	f.healthy()
	f.get("/__internal/health").expect(t, 200, "", "")
}
