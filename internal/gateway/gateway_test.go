package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/deployment"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/gateway"
)

// functions are servers on unix sockets, each at NAME.sock of a folder.
type functions struct {
	dir     string
	ready   func(deployment.Key) error
	waiters atomic.Int32
}

func (f *functions) Dial(ctx context.Context, key deployment.Key) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(f.dir, key.Name+".sock"))
}

func (f *functions) Ready(_ context.Context, key deployment.Key) error {
	f.waiters.Add(1)
	if f.ready == nil {
		return fault.NotFound("no function %s", key)
	}
	return f.ready(key)
}

// serve makes a function of a handler; it ends with the test.
func (f *functions) serve(t *testing.T, name string, handler http.HandlerFunc) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(f.dir, name+".sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

func setup(t *testing.T, token string, admit func(*http.Request) error) (*functions, *gateway.Gateway, *httptest.Server) {
	t.Helper()
	f := &functions{dir: t.TempDir()}
	if admit == nil {
		admit = func(*http.Request) error { return nil }
	}
	g := gateway.New(gateway.Options{Functions: f, Admit: admit, Token: token, Hold: 5 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(g.Close)
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return f, g, server
}

func get(t *testing.T, request *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestForwards(t *testing.T) {
	t.Parallel()
	f, _, server := setup(t, "secret", nil)
	f.serve(t, "echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.Header()["X-Many"] = []string{"a", "b"}
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s prefix=%s auth=%q own=%q", r.Method, r.RequestURI, body, r.Header.Get("X-Forwarded-Prefix"), r.Header.Get("Authorization"), r.Header.Get("X-Own"))
		w.Header().Set("X-Sum", "42")
	})
	r := request(t, "POST", server.URL+"/fn/default/echo/a%2Fb/c?x=1&y=%20", "body")
	r.Header.Set("Authorization", "Bearer secret")
	r.Header.Set("X-Own", "mine")
	response, body := get(t, r)
	if want := `POST /a%2Fb/c?x=1&y=%20 body prefix=/fn/default/echo auth="" own="mine"`; response.StatusCode != http.StatusTeapot || body != want {
		t.Errorf("%s %q, want %q", response.Status, body, want)
	}
	if got := response.Header["X-Many"]; len(got) != 2 {
		t.Errorf("X-Many %q", got)
	}
	if got := response.Trailer.Get("X-Sum"); got != "42" {
		t.Errorf("trailer %q", got)
	}
	r = request(t, "GET", server.URL+"/fn/default/echo", "")
	r.Header.Set("Authorization", "Bearer function's own")
	if _, body := get(t, r); !strings.Contains(body, "GET / ") || !strings.Contains(body, "function's own") {
		t.Errorf("body %q", body)
	}
}

func TestStreamsBothWays(t *testing.T) {
	t.Parallel()
	f, _, server := setup(t, "", nil)
	f.serve(t, "stream", func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "got %s\n", lines.Text())
			_ = control.Flush()
		}
	})
	reader, writer := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/fn/default/stream", reader)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan *http.Response, 1)
	go func() {
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
		}
		answers <- response
	}()
	fmt.Fprintln(writer, "one")
	response := <-answers
	if response == nil {
		t.FailNow()
	}
	defer response.Body.Close()
	out := bufio.NewReader(response.Body)
	for _, word := range []string{"one", "two", "three"} {
		if word != "one" {
			fmt.Fprintln(writer, word)
		}
		line, err := out.ReadString('\n') // each before the next is sent
		if err != nil || line != "got "+word+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	_ = writer.Close()
}

func TestClientThatLeavesIsNoticed(t *testing.T) {
	t.Parallel()
	f, _, server := setup(t, "", nil)
	left := make(chan struct{})
	began := make(chan struct{})
	f.serve(t, "slow", func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(left)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	r := request(t, "GET", server.URL+"/fn/default/slow", "").WithContext(ctx)
	if _, err := http.DefaultClient.Do(r); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Fatal("the function was not told")
	}
}

