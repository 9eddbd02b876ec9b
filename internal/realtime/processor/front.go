package processor

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime/application"
	"github.com/millrace/millrace/internal/realtime/edge"
	"github.com/millrace/millrace/internal/realtime/trace"
)

const (
	jsonType    = "application/json"
	logLevel    = "X-Nuclio-Log-Level"
	logsHeader  = "X-Nuclio-Logs"
	maxLogs     = 4096 // bytes of a header that returns log records
	maxAttempts = 8    // revisions that may retire under a request
)

// front answers HTTP requests by events.
type front struct {
	routes func(r *http.Request) (*serving, []*serving, error)
	slow   func() time.Duration // a client may take nothing for
	seen   atomic.Uint64
	// proxies is set once a revision is a program, whose answers may have what only
	// net/http sends: other protocols, trailers.
	proxies atomic.Bool
}

// Direct implements edge.Direct.
func (f *front) Direct() bool { return !f.proxies.Load() }

// A process that has little in memory collects garbage all the time once it is busy;
// one that has seen manyRequests collects it more rarely (runtime/debug.SetGCPercent).
// The others, of which there may be hundreds, stay small.
const (
	manyRequests = 10_000
	busyPercent  = 400
)

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.seen.Add(1) == manyRequests {
		debug.SetGCPercent(busyPercent)
	}
	var e *event // for revisions that take events
	var span *trace.Span
	for attempt := 1; ; attempt++ {
		main, shadows, err := f.routes(r)
		switch {
		case err != nil:
		case main.app != nil:
			if e != nil { // it was read for a revision that has retired
				r.Body = io.NopCloser(bytes.NewReader(e.request.Body))
			}
			span = spanOf(span, main, r)
			var status int
			if status, err = main.app.Serve(w, r); err == nil {
				span.End(status, "")
				return
			}
		default:
			span = spanOf(span, main, r)
			if e == nil {
				if e = receive(w, r); e == nil {
					span.End(0, "the request could not be read")
					return
				}
			}
			err = submit(e, main, shadows)
		}
		if err == nil {
			f.finish(w, r, e, main, span)
			return
		}
		retired := errors.Is(err, errDraining) || errors.Is(err, application.ErrDraining)
		if !retired || attempt == maxAttempts { // else another one has its traffic by now
			status := refuse(w, err)
			if main != nil && main.http != nil {
				main.http.stats.Answered(status)
			}
			span.End(status, err.Error())
			return
		}
	}
}

// spanOf is the span of a request that a revision gets, before its headers are read:
// the first one's, if another had it before.
func spanOf(span *trace.Span, s *serving, r *http.Request) *trace.Span {
	if span == nil {
		span = s.tracer.Start(r)
	}
	return span
}

// receive makes the event of a request; nil if it has refused it.
func receive(w http.ResponseWriter, r *http.Request) *event {
	body, buffer, err := readBody(r)
	if err != nil {
		edge.Unread(w, r, err)
		return nil
	}
	e := newEvent()
	e.received = buffer
	e.request.Timestamp = e.arrived
	request(&e.request, r, body)
	if err := unwrap(&e.request, r.Header); err != nil {
		edge.Problem(w, http.StatusBadRequest, fault.Message(err))
		return nil
	}
	return e
}

// submit gives the event to a revision, and copies to shadows.
func submit(e *event, main *serving, shadows []*serving) error {
	if main.http == nil {
		return errNoHTTP
	}
	if err := main.http.submit(e); err != nil {
		return err
	}
	for _, s := range shadows {
		copyTo(s, e)
		e.received = nil // the copy has the same body
	}
	return nil
}

// finish answers with what becomes of the event.
func (f *front) finish(w http.ResponseWriter, r *http.Request, e *event, main *serving, span *trace.Span) {
	select {
	case <-e.settled:
	case <-r.Context().Done():
		e.abandon()
		span.End(0, errGone.Error())
		return // nobody reads an answer
	}
	if e.err != nil {
		status := refuse(w, e.err)
		main.http.stats.Answered(status)
		span.End(status, e.err.Error())
		return
	}
	main.http.stats.Answered(e.status)
	answer(w, r, e, f.slow())
	if e.stream == nil {
		e.release()
	}
	span.End(e.status, "")
}

var errNoHTTP = errors.New("the function has no trigger of kind http")

// copyTo lets a shadow handle a copy. What becomes of it is in its metrics.
func copyTo(s *serving, e *event) {
	if s.http == nil {
		return
	}
	shadow := newEvent()
	shadow.shadow = true
	shadow.request = e.request
	shadow.request.ID = eventID()
	_ = s.http.submit(shadow) // it is counted
}

// refuse answers for an event that no handler answered, and returns the status; 0
// if nobody is there to be answered.
func refuse(w http.ResponseWriter, err error) int {
	var lost *lostError
	status := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, errTimedOut):
		status = http.StatusRequestTimeout
	case errors.As(err, &lost):
		status = http.StatusInternalServerError
	case errors.Is(err, errNoHTTP):
		status = http.StatusNotFound
	case errors.Is(err, errGone):
		return 0
	default:
		w.Header().Set("Retry-After", "1")
	}
	edge.Problem(w, status, err.Error())
	return status
}
