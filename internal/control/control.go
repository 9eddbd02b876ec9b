// Package control is the level-triggered loop that brings runs from "asked for"
// to a final state: what the store says should be, what the backend says is, and
// the next step between the two.
//
// # Phases of an execution
//
//	queued ──▶ preparing ──▶ starting ──▶ running ──▶ finished
//	   ▲                                     │
//	   └───────────── next attempt ◀─────────┘
//
// queued waits for its turn: projects take turns (the one with the fewest live
// executions first, then the oldest request), and a retry waits until its time.
// preparing makes environment and code ready, holding no slot; several may
// prepare at once. starting holds a slot and is with the backend; starting it
// twice is harmless, because a spool begins once. running follows the journal.
//
// Every step reads the store, acts, and writes the store; a step that is repeated
// after a crash finds what the first one left. The only writer of an execution is
// the process that holds the loop (one server on a data directory); a run's
// document is also written by its own SDK over HTTP, and package run keeps final
// states final whoever comes late.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/tune"
)

// Backend realises launches. Its operations are addressed by execution id and
// may be repeated.
type Backend interface {
	// Start brings the launch to life; files are code files relative to the spool.
	// A launch that exists already, alive or dead, is left as it is.
	Start(ctx context.Context, launch spool.Launch, files map[string][]byte) error
	// State says what is known of an execution.
	State(execution string) State
	// Journal returns the records from offset on and the offset behind them.
	Journal(execution string, offset int64) ([]spool.Record, int64, error)
	// Steer hands a change to an iterative task that was started; fs.ErrNotExist when
	// nothing is there yet.
	Steer(execution string, change tune.Steering) error
	// Steering returns the changes from offset on.
	Steering(execution string, offset int64) ([]tune.Steering, error)
	// Stop asks a living execution to end, with its grace period; force kills it.
	Stop(execution string, force bool)
	// Clean ends whatever a dead runner left behind. It is called once an attempt
	// is over, and again when that was interrupted.
	Clean(execution string)
	// Remove deletes all that is kept of an execution.
	Remove(execution string) error
	// Changed is closed when the execution may have news; nil if it cannot tell.
	Changed(execution string) <-chan struct{}
	// Held returns the devices that an execution was started with.
	Held(execution string) []string
}

// State is what a backend knows of an execution.
type State int

// The states: never heard of, its runner lives, its runner is gone.
const (
	Absent State = iota
	Alive
	Gone
)

// Preparer makes ready what a launch needs: interpreter, environment, code.
type Preparer interface {
	// Prepare returns the launch of an execution. progress is told what is done; it
	// may be called from other goroutines until Prepare returns. Errors are the
	// run's errors.
	Prepare(ctx context.Context, execution store.Execution, progress func(Step)) (spool.Launch, map[string][]byte, error)
}

// Step is one line about what a preparation does, for the run's log and status.
type Step struct {
	Text        string
	Done, Total int // parts of it, 0 when unknown
}

// String is the step as one line.
func (s Step) String() string {
	if s.Total == 0 {
		return s.Text
	}
	return fmt.Sprintf("%s (%d of %d)", s.Text, s.Done, s.Total)
}

// Devices hands out GPUs.
type Devices interface {
	// Take returns n device ids for the execution, the same ones when it has some
	// already; ok is false while too few are free.
	Take(execution string, n int) (ids []string, ok bool)
	// Free takes back what the execution has.
	Free(execution string)
	// Hold notes that an execution that was started before has these ids.
	Hold(execution string, ids []string) error
	// Check refuses a number that can never be had.
	Check(n int) error
}

// Logs are the logs that clients posted, beside the spools.
type Logs interface {
	// Remove deletes the log of a run, of all runs of the project when uid is "".
	Remove(project, uid string) error
}

// Options configure a Control; fields without a comment are required.
type Options struct {
	Name     string // of the backend, stored with its executions
	Store    *store.Store
	Backend  Backend
	Preparer Preparer
	Devices  Devices
	Logs     Logs
	Logger   *slog.Logger
	MaxRuns  int                           // executions alive at once; at least 1
	Prelude  func(execution string) string // path of the file that collects log lines before the launch
	Tick     time.Duration                 // how often everything is looked at; 0 means 1 s
	Now      func() time.Time              // nil means time.Now
	// Undeploy ends what a project has deployed, before it is deleted; nil where
	// nothing can be.
	Undeploy func(ctx context.Context, project string) error
}

// maxPreparing bounds how many environments and bundles are made ready at once.
const maxPreparing = 16

// Control owns the loop. Create it with New; Start and Stop it once.
type Control struct {
	Options
	wake chan struct{}
	stop context.CancelFunc
	work sync.WaitGroup
	once sync.Once

	mu        sync.Mutex
	preparing map[string]context.CancelFunc
	prepared  map[string]prepared
	following map[string]bool
	deleting  map[string]string // project → task
	ended     chan struct{}     // closed by Stop
}

type prepared struct {
	launch spool.Launch
	files  map[string][]byte
}

