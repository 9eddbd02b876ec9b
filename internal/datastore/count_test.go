package datastore_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// counting is a proxy that counts the bytes on their way to the server.
type counting struct {
	url  string
	sent atomic.Int64

	mu      sync.Mutex
	sending int // connections whose clients may send
	changed sync.Cond
}

// settle waits until all clients have closed their connections and what they had
// sent is counted: bytes of a process that was killed are on their way for a while.
func (c *counting) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sending > 0 {
		c.changed.Wait()
	}
}

func (c *counting) senders(change int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending += change
	c.changed.Broadcast()
}

func startCounting(t *testing.T, to string) *counting {
	t.Helper()
	parsed, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{url: "http://" + listener.Addr().String()}
	c.changed.L = &c.mu
	var running sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", parsed.Host)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			open = append(open, client, server)
			mu.Unlock()
			running.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
			c.senders(1)
			running.Go(func() {
				defer c.senders(-1)
				_, _ = io.Copy(io.MultiWriter(server, c), client)
				_ = server.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return c
}

func (c *counting) Write(p []byte) (int, error) {
	c.sent.Add(int64(len(p)))
	return len(p), nil
}
