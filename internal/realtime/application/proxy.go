package application

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/realtime/edge"
)

// exchange is one request on its way.
type exchange struct {
	began  time.Time
	app    *App
	to     *replica
	said   []string // headers of the answer that are not the program's to say
	status int      // of the answer; 0 while there is none
}

type exchangeKey struct{}

// Serve answers a request by the program and returns the status, 499 for a client
// that left. The only error is ErrDraining.
func (a *App) Serve(w http.ResponseWriter, r *http.Request) (status int, err error) {
	x := &exchange{began: time.Now(), app: a}
	x.to, err = a.acquire(r.Context(), x.began)
	switch {
	case errors.Is(err, ErrDraining):
		return 0, err
	case err != nil && r.Context().Err() != nil:
		return statusGone, nil
	case err != nil:
		x.refuse(w, err)
		return x.status, nil
	}
	defer func() { a.release(x.to) }()
	for name := range w.Header() {
		if strings.HasPrefix(name, "Access-Control-") {
			x.said = append(x.said, name)
		}
	}
	// Else the server reads the whole body before it lets the first byte of an answer out.
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 is so anyway
	a.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
	return x.status, nil
}

// refuse answers a request that no replica takes.
func (x *exchange) refuse(w http.ResponseWriter, err error) {
	x.status = http.StatusServiceUnavailable
	x.app.counters.Refused.Add(1)
	x.app.counters.Answered(http.StatusServiceUnavailable)
	w.Header().Set("Retry-After", "1")
	edge.Problem(w, http.StatusServiceUnavailable, err.Error())
}

// RoundTrip carries a request to its replica. A program that is found not to listen
// has not seen the request, which then waits for the next replica.
func (a *App) RoundTrip(r *http.Request) (*http.Response, error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	body := &watched{ReadCloser: r.Body}
	if r.Body != nil {
		r.Body = body
	}
	for {
		a.mu.Lock()
		carrier := x.to.carrier
		a.mu.Unlock()
		response, err := carrier.RoundTrip(r)
		if broken := body.err.Load(); broken != nil { // whatever the program says to half a body
			if err == nil {
				response.Body.Close()
			}
			return nil, *broken
		}
		var op *net.OpError
		if err == nil || !errors.As(err, &op) || op.Op != "dial" || r.Context().Err() != nil {
			return response, err
		}
		next, unavailable := a.another(r.Context(), x)
		if unavailable != nil {
			return nil, &unavailableError{unavailable}
		}
		x.to = next
	}
}

// another takes the request's replica, which does not listen, out of rotation, and
// waits for one that does.
func (a *App) another(ctx context.Context, x *exchange) (*replica, error) {
	a.mu.Lock()
	x.to.ready = false
	a.change()
	a.mu.Unlock()
	next, err := a.acquire(ctx, x.began)
	if err == nil {
		a.release(x.to)
	}
	return next, err
}

// unavailableError is what keeps a request from any replica.
type unavailableError struct{ error }

// watched is a request's body that is not closed between attempts, and remembers
// what kept it from being read.
type watched struct {
	io.ReadCloser
	err atomic.Pointer[error]
}

func (b *watched) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if err != nil && err != io.EOF {
		b.err.Store(&err)
	}
	return n, err
}

// Close leaves that to the proxy, which closes what it was given.
func (b *watched) Close() error { return nil }

