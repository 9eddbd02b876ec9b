package processor_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/realtime"
)

// web is a program that says which revision it is of.
func web(n int) string {
	return fmt.Sprintf(`import http.server, os, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(0.5)
        if self.path == "/crash":
            os._exit(4)
        body = os.environ.get(self.path[1:], "%d").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args):
        print("request", self.path)

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
`, n)
}

// program makes the revision's code a program of its own.
func program(change func(*realtime.Revision)) func(*realtime.Revision) {
	return func(r *realtime.Revision) {
		r.Kind, r.Mode, r.Handler, r.Command = "application", realtime.ModeCommand, "", []string{r.Python, "function.py"}
		r.Env = append(r.Env, "GREETING=hello")
		r.Secrets = []string{"TOKEN=confidential"}
		if change != nil {
			change(r)
		}
	}
}

func TestApplication(t *testing.T) {
	t.Parallel()
	f := deploy(t, web(1), program(nil))
	for path, want := range map[string]string{"/": "1", "/GREETING": "hello", "/TOKEN": "confidential", "/NUCLIO_FUNCTION_NAME": "tested"} {
		if a := f.get(path); a.status != 200 || a.body != want {
			t.Errorf("%s: %d %q %v", path, a.status, a.body, a.err)
		}
	}
	if log := f.log(); !strings.Contains(log, "request /GREETING\n") {
		t.Errorf("log: %s", log)
	}
	f.post("/crash", "now") // which no transport sends again
	f.await(func(s *realtime.Status) bool {
		r, ok := s.Revision(1)
		return ok && r.State == realtime.StateReady && r.Triggers[0].Restarts == 1 && r.Triggers[0].Workers == 1
	})
	if a := f.get("/"); a.status != 200 {
		t.Errorf("after a crash: %d %q", a.status, a.body)
	}
	raw, err := f.client.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`millrace_http_responses_total{project="default",function="tested",revision="1",trigger_kind="http",trigger_id="default-http",code="2xx"} 5`,
		`millrace_worker_restarts_total{project="default",function="tested",revision="1",trigger_kind="http",trigger_id="default-http"} `,
		"\nmillrace_memory_bytes ", "\nmillrace_cpu_seconds_total ",
	} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("metrics lack %s:\n%s", want, raw)
		}
	}
}

// Programs and handlers replace each other, and no request is lost.
func TestApplicationRedeploy(t *testing.T) {
	t.Parallel()
	f := deploy(t, numbered(1), workers(2))
	end := f.load(4)
	for n := 2; n <= 4; n++ {
		if n == 4 {
			f.revision(n, numbered(n), workers(2))
		} else {
			f.revision(n, web(n), program(nil))
		}
		f.apply(realtime.Route{Revision: n, Weight: 100})
		f.serves(map[int]realtime.State{n: realtime.StateReady})
	}
	got := end()
	for n := 1; n <= 4; n++ {
		if got[strconv.Itoa(n)] == 0 {
			t.Errorf("revision %d answered nothing: %v", n, got)
		}
	}
}

// A program that insists on a port ends before its successor begins; requests wait.
func TestApplicationFixedPort(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	fixed := program(func(r *realtime.Revision) { r.Port = port })
	f := deploy(t, web(1), fixed)
	end := f.load(4)
	f.revision(2, web(2), fixed)
	f.apply(realtime.Route{Revision: 2, Weight: 100})
	f.serves(map[int]realtime.State{2: realtime.StateReady})
	if got := end(); got["1"] == 0 || got["2"] == 0 {
		t.Errorf("answers %v", got)
	}
}

// A program that cannot start leaves what serves alone.
func TestApplicationBroken(t *testing.T) {
	t.Parallel()
	f := deploy(t, web(1), program(nil))
	f.revision(2, "raise SystemExit('no')", program(nil))
	f.apply(realtime.Route{Revision: 2, Weight: 100})
	f.await(func(s *realtime.Status) bool {
		r, ok := s.Revision(2)
		return ok && r.State == realtime.StateError && strings.Contains(r.Message, "the program exited with status 1 before it answered on port")
	})
	if a := f.get("/"); a.body != "1" {
		t.Errorf("answer %d %q %v", a.status, a.body, a.err)
	}
	if log, _ := os.ReadFile(f.dir.Log()); !strings.Contains(string(log), "no\n") {
		t.Errorf("log: %s", log)
	}
}
