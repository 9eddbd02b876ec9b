package processor

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/metrics"
	"github.com/millrace/millrace/internal/worker"
)

// How many events are sent to one worker ahead of their turn: as many as it is
// expected to handle in aheadTime, so that none waits long behind another while a
// worker elsewhere has nothing to do.
const (
	aheadTime  = 500 * time.Microsecond
	aheadMost  = 32
	aheadQuick = 8       // from here on events for a busy worker are gathered
	aheadBytes = 1 << 20 // of bodies
	maxTries   = 3       // workers that may die before an event is begun
)

// hire starts a worker and loads the code into it. It is the one way by which
// workers come into being.
type hire func(ctx context.Context, number int) (*worker.Worker, string, error)

// pool is the workers of one trigger of one revision and the events for them.
//
// Everything that waits, waits in order. An event goes to a worker with nothing
// to do; when there is none, to one with room; else into the queue, from which a
// worker takes it when it answers another.
//
// Goroutines: one for each member (see member.live) and the keeper, which is
// owned by the revision.
type pool struct {
	trigger realtime.Trigger
	hire    hire
	logger  *slog.Logger
	timeout time.Duration // of an event; 0 is none
	startup time.Duration // that starting a worker may take
	grace   time.Duration // for events in progress when a worker shall end
	stats   *metrics.Counters
	scale   scale

	ctx    context.Context // ends when the pool is closed: hiring stops
	cancel context.CancelFunc
	lives  sync.WaitGroup // of members
	wake   chan struct{}  // to the keeper: there is something to time

	mu       sync.Mutex
	members  []*member
	numbers  map[int]bool // in use
	queue    fifo
	closed   bool
	fresh    bool          // its first workers have not been seen working
	handler  string        // name of what was loaded
	trouble  error         // why the last worker could not be started; nil if it could
	service  time.Duration // running mean of the time that an event takes
	ahead    int           // events that a worker may have at once
	lastBusy time.Time
	crashed  time.Time     // when a worker died last
	looked   time.Time     // when the keeper looked how busy they are
	busyTime time.Duration // of all members since then
	changed  chan struct{} // closed and replaced whenever members change
}

// member is one worker of a pool.
type member struct {
	pool   *pool
	number int
	stop   chan struct{} // closed when it shall end

	// Under the pool's lock.
	worker   *worker.Worker // nil until it is loaded
	threads  int            // events that it handles at once, 1 of coroutines
	open     map[*event]bool
	bytes    int
	since    time.Time // of the last answer, or of the first event after none
	stalled  bool      // a client does not take what it streams
	resumed  time.Time // when that was over: answers may have waited behind it
	suspect  time.Time // since then it should answer that it gave an event up; zero if there is none
	retiring bool
	dead     bool
	hung     bool
}

func newPool(ctx context.Context, trigger realtime.Trigger, h hire, logger *slog.Logger) *pool {
	ctx, cancel := context.WithCancel(ctx)
	return &pool{
		trigger: trigger, hire: h, logger: logger, stats: &metrics.Counters{}, ctx: ctx, cancel: cancel, ahead: 1,
		wake: make(chan struct{}, 1), numbers: map[int]bool{}, changed: make(chan struct{}), lastBusy: time.Now(),
	}
}

// submit gives an event to the pool, which settles it unless there is an error.
func (p *pool) submit(e *event) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errDraining
	}
	p.lastBusy = e.arrived
	if p.trigger.Batch == nil && p.queue.empty() {
		if m := p.pick(len(e.request.Body)); m != nil {
			p.assign(m, e)
			p.mu.Unlock()
			e.stats.Immediate.Add(1)
			p.begin(m, e)
			return nil
		}
	}
	err := p.enqueue(e)
	full := p.trigger.Batch != nil && p.queue.len() >= p.trigger.Batch.Size
	p.mu.Unlock()
	if full {
		p.feed()
	}
	p.rouse()
	return err
}

func (p *pool) enqueue(e *event) error {
	if p.queue.len() >= p.trigger.Queue {
		e.stats.Refused.Add(1)
		return errQueueFull
	}
	switch alive := p.ready() > 0; {
	case !alive && p.trouble != nil:
		e.stats.Refused.Add(1)
		return p.trouble
	case alive && e.wait == 0 && p.trigger.Batch == nil:
		e.stats.Refused.Add(1)
		e.stats.NoWorker.Add(1)
		return errUnavailable
	}
	p.setDeadline(e)
	p.queue.push(e)
	return nil
}

