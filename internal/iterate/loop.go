package iterate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

// loop is one Run. Only fields under mu are touched by other goroutines.
type loop struct {
	Task
	ctx  context.Context
	pool pool

	options  tune.Options  // with what steering has changed
	changed  tune.Steering // what it has changed
	mark     int64         // steering that has been taken up
	again    []tune.Trial  // whose process died before it came to them
	flights  int
	mean     time.Duration // of an iteration, moving
	out      []Record      // to be written before anything else begins
	claimed  []tune.Trial  // to be begun once it is
	stale    bool          // the search has changed since it was written
	stopping bool          // ctx is over, or the task has failed
	stopBy   time.Time     // when processes that do not give way are killed

	wake  chan struct{}
	mu    sync.Mutex
	ended []*flight
	ready []started
	prune sync.Mutex // guards Pruner
}

type started struct {
	place   *place
	process Process
	err     error
}

func newLoop(ctx context.Context, task Task) *loop {
	l := &loop{Task: task, ctx: ctx, options: task.Options, wake: make(chan struct{}, 1)}
	l.apply(task.Changed)
	l.pool.loop = l
	return l
}

// signal wakes the loop up.
func (l *loop) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *loop) run() error {
	ticker := time.NewTicker(turn)
	defer ticker.Stop()
	done := l.ctx.Done()
	l.stale = true
	for {
		if err := l.news(); err != nil {
			return err
		}
		if !l.stopping {
			l.claim()
		}
		if err := l.write(); err != nil {
			return err
		}
		l.begin()
		if l.Search.Stopped() == tune.Unknown && !l.stopping {
			l.stop() // nothing that runs can make it right
		}
		if l.flights == 0 && l.stopping {
			return context.Cause(l.ctx) // nil when it ends by itself
		}
		if l.flights == 0 && len(l.again) == 0 && l.Search.Stopped() != "" {
			if err := l.steer(); err != nil { // what was wanted in the last moment counts
				return err
			}
			if l.Search.Stopped() != "" {
				return nil
			}
			continue
		}
		select {
		case <-l.wake:
		case now := <-ticker.C:
			if err := l.look(now); err != nil {
				return err
			}
		case <-done:
			done = nil
			if !l.stopping {
				l.stop()
			}
		}
	}
}

// stop interrupts what runs.
func (l *loop) stop() {
	l.stopping, l.stopBy = true, time.Now().Add(l.Grace)
	for _, p := range l.pool.places {
		if p.process != nil {
			iters := make([]int, len(p.queue))
			for i, f := range p.queue {
				iters[i] = f.trial.Iter
			}
			p.process.Interrupt(iters...)
		}
	}
}

// news takes in what processes reported.
func (l *loop) news() error {
	l.mu.Lock()
	ended, ready := l.ended, l.ready
	l.ended, l.ready = nil, nil
	l.mu.Unlock()
	var failure error
	for _, s := range ready {
		s.place.starting, s.place.process = false, s.process
		if s.err != nil && !l.stopping {
			failure = cmp.Or(failure, s.err)
		}
	}
	for _, f := range ended {
		l.land(f)
	}
	return failure
}

// land takes an iteration out of the air.
func (l *loop) land(f *flight) {
	now := time.Now()
	p := f.place
	l.flights--
	p.queue = slices.DeleteFunc(p.queue, func(other *flight) bool { return other == f })
	if len(p.queue) > 0 {
		p.queue[0].begun = now
	}
	if (f.ending.Died || f.ending.Skipped || f.process.Single()) && p.process == f.process {
		p.lost()
	}
	switch {
	case f.ending.Skipped:
		l.again = append(l.again, f.trial)
		return
	case l.stopping && (f.ending.Died || f.ending.State == "aborted"):
		return // it has not ended: whoever continues executes it
	}
	took := now.Sub(f.begun)
	if l.mean == 0 {
		l.mean = took
	}
	l.mean += (took - l.mean) / 8
	state, text, reason := l.verdict(f)
	l.Search.Tell(tune.Outcome{Iter: f.trial.Iter, State: state, Results: f.results()})
	l.stale = true
	body := f.record(state)
	body["end"] = now
	if text != "" {
		body["error"] = text
	}
	if reason != "" {
		body["reason"] = reason
	}
	if l.Pruner != nil {
		l.prune.Lock()
		kept := l.Pruner.End(f.trial.Iter, state == "completed")
		l.prune.Unlock()
		if len(kept) > 0 {
			body["reports"] = kept
		}
	}
	if marks := f.log(); len(marks) > 0 {
		body["log"] = marks
	}
	l.out = append(append(l.out, f.artifacts...), Record{Type: "child", Body: body})
}

// verdict is the state of an iteration that ended, and why.
func (l *loop) verdict(f *flight) (state, text, reason string) {
	e := f.ending
	switch {
	case f.interrupted == reasonTimeout && (e.Died || e.State == "aborted"):
		return "error", fmt.Sprintf("the iteration was ended: it ran for longer than %s", l.options.Timeout), reasonTimeout
	case f.interrupted == reasonEarly && (e.Died || e.State == "aborted"):
		return "aborted", "", reasonEarly
	case e.Died:
		return "error", e.Error, "exit"
	case e.State == "error":
		return e.State, e.Error, ""
	}
	return cmp.Or(e.State, "error"), e.Error, ""
}

