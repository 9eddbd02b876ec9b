// Package iterate executes an iterative task: it has the iterations that a
// tune.Search gives executed by a pool of processes, tells the search how each
// ended, and writes down what happened.
//
// It knows processes and the journal through small interfaces. One goroutine, that
// of Run, owns the search, the pool and the journal; processes report through a
// list that it empties. What one turn of it has to say leaves in one write:
//
//	ended iterations ─▶ Tell ─▶ child records ┐
//	free places ─▶ Next ─▶ search record      ├─ one append ─▶ begin the iterations
//	steering, timeouts ─▶ search record       ┘
//
// So the state of the search is on disk before an iteration that it names begins,
// and an iteration that is not on disk as ended is executed again by whoever
// continues.
//
// # Order
//
// A process executes what it was given in order. Short iterations are given ahead,
// a few at once, so that it never waits for this one; how many is bounded by what
// may be wasted: none when the next iteration depends on the one before (a stop
// condition, tpe, early stopping), and never more than could fail before the task
// has to stop. So one process makes exactly the iterations that a loop would.
//
// # What goes wrong
//
// The end of a process costs the iteration that it executed; those behind it are
// executed by its replacement. An iteration over its time is interrupted, then its
// process is killed.
package iterate

import (
	"context"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

// Call is an iteration to execute.
type Call struct {
	Iter       int
	Parameters document.Object // laid over those of the run
	Seed       *uint64         // of the random generators; nil leaves them alone
}

// Ending is how a call ended.
type Ending struct {
	State string   // completed, error or aborted; with Died or Skipped without meaning
	Error string   // one sentence
	Log   [2]int64 // where in the log its output is, that of others meanwhile included
	Own   []int64  // its own output alone: begin and end of each part; nil is Log
	// Died says that the process ended while it executed the call, and Error how.
	Died bool
	// Skipped says that the process ended before it came to the call.
	Skipped bool
}

// Process executes calls, one after the other in the order in which they were
// begun.
type Process interface {
	// Begin has a call executed. observe gets what it emits, and ended how it ended,
	// both from one goroutine of the process; ended is called once for each call, in
	// their order, also when the process dies. Neither waits.
	Begin(call Call, observe func(t string, doc document.Object), ended func(Ending))
	// Single says that the process takes one call only.
	Single() bool
	// Interrupt asks the code of iterations to end; of one that has not begun it is
	// the end.
	Interrupt(iters ...int)
	// Kill ends the process at once.
	Kill()
	// Close lets the process end in order and waits for it; when ctx ends it is
	// killed.
	Close(ctx context.Context)
}

// Host starts processes.
type Host interface {
	// Start starts a process that has loaded the code. An error ends the task: what
	// cannot be loaded will not be loaded next time either.
	Start(ctx context.Context) (Process, error)
}

// Record is one record of the journal.
type Record struct {
	Type string
	Body document.Object
}

// Journal keeps records.
type Journal interface {
	// Append writes records in one write, in their order.
	Append(records []Record) error
	// Steering returns the changes that are wanted since the last call, and a mark
	// to continue behind them in a later attempt.
	Steering() (changes []tune.Steering, mark int64, err error)
}

// Task is what Run executes.
type Task struct {
	Search  *tune.Search
	Options tune.Options
	Pruner  *tune.Pruner  // of early stopping; nil without
	Changed tune.Steering // what steering made of the options in earlier attempts
	Grace   time.Duration // what interrupted code gets before its process is killed
	Seed    *uint64       // what the seeds of the iterations are derived from; nil gives them none
	Host    Host
	Journal Journal
}

// Result is how a task ended.
type Result struct {
	Best   tune.Best
	Failed int // iterations
	Ended  int
	Reason tune.Reason // why there was no further iteration
	// Problem is the first failure to evaluate the stop condition, or what is unknown.
	Problem string
}

// turn is how often the loop looks at the clock and for steering.
const turn = 50 * time.Millisecond

// Run executes the task. It returns when every iteration that was begun has ended
// and every process is gone. When ctx ends, what runs is interrupted and left out
// of the journal: it has not ended, and is executed by whoever continues; the error
// is ctx's cause then. A task whose Reason is tune.Unknown has failed: what ran was
// interrupted in the same way, and Problem says why. Other errors are those of the
// host and the journal.
func Run(ctx context.Context, task Task) (Result, error) {
	l := newLoop(ctx, task)
	err := l.run()
	l.close(err)
	return Result{
		Best: task.Search.Best(), Failed: task.Search.Failed(), Ended: task.Search.Ended(),
		Reason: task.Search.Stopped(), Problem: task.Search.Problem(),
	}, err
}