// acquire waits for a replica and counts the request in.
func (a *App) acquire(ctx context.Context, began time.Time) (*replica, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var timer *time.Timer
	for counted := false; ; {
		if a.draining {
			return nil, ErrDraining
		}
		if r := a.choose(); r != nil {
			r.open++
			return r, nil
		}
		if !counted {
			if a.waiting >= a.trigger.Queue {
				return nil, errors.New("too many requests wait for the program; ask again in a moment")
			}
			counted = true
			a.waiting++
			defer func() { a.waiting-- }()
		}
		if len(a.replicas) == 0 {
			a.resize(1)
		}
		patience := a.Revision.ReadyTimeout
		if a.trouble != nil {
			patience = *a.trigger.AvailabilityTimeout
		}
		left := time.Until(began.Add(patience))
		if left <= 0 {
			return nil, a.unavailable()
		}
		if timer == nil {
			timer = time.NewTimer(left)
			defer timer.Stop()
		} else {
			timer.Reset(left)
		}
		moved := a.moved
		a.mu.Unlock()
		select {
		case <-moved:
		case <-timer.C:
		case <-ctx.Done():
		}
		a.mu.Lock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// unavailable says why there is no replica; a.mu is held.
func (a *App) unavailable() error {
	if a.trouble != nil {
		return a.trouble
	}
	return errors.New("the program is not ready yet; ask again in a moment")
}

// choose returns the ready replica with the fewest requests, in turn among equals;
// a.mu is held.
func (a *App) choose() *replica {
	var best *replica
	a.turn++
	for i := range a.replicas {
		r := a.replicas[(a.turn+i)%len(a.replicas)]
		if r.ready && !r.leaving && (best == nil || r.open < best.open) {
			best = r
		}
	}
	return best
}

func (a *App) release(r *replica) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.open--
	a.used = time.Now()
	if r.leaving && r.open == 0 {
		a.change()
	}
}

// settle counts a request's answer, once.
func (x *exchange) settle(status int) {
	if x.status != 0 {
		return
	}
	x.status = status
	c := &x.app.counters
	c.Answered(status)
	c.Took(time.Since(x.began))
	if status >= 500 {
		c.Failed.Add(1)
	} else {
		c.Succeeded.Add(1)
	}
}

func newProxy(a *App) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: a, FlushInterval: -1, BufferPool: buffers{}, Rewrite: rewrite,
		ErrorLog: slog.NewLogLogger(a.Logger.Handler(), slog.LevelDebug),
		ModifyResponse: func(response *http.Response) error {
			x := response.Request.Context().Value(exchangeKey{}).(*exchange)
			for _, name := range x.said {
				response.Header.Del(name)
			}
			x.settle(response.StatusCode)
			return nil
		},
		ErrorHandler: failed,
	}
}

// rewrite aims a request at the program, which gets the client's own host name.
func rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host = "http", "program"
	p.Out.Host = p.In.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery // also what only the program can read
	if _, _, err := net.SplitHostPort(p.In.RemoteAddr); err == nil {
		p.SetXForwarded() // a client is not believed about others
	} else { // the gateway, on the socket
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix"} {
			if values := p.In.Header[name]; values != nil {
				p.Out.Header[name] = values
			}
		}
	}
	if _, ok := p.Out.Header["User-Agent"]; !ok {
		p.Out.Header.Set("User-Agent", "") // or the transport names itself
	}
}

// failed answers for a program that did not.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	var large *http.MaxBytesError
	var late interface{ Timeout() bool }
	var unavailable *unavailableError
	switch {
	case errors.As(err, &large):
		x.settle(http.StatusRequestEntityTooLarge)
		edge.Unread(w, r, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.settle(http.StatusRequestTimeout)
		edge.Unread(w, r, err)
	case r.Context().Err() != nil:
		x.settle(statusGone)
	case errors.As(err, &unavailable):
		x.refuse(w, unavailable.error)
	case errors.As(err, &late) && late.Timeout():
		x.settle(http.StatusGatewayTimeout)
		edge.Problem(w, http.StatusGatewayTimeout, "the program did not answer within "+x.app.Revision.EventTimeout.String())
	default:
		x.app.Logger.Warn("the program did not answer", "error", err)
		x.settle(http.StatusBadGateway)
		edge.Problem(w, http.StatusBadGateway, "the program broke the connection off before it answered; its log may say why")
	}
}

// statusGone is counted where the client left before there was an answer.
const statusGone = 499

// buffers are shared by the bodies of all applications.
type buffers struct{}

var pool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (buffers) Get() []byte { return pool.Get().(*[32 << 10]byte)[:] }

func (buffers) Put(buffer []byte) { pool.Put((*[32 << 10]byte)(buffer)) }
