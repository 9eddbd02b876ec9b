package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// conn tells a client whose request's head did not arrive in time so: net/http
// closes the connection without a word, or calls what it has of the head malformed.
type conn struct {
	net.Conn
	rest     []byte      // what has been read of it already
	asking   atomic.Bool // something came since the last answer
	late     atomic.Bool // and then nothing for too long
	hijacked atomic.Bool
	refused  atomic.Bool // its last request was answered before all of it had come
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func (c *conn) Read(into []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(into, c.rest)
		c.rest = c.rest[n:]
		c.asking.Store(true)
		return n, nil
	}
	n, err := c.Conn.Read(into)
	if n > 0 && !c.asking.Load() {
		c.asking.Store(true)
	}
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		c.late.Store(true)
	}
	return n, err
}

func (c *conn) Write(from []byte) (int, error) {
	if c.late.Load() && bytes.HasPrefix(from, malformed) {
		return len(from), nil // Close says what it is
	}
	c.answered()
	return c.Conn.Write(from)
}

// ReadFrom lets the kernel copy files.
func (c *conn) ReadFrom(from io.Reader) (int64, error) {
	c.answered()
	if to, ok := c.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(from)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, from)
}

func (c *conn) answered() {
	if c.asking.Load() {
		c.asking.Store(false)
		c.late.Store(false)
	}
}

// malformed begins what net/http writes about a head, and about nothing else.
var malformed = []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 ")

const lateHead = "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nContent-Length: 59\r\nConnection: close\r\n\r\n" +
	`{"error":"the head of the request did not arrive in time"}` + "\n"

// Close answers a late head.
func (c *conn) Close() error {
	if c.late.Load() && c.asking.Load() && !c.hijacked.Load() && !c.refused.Load() {
		c.tooLate()
	}
	return c.Conn.Close()
}

func (c *conn) tooLate() {
	_ = c.Conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = io.WriteString(c.Conn, lateHead)
}

// CloseWrite is used by the server before it closes, so that an answer is not cut
// off by a reset.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