// New returns a Control that does nothing until Start. Submit and Abort work at
// once.
func New(options Options) *Control {
	if options.Tick == 0 {
		options.Tick = time.Second
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	options.MaxRuns = max(options.MaxRuns, 1)
	return &Control{
		Options: options, wake: make(chan struct{}, 1),
		preparing: map[string]context.CancelFunc{}, prepared: map[string]prepared{}, following: map[string]bool{},
		deleting: map[string]string{}, ended: make(chan struct{}),
	}
}

// Start runs the loop in the background until Stop.
func (c *Control) Start(ctx context.Context) {
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.work.Go(func() { c.loop(ctx) })
}

// Stop ends the loop and waits for all it started. Living executions go on; the
// next Start adopts them.
func (c *Control) Stop() {
	c.once.Do(func() {
		close(c.ended)
		if c.stop != nil {
			c.stop()
		}
	})
	c.work.Wait()
}

// Wake makes the loop look now.
func (c *Control) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *Control) loop(ctx context.Context) {
	if err := c.adopt(ctx); err != nil {
		c.Logger.ErrorContext(ctx, "adopt executions", "error", err)
	}
	ticker := time.NewTicker(c.Tick)
	defer ticker.Stop()
	var last string
	for {
		if err := c.runOnce(ctx); err != nil && ctx.Err() == nil {
			if text := err.Error(); text != last { // log changes, not turns
				c.Logger.ErrorContext(ctx, "control loop", "error", err)
				last = text
			}
		} else {
			last = ""
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-c.wake:
		}
	}
}

// adopt takes note of the devices of executions that were started before this
// process.
func (c *Control) adopt(ctx context.Context) error {
	active, err := c.Store.ExecutionActive(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range active {
		if e.Phase == "starting" || e.Phase == "running" {
			errs = append(errs, c.Devices.Hold(e.ID, c.Backend.Held(e.ID)))
		}
	}
	return errors.Join(errs...)
}

// runOnce looks at every execution that is not finished and takes the next step
// of each.
func (c *Control) runOnce(ctx context.Context) error {
	active, err := c.Store.ExecutionActive(ctx)
	if err != nil {
		return err
	}
	live := map[string]int{} // project → executions with a slot
	slots := c.MaxRuns
	for _, e := range active {
		if e.Phase == "starting" || e.Phase == "running" {
			live[e.Project]++
			slots--
		}
	}
	for _, e := range active {
		switch e.Phase {
		case "starting", "running":
			c.follow(ctx, e)
		default:
			if e.Abort {
				c.cancelPreparation(e.ID)
				c.report(ctx, e, c.finish(ctx, e.ID, abortedOutcome))
			} else if err := c.waited(ctx, e); err != nil {
				c.report(ctx, e, err)
			}
		}
	}
	for _, e := range queue(active, live, c.Now()) {
		if e.Abort {
			continue
		}
		ready, ok := c.take(e.ID)
		if !ok {
			c.prepare(ctx, e)
			continue
		}
		if slots <= 0 {
			c.put(e.ID, ready)
			continue
		}
		started, err := c.launch(ctx, e, ready)
		if err != nil {
			c.report(ctx, e, err)
		}
		if started {
			slots--
		}
	}
	return nil
}

// queue orders the waiting executions: each time the project with the fewest
// live or already chosen ones, and of a project the oldest.
func queue(active []store.Execution, live map[string]int, now time.Time) []store.Execution {
	waiting := map[string][]store.Execution{}
	var projects []string
	n := 0
	for _, e := range active {
		if (e.Phase == "queued" || e.Phase == "preparing") && !e.NotBefore.After(now) {
			if waiting[e.Project] == nil {
				projects = append(projects, e.Project)
			}
			waiting[e.Project] = append(waiting[e.Project], e)
			n++
		}
	}
	for _, list := range waiting {
		slices.SortStableFunc(list, func(a, b store.Execution) int { return a.Created.Compare(b.Created) })
	}
	chosen := map[string]int{}
	out := make([]store.Execution, 0, n)
	for len(out) < n {
		best := ""
		for _, project := range projects {
			if len(waiting[project]) == 0 {
				continue
			}
			if best == "" || live[project]+chosen[project] < live[best]+chosen[best] {
				best = project
			}
		}
		out = append(out, waiting[best][0])
		waiting[best] = waiting[best][1:]
		chosen[best]++
	}
	return out
}

func (c *Control) report(ctx context.Context, e store.Execution, err error) {
	if err != nil && ctx.Err() == nil {
		c.Logger.ErrorContext(ctx, "execution step failed", "execution", e.ID, "phase", e.Phase, "error", err)
	}
}

func (c *Control) take(id string) (prepared, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ready, ok := c.prepared[id]
	delete(c.prepared, id)
	return ready, ok
}

func (c *Control) put(id string, ready prepared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prepared[id] = ready
}

func (c *Control) cancelPreparation(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.preparing[id]; cancel != nil {
		cancel()
	}
	delete(c.prepared, id)
}

var abortedOutcome = spool.Outcome{State: "aborted"}

// statusText sets what a live run is waiting for; it is advisory and never an error.
func (c *Control) statusText(ctx context.Context, e store.Execution, state, text string) error {
	return c.Store.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.RunMutate(ctx, runKey(e), func(doc document.Object) (document.Object, error) {
			setState(doc, state)
			document.Set(doc, text, "status", "status_text")
			return doc, nil
		})
		return err
	})
}
