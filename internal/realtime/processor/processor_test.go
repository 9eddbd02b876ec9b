package processor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/processor"
	"github.com/millrace/millrace/internal/worker"
)

// unpacked is where the Python runtime is for all tests of the package.
var unpacked = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "millrace-realtime-test-") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := unpacked(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func interpreter(t testing.TB) string {
	t.Helper()
	for _, name := range []string{os.Getenv("MILLRACE_TEST_PYTHON"), "/usr/bin/python3", "python3"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no python3 on this machine")
	return ""
}

// function is a function that is served by a processor of the test's own.
type function struct {
	t      testing.TB
	dir    realtime.Dir
	client *realtime.Client
	http   *http.Client
	over   chan error
	end    context.CancelFunc
	// options of the processor besides its logger
	options processor.Options
}

// revision is a revision of the code, as it would be deployed.
func (f *function) revision(number int, code string, change func(*realtime.Revision)) {
	f.t.Helper()
	base, err := unpacked()
	if err != nil {
		f.t.Fatal(err)
	}
	runtime, err := worker.Unpack(base)
	if err != nil {
		f.t.Fatal(err)
	}
	r := realtime.Revision{
		Number: number, Project: "default", Name: "tested", Kind: "nuclio", Mode: realtime.ModeHandler, Python: interpreter(f.t), Runtime: runtime,
		File: "function.py", Handler: "handler", Replicas: realtime.Replicas{Min: 1, Max: 1}, Env: []string{"PYTHONDONTWRITEBYTECODE=1"},
	}
	if change != nil {
		change(&r)
	}
	if err := f.dir.WriteRevision(r, map[string][]byte{"function.py": []byte(code)}); err != nil {
		f.t.Fatal(err)
	}
}

// workers sets how many workers the http trigger has, and more of it.
func workers(n int, change ...func(*realtime.Trigger)) func(*realtime.Revision) {
	return func(r *realtime.Revision) {
		trigger := realtime.Trigger{Name: "http", Kind: realtime.TriggerHTTP, Workers: n}
		for _, c := range change {
			c(&trigger)
		}
		r.Triggers = append(r.Triggers, trigger)
	}
}

// deploy starts a processor that serves the code, and waits until it does.
func deploy(t testing.TB, code string, change func(*realtime.Revision)) *function {
	t.Helper()
	f := prepare(t, code, change)
	f.run()
	f.await(func(s *realtime.Status) bool { return s.State == realtime.StateReady })
	return f
}

// prepare writes the folder of a function, which nobody serves yet.
func prepare(t testing.TB, code string, change func(*realtime.Revision)) *function {
	t.Helper()
	dir, err := os.MkdirTemp("", "mr") // short: paths of sockets are
	if err != nil {
		t.Fatal(err)
	}
	f := &function{t: t, dir: realtime.Dir{Path: dir}}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := f.dir.Create(); err != nil {
		t.Fatal(err)
	}
	f.client = realtime.NewClient(f.dir)
	f.revision(1, code, change)
	f.desire(realtime.Route{Revision: 1, Weight: 100})
	dialer := func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dir.DialHTTP(ctx) }
	transport := &http.Transport{DialContext: dialer, MaxIdleConnsPerHost: 64, DisableCompression: true}
	f.http = &http.Client{Transport: transport, Timeout: time.Minute}
	t.Cleanup(transport.CloseIdleConnections)
	return f
}

func (f *function) desired(routes ...realtime.Route) realtime.Desired {
	return realtime.Desired{Project: "default", Name: "tested", Routes: routes, Listen: "127.0.0.1:0"}
}

func (f *function) desire(routes ...realtime.Route) {
	f.t.Helper()
	if err := f.dir.WriteDesired(f.desired(routes...)); err != nil {
		f.t.Fatal(err)
	}
}

// run starts a processor, which ends with the test.
func (f *function) run() {
	f.t.Helper()
	ctx, end := context.WithCancel(context.Background())
	f.end, f.over = end, make(chan error, 1)
	level := slog.LevelError + 1
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	f.options.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	go func() { f.over <- processor.Run(ctx, f.dir, f.options) }()
	f.t.Cleanup(f.stop)
}

func (f *function) stop() {
	f.end()
	select {
	case err, first := <-f.over:
		if err != nil && first {
			f.t.Errorf("the processor ended with: %v", err)
		}
	case <-time.After(time.Minute):
		f.t.Error("the processor does not end")
	}
	f.over = make(chan error)
	close(f.over)
}

// await waits for a status.
func (f *function) await(wanted func(*realtime.Status) bool) realtime.Status {
	f.t.Helper()
	var last realtime.Status
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		status, err := f.client.Status(context.Background())
		if err != nil {
			continue
		}
		if last = status; wanted(&status) {
			return status
		}
	}
	text, _ := json.Marshal(last)
	f.t.Fatalf("the status does not come about; it is %s\nlog: %s", text, f.log())
	return last
}

func (f *function) log() string {
	data, _ := os.ReadFile(f.dir.Log())
	return string(data)
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func (f *function) get(path string) answer { return f.send("GET", path, nil, "") }

func (f *function) post(path, body string, header ...string) answer {
	return f.send("POST", path, strings.NewReader(body), header...)
}

// send makes a request; header are names and values in turn.
func (f *function) send(method, path string, body io.Reader, header ...string) answer {
	request, err := http.NewRequest(method, "http://function"+path, body)
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	response, err := f.http.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(data), err: err}
}

// value is the JSON of an answer.
func (a answer) value(t testing.TB) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.err != nil {
		t.Fatalf("the answer %d %q is no JSON: %v", a.status, a.body, errors.Join(err, a.err))
	}
	return out
}

func (a answer) expect(t testing.TB, status int, contentType, body string) {
	t.Helper()
	if a.err != nil {
		t.Fatal(a.err)
	}
	if got := a.header.Get("Content-Type"); a.status != status || got != contentType || a.body != body {
		t.Errorf("answer %d %q %q; want %d %q %q", a.status, got, a.body, status, contentType, body)
	}
}

// healthy fails the test unless the function answers as it should.
func (f *function) healthy() {
	f.t.Helper()
	for range 3 {
		if a := f.post("/healthy", "ping"); a.err != nil || a.status != 200 || a.body != "ping" {
			f.t.Fatalf("the function does not answer any more: %d %q %v\nlog: %s", a.status, a.body, a.err, f.log())
		}
	}
}

// dial opens a raw connection to the function's own address.
func (f *function) dial() net.Conn {
	f.t.Helper()
	status := f.await(func(s *realtime.Status) bool { return s.Address != "" })
	conn, err := net.Dial("tcp", status.Address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

func big(n int) *bytes.Reader { return bytes.NewReader(bytes.Repeat([]byte("x"), n)) }
