package edge

import (
	"errors"
	"io"
	"net/http"
	"os"
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
	w.Header().Set("Connection", "close")
	switch {
	case errors.As(err, &large):
		Problem(w, http.StatusRequestEntityTooLarge, tooLarge(large.Limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		Problem(w, http.StatusRequestTimeout, "the body did not arrive in time")
	case r.Context().Err() != nil: // nobody is there
	default:
		Problem(w, http.StatusBadRequest, "the body is not whole")
	}
}
