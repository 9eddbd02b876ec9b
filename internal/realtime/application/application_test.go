package application_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/application"
	"github.com/millrace/millrace/internal/realtime/edge"
)

// The test binary is the program as well.
func TestMain(m *testing.M) {
	if os.Getenv("BE_PROGRAM") != "" {
		program()
		return
	}
	os.Exit(m.Run())
}

// program is a server with what the tests ask for.
func program() {
	if pause, err := time.ParseDuration(os.Getenv("START_AFTER")); err == nil {
		time.Sleep(pause)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		fmt.Fprintf(w, "%s %s %s %s|%s|%s", r.Method, r.URL, r.Host, body, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Prefix"))
	})
	mux.HandleFunc("/pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("/env", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getenv(r.URL.RawQuery)) })
	mux.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.RawQuery)
		w.WriteHeader(status)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		pause, _ := time.ParseDuration(r.URL.RawQuery)
		time.Sleep(pause)
		fmt.Fprint(w, os.Getpid())
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { // a line for a line, while the body is coming
		_ = http.NewResponseController(w).EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintln(w, "got", lines.Text())
			w.(http.Flusher).Flush()
		}
	})
	mux.Handle("/socket", websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }))
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), mux)
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// served is an application with a server before it.
type served struct {
	*application.App
	t   *testing.T
	url string
	log string
}

func start(t *testing.T, change func(*realtime.Revision)) *served {
	t.Helper()
	r := realtime.Revision{
		Number: 1, Project: "p", Name: "app", Mode: realtime.ModeCommand, Command: []string{os.Args[0]}, Env: []string{"BE_PROGRAM=1"},
		Replicas: realtime.Replicas{Min: 1, Max: 1}, ReadyTimeout: 20 * time.Second,
	}
	if change != nil {
		change(&r)
	}
	s := &served{t: t, log: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	s.App = application.Start(application.Options{
		Revision: r.WithDefaults(), Dir: t.TempDir(), Env: append(os.Environ(), r.Env...), Log: log, Logger: slog.New(slog.DiscardHandler), Changed: func() {},
	})
	front := edge.New(edge.Config{Limits: realtime.Limits{Body: 1 << 20, Slow: 500 * time.Millisecond}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.Serve(w, r); err != nil {
			edge.Problem(w, 599, err.Error())
		}
	}))
	server := httptest.NewServer(front)
	s.url = server.URL
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		s.Close(ctx)
		server.CloseClientConnections()
		server.Close()
		log.Close()
	})
	return s
}

func (s *served) ask(method, path, body string) (int, string) {
	s.t.Helper()
	request, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Errorf("%s %s: %v", method, path, err)
		return 0, ""
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Errorf("%s %s: %v", method, path, err)
	}
	return response.StatusCode, string(raw)
}