// setDeadline says until when e may wait for a worker.
func (p *pool) setDeadline(e *event) {
	if !e.deadline.IsZero() {
		return
	}
	wait := e.wait
	if p.trigger.Batch != nil {
		wait += p.trigger.Batch.Delay
	}
	if p.ready() == 0 {
		wait += p.startup // they have to be started first
	}
	e.deadline = e.arrived.Add(wait)
}

// rouse tells the keeper that there is something to time.
func (p *pool) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pool) ready() int {
	n := 0
	for _, m := range p.members {
		if m.worker != nil && !m.dead && !m.retiring {
			n++
		}
	}
	return n
}

// pick returns the member that shall have an event of size bytes, nil if all have
// enough to do.
func (p *pool) pick(size int) *member {
	var best *member
	for _, m := range p.members {
		if m.room(size) && (best == nil || len(m.open) < len(best.open)) {
			best = m
			if len(m.open) == 0 {
				break
			}
		}
	}
	return best
}

func (m *member) room(size int) bool {
	if m.worker == nil || m.dead || m.retiring || !m.suspect.IsZero() {
		return false
	}
	if len(m.open) == 0 {
		return true
	}
	if m.pool.trigger.Batch != nil {
		return false
	}
	limit := m.pool.ahead
	if m.threads > 1 && time.Since(m.pool.crashed) > settledLife { // else it would take the others along
		limit = m.threads
	}
	return len(m.open) < limit && m.bytes+size <= aheadBytes && !m.stalled
}

func (p *pool) assign(m *member, e *event) {
	now := time.Now()
	if len(m.open) == 0 {
		m.since = now
	}
	m.open[e] = true
	m.bytes += len(e.request.Body)
	e.member, e.sent, e.moved = m, now, now
	e.soon = p.ahead >= aheadQuick && m.threads <= 1 && !m.worker.Async()
	e.tries++
}

// begin sends events to m, to which they are assigned.
func (p *pool) begin(m *member, events ...*event) {
	var err error
	switch {
	case len(events) == 1 && events[0].soon:
		err = m.worker.BeginSoon(&events[0].request, events[0])
	case len(events) == 1:
		err = m.worker.Begin(&events[0].request, events[0])
	default:
		requests, sinks := make([]*worker.Request, len(events)), make([]worker.Sink, len(events))
		for i, e := range events {
			requests[i], sinks[i] = &e.request, e
		}
		err = m.worker.BeginBatch(requests, sinks)
	}
	if err != nil {
		for _, e := range events {
			p.lost(m, e, err)
		}
	}
}

// claim decides who answers e: true if the caller does.
func (p *pool) claim(m *member, e *event, more bool) bool {
	p.mu.Lock()
	if !e.over {
		e.over = true
		p.mu.Unlock()
		return true
	}
	p.mu.Unlock()
	if !more {
		p.answered(m, e)
	}
	return false
}

// stall notes that m cannot go on with e, or can again, for a reason that is not its own.
func (p *pool) stall(m *member, e *event, stalled bool) {
	p.mu.Lock()
	now := time.Now()
	m.stalled, m.since, e.moved = stalled, now, now
	if !stalled {
		m.resumed = now
	}
	p.mu.Unlock()
}

// moved notes that e has come further; held, that it waits for its client from now on.
func (p *pool) moved(m *member, e *event, held bool) {
	p.mu.Lock()
	now := time.Now()
	m.since, e.moved, e.held = now, now, held
	p.mu.Unlock()
}

// answered makes room for other events after m has answered e.
func (p *pool) answered(m *member, e *event) {
	e.record()
	p.mu.Lock()
	now := time.Now()
	p.learn(e.took, m)
	if m.threads > 1 {
		p.busyTime += now.Sub(later(e.sent, p.looked)) / time.Duration(m.threads)
	} else {
		p.busyTime += now.Sub(later(m.since, p.looked)) // nothing but the handler came between
	}
	p.free(m, e, now)
	next := p.next(m)
	p.mu.Unlock()
	p.send(m, next)
}

// learn updates how many events a worker may have at once. took is the handler's own
// time: what passes between answers is longer where the machine is busy, and sending
// less ahead would make it busier.
func (p *pool) learn(took time.Duration, m *member) {
	if m.worker.Async() {
		p.ahead = p.trigger.Concurrency
		return
	}
	if took == 0 || m.threads > 1 { // nothing waits behind others there, so that each can be timed
		return
	}
	p.service += (took - p.service) / 16
	p.ahead = min(max(int(aheadTime/max(p.service, 1)), 1), aheadMost)
	if !p.crashed.IsZero() && time.Since(p.crashed) < settledLife {
		p.ahead = 1 // what kills a worker again shall take no other event along
	}
}

