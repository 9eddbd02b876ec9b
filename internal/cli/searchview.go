package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/render"
	"github.com/millrace/millrace/internal/tune"
)

// searchView is what a run view knows of an iterative task.
type searchView struct {
	selector tune.Selector
	progress tune.Progress
	begun    time.Time // when the first progress came
	before   int       // iterations that had ended by then
	said     string    // the last line of the plain form
	saidAt   time.Time
}

// sayEvery bounds the lines of the plain form.
const sayEvery = time.Second

// of notes what the run's document says of its task.
func (s *searchView) of(run document.Object) {
	if options, err := tune.ParseOptions(run); err == nil {
		s.selector = options.Selector
	}
}

func (s *searchView) take(progress tune.Progress, now time.Time) {
	if s.begun.IsZero() {
		s.begun, s.before = now, progress.Ended
	}
	s.progress = progress
}

// best says which iteration is the best so far, "" while there is none.
func (s *searchView) best() string {
	value, ok := s.progress.Results[s.selector.Result]
	if s.progress.Best == 0 || !ok {
		return ""
	}
	return fmt.Sprintf("best %s = %s (iteration %d)", s.selector.Result, shortValue(value), s.progress.Best)
}

// text is the plain form.
func (s *searchView) text() string {
	p := s.progress
	line := fmt.Sprintf("iterations %d of %d", p.Ended, p.Total)
	if p.Running > 0 {
		line += fmt.Sprintf(", %d running", p.Running)
	}
	if p.Failed > 0 {
		line += fmt.Sprintf(", %d failed", p.Failed)
	}
	if best := s.best(); best != "" {
		line += ", " + best
	}
	return line
}

// searchText says how far a run's iterative task is, "" when that is not known.
func (e *env) searchText(c *client.Client, doc document.Object) (string, error) {
	progress, err := c.Search(e.soft, keyOf(doc))
	if err != nil && !fault.Is(err, fault.CodeConflict) {
		return "", err
	}
	var s searchView
	if progress.Total == 0 {
		return "", nil
	}
	s.of(doc)
	s.take(progress, time.Now())
	return strings.TrimPrefix(s.text(), "iterations "), nil
}

// line is the part of the status line of a terminal, "" when there is no task.
func (s *searchView) line(now time.Time) string {
	p := s.progress
	if p.Total == 0 {
		return ""
	}
	line := fmt.Sprintf("  %s %d/%d", render.Bar(p.Ended, p.Total, 16), p.Ended, p.Total)
	if p.Running > 0 {
		line += fmt.Sprintf("  %d running", p.Running)
	}
	if p.Failed > 0 {
		line += fmt.Sprintf("  %d failed", p.Failed)
	}
	if best := s.best(); best != "" {
		line += "  " + best
	}
	if left, ok := s.left(now); ok {
		line += "  about " + render.Duration(left) + " left"
	}
	return line
}

// left estimates the time to the last iteration from those that have ended since
// the view began.
func (s *searchView) left(now time.Time) (time.Duration, bool) {
	done, left, took := s.progress.Ended-s.before, s.progress.Total-s.progress.Ended, now.Sub(s.begun)
	if done < 1 || left < 1 || took < sayEvery {
		return 0, false
	}
	return (took / time.Duration(done) * time.Duration(left)).Round(time.Second), true
}

// Search implements Observer.
func (v *runView) Search(progress tune.Progress) {
	now := time.Now()
	v.mu.Lock()
	v.search.take(progress, now)
	lines := v.status(now)
	text := v.search.text()
	// The last state is always said, whenever it comes.
	say := progress.Ended > 0 && text != v.search.said && (progress.Stopped != "" && progress.Running == 0 || now.Sub(v.search.saidAt) >= sayEvery)
	if say {
		v.search.said, v.search.saidAt = text, now
	}
	v.mu.Unlock()
	switch {
	case v.live != nil:
		v.live.Set(lines...)
	case say:
		v.line("%s", text)
	}
}