// await waits until the state is as wanted.
func (s *served) await(want realtime.State) string {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		state, message := s.State()
		if state == want {
			return message
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(s.log)
			s.t.Fatalf("the state is %s (%s), not %s; log:\n%s", state, message, want, log)
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.await(realtime.StateReady)
	host := strings.TrimPrefix(s.url, "http://")
	status, got := s.ask("PUT", "/a%2Fb/c?x=1&x=2;y", "body")
	if want := "PUT /a%2Fb/c?x=1&x=2;y " + host + " body|127.0.0.1|"; status != 200 || got != want {
		t.Errorf("status %d\n got %s\nwant %s", status, got, want)
	}
	response, err := http.Get(s.url)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if cookies := response.Header.Values("Set-Cookie"); len(cookies) != 2 {
		t.Errorf("cookies %q", cookies)
	}
	if status, _ := s.ask("GET", "/status?418", ""); status != 418 {
		t.Errorf("status %d", status)
	}
	if status, got := s.ask("POST", "/", strings.Repeat("x", 1<<20+1)); status != 413 {
		t.Errorf("a large body: status %d, %s", status, got)
	}
	for s.Sample().Open > 0 {
		time.Sleep(time.Millisecond)
	}
	sample := s.Sample()
	if sample.Counters.Succeeded.Load() != 3 || sample.Open != 0 || sample.Workers != 1 {
		t.Errorf("%d succeeded, %d open, %d workers", sample.Counters.Succeeded.Load(), sample.Open, sample.Workers)
	}
}

// A chunked body over the limit, and one that stops, are the client's mistakes.
func TestBodies(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.await(realtime.StateReady)
	post := func(body io.Reader) int {
		response, err := http.Post(s.url, "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	if got := post(struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 1<<20+1<<17))}); got != 413 {
		t.Errorf("1.1 MiB in chunks: status %d", got)
	}
	reader, writer := io.Pipe()
	defer writer.Close()
	go fmt.Fprint(writer, "some")
	if got := post(reader); got != 408 {
		t.Errorf("a body that stops: status %d", got)
	}
}

func TestStreamsBothWays(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.await(realtime.StateReady)
	reader, writer := io.Pipe()
	defer writer.Close()
	request, err := http.NewRequest("POST", s.url+"/echo", reader)
	if err != nil {
		t.Fatal(err)
	}
	go fmt.Fprintln(writer, "one")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	for _, word := range []string{"one", "two", "three"} {
		if word != "one" {
			fmt.Fprintln(writer, word)
		}
		if line, err := lines.ReadString('\n'); line != "got "+word+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.await(realtime.StateReady)
	socket, err := websocket.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/socket", "", s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for i := range 3 {
		want := fmt.Sprint("message ", i)
		if err := websocket.Message.Send(socket, want); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := websocket.Message.Receive(socket, &got); err != nil || got != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestCrash(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.await(realtime.StateReady)
	status, got := s.ask("GET", "/crash", "")
	if status != 502 || !strings.Contains(got, "broke the connection off") {
		t.Errorf("status %d: %s", status, got)
	}
	for s.Sample().Counters.Restarts.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	// The next request waits for the program to be back.
	if status, got := s.ask("GET", "/pid", ""); status != 200 {
		t.Errorf("status %d: %s", status, got)
	}
	if got := s.Sample().Counters.Restarts.Load(); got != 1 {
		t.Errorf("%d restarts", got)
	}
	if got := s.Sample().Counters.Failed.Load(); got != 1 {
		t.Errorf("%d failed", got)
	}
}

func TestNeverReady(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*realtime.Revision)
		want   string
	}{
		{"ends", func(r *realtime.Revision) { r.Command = []string{"sh", "-c", "exit 7"} }, "the program exited with status 7 before it answered on port"},
		{"no such program", func(r *realtime.Revision) { r.Command = []string{"no-such-program-at-all"} }, "no-such-program-at-all is not on the PATH"},
		{"silent", func(r *realtime.Revision) {
			r.Command, r.ReadyTimeout = []string{"sleep", "60"}, 200*time.Millisecond
		}, "did not answer on"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(r *realtime.Revision) {
				now := time.Duration(0)
				r.Triggers = []realtime.Trigger{{Name: "http", Kind: realtime.TriggerHTTP, AvailabilityTimeout: &now}}
				test.change(r)
			})
			if message := s.await(realtime.StateError); !strings.Contains(message, test.want) {
				t.Errorf("message %q", message)
			}
			if status, got := s.ask("GET", "/", ""); status != 503 || !strings.Contains(got, "the program") {
				t.Errorf("status %d: %s", status, got)
			}
		})
	}
}

func TestEventTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, func(r *realtime.Revision) { r.EventTimeout = 100 * time.Millisecond })
	s.await(realtime.StateReady)
	if status, got := s.ask("GET", "/slow?2s", ""); status != 504 || !strings.Contains(got, "the program did not answer within 100ms") {
		t.Errorf("status %d: %s", status, got)
	}
}

// Requests go to the replica with the fewest.
func TestReplicas(t *testing.T) {
	t.Parallel()
	s := start(t, func(r *realtime.Revision) { r.Replicas = realtime.Replicas{Min: 3, Max: 3} })
	s.awaitWorkers(3)
	var mu sync.Mutex
	seen := map[string]int{}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			_, pid := s.ask("GET", "/slow?500ms", "")
			mu.Lock()
			seen[pid]++
			mu.Unlock()
		})
	}
	all.Wait()
	if len(seen) != 3 {
		t.Fatalf("%v", seen)
	}
	for pid, n := range seen {
		if n != 2 {
			t.Errorf("replica %s had %d of 6", pid, n)
		}
	}
}

