package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/internal/worker"
)

// A worker that ends unasked is replaced at once; one that keeps doing so, after
// pauses that double.
const (
	firstPause  = 50 * time.Millisecond
	longestLull = 10 * time.Second
	settledLife = 5 * time.Second // a worker that lived this long is no crash loop
)

// addMember gives the pool one more worker, which is started by a goroutine of
// its own. The caller holds the lock.
func (p *pool) addMember() {
	number := 0
	for p.numbers[number] {
		number++
	}
	p.numbers[number] = true
	m := &member{pool: p, number: number, stop: make(chan struct{}), open: map[*event]bool{}}
	p.members = append(p.members, m)
	p.lives.Add(1)
	go m.live()
}

// live keeps a worker in place until the member shall end.
func (m *member) live() {
	p := m.pool
	defer p.lives.Done()
	defer p.remove(m)
	pause := time.Duration(0)
	for {
		select {
		case <-m.stop:
			return
		case <-p.ctx.Done():
			return
		case <-time.After(pause):
		}
		ctx, cancel := context.WithTimeoutCause(p.ctx, p.startup, fmt.Errorf("the worker was not ready within %s", p.startup))
		started := time.Now()
		w, handler, err := p.hire(ctx, m.number)
		cancel()
		if err != nil {
			if p.ctx.Err() != nil {
				return
			}
			p.logger.Error("a worker cannot be started", "trigger", p.trigger.Name, "worker", m.number, "error", err)
			p.failed(err)
			pause = lull(pause)
			continue
		}
		p.enter(m, w, handler)
		if !m.serve(w) {
			return
		}
		p.stats.Restarts.Add(1)
		p.logger.Warn("a worker ended and is replaced", "trigger", p.trigger.Name, "worker", m.number, "how", w.Wait().String())
		if pause = lull(pause); time.Since(started) > settledLife {
			pause = 0
		}
	}
}

func lull(pause time.Duration) time.Duration {
	return min(max(2*pause, firstPause), longestLull)
}

// serve waits until the worker is gone; true if it was not meant to be.
func (m *member) serve(w *worker.Worker) bool {
	select {
	case <-w.Done():
		return m.pool.leave(m)
	case <-m.stop: // what it has begun is still timed
	}
	ctx, cancel := context.WithTimeout(context.Background(), max(m.pool.grace, m.pool.timeout))
	defer cancel()
	if _, err := w.Drain(ctx); err != nil {
		_, _ = w.Terminate(time.Second) // its error is that of a process that is gone
	}
	<-w.Done()
	return false
}

// failed notes that a worker could not be started. Without any other, what waits
// is refused: nobody would take it.
func (p *pool) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = &troubleError{cause: err}
	p.announce()
	if p.ready() > 0 {
		return
	}
	for !p.queue.empty() {
		if e := p.queue.pop(); !e.over {
			p.refuse(e, p.trouble)
		}
	}
}

// troubleError says why there are no workers.
type troubleError struct{ cause error }

func (e *troubleError) Error() string {
	var failure *worker.Failure
	if errors.As(e.cause, &failure) {
		return "the function cannot be loaded: " + failure.Message
	}
	return "the function's workers cannot be started: " + e.cause.Error()
}

func (e *troubleError) Unwrap() error { return e.cause }

// enter puts a worker that has loaded the code into rotation.
func (p *pool) enter(m *member, w *worker.Worker, handler string) {
	p.mu.Lock()
	m.threads = w.Threads()
	m.worker, m.dead, m.hung, m.stalled, m.suspect, m.bytes = w, false, false, false, time.Time{}, 0
	m.open = map[*event]bool{}
	p.handler, p.trouble = handler, nil
	if w.Async() {
		p.ahead = p.trigger.Concurrency
	}
	p.announce()
	p.mu.Unlock()
	p.feed()
}

// leave takes a worker out of rotation; true if its place shall be filled again.
func (p *pool) leave(m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.dead = true
	p.announce()
	if m.retiring || p.ctx.Err() != nil {
		return false
	}
	p.crashed = time.Now()
	if !m.worker.Async() {
		p.ahead = 1
	}
	return true
}

func (p *pool) remove(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.members {
		if other == m {
			p.members = append(p.members[:i:i], p.members[i+1:]...)
			break
		}
	}
	delete(p.numbers, m.number)
	p.announce()
}

// retire lets a member finish what it has and end. The caller holds the lock.
func (p *pool) retire(m *member) {
	if m.retiring {
		return
	}
	m.retiring = true
	close(m.stop)
	p.announce()
}

// resize starts or retires members until there are target of them. The caller
// holds the lock.
func (p *pool) resize(target int) {
	alive := 0
	for _, m := range p.members {
		if !m.retiring {
			alive++
		}
	}
	for ; alive < target; alive++ {
		p.addMember()
	}
	for i := len(p.members) - 1; i >= 0 && alive > target; i-- { // the youngest first
		if m := p.members[i]; !m.retiring {
			p.retire(m)
			alive--
		}
	}
}