func TestUpgradedConnectionsPass(t *testing.T) {
	t.Parallel()
	f, _, server := setup(t, "", nil)
	f.serve(t, "socket", func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, _ := buffered.ReadString('\n')
		fmt.Fprint(conn, "heard "+line)
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /fn/default/socket/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", response, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := in.ReadString('\n'); line != "heard hello\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

func TestFirstEventWaitsForAStartingFunction(t *testing.T) {
	t.Parallel()
	f, _, server := setup(t, "", nil)
	var calls atomic.Int32
	started := make(chan struct{})
	f.ready = func(deployment.Key) error {
		if f.waiters.Load() == 1 {
			f.serve(t, "late", func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				_, _ = io.Copy(w, r.Body)
			})
			close(started)
		}
		return nil
	}
	response, body := get(t, request(t, "POST", server.URL+"/fn/default/late", "held"))
	<-started
	if response.StatusCode != 200 || body != "held" || calls.Load() != 1 {
		t.Errorf("%s %q, %d calls", response.Status, body, calls.Load())
	}
}

func TestAnswersForFunctionsThatDoNot(t *testing.T) {
	t.Parallel()
	f, _, server := setup(t, "", func(r *http.Request) error {
		if r.Header.Get("X-Who") == "stranger" {
			return fault.Unauthorized("this server needs a token")
		}
		return nil
	})
	f.ready = func(key deployment.Key) error {
		if key.Name == "broken" {
			return fault.Unavailable("the function broken does not serve: no module")
		}
		return fault.NotFound("no function %s is deployed", key)
	}
	f.serve(t, "rude", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/fn/default/none":   {404, "no function default/none is deployed"},
		"/fn/default/broken": {503, "no module"},
		"/fn/default/rude":   {502, "broke the connection off"},
		"/fn/default":        {404, "PROJECT/NAME"},
		"/fn/":               {404, "PROJECT/NAME"},
	} {
		response, body := get(t, request(t, "POST", server.URL+path, "x"))
		if response.StatusCode != want.status || !strings.Contains(body, want.text) {
			t.Errorf("%s: %s %q, want %d with %q", path, response.Status, body, want.status, want.text)
		}
	}
	r := request(t, "GET", server.URL+"/fn/default/rude", "")
	r.Header.Set("X-Who", "stranger")
	if response, body := get(t, r); response.StatusCode != 401 || !strings.Contains(body, "token") {
		t.Errorf("%s %q", response.Status, body)
	}
}

func TestFronts(t *testing.T) {
	t.Parallel()
	f, g, _ := setup(t, "", nil)
	for _, name := range []string{"one", "two"} {
		f.serve(t, name, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s %q", name, r.URL.Path, r.Header.Get("Authorization"))
		})
	}
	secret, err := gateway.Seal("pass")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(secret, "pass") {
		t.Error("the password can be read")
	}
	key := func(name string) deployment.Key { return deployment.Key{Project: "default", Name: name} }
	address := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	canary := gateway.Front{Project: "p", Name: "canary", Address: address(), Path: "/", Host: "fn.example.com", Upstreams: []gateway.Upstream{{Key: key("one"), Weight: 30}, {Key: key("two"), Weight: 70}}}
	guarded := gateway.Front{Project: "p", Name: "guarded", Address: address(), Path: "/app", Username: "me", Secret: secret, Upstreams: []gateway.Upstream{{Key: key("one"), Weight: 100}}}
	var list atomic.Pointer[[]gateway.Front]
	list.Store(&[]gateway.Front{canary, guarded})
	fronts := gateway.NewFronts(g, func(context.Context) ([]gateway.Front, error) { return *list.Load(), nil }, slog.New(slog.DiscardHandler))
	fronts.Start(t.Context())
	t.Cleanup(fronts.Stop)
	fronts.Sync(t.Context())
	if ready, err := fronts.State("p", "canary"); !ready || err != nil {
		t.Fatalf("ready %v, %v", ready, err)
	}
	counts := map[string]int{}
	for range 400 {
		_, body := get(t, request(t, "GET", "http://"+canary.Address+"/x", ""))
		counts[strings.Fields(body)[0]]++
	}
	if counts["one"] < 70 || counts["one"] > 170 || counts["one"]+counts["two"] != 400 { // 120 ± 5.5 standard deviations
		t.Errorf("shares %v", counts)
	}
	if fronts.ByHost("FN.example.com:8080") == nil || fronts.ByHost("other") != nil {
		t.Error("the host name does not decide")
	}
	for _, c := range []struct {
		user, password, path string
		status               int
	}{{"", "", "/app", 401}, {"me", "wrong", "/app", 401}, {"you", "pass", "/app", 401}, {"me", "pass", "/app/x", 200}, {"me", "pass", "/app/x", 200}, {"me", "pass", "/apple", 404}} {
		r := request(t, "GET", "http://"+guarded.Address+c.path, "")
		if c.user != "" {
			r.SetBasicAuth(c.user, c.password)
		}
		response, body := get(t, r)
		if response.StatusCode != c.status {
			t.Errorf("%+v: %s %q", c, response.Status, body)
		}
		if c.status == 200 && body != `one /app/x ""` {
			t.Errorf("%+v: %q", c, body)
		}
		if c.status == 401 && response.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%+v: it does not say how", c)
		}
	}
	list.Store(&[]gateway.Front{guarded})
	fronts.Sync(t.Context())
	if _, err := net.Dial("tcp", canary.Address); err == nil {
		t.Error("a deleted gateway still listens")
	}
}

// A function that refuses a body before it has read it, as all do that are too large,
// is understood by a client that sends all of it first.
func TestRefusedBodySentFirst(t *testing.T) {
	t.Parallel()
	f, _, server := setup(t, "", nil)
	f.serve(t, "small", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.Header().Set("Content-Length", "9")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		fmt.Fprint(w, "too large")
	})
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	const size = 24 << 20
	for _, path := range []string{"small", "missing"} {
		if _, err := fmt.Fprintf(c, "POST /fn/default/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, size, strings.Repeat("x", size)); err != nil {
			t.Fatalf("%s: sending: %v", path, err)
		}
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, err := io.ReadAll(response.Body)
		if want := map[string]int{"small": 413, "missing": 404}[path]; err != nil || response.StatusCode != want {
			t.Errorf("%s: %s %q, %v", path, response.Status, body, err)
		}
	}
}
