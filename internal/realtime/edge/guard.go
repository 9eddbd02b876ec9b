package edge

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// guard is a request's body within limits: not longer than they say, and never
// silent for longer than they say.
type guard struct {
	body    io.ReadCloser
	control deadliner
	rules   *rules
	left    int64
	err     error       // of the last read
	over    atomic.Bool // nothing more is read: a proxy's reader may outlive the handler
	large   atomic.Bool // it is longer than the limit
}

type deadliner interface{ SetReadDeadline(time.Time) error }

func newGuard(w http.ResponseWriter, body io.ReadCloser, rules *rules) *guard {
	g := &guard{body: body, rules: rules, left: rules.limits.Body}
	if control, ok := w.(deadliner); ok { // the server's own
		g.control = control
	} else {
		g.control = http.NewResponseController(w)
	}
	return g
}

// Read errs with *http.MaxBytesError over the limit, and with
// os.ErrDeadlineExceeded for a client that stopped.
func (g *guard) Read(into []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	g.patience()
	if int64(len(into))-1 > g.left {
		into = into[:g.left+1] // one byte more shows that there is more
	}
	n, err := g.body.Read(into)
	g.left -= int64(n)
	if g.left < 0 {
		n, err = n-1, &http.MaxBytesError{Limit: g.rules.limits.Body}
		g.large.Store(true)
	}
	if err != nil {
		g.err = err
		// Of a body that is whole the deadline is lifted, or it would be taken for the
		// client's leaving. Of others the server does not wait for the rest.
		if !g.over.Swap(true) && err == io.EOF {
			_ = g.control.SetReadDeadline(time.Time{}) // a connection that is gone has none
		}
	}
	return n, err
}

// patience gives the next piece its own time to arrive.
func (g *guard) patience() {
	if !g.over.Load() {
		_ = g.control.SetReadDeadline(time.Now().Add(g.rules.limits.Slow)) // where there are none, others bound the request
	}
}

func (g *guard) Close() error { return g.body.Close() }

// leave is called when the handler is done: what it has not read is read by the
// server, which is to wait no longer than the handler would have.
func (g *guard) leave() {
	g.patience()
	g.over.Store(true)
}

// Unread answers a request whose body could not be read with err.
func Unread(w http.ResponseWriter, r *http.Request, err error) {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		refuseLarge(w, large.Limit)
		return
	}
	w.Header().Set("Connection", "close")
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		Problem(w, http.StatusRequestTimeout, "the body did not arrive in time")
	case r.Context().Err() != nil: // nobody is there
	default:
		Problem(w, http.StatusBadRequest, "the body is not whole")
	}
}

// refuseLarge answers a request whose body is longer than the limit. The body should be
// given to Discard then.
func refuseLarge(w http.ResponseWriter, limit int64) {
	_ = http.NewResponseController(w).EnableFullDuplex() // the answer goes out before the body is read
	w.Header().Set("Connection", "close")
	Problem(w, http.StatusRequestEntityTooLarge, "the body is larger than "+strconv.FormatInt(limit, 10)+" bytes")
}

// How long a client may go on sending a body that nobody wants, and pause meanwhile.
const (
	discardFor   = 30 * time.Second
	discardPause = 2 * time.Second
)

// Discard sends the answer of a request and then reads what is left of its body. Many
// clients send all of it before they read; if the connection were closed meanwhile, it
// would be reset, and the answer lost.
func Discard(w http.ResponseWriter, r *http.Request, body io.Reader) {
	control := http.NewResponseController(w)
	if control.Flush() != nil || r.ProtoMajor != 1 || r.Header.Get("Expect") != "" { // such clients send nothing unasked
		return
	}
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.refused.Store(true)
	}
	buffer := make([]byte, 32<<10)
	for now, end := time.Now(), time.Now().Add(discardFor); now.Before(end); now = time.Now() {
		if control.SetReadDeadline(now.Add(min(discardPause, end.Sub(now)))) != nil {
			return
		}
		if _, err := body.Read(buffer); err != nil {
			return
		}
	}
}
