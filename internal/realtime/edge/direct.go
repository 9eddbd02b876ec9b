package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Direct is a handler that may get requests without net/http being in between, which
// costs a quarter of the processor time of a small one. While Direct returns true, it
// keeps neither a request nor its headers once it has returned, and takes over no
// connections.
type Direct interface {
	http.Handler
	Direct() bool
}

// Of a connection that is served directly.
const (
	readAhead   = 4 << 10                // bytes of requests that are read at once: heads that are longer are net/http's
	drained     = 256 << 10              // of a body that the handler has left unread
	watchAfter  = 20 * time.Millisecond  // a request may take before it is looked whether its client is still there
	lingerAfter = 500 * time.Millisecond // so long a client may go on sending what nobody reads
	freshAfter  = 500 * time.Millisecond // and a new one may take for its first request when the server ends
)

// States of a connection: who finds it idle may close it.
const (
	fresh int32 = iota // the first request has not come
	idle
	active
	closed
)

// direct serves one connection with plain HTTP/1.1 as long as requests are ordinary:
// a head that is not long, nothing in it but what most requests have, and a body
// of a length that is told. With the first that is not, the connection is net/http's,
// from that request on.
//
// Goroutines: that of serve, which owns everything; and while a request takes long one
// that watches whether the client leaves (see watch), for which serve waits.
type direct struct {
	server *Server
	g      *generation
	conn   net.Conn
	state  atomic.Int32

	buffer     []byte
	start, end int       // of what was read and not taken
	armed      time.Time // until when conn may be read; zero if for ever
	seen       time.Time // when the last request was over

	ctx     context.Context // ends when the client has left, or the connection is over
	cancel  context.CancelFunc
	head    head
	blank   http.Request // what all requests have in common
	request *http.Request
	body    *body // of the request; nil without one
	reply   reply

	timer    *time.Timer // of watch
	watching sync.Mutex  // held by watch; guards:
	handling bool        // a handler is at work
	ahead    []byte      // what watch has read of the next request: nothing or a byte
	watchEnd chan struct{}
}

// serve serves the connection to its end, or to where it is net/http's.
func (s *Server) serve(g *generation, c net.Conn) {
	d := &direct{server: s, g: g, conn: c, buffer: make([]byte, readAhead)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	defer d.cancel()
	d.request = new(http.Request).WithContext(d.ctx)
	d.blank = *d.request
	d.blank.Proto, d.blank.ProtoMajor, d.blank.ProtoMinor = "HTTP/1.1", 1, 1
	d.blank.RemoteAddr = c.RemoteAddr().String()
	d.reply.direct = d
	d.timer = time.AfterFunc(time.Hour, d.watch)
	d.timer.Stop()
	handed := s.enter(d) && d.loop()
	s.exit(d)
	if handed {
		d.handOver()
		return
	}
	c.Close()
	s.left(g)
}

// enter counts a connection in; false if the server ends.
func (s *Server) enter(d *direct) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.directs[d] = true
	return !s.over
}

func (s *Server) exit(d *direct) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.directs, d)
}

// endDirect lets direct connections end: those that are idle at once, the others with
// the request at hand. s.mu is held, s.over set.
func (s *Server) endDirect() {
	s.ending.Store(true)
	for d := range s.directs {
		if d.state.CompareAndSwap(idle, closed) {
			d.conn.Close()
		} else if d.state.Load() == fresh {
			_ = d.conn.SetReadDeadline(time.Now().Add(freshAfter))
		}
	}
}

// closeDirect closes what has not ended in time.
func (s *Server) closeDirect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.directs {
		d.conn.Close()
	}
}

// handOver gives the connection to net/http, with what was read of it.
func (d *direct) handOver() {
	rest := append([]byte(nil), d.buffer[d.start:d.end]...)
	d.g.take(d.server, &conn{Conn: d.conn, rest: rest})
}