func (s *served) awaitWorkers(n int) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); s.Sample().Workers != n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%d replicas, not %d", s.Sample().Workers, n)
		}
	}
}

func TestScaleUp(t *testing.T) {
	t.Parallel()
	s := start(t, func(r *realtime.Revision) {
		r.Replicas = realtime.Replicas{Min: 1, Max: 2}
		r.Triggers = []realtime.Trigger{{Name: "http", Kind: realtime.TriggerHTTP, Workers: 2}}
	})
	s.await(realtime.StateReady)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { s.ask("GET", "/slow?3s", "") })
	}
	s.awaitWorkers(2)
	all.Wait()
}

func TestScaleToZero(t *testing.T) {
	t.Parallel()
	s := start(t, func(r *realtime.Revision) {
		r.Replicas, r.IdleToZero = realtime.Replicas{Min: 0, Max: 1}, 300*time.Millisecond
		r.Env = append(r.Env, "START_AFTER=300ms")
	})
	s.await(realtime.StateReady)
	_, first := s.ask("GET", "/pid", "")
	s.await(realtime.StateScaledToZero)
	var all sync.WaitGroup
	for range 4 { // all of them are held, for one program
		all.Go(func() {
			if status, pid := s.ask("GET", "/pid", ""); status != 200 || pid == first {
				t.Errorf("status %d, process %s after %s", status, pid, first)
			}
		})
	}
	all.Wait()
	if sample := s.Sample(); sample.Workers != 1 || sample.Waiting != 0 || sample.Counters.Restarts.Load() != 0 {
		t.Errorf("%d workers, %d waiting, %d restarts", sample.Workers, sample.Waiting, sample.Counters.Restarts.Load())
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.await(realtime.StateReady)
	answer := make(chan int)
	go func() {
		status, _ := s.ask("GET", "/slow?500ms", "")
		answer <- status
	}()
	for s.Sample().Open == 0 {
		time.Sleep(time.Millisecond)
	}
	closed := make(chan struct{})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s.Close(ctx)
		close(closed)
	}()
	s.await(realtime.StateDraining)
	if _, err := s.Serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)); !errors.Is(err, application.ErrDraining) {
		t.Errorf("error %v", err)
	}
	if status := <-answer; status != 200 {
		t.Errorf("status %d", status)
	}
	<-closed
	if s.Sample().Workers != 0 {
		t.Error("a replica is left")
	}
}

func TestEnvironmentAndArguments(t *testing.T) {
	t.Parallel()
	s := start(t, func(r *realtime.Revision) {
		r.Env = append(r.Env, "GREETING=hello")
		r.Command = []string{"sh", "-c", `PORT=$1 SAID="$2 $3" exec "$0"`, os.Args[0], "${PORT}", "$PORTS", "x$PORT-$(PORT)"}
	})
	s.await(realtime.StateReady)
	if _, got := s.ask("GET", "/env?GREETING", ""); got != "hello" {
		t.Errorf("GREETING=%s", got)
	}
	_, port := s.ask("GET", "/env?PORT", "")
	if _, got := s.ask("GET", "/env?SAID", ""); got != "$PORTS x"+port+"-"+port {
		t.Errorf("arguments %q with port %s", got, port)
	}
}

// A server that is not ours.
func TestPythonServer(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on this machine")
	}
	s := start(t, func(r *realtime.Revision) {
		r.Command = []string{python, "-m", "http.server", "--bind", "127.0.0.1", "$PORT"}
	})
	s.await(realtime.StateReady)
	if status, got := s.ask("GET", "/", ""); status != 200 || !strings.Contains(got, "Directory listing") {
		t.Errorf("status %d: %s", status, got)
	}
}

func TestPortsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 12 {
		s := start(t, nil)
		s.await(realtime.StateReady)
		_, port := s.ask("GET", "/env?PORT", "")
		if seen[port] {
			t.Errorf("port %s twice", port)
		}
		seen[port] = true
	}
}
