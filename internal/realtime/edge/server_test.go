package edge_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/edge"
)

// writePair writes a self-signed certificate for 127.0.0.1 with a serial number.
func writePair(t *testing.T, files realtime.TLS, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "edge"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, files.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	write(t, files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPause: connections that come while a server is paused wait, and are served by
// whoever accepts next: the server, or another process that has the socket. The server
// that has been paused takes none of them along when it ends.
func TestPause(t *testing.T) {
	t.Parallel()
	answer := func(text string) *edge.Edge {
		return edge.New(edge.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := listener.(*net.TCPListener).File() // as another process has it
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	first, err := edge.Serve(listener, answer("first"), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func() string {
		response, err := client.Get("http://" + listener.Addr().String())
		if err != nil {
			t.Error(err)
			return ""
		}
		return text(t, response)
	}
	if got := get(); got != "first" {
		t.Errorf("answer %q", got)
	}
	for round := range 50 {
		var all sync.WaitGroup
		for open := 1; open > 0; { // the last connection is closed when it has been answered
			if open = first.Pause(); open > 0 {
				first.Resume()
			}
		}
		_, before := first.Connections()
		for range 5 {
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				defer conn.Close()
				fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: function\r\nConnection: close\r\n\r\n")
				response, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				if want := map[bool]string{true: "second", false: "first"}[round == 49]; text(t, response) != want {
					t.Errorf("round %d: not answered by the %s server", round, want)
				}
			})
		}
		if open, accepted := first.Connections(); open != 0 || accepted != before {
			t.Fatalf("%d connections are open, %d were accepted while it was paused", open, accepted-before)
		}
		if round < 49 {
			first.Resume()
			all.Wait()
			continue
		}
		first.Shutdown(t.Context())
		again, err := net.FileListener(file)
		if err != nil {
			t.Fatal(err)
		}
		second, err := edge.Serve(again, answer("second"), nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		all.Wait()
		second.Shutdown(t.Context())
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := realtime.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	_, s, address := serve(t, edge.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	if err := s.Apply(&files); err == nil || !strings.Contains(err.Error(), "the certificate cannot be read") {
		t.Fatalf("files that are not there: %v", err)
	}
	if got := text(t, do(t, "GET", address, nil)); got != "HTTP/1.1" {
		t.Fatalf("after a certificate that could not be read: %q", got)
	}
	writePair(t, files, 1)
	if err := s.Apply(&files); err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Fatalf("serial %d", got)
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	for _, h2 := range []bool{false, true} {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2, DisableKeepAlives: true}}
		response, err := client.Get("https://" + address)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := text(t, response), map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]; got != want {
			t.Errorf("protocol %s, want %s", got, want)
		}
		response.Body.Close()
	}
	write(t, files.Certificate, []byte("no certificate"))
	time.Sleep(1100 * time.Millisecond)
	if got := serial(); got != 1 {
		t.Errorf("serial %d while the files are broken", got)
	}
	writePair(t, files, 2)
	time.Sleep(1100 * time.Millisecond)
	if got := serial(); got != 2 {
		t.Errorf("serial %d after the files changed", got)
	}
}

// Rules, limits and TLS change under load, and no request is lost.
func TestSwapLosesNothing(t *testing.T) {
	t.Parallel()
	e, s, address := serve(t, edge.Config{}, echo)
	var stop atomic.Bool
	var asked atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := http.Client{Transport: transport, Timeout: 20 * time.Second}
			for i := 0; !stop.Load(); i++ {
				if i%50 == 49 {
					transport.CloseIdleConnections() // new connections as well
				}
				request, _ := http.NewRequest("POST", "http://"+address, strings.NewReader("hello"))
				request.Header.Set("X-API-Key", "k")
				response, err := client.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 || string(body) != "echo:hello" {
					t.Errorf("status %d, %q, %v", response.StatusCode, body, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for i := range 60 {
		config := edge.Config{Limits: realtime.Limits{Headers: 8<<10 + i, Idle: time.Duration(10+i) * time.Second}}
		if i%2 == 0 {
			config.Auth = &realtime.Auth{Keys: []string{"k", fmt.Sprint(i)}}
			config.CORS = &realtime.CORS{}
		}
		e.Set(config)
		if err := s.Apply(nil); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop.Store(true)
	clients.Wait()
	if asked.Load() < 100 {
		t.Errorf("only %d requests", asked.Load())
	}
}

func TestShutdownFinishes(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun, proceed := make(chan struct{}), make(chan struct{})
	e := edge.New(edge.Config{}, direct{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-proceed
		fmt.Fprint(w, "finished")
	})})
	s, err := edge.Serve(listener, e, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan string)
	go func() {
		response, err := http.Get("http://" + listener.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	<-begun
	done := make(chan struct{})
	go func() {
		s.Shutdown(context.Background())
		close(done)
	}()
	select {
	case <-done:
		t.Error("shut down before the request ended")
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("a connection was taken")
	}
	close(proceed)
	if got := <-answer; got != "finished" {
		t.Errorf("answer %q", got)
	}
	<-done
}

// Pieces of an answer come when they are flushed, and upgraded connections pass.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	proceed := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-proceed
		fmt.Fprintln(w, "second")
	})
	mux.Handle("/socket", websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }))
	limits := realtime.Limits{Slow: 200 * time.Millisecond, Idle: 200 * time.Millisecond}
	_, _, address := serve(t, edge.Config{Limits: limits, Auth: &realtime.Auth{Keys: []string{"k"}}, CORS: &realtime.CORS{}}, mux)
	request, err := http.NewRequest("GET", "http://"+address+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer k")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	if line, err := lines.ReadString('\n'); line != "first\n" {
		t.Fatalf("%q, %v", line, err)
	}
	close(proceed)
	if line, err := lines.ReadString('\n'); line != "second\n" {
		t.Fatalf("%q, %v", line, err)
	}
	config, err := websocket.NewConfig("ws://"+address+"/socket", "http://"+address)
	if err != nil {
		t.Fatal(err)
	}
	config.Header.Set("X-API-Key", "k")
	socket, err := websocket.DialConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, text := range []string{"one", "two"} {
		time.Sleep(300 * time.Millisecond) // no limit of requests holds for it
		if err := websocket.Message.Send(socket, text); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := websocket.Message.Receive(socket, &got); err != nil || got != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
}