// loop serves requests; true says that the next one is net/http's.
func (d *direct) loop() (handOver bool) {
	wait := d.g.limits.Slow // for the first byte; as with net/http
	for {
		if !d.receive(wait) {
			return false
		}
		size, late := d.await()
		if late {
			(&conn{Conn: d.conn}).tooLate()
			return false
		}
		if !d.server.edge.isDirect() || size == 0 || size > d.g.limits.Headers || !d.head.parse(string(d.buffer[d.start:d.start+size])) {
			return true
		}
		d.start += size
		again := d.answer()
		if !again {
			return false
		}
		d.seen = time.Now()
		d.state.Store(idle)
		if d.server.ending.Load() {
			return false
		}
		wait = d.g.limits.Idle
	}
}

// receive waits for a request to begin; false when the connection is over.
func (d *direct) receive(wait time.Duration) bool {
	if d.start == d.end {
		d.start, d.end = 0, 0
		if d.seen.IsZero() {
			d.seen = time.Now()
		}
		for d.end == 0 {
			if d.armed.IsZero() {
				d.arm(d.seen.Add(wait))
			}
			n, err := d.conn.Read(d.buffer)
			d.end = n
			if n > 0 {
				break
			}
			// The deadline was not moved with each request: it may be too early.
			if !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(d.seen.Add(wait)) || d.server.ending.Load() {
				return false
			}
			d.armed = time.Time{}
		}
	}
	if !d.state.CompareAndSwap(idle, active) && !d.state.CompareAndSwap(fresh, active) {
		return false // the server ends
	}
	return true
}

// await returns the size of the request's head once that is there; 0 if it is too long,
// or not ordinary whatever may follow; late is true if it does not come in time.
func (d *direct) await() (size int, late bool) {
	begun := time.Time{}
	for {
		text := d.buffer[d.start:d.end]
		size, over := headSize(text)
		if size > 0 || over || !promising(text) {
			return size, false
		}
		if d.start > 0 {
			d.end = copy(d.buffer, text)
			d.start = 0
		}
		if d.end == len(d.buffer) {
			return 0, false
		}
		if begun.IsZero() {
			begun = time.Now()
			d.arm(begun.Add(d.g.limits.Slow))
		}
		n, err := d.conn.Read(d.buffer[d.end:])
		d.end += n
		if n == 0 {
			return 0, errors.Is(err, os.ErrDeadlineExceeded) // of others net/http sees the same
		}
		d.armed = time.Time{} // it is too early for the next one
	}
}

// promising reports whether the first line of a request, as far as it is there, may be
// that of an ordinary one: net/http answers to others before it has the whole head.
func promising(text []byte) bool {
	line, _, whole := bytes.Cut(text, crlf)
	return whole && bytes.HasSuffix(line, []byte(" HTTP/1.1")) || !whole && bytes.IndexByte(line, '\n') < 0
}

func (d *direct) arm(at time.Time) {
	d.armed = at
	_ = d.conn.SetReadDeadline(at) // a connection that is gone has none
}

// headSize is where the first empty line ends, 0 without one; over says that there is
// one, but not all lines end as they should.
func headSize(data []byte) (size int, over bool) {
	for i := 1; i < len(data); i++ {
		if data[i] != '\n' {
			continue
		}
		if data[i-1] == '\n' {
			return 0, true
		}
		if i >= 2 && data[i-1] == '\r' && data[i-2] == '\n' {
			if i >= 3 && data[i-3] == '\r' {
				return i + 1, true
			}
			return 0, true
		}
	}
	return 0, false
}

