package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/render"
)

// runView shows a run to a person: it is the Observer of `run`. On a terminal it
// keeps a status line below the log; otherwise it writes one line for each event,
// in a form that does not change:
//
//	millrace: run UID NAME in project PROJECT
//	millrace: PHASE[: TEXT]
//	millrace: result NAME = VALUE
//	millrace: iterations N of TOTAL[, N running][, N failed][, best NAME = VALUE (iteration N)]
//
// Its Observer methods come from one goroutine at a time; the ticker that moves
// the clock is its own, and mu guards what both use.
type runView struct {
	env     *env
	quiet   bool
	log     io.Writer // where the function's output goes
	logged  atomic.Bool
	palette render.Palette
	live    *render.Live // nil without a terminal
	stop    func()

	mu       sync.Mutex
	begun    time.Time
	phase    PhaseChange
	since    time.Time // of the phase
	progress Progress
	results  document.Object
	frame    int
	search   searchView
}

func newRunView(e *env, o runOptions) *runView {
	v := &runView{env: e, quiet: o.quiet, log: e.Stdout, begun: time.Now(), results: document.Object{}, stop: func() {}}
	if o.output != "" {
		v.log = e.Stderr
	}
	_, is := e.terminal(e.Stderr)
	v.palette = e.palette(e.Stderr)
	if !is || o.quiet || o.detach || e.Getenv("TERM") == "dumb" {
		return v
	}
	v.live = render.NewLive(v.log, e.Stderr, func() int { width, _ := e.terminal(e.Stderr); return width })
	if _, is := e.terminal(v.log); is {
		v.log = v.live
	}
	v.stop = v.tick()
	return v
}

const frameEvery = 100 * time.Millisecond

// tick redraws the status line until the returned function is called, which waits
// for it.
func (v *runView) tick() func() {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(frameEvery)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				v.mu.Lock()
				v.frame++
				lines := v.status(time.Now())
				v.mu.Unlock()
				v.live.Set(lines...)
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// close ends the live form; what is written later stays.
func (v *runView) close() {
	v.stop()
	v.stop = func() {}
	if v.live != nil {
		_ = v.live.Close() // the log itself is kept; only the screen missed something
		v.live = nil
	}
}

// line writes one line of the plain form.
func (v *runView) line(format string, args ...any) {
	if !v.quiet {
		v.env.say("millrace: %s", oneLine(fmt.Sprintf(format, args...)))
	}
}

// Created implements Observer.
func (v *runView) Created(run document.Object) {
	v.search.of(run)
	if v.live == nil {
		v.line("run %s %s in project %s", document.String(run, "metadata", "uid"), document.String(run, "metadata", "name"), document.String(run, "metadata", "project"))
	}
}

// Phase implements Observer.
func (v *runView) Phase(change PhaseChange) {
	if change.Time.IsZero() {
		change.Time = time.Now()
	}
	v.mu.Lock()
	if change.Phase != v.phase.Phase {
		v.since = change.Time
	}
	v.phase, v.progress = change, Progress{}
	lines := v.status(time.Now())
	v.mu.Unlock()
	if v.live != nil {
		v.live.Set(lines...)
		return
	}
	text := string(change.Phase)
	if change.Attempt > 1 {
		text += fmt.Sprintf(" (attempt %d)", change.Attempt)
	}
	if change.Text != "" {
		text += ": " + change.Text
	}
	v.line("%s", text)
}

// Progress implements Observer.
func (v *runView) Progress(progress Progress) {
	v.mu.Lock()
	changed := progress.Text != v.progress.Text
	v.progress = progress
	lines := v.status(time.Now())
	v.mu.Unlock()
	switch {
	case v.live != nil:
		v.live.Set(lines...)
	case changed && progress.Text != "":
		v.line("%s", progress.Text)
	}
}

// Log implements Observer. A standard output that is gone does not stop the run.
func (v *runView) Log(data []byte) {
	v.logged.Store(true)
	_, _ = v.log.Write(data)
}

// Results implements Observer.
func (v *runView) Results(iter int, results document.Object) {
	v.mu.Lock()
	if iter == 0 {
		maps.Copy(v.results, results)
	}
	lines := v.status(time.Now())
	v.mu.Unlock()
	if v.live != nil {
		v.live.Set(lines...)
		return
	}
	if iter == 0 {
		for _, name := range slices.Sorted(maps.Keys(results)) {
			v.line("result %s = %s", name, shortValue(results[name]))
		}
	}
}

var spinner = [...]string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// status is the status area at a moment.
func (v *runView) status(now time.Time) []string {
	if v.phase.Phase == "" || v.phase.Phase == PhaseFinished {
		return nil
	}
	p := v.palette
	line := p.Paint(render.Cyan, spinner[v.frame%len(spinner)]) + " " + p.Paint(render.Bold, string(v.phase.Phase))
	line += " " + p.Paint(render.Dim, render.Duration(now.Sub(v.since).Truncate(frameEvery)))
	if v.phase.Attempt > 1 {
		line += fmt.Sprintf(" attempt %d", v.phase.Attempt)
	}
	if v.progress.Total > 0 {
		line += fmt.Sprintf("  %s %d/%d", render.Bar(v.progress.Done, v.progress.Total, 16), v.progress.Done, v.progress.Total)
	}
	line += v.search.line(now)
	if text := cmp.Or(v.progress.Text, v.phase.Text); text != "" {
		line += "  " + oneLine(text)
	}
	lines := []string{line}
	if len(v.results) > 0 {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(v.results)) {
			parts = append(parts, name+" "+p.Paint(render.Bold, shortValue(v.results[name])))
		}
		lines = append(lines, "  "+strings.Join(parts, "  "))
	}
	return lines
}

// shortValue is a result on one line: text without quotes, anything else as JSON,
// cut to a width that a line holds.
func shortValue(value any) string {
	text, ok := value.(string)
	if !ok {
		text = string(document.Encode(value))
	}
	return render.Cut(render.StripEscapes(oneLine(text)), 60)
}

// palette is colour where stream is a terminal that wants it.
func (e *env) palette(stream io.Writer) render.Palette {
	_, is := e.terminal(stream)
	return render.Palette{Colour: is && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb"}
}
