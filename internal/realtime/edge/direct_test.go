package edge_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/edge"
)

// answers is what the answers to several requests on one connection are compared by.
func answers(t *testing.T, address, text string, methods []string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	reader := bufio.NewReader(c)
	for _, method := range methods {
		response, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			out.WriteString("no answer\n")
			break
		}
		body, err := io.ReadAll(response.Body)
		var header []string
		for name, values := range response.Header {
			if name != "Date" {
				header = append(header, fmt.Sprintf("%s: %q", name, values))
			}
		}
		slices.Sort(header)
		fmt.Fprintf(&out, "%s %v length %d close %v chunked %v body %.200q of %d, cut %v\n", response.Status, header, response.ContentLength, response.Close,
			response.TransferEncoding, body, len(body), err != nil)
		if response.Header.Get("Date") == "" && response.StatusCode != http.StatusBadRequest {
			out.WriteString("no date\n")
		}
		if response.Close {
			break
		}
	}
	return out.String()
}

// What direct connections answer is what net/http answers.
func TestDirectAnswersAsNetHTTP(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789", 1000)
	handlers := map[string]http.HandlerFunc{
		"/empty":  func(http.ResponseWriter, *http.Request) {},
		"/echo":   func(w http.ResponseWriter, r *http.Request) { body, _ := io.ReadAll(r.Body); _, _ = w.Write(body) },
		"/unread": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "not read") },
		"/half": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadFull(r.Body, make([]byte, 3))
			fmt.Fprint(w, "half")
		},
		"/html": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>", "</html>") },
		"/untyped": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			fmt.Fprint(w, "<html>")
		},
		"/none":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); _, _ = w.Write([]byte("x")) },
		"/notmodified": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", "a"); w.WriteHeader(304) },
		"/odd": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(499)
			w.WriteHeader(200)
			fmt.Fprint(w, "odd")
		},
		"/long": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, long); fmt.Fprint(w, long, "end") },
		"/pieces": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 3 {
				fmt.Fprintf(w, "piece %d,", i)
				w.(http.Flusher).Flush()
			}
		},
		"/flush": func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() },
		"/declared": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10000")
			fmt.Fprint(w, long)
		},
		"/more": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			_, _ = io.WriteString(w, "abc")
			fmt.Fprint(w, "def")
		},
		"/less": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			fmt.Fprint(w, "abc")
		},
		"/headers": func(w http.ResponseWriter, r *http.Request) {
			w.Header()["X-List"] = []string{"a", "b"}
			w.Header()["X-Split"] = []string{"a\r\nX-Injected: 1"}
			w.Header()["bad name"] = []string{"1"}
			w.Header()["x-lower"] = []string{" spaces "}
			fmt.Fprint(w, r.Method, r.Host, r.URL.String(), r.RequestURI, r.Proto, r.ContentLength, r.Header["Accept"], r.RemoteAddr != "")
		},
		"/close": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, "over")
		},
		"/abort": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "begun")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"/late": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			w.Header().Set("X-Late", "1")
			fmt.Fprint(w, "x")
		},
	}
	mux := http.NewServeMux()
	for path, handler := range handlers {
		mux.HandleFunc(path, handler)
	}
	config := edge.Config{Limits: realtime.Limits{Body: 1 << 20}}
	_, _, address := serve(t, config, mux)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other, err := edge.Serve(listener, edge.New(config, mux), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Shutdown(t.Context()) })
	var requests []string
	for path := range handlers {
		for _, body := range []string{"", "some text", long} {
			requests = append(requests, fmt.Sprintf("POST %s?a=b HTTP/1.1\r\nHost: x\r\nAccept: a\r\naccept: b\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body))
		}
		requests = append(requests, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	requests = append(requests,
		"HEAD /html HTTP/1.1\r\nHost: x\r\n\r\n", "GET /html HTTP/1.0\r\n\r\n", "GET /html HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /html HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "GET /html HTTP/1.1\r\n\r\n", "nonsense\r\n\r\n", "nonsense\r\nand more", "GET /html\r\n", "GET /html HTTP/1.1\nHost: x\n\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET /%2e%2e/a HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"+long)
	for _, text := range requests {
		t.Run(text[:strings.IndexAny(text, "\r\n")], func(t *testing.T) {
			t.Parallel()
			method, _, _ := strings.Cut(text, " ")
			all := text
			methods := []string{method}
			if !strings.Contains(text, "2000000") { // then others follow at once on the same connection
				all += "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nnextGET /headers HTTP/1.1\r\nHost: x\r\n\r\n"
				methods = append(methods, "POST", "GET")
			}
			want, got := answers(t, listener.Addr().String(), all, methods), answers(t, address, all, methods)
			if got != want {
				t.Errorf("%q\n%s\nnet/http:\n%s", all[:min(len(all), 200)], got, want)
			}
		})
	}
}

// A client that leaves is noticed while a handler works, and one that stays is not
// taken for gone; what it sends ahead is not lost.
func TestDirectWatchesClients(t *testing.T) {
	t.Parallel()
	gone, proceed := make(chan error, 1), make(chan struct{})
	_, _, address := serve(t, edge.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/leave":
			<-r.Context().Done()
			gone <- r.Context().Err()
		case "/stay":
			select {
			case <-proceed:
			case <-r.Context().Done():
				t.Error("the client was taken for gone")
			}
		}
		fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	}))
	dial := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return c, bufio.NewReader(c)
	}
	leaving, _ := dial()
	fmt.Fprint(leaving, "POST /leave HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
	time.Sleep(50 * time.Millisecond)
	leaving.Close()
	select {
	case err := <-gone:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody noticed")
	}
	staying, answers := dial()
	defer staying.Close()
	for round := range 3 {
		fmt.Fprintf(staying, "POST /stay HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d", round)
		time.Sleep(100 * time.Millisecond)
		if round == 1 {
			fmt.Fprint(staying, "POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nyes")
			time.Sleep(50 * time.Millisecond)
		}
		proceed <- struct{}{}
		want := []string{fmt.Sprintf("/stay %d", round)}
		if round == 1 {
			want = append(want, "/next yes")
		}
		for _, want := range want {
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := text(t, response); got != want {
				t.Errorf("answer %q, want %q", got, want)
			}
		}
	}
}

// A server that ends closes idle connections and waits for no client.
func TestDirectShutdown(t *testing.T) {
	t.Parallel()
	_, s, address := serve(t, edge.Config{}, echo)
	idle, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	fmt.Fprint(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	reader := bufio.NewReader(idle)
	if response, err := http.ReadResponse(reader, nil); err != nil || text(t, response) != "echo:" {
		t.Fatal(err)
	}
	fresh, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	s.Shutdown(context.Background())
	for _, c := range []io.Reader{reader, fresh} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}
