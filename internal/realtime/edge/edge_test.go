package edge_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/edge"
)

// echo answers with what it was sent, or with what kept it from reading that.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		edge.Unread(w, r, err)
		return
	}
	w.Header().Set("Saw-Authorization", r.Header.Get("Authorization"))
	w.Header().Set("Saw-Key", r.Header.Get("X-API-Key"))
	_, _ = w.Write(append([]byte("echo:"), body...))
})

// direct lets a handler have its requests without net/http where they are ordinary.
type direct struct{ http.Handler }

func (direct) Direct() bool { return true }

// serve serves a handler behind an edge until the test ends, directly.
func serve(t *testing.T, config edge.Config, next http.Handler) (*edge.Edge, *edge.Server, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := edge.New(config, direct{next})
	s, err := edge.Serve(listener, e, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(t.Context()) }) // that context is over by then
	return e, s, listener.Addr().String()
}

func do(t *testing.T, method, address string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+address+"/path", body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func text(t *testing.T, response *http.Response) string {
	t.Helper()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func basic(pair string) string {
	r := http.Request{Header: http.Header{}}
	user, password, _ := strings.Cut(pair, ":")
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func TestAuth(t *testing.T) {
	t.Parallel()
	both := &realtime.Auth{Keys: []string{"key-one", "key-two"}, Basic: map[string]string{"ann": "se:cret"}}
	for _, test := range []struct {
		name   string
		auth   *realtime.Auth
		header []string
		want   int
	}{
		{"open", nil, nil, 200},
		{"open, no entries", &realtime.Auth{}, nil, 200},
		{"nothing shown", both, nil, 401},
		{"bearer", both, []string{"Authorization", "Bearer key-two"}, 200},
		{"bearer, other case of scheme", both, []string{"Authorization", "bearer key-one"}, 200},
		{"bearer, wrong", both, []string{"Authorization", "Bearer key-three"}, 401},
		{"bearer, prefix", both, []string{"Authorization", "Bearer key-on"}, 401},
		{"bearer, empty", both, []string{"Authorization", "Bearer "}, 401},
		{"key", both, []string{"X-API-Key", "key-one"}, 200},
		{"key, wrong", both, []string{"X-API-Key", "key"}, 401},
		{"basic", both, []string{"Authorization", basic("ann:se:cret")}, 200},
		{"basic, wrong", both, []string{"Authorization", basic("ann:secret")}, 401},
		{"basic, a key", both, []string{"Authorization", basic("key-one:")}, 401},
		{"basic, no base64", both, []string{"Authorization", "Basic ann:se:cret"}, 401},
		{"a password as key", both, []string{"X-API-Key", "ann:se:cret"}, 401},
		{"other scheme", both, []string{"Authorization", "Digest key-one"}, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, _, address := serve(t, edge.Config{Realm: "scorer", Auth: test.auth}, echo)
			response := do(t, "POST", address, strings.NewReader("x"), test.header...)
			if response.StatusCode != test.want {
				t.Fatalf("status %d, want %d: %s", response.StatusCode, test.want, text(t, response))
			}
			if saw := response.Header.Get("Saw-Authorization") + response.Header.Get("Saw-Key"); saw != "" {
				t.Errorf("the function saw the credentials %q", saw)
			}
			challenges := response.Header.Values("WWW-Authenticate")
			want := []string{`Bearer realm="scorer"`, `Basic realm="scorer", charset="UTF-8"`}
			if test.want == 401 {
				if diff := cmp.Diff(want, challenges); diff != "" {
					t.Error(diff)
				}
			} else if len(challenges) > 0 {
				t.Errorf("challenges %q", challenges)
			}
		})
	}
}

// Credentials of others than the edge's are the function's.
func TestForeignCredentials(t *testing.T) {
	t.Parallel()
	_, _, address := serve(t, edge.Config{Auth: &realtime.Auth{Keys: []string{"k"}}}, echo)
	response := do(t, "GET", address, nil, "X-API-Key", "k", "Authorization", "Bearer of-the-function")
	if got := response.Header.Get("Saw-Authorization"); got != "Bearer of-the-function" {
		t.Errorf("the function saw %q", got)
	}
}

func TestHealthIsOpen(t *testing.T) {
	t.Parallel()
	_, _, address := serve(t, edge.Config{Auth: &realtime.Auth{Keys: []string{"k"}}}, http.NotFoundHandler())
	response, err := http.Get("http://" + address + edge.HealthPath + "/live")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	some := &realtime.CORS{
		Origins: []string{"https://a.example", "https://B.example"}, Methods: []string{"GET", "PUT"}, Headers: []string{"X-One", "x-two"},
		Expose: []string{"X-Out"}, Credentials: true, MaxAge: 10 * time.Minute,
	}
	preflight := func(origin, method string, headers ...string) []string {
		out := []string{"Origin", origin, "Access-Control-Request-Method", method}
		for _, h := range headers {
			out = append(out, "Access-Control-Request-Headers", h)
		}
		return out
	}
	for _, test := range []struct {
		name   string
		cors   *realtime.CORS
		method string
		header []string
		status int
		want   map[string]string // of headers of the answer
		seen   bool              // by the function
	}{
		{"off", nil, "GET", []string{"Origin", "https://a.example"}, 200, map[string]string{"Access-Control-Allow-Origin": "", "Vary": ""}, true},
		{"no page", some, "GET", nil, 200, map[string]string{"Access-Control-Allow-Origin": "", "Vary": "Origin"}, true},
		{"allowed", some, "GET", []string{"Origin", "https://b.example"}, 200, map[string]string{
			"Access-Control-Allow-Origin": "https://b.example", "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "X-Out", "Vary": "Origin"}, true},
		{"not allowed", some, "GET", []string{"Origin", "https://c.example"}, 403, map[string]string{"Access-Control-Allow-Origin": "", "Vary": "Origin"}, false},
		{"a longer name", some, "GET", []string{"Origin", "https://a.example.org"}, 403, nil, false},
		{"preflight", some, "OPTIONS", preflight("https://a.example", "PUT", "x-one,X-TWO"), 200, map[string]string{
			"Access-Control-Allow-Origin": "https://a.example", "Access-Control-Allow-Methods": "GET, PUT", "Access-Control-Allow-Headers": "X-One, x-two",
			"Access-Control-Max-Age": "600", "Access-Control-Allow-Credentials": "true",
			"Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}, false},
		{"preflight, method", some, "OPTIONS", preflight("https://a.example", "POST"), 400, nil, false},
		{"preflight, header", some, "OPTIONS", preflight("https://a.example", "PUT", "x-one, x-three"), 400, nil, false},
		{"preflight, origin", some, "OPTIONS", preflight("https://c.example", "PUT"), 403, nil, false},
		{"plain OPTIONS", some, "OPTIONS", []string{"Origin", "https://a.example"}, 200, nil, true},
		{"defaults", &realtime.CORS{}, "OPTIONS", preflight("http://any.example", "PATCH", "content-type, x-nuclio-log-level"), 200, map[string]string{
			"Access-Control-Allow-Origin": "http://any.example", "Access-Control-Max-Age": "5", "Access-Control-Allow-Credentials": ""}, false},
		{"any header", &realtime.CORS{Headers: []string{"*"}}, "OPTIONS", preflight("http://any.example", "GET", "x-whatever"), 200,
			map[string]string{"Access-Control-Allow-Headers": "x-whatever"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// With auth as well: a preflight has no credentials, and a page has to be able to read a 401.
			_, _, address := serve(t, edge.Config{CORS: test.cors, Auth: &realtime.Auth{Keys: []string{"k"}}}, echo)
			refused := do(t, test.method, address, nil, test.header...)
			response := do(t, test.method, address, nil, append([]string{"X-API-Key", "k"}, test.header...)...)
			if response.StatusCode != test.status {
				t.Fatalf("status %d, want %d", response.StatusCode, test.status)
			}
			if seen := strings.HasPrefix(text(t, response), "echo:"); seen != test.seen {
				t.Errorf("seen by the function: %v, want %v", seen, test.seen)
			}
			if test.seen && refused.StatusCode != 401 || !test.seen && refused.StatusCode != test.status {
				t.Errorf("without credentials: status %d", refused.StatusCode)
			}
			for name, want := range test.want {
				if got := strings.Join(response.Header.Values(name), ", "); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
				if got := strings.Join(refused.Header.Values(name), ", "); got != want {
					t.Errorf("%s without credentials: %q, want %q", name, got, want)
				}
			}
		})
	}
}

// A page that the function itself serves may ask it.
func TestOwnOrigin(t *testing.T) {
	t.Parallel()
	_, _, address := serve(t, edge.Config{CORS: &realtime.CORS{Origins: []string{"https://other.example"}}}, echo)
	if response := do(t, "POST", address, nil, "Origin", "http://"+address); response.StatusCode != 200 {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	_, _, address := serve(t, edge.Config{Limits: realtime.Limits{Body: 1000}}, echo)
	for _, size := range []int{0, 1, 999, 1000, 1001, 200_000} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = bytes.NewReader(make([]byte, size))
			if chunked {
				body = struct{ io.Reader }{body}
			}
			response := do(t, "POST", address, body)
			want := 200
			if size > 1000 {
				want = 413
			}
			got := text(t, response)
			if response.StatusCode != want || want == 200 && len(got) != size+len("echo:") {
				t.Errorf("%d bytes, chunked %v: status %d, %d bytes", size, chunked, response.StatusCode, len(got))
			}
			if want == 413 && got != `{"error":"the body is larger than 1000 bytes"}`+"\n" {
				t.Errorf("answer %q", got)
			}
		}
	}
}

// A client that sends all of its body before it reads gets the answer, not a reset.
func TestLargeBodySentFirst(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	_, _, address := serve(t, edge.Config{Limits: realtime.Limits{Body: 1000}}, echo)
	for name, method := range map[string]string{"direct": "POST", "net/http": "REPORT"} {
		for kind, head := range map[string]string{
			"length":  fmt.Sprintf("Content-Length: %d\r\n\r\n", size),
			"chunked": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size),
		} {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, err = io.WriteString(c, method+" / HTTP/1.1\r\nHost: x\r\n"+head+strings.Repeat("x", size))
			if err == nil && kind == "chunked" {
				_, err = io.WriteString(c, "\r\n0\r\n\r\n")
			}
			if err != nil {
				t.Errorf("%s, %s: sending: %v", name, kind, err)
			}
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 413 ") || !strings.HasSuffix(string(got), `{"error":"the body is larger than 1000 bytes"}`+"\n") {
				t.Errorf("%s, %s: %q, %v", name, kind, got, err)
			}
			c.Close()
		}
	}
}

// raw sends text and returns all that comes back until the server closes.
func raw(t *testing.T, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%v after %q", err, got)
	}
	return string(got)
}

func TestHeadLimit(t *testing.T) {
	t.Parallel()
	e, s, address := serve(t, edge.Config{Limits: realtime.Limits{Headers: 8 << 10}}, echo)
	head := func(size int) string {
		return "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: " + strings.Repeat("a", size) + "\r\n\r\n"
	}
	if got := raw(t, address, head(7<<10)); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("7 KiB: %.100q", got)
	}
	if got := raw(t, address, head(9<<10)); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("9 KiB: %.100q", got)
	}
	e.Set(edge.Config{Limits: realtime.Limits{Headers: 64 << 10}})
	if err := s.Apply(nil); err != nil {
		t.Fatal(err)
	}
	if got := raw(t, address, head(50<<10)); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("50 KiB after the limit was raised: %.100q", got)
	}
}

