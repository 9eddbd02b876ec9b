package processor

import "sync"

// How much of a body may wait for a slow client: from streamSoft on a worker that can
// do so keeps this response waiting, until no more than streamLow is left. What is on its
// way meanwhile, and what comes from a worker that cannot, is taken up to a limit at
// which all that the worker says waits.
const (
	streamLow  = 64 << 10
	streamSoft = 256 << 10
	streamHard = 8 << 20
	pieceCost  = 64 // bytes that are counted for a piece beside its own
)

// outflow is the pieces of a body between the worker, whose reader puts them there, and
// the client, whose goroutine takes them.
type outflow struct {
	more chan struct{} // of capacity 1: there is a piece, or none follows
	room chan struct{} // of capacity 1: a piece was taken

	mu     sync.Mutex // frames of hold leave under it, so that they are in order
	pieces [][]byte
	size   int
	held   bool // the worker keeps the response waiting
	over   bool // no piece follows
}

func newOutflow() *outflow {
	return &outflow{more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// end says that no piece follows.
func (o *outflow) end() {
	o.mu.Lock()
	o.over = true
	o.mu.Unlock()
	signal(o.more)
}

// put adds a piece; false if limit is reached. enough is called when the worker should
// keep the response waiting.
func (o *outflow) put(piece []byte, limit int, enough func()) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.size >= limit {
		return false
	}
	o.pieces = append(o.pieces, piece)
	o.size += len(piece) + pieceCost
	if o.size >= streamSoft && !o.held && enough != nil {
		o.held = true
		enough()
	}
	signal(o.more)
	return true
}

// deliver hands a piece to the client. It waits when the client is too slow and the
// worker does not keep the response waiting. It runs on the reader of the event's worker.
func (e *event) deliver(piece []byte) {
	m := e.member
	limit, enough := streamSoft, (func())(nil)
	if m.threads > 1 || m.worker.Async() {
		limit = streamHard
		enough = func() {
			m.pool.moved(m, e, true)
			m.worker.Hold(e, true)
		}
	}
	for !e.stream.put(piece, limit, enough) {
		m.pool.stall(m, e, true)
		select {
		case <-e.stream.room:
		case <-e.leave:
			m.pool.stall(m, e, false)
			return
		}
		m.pool.stall(m, e, false)
	}
	e.stream.mu.Lock()
	held := e.stream.held
	e.stream.mu.Unlock()
	if !held {
		m.pool.moved(m, e, false)
	} else if e.gone.Load() { // it was left before the worker was told to wait
		m.worker.GiveUp(e)
	}
}

// take returns the next piece, nil while there is none; over says that none follows.
func (e *event) take() (piece []byte, over bool) {
	o := e.stream
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pieces) == 0 {
		return nil, o.over
	}
	piece, o.pieces[0] = o.pieces[0], nil
	o.pieces = o.pieces[1:]
	o.size -= len(piece) + pieceCost
	if o.held && o.size <= streamLow {
		o.held = false
		e.member.pool.moved(e.member, e, false)
		e.member.worker.Hold(e, false)
	}
	signal(o.room)
	return piece, false
}

// drop says that nobody wants more of the body. A response that waits is told so: it
// would not say anything by which that could be noticed.
func (e *event) drop() {
	e.abandon()
	e.stream.mu.Lock()
	held := e.stream.held
	e.stream.mu.Unlock()
	if held {
		e.member.worker.GiveUp(e)
	}
}