func (p *pool) free(m *member, e *event, now time.Time) {
	if !m.open[e] {
		return
	}
	delete(m.open, e)
	m.suspect = time.Time{}
	m.bytes -= len(e.request.Body)
	m.since, p.lastBusy = now, now
	if m.retiring && len(m.open) == 0 {
		p.announce()
	}
}

// next takes what m has room for from the queue.
func (p *pool) next(m *member) []*event {
	if p.trigger.Batch != nil {
		return p.nextBatch(m)
	}
	var out []*event
	for !p.queue.empty() && m.room(len(p.queue.peek().request.Body)) {
		e := p.queue.pop()
		if e.over {
			continue
		}
		if e.gone.Load() {
			e.over, e.err = true, errGone
			e.settled <- struct{}{}
			continue
		}
		p.assign(m, e)
		e.stats.Waited(e.sent.Sub(e.arrived))
		out = append(out, e)
	}
	return out
}

// nextBatch takes a batch that is full, or has waited long enough.
func (p *pool) nextBatch(m *member) []*event {
	batch := p.trigger.Batch
	if p.queue.empty() || !m.room(0) {
		return nil
	}
	if p.queue.len() < batch.Size && time.Since(p.queue.peek().arrived) < batch.Delay {
		return nil
	}
	var out []*event
	size := 0
	for len(out) < batch.Size && !p.queue.empty() {
		e := p.queue.peek()
		if size += len(e.request.Body); size > realtime.MaxBody && len(out) > 0 {
			break
		}
		p.queue.pop()
		if e.over {
			continue
		}
		p.assign(m, e)
		e.stats.Waited(e.sent.Sub(e.arrived))
		out = append(out, e)
	}
	return out
}

func (p *pool) send(m *member, events []*event) {
	if len(events) == 0 {
		return
	}
	if p.trigger.Batch != nil {
		p.begin(m, events...)
		return
	}
	for _, e := range events {
		p.begin(m, e)
	}
}

// lost deals with an event whose worker is gone.
func (p *pool) lost(m *member, e *event, err error) {
	var died *worker.DiedError
	begun := !errors.As(err, &died) || died.Begun
	p.mu.Lock()
	m.dead = true
	p.free(m, e, time.Now())
	streaming, settle := e.over && e.stream != nil, !e.over
	switch {
	case streaming:
		e.broken = true
	case e.over: // nobody waits any more
	case !begun && e.tries < maxTries:
		p.setDeadline(e)
		p.queue.pushFront(e)
		p.mu.Unlock()
		p.feed()
		return
	case m.hung:
		e.over, e.err = true, errTimedOut
	default:
		e.over, e.err = true, &lostError{cause: err}
	}
	p.mu.Unlock()
	e.record()
	if streaming {
		e.stream.end()
	} else if settle {
		e.settled <- struct{}{}
	}
}

// feed gives waiting events to whoever has room.
func (p *pool) feed() {
	for {
		p.mu.Lock()
		var m *member
		if !p.queue.empty() {
			m = p.pick(len(p.queue.peek().request.Body))
		}
		if m == nil {
			p.mu.Unlock()
			return
		}
		next := p.next(m)
		p.mu.Unlock()
		p.send(m, next)
		if len(next) == 0 && p.trigger.Batch != nil {
			return
		}
	}
}

// refuse settles an event that waits.
func (p *pool) refuse(e *event, err error) {
	e.over, e.err = true, err
	e.stats.Refused.Add(1)
	e.settled <- struct{}{}
}

// announce tells who waits for a change of the members.
func (p *pool) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// fifo is a queue with two ends.
type fifo struct {
	items []*event
	head  int
}

func (f *fifo) len() int     { return len(f.items) - f.head }
func (f *fifo) empty() bool  { return f.len() == 0 }
func (f *fifo) peek() *event { return f.items[f.head] }

func (f *fifo) push(e *event) {
	if f.head > 64 && f.head*2 > len(f.items) {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, e)
}

func (f *fifo) pushFront(e *event) {
	if f.head == 0 {
		f.items = append([]*event{nil}, f.items...)
		f.head = 1
	}
	f.head--
	f.items[f.head] = e
}

func (f *fifo) pop() *event {
	e := f.items[f.head]
	f.items[f.head] = nil
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return e
}