func TestSlowClients(t *testing.T) {
	t.Parallel()
	_, _, address := serve(t, edge.Config{Limits: realtime.Limits{Slow: 200 * time.Millisecond, Idle: 300 * time.Millisecond}}, echo)
	for _, test := range []struct{ name, text, want string }{
		{"head", "POST / HTTP/1.1\r\nHost: x\r\nX-Half", "HTTP/1.1 408 "},
		{"body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfour", "HTTP/1.1 408 "},
		{"chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\na\r\nfour", "HTTP/1.1 408 "},
		{"nothing", "", ""},
		{"idle", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := raw(t, address, test.text)
			if !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("answer %q", got)
			}
			if test.name == "idle" && strings.Contains(got, "408") {
				t.Errorf("an idle connection was told %q", got)
			}
		})
	}
}

// A body that comes slowly, but comes, is waited for longer than the limit.
func TestSteadyBody(t *testing.T) {
	t.Parallel()
	_, _, address := serve(t, edge.Config{Limits: realtime.Limits{Slow: 400 * time.Millisecond}}, echo)
	reader, writer := io.Pipe()
	go func() {
		for range 12 {
			time.Sleep(100 * time.Millisecond)
			fmt.Fprint(writer, "x")
		}
		writer.Close()
	}()
	if got := text(t, do(t, "POST", address, reader)); got != "echo:xxxxxxxxxxxx" {
		t.Errorf("answer %q", got)
	}
}