// close takes no more events, waits for those that there are until ctx ends, and
// then for the workers to be gone.
func (p *pool) close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for !p.idle() {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
			continue
		}
		break
	}
	p.mu.Lock()
	p.dismiss()
	for _, m := range p.members {
		p.retire(m)
		if m.worker != nil && len(m.open) > 0 {
			_ = m.worker.Kill() // grace is over
		}
	}
	p.mu.Unlock()
	p.cancel()
	p.lives.Wait()
	p.mu.Lock()
	p.dismiss() // what workers that were killed had not begun
	p.mu.Unlock()
}

// dismiss refuses what waits. The caller holds the lock.
func (p *pool) dismiss() {
	for !p.queue.empty() {
		if e := p.queue.pop(); !e.over {
			p.refuse(e, errDraining)
		}
	}
}

func (p *pool) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.queue.empty() && p.trouble == nil {
		return false
	}
	for _, m := range p.members {
		if len(m.open) > 0 {
			return false
		}
	}
	return true
}

// keep refuses events that have waited too long, ends workers whose handler takes
// too long, and hands out batches whose time has come. It returns how long from
// now it has to be called again; 0 if there is nothing to time.
func (p *pool) keep(now time.Time) time.Duration {
	p.mu.Lock()
	again := time.Duration(0)
	sooner := func(at time.Time) {
		if wait := max(at.Sub(now), time.Millisecond); again == 0 || wait < again {
			again = wait
		}
	}
	due := false
	for i := p.queue.head; i < len(p.queue.items); i++ {
		e := p.queue.items[i]
		switch {
		case e.over:
		case !now.Before(e.deadline):
			e.stats.NoWorker.Add(1)
			p.refuse(e, errUnavailable)
		default:
			sooner(e.deadline)
		}
	}
	for !p.queue.empty() && p.queue.peek().over {
		p.queue.pop()
	}
	if p.trigger.Batch != nil && !p.queue.empty() {
		if at := p.queue.peek().arrived.Add(p.trigger.Batch.Delay); now.Before(at) {
			sooner(at)
		} else {
			due = true
		}
	}
	if p.timeout > 0 {
		for _, m := range p.members {
			p.judge(m, now, sooner)
		}
	}
	p.mu.Unlock()
	if due {
		p.feed()
	}
	return again
}

// judge finds out whether what m has in progress takes too long. A plain handler's
// process is killed; one with threads, when it has answered the other events. Of
// coroutines the event alone is given up; the process only if it does not say that it
// has done so.
func (p *pool) judge(m *member, now time.Time, sooner func(time.Time)) {
	if m.worker == nil || m.dead || m.hung || m.stalled || len(m.open) == 0 {
		return
	}
	if m.threads > 1 {
		p.judgeThreads(m, now, sooner)
		return
	}
	at := m.since.Add(p.timeout) // those sent behind others begin when these are answered
	if m.worker.Async() {
		p.judgeEach(m, now, sooner)
		if m.suspect.IsZero() {
			return
		}
		at = m.suspect.Add(min(p.timeout, giveUpTime))
	}
	if now.Before(at) {
		sooner(at)
		return
	}
	m.hung = true
	p.logger.Warn("the handler takes longer than the event timeout; its worker is killed", "trigger", p.trigger.Name, "worker", m.number, "timeout", p.timeout)
	_ = m.worker.Kill()
}

// giveUpTime is how long a coroutine may take to end after it was cancelled.
const giveUpTime = time.Second

func (p *pool) judgeEach(m *member, now time.Time, sooner func(time.Time)) {
	for e := range m.open {
		switch at := p.due(m, e); {
		case e.over:
		case now.Before(at):
			sooner(at)
		default:
			timeOut(e)
			m.worker.GiveUp(e)
			if m.suspect.IsZero() {
				m.suspect = now
			}
		}
	}
}

// judgeThreads answers the events of m that take too long. Their threads cannot be
// stopped, so another worker takes m's place at once, and m is killed when it has
// answered the events beside them.
func (p *pool) judgeThreads(m *member, now time.Time, sooner func(time.Time)) {
	late, timely := false, false
	for e := range m.open {
		if e.held {
			timely = true
			continue
		}
		at := p.due(m, e)
		if now.Before(at) {
			timely = true
			sooner(at)
			continue
		}
		late = true
		if !e.over {
			timeOut(e)
		}
	}
	if !late {
		return
	}
	if !m.retiring {
		p.stats.Restarts.Add(1)
		p.logger.Warn("the handler takes longer than the event timeout; its worker is replaced", "trigger", p.trigger.Name, "worker", m.number, "timeout", p.timeout)
		p.retire(m)
		if !p.closed {
			p.addMember()
		}
	}
	if !timely {
		_ = m.worker.Kill()
	}
}

// due is when e, which m has by itself, takes too long.
func (p *pool) due(m *member, e *event) time.Time {
	return later(e.moved, m.resumed).Add(p.timeout)
}

// timeOut answers an event that takes too long. It counts as failed when its worker
// has answered it too, or is gone.
func timeOut(e *event) {
	e.over, e.err = true, errTimedOut
	e.settled <- struct{}{}
}
