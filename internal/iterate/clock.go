package iterate

import (
	"time"

	"github.com/millrace/millrace/internal/tune"
)

// showAfter is how long an iteration runs before the journal tells of it.
const showAfter = time.Second

// look does what is due: steering, times that are over, iterations that take long.
func (l *loop) look(now time.Time) error {
	if err := l.steer(); err != nil {
		return err
	}
	for _, p := range l.pool.places {
		if len(p.queue) == 0 || p.process == nil {
			continue
		}
		f := p.queue[0]
		switch {
		case l.stopping && now.After(l.stopBy):
			p.process.Kill()
		case !f.deadline.IsZero() && now.After(f.deadline):
			p.process.Kill()
		}
		f.mu.Lock()
		over := l.options.Timeout > 0 && now.Sub(f.begun) > l.options.Timeout && f.interrupted == ""
		if over {
			f.interrupted = reasonTimeout
		}
		if f.interrupted != "" && f.deadline.IsZero() {
			f.deadline = now.Add(l.Grace)
		}
		if !f.shown && now.Sub(f.begun) > showAfter {
			f.shown = true
			l.out = append(l.out, Record{Type: "child", Body: f.record("running")})
		}
		f.mu.Unlock()
		if over {
			p.process.Interrupt(f.trial.Iter)
		}
	}
	return nil
}

// steer takes up what is wanted of the task since the last look.
func (l *loop) steer() error {
	changes, mark, err := l.Journal.Steering()
	if err != nil || mark == l.mark {
		return err
	}
	l.mark, l.stale = mark, true
	for _, change := range changes {
		l.apply(change)
		for _, point := range change.Queue {
			// A task that has stopped takes no more points; whoever queued it sees that
			// in the task's state.
			_ = l.Search.Queue(point)
		}
	}
	return nil
}

// apply makes a change of the options effective.
func (l *loop) apply(change tune.Steering) {
	l.changed = change.Over(l.changed)
	if change.Parallel > 0 {
		l.options.ParallelRuns = change.Parallel
	}
	if change.StopCondition != nil {
		l.options.StopCondition = *change.StopCondition
	}
	if change.MaxErrors > 0 {
		l.options.MaxErrors = change.MaxErrors
	}
	l.Search.Change(change)
}