// The deadline of a body does not outlive it.
func TestSlowHandler(t *testing.T) {
	t.Parallel()
	_, _, address := serve(t, edge.Config{Limits: realtime.Limits{Slow: 100 * time.Millisecond}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
			t.Error("the client was taken for gone")
		case <-time.After(400 * time.Millisecond):
		}
		fmt.Fprint(w, "done")
	}))
	if got := text(t, do(t, "POST", address, strings.NewReader("x"))); got != "done" {
		t.Errorf("answer %q", got)
	}
}

func BenchmarkServeHTTP(b *testing.B) {
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, test := range []struct {
		name   string
		config edge.Config
		header http.Header
	}{
		{"open", edge.Config{}, http.Header{}},
		{"key", edge.Config{Auth: &realtime.Auth{Keys: []string{"key"}}}, http.Header{"X-Api-Key": {"key"}}},
		{"cors", edge.Config{CORS: &realtime.CORS{}}, http.Header{"Origin": {"http://a.example"}}},
	} {
		b.Run(test.name, func(b *testing.B) {
			e := edge.New(test.config, next)
			r := httptest.NewRequest("GET", "/", nil)
			r.Header = test.header
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				if len(r.Header) == 0 && test.name == "key" {
					r.Header["X-Api-Key"] = []string{"key"}
				}
				clear(w.Header())
				e.ServeHTTP(w, r)
			}
		})
	}
}

func TestOpenCostsNothing(t *testing.T) {
	e := edge.New(edge.Config{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	if n := testing.AllocsPerRun(1000, func() { e.ServeHTTP(w, r) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
