package datastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// TestSilence: a server that sends slowly is read to the end, one that sends nothing
// more, or takes nothing more, is given up.
func TestSilence(t *testing.T) {
	t.Parallel()
	const limit = 500 * time.Millisecond
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut { // takes nothing
			<-release
			return
		}
		for range 10 {
			_, _ = fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(limit / 5) // what is tested: bytes that come slowly
		}
		if r.URL.Path == "/stalls" {
			<-release
		}
	}))
	defer server.Close()
	defer close(release)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return heard{conn, limit}, err
	}}}
	for path, want := range map[string]bool{"/ends": true, "/stalls": false} {
		response, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(response.Body)
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		if len(got) != 10 || (err == nil) != want || !want && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	request, err := http.NewRequest(http.MethodPut, server.URL, io.LimitReader(zeros{}, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	if response, err := client.Do(request); err == nil {
		t.Errorf("what takes nothing answers %s", response.Status)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