// answer lets the request be handled; false if it was the connection's last.
func (d *direct) answer() (again bool) {
	r := d.request
	*r = d.blank
	r.Method, r.RequestURI, r.Host, r.Header, r.ContentLength = d.head.method, d.head.target, d.head.host, d.head.header, d.head.length
	r.URL = &d.head.url
	r.Body, d.body = http.NoBody, nil
	if d.head.length > 0 {
		d.body = &body{direct: d, left: d.head.length}
		r.Body = d.body
	}
	d.reply.begin()
	d.begin()
	finished := false
	defer func() {
		if problem := recover(); problem != nil {
			if !finished {
				d.finish()
			}
			again = false
			if problem != http.ErrAbortHandler { //nolint:errorlint // it is thrown as it is
				d.server.logger.Error("a handler panicked", "request", r.Method+" "+r.URL.Path, "panic", problem, "stack", string(debug.Stack()))
			}
		}
	}()
	d.server.edge.ServeHTTP(&d.reply, r)
	finished = true
	d.finish()
	whole := d.reply.end()
	if d.reply.last && d.body != nil && !d.body.here() {
		d.linger()
	}
	return whole && !d.reply.last && d.drain()
}

// drain reads what the handler did not read of the body; false if that fails.
func (d *direct) drain() bool {
	if d.body == nil || d.body.left == 0 {
		return true
	}
	if !d.body.here() {
		d.arm(time.Now().Add(d.g.limits.Slow))
	}
	_, err := io.Copy(io.Discard, d.body)
	return err == nil
}

// unread reports whether more of the body is on its way than is read for nothing.
func (d *direct) unread() bool {
	return d.body != nil && d.body.left > int64(d.end-d.start)+drained
}

// linger lets the client read the answer before it learns that nobody reads what it
// sends.
func (d *direct) linger() {
	if half, ok := d.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = d.conn.SetReadDeadline(time.Now().Add(lingerAfter))
	_, _ = io.Copy(io.Discard, d.conn)
}

// begin lets the client be watched if the request takes long.
func (d *direct) begin() {
	d.watching.Lock()
	d.handling = true
	d.watching.Unlock()
	d.timer.Reset(watchAfter)
}

// watch waits for the client to leave while a handler is at work. It reads nothing
// unless the body has been read.
func (d *direct) watch() {
	d.watching.Lock()
	switch {
	case !d.handling:
		d.watching.Unlock()
		return
	case d.body != nil && !d.body.over.Load(): // until then body and buffer are its reader's
		d.timer.Reset(watchAfter)
		d.watching.Unlock()
		return
	case d.start != d.end: // the next request is there
		d.watching.Unlock()
		return
	}
	end := make(chan struct{})
	d.watchEnd = end
	_ = d.conn.SetReadDeadline(time.Time{})
	d.watching.Unlock()
	var one [1]byte
	n, err := d.conn.Read(one[:])
	if n == 1 {
		d.ahead = append(d.ahead, one[0])
	} else if !errors.Is(err, os.ErrDeadlineExceeded) {
		d.cancel()
	}
	close(end)
}

// finish ends watching.
func (d *direct) finish() {
	d.timer.Stop()
	d.watching.Lock()
	d.handling = false
	end := d.watchEnd
	d.watchEnd = nil
	d.watching.Unlock()
	if end == nil {
		return
	}
	_ = d.conn.SetReadDeadline(time.Unix(1, 0))
	<-end
	d.arm(time.Time{})
	if len(d.ahead) > 0 { // the buffer was empty
		d.start, d.end = 0, copy(d.buffer, d.ahead)
		d.ahead = d.ahead[:0]
	}
}

// body is a request's body of known length: what has come with the head, and then the
// connection.
type body struct {
	direct *direct
	left   int64
	over   atomic.Bool // it was read to its end
}

// Read returns io.EOF together with the last bytes.
func (b *body) Read(into []byte) (n int, err error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(into)) > b.left {
		into = into[:b.left]
	}
	if d := b.direct; d.start < d.end {
		n = copy(into, d.buffer[d.start:d.end])
		d.start += n
	} else if n, err = d.conn.Read(into); errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if b.left -= int64(n); b.left == 0 {
		b.over.Store(true)
		err = io.EOF
	}
	return n, err
}

// here reports whether all of the body has come with the head.
func (b *body) here() bool { return b.left <= int64(b.direct.end-b.direct.start) }

// Close does nothing: the connection reads on, or is closed.
func (b *body) Close() error { return nil }