// claim takes from the search what can be begun now.
func (l *loop) claim() {
	if l.Search.Total() == l.Search.Ended() && l.Search.Stopped() == "" {
		l.Search.Next() // there is none, which stops it
		l.stale = true
	}
	l.pool.resize(l.wanted())
	for range l.room() {
		if len(l.again) > 0 {
			l.claimed = append(l.claimed, l.again[0])
			l.again = l.again[1:]
			continue
		}
		trial, ok := l.Search.Next()
		if !ok {
			break
		}
		l.claimed, l.stale = append(l.claimed, trial), true
	}
}

// wanted is how many processes there should be.
func (l *loop) wanted() int {
	left := l.Search.Total() - l.Search.Ended() // those in the air included
	if l.Search.Stopped() != "" {
		left = l.flights + len(l.again)
	}
	return min(max(l.options.ParallelRuns, 1), left)
}

// room is how many iterations may be begun now.
func (l *loop) room() int {
	free := 0
	depth := l.depth()
	for _, p := range l.pool.places {
		if p.open() {
			free += max(0, p.depth(depth)-len(p.queue))
		}
	}
	// As many as could fail before the task has to stop; one for each process at
	// least, as in any loop that runs several at once.
	failures := max(1, cmp.Or(l.options.MaxErrors, tune.DefaultMaxErrors)+1-l.Search.Failed())
	return min(free, max(failures, l.pool.opened())-l.flights)
}

// maxDepth bounds the iterations that a process has at once.
const maxDepth = 8

// depth is how many iterations a process gets at once.
func (l *loop) depth() int {
	o := l.options
	if o.StopCondition != "" || o.Strategy == tune.TPE || o.EarlyStopping != nil || o.Timeout > 0 || l.mean == 0 {
		return 1
	}
	return int(min(max(4*time.Millisecond/l.mean, 1), maxDepth))
}

// write appends what there is to say to the journal, the state of the search
// behind it.
func (l *loop) write() error {
	if l.stale {
		l.stale = false
		l.out = append(l.out, Record{Type: "search", Body: l.state()})
	}
	if len(l.out) == 0 {
		return nil
	}
	err := l.Journal.Append(l.out)
	clear(l.out)
	l.out = l.out[:0]
	return err
}

// state is what an attempt after this one continues from.
func (l *loop) state() document.Object {
	st := l.Search.State()
	body := document.Object{
		"state": st.Document(), "total": l.Search.Total(), "parallel": max(l.options.ParallelRuns, 1), "ended": l.Search.Ended(), "failed": l.Search.Failed(),
	}
	if best := l.Search.Best(); best.Iter > 0 {
		body["best"] = best.Iter
	}
	if names := l.Search.Logged(); len(names.Document()) > 0 {
		body["results"] = names.Document()
	}
	if changed := l.changed.Document(); len(changed) > 0 {
		body["changed"] = changed
	}
	if l.mark > 0 {
		body["steered"] = l.mark
	}
	return body
}

// begin sends what was claimed to the processes with the least to do.
func (l *loop) begin() {
	now := time.Now()
	for _, trial := range l.claimed {
		p := l.pool.least()
		if p == nil { // it has died since
			l.again = append(l.again, trial)
			continue
		}
		f := &flight{trial: trial, place: p, process: p.process, begun: now, shared: len(l.pool.places) > 1, body: document.Object{}}
		p.queue = append(p.queue, f)
		l.flights++
		p.process.Begin(l.call(trial), func(t string, doc document.Object) { l.observe(f, t, doc) }, func(e Ending) {
			f.ending = e
			l.mu.Lock()
			l.ended = append(l.ended, f)
			l.mu.Unlock()
			l.signal()
		})
	}
	l.claimed = l.claimed[:0]
}

func (l *loop) call(trial tune.Trial) Call {
	call := Call{Iter: trial.Iter, Parameters: trial.Point.Object()}
	if l.Seed != nil {
		seed := Seed(*l.Seed, trial.Iter)
		call.Seed = &seed
	}
	return call
}

// observe takes what an iteration emits, in the goroutine of its process, and ends
// one that does badly.
func (l *loop) observe(f *flight, t string, doc document.Object) {
	metric := ""
	if l.Pruner != nil {
		metric = l.Options.EarlyStopping.Metric.Result
	}
	value, step, reported := f.observe(t, doc, metric)
	if !reported {
		return
	}
	l.prune.Lock()
	goOn := l.Pruner.Report(f.trial.Iter, step, value)
	l.prune.Unlock()
	if goOn {
		return
	}
	f.mu.Lock()
	first := f.interrupted == ""
	f.interrupted = cmp.Or(f.interrupted, reasonEarly)
	f.mu.Unlock()
	if first {
		f.process.Interrupt(f.trial.Iter)
	}
}

// Seed derives the seed of an iteration from that of its task: another one for
// each, the same one whenever it is executed. It fits 32 bits, which is what
// numpy's generator takes.
func Seed(task uint64, iter int) uint64 {
	x := task + uint64(iter)*0x9e3779b97f4a7c15 // the finaliser of SplitMix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x ^ x>>31) >> 32
}

// close ends all processes; after a failure at once.
func (l *loop) close(failure error) {
	grace := l.Grace
	switch {
	case failure != nil && !l.stopping:
		grace = 0
	case l.stopping:
		grace = time.Until(l.stopBy)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), max(grace, 0))
	defer cancel()
	l.pool.close(ctx)
}
