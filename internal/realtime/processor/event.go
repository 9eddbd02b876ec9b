package processor

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/realtime/metrics"
	"github.com/millrace/millrace/internal/worker"
)

// Why no handler answered an event. The front makes statuses of them.
var (
	errQueueFull   = errors.New("more events wait than the function allows")
	errUnavailable = errors.New("no worker became free in time")
	errTimedOut    = errors.New("handler timed out")
	errGone        = errors.New("the caller has gone")
	errDraining    = errors.New("the revision takes no more events")
)

// lostError says that a worker died with an event that it had begun.
type lostError struct{ cause error }

func (e *lostError) Error() string {
	return e.cause.Error() + " before it had answered this event; another one takes its place"
}

// event is one event on its way through a pool, and then what became of it.
//
// Whoever submits it waits on settled, which is signalled once: err says why
// there is no answer, otherwise status, contentType, headers, logs and body are
// it. If stream is not nil, pieces of the body follow there; it is over after
// the last one, and broken says then if the body is not whole. The submitter sets
// gone when it waits no longer.
type event struct {
	request worker.Request
	settled chan struct{} // of capacity 1
	arrived time.Time
	gone    atomic.Bool
	leave   chan struct{} // closed with gone, for events whose answer may be a stream
	shadow  bool          // a copy whose answer nobody wants
	stats   *metrics.Counters
	wait    time.Duration // for a worker, at most

	status      int
	contentType string
	headers     [][2]string
	logs        []byte
	body        []byte
	failed      bool
	err         error
	received    *buffer // that request.Body is in, if it is in one
	replied     *buffer // that body is in
	stream      *outflow
	broken      bool

	// Of the pool, under its lock.
	member   *member
	deadline time.Time // for a worker to become free
	sent     time.Time
	moved    time.Time     // then, or its last piece
	took     time.Duration // by the handler alone; 0 if that is not known
	tries    int
	soon     bool // its worker is quick: it may wait for company on the way
	held     bool // its worker keeps it waiting until the client has taken more
	over     bool // settled, or about to be
	dropped  bool // the worker was told that nobody wants more; of its reader
}

func newEvent() *event {
	return &event{settled: make(chan struct{}, 1), arrived: time.Now(), leave: make(chan struct{})}
}

// abandon says that nobody waits for the answer any more.
func (e *event) abandon() {
	if e.gone.CompareAndSwap(false, true) {
		close(e.leave)
	}
}

// Reply implements worker.Sink. It runs on the reader of the event's worker.
func (e *event) Reply(r *worker.Reply, err error) {
	m := e.member
	if err != nil {
		m.pool.lost(m, e, err)
		return
	}
	if r.Status == 0 {
		e.piece(r)
		return
	}
	if !m.pool.claim(m, e, r.More) {
		return // answered by a timeout meanwhile
	}
	e.status, e.contentType, e.headers, e.failed = r.Status, r.ContentType, r.Headers, r.Failed
	e.logs, e.took = r.Logs, r.Took
	if e.replied = takeBuffer(len(r.Body)); e.replied != nil {
		e.body = e.replied.bytes[:copy(e.replied.bytes, r.Body)]
	} else {
		e.body = append(e.body[:0], r.Body...)
	}
	if r.More && !e.shadow {
		e.stream = newOutflow()
	} else if !r.More {
		m.pool.answered(m, e)
	}
	e.settled <- struct{}{}
}

func (e *event) piece(r *worker.Reply) {
	m := e.member
	if r.More && !e.dropped && (e.stream == nil || e.gone.Load()) {
		e.dropped = true
		m.worker.GiveUp(e)
	}
	if e.stream == nil { // the answer was given up before the first piece
		if !r.More {
			m.pool.answered(m, e)
		}
		return
	}
	if len(r.Body) > 0 {
		e.deliver(append([]byte(nil), r.Body...))
	}
	if r.More {
		return
	}
	e.broken = e.broken || r.Failed
	e.failed = e.failed || r.Failed
	m.pool.answered(m, e)
	e.stream.end()
}
