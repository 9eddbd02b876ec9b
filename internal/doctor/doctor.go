// Package doctor checks whether this machine can run functions. A check looks at
// one thing for real (it opens the database, starts the interpreter, makes a
// control group) and says what it found and, where something is amiss, what to
// do. Each check is a file of this package; none prints.
//
// A check fails when runs would fail, and warns when they would run with less
// than what functions may ask for.
package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// Status is the outcome of a check.
type Status string

// The statuses, from good to bad.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Result is what a check found. Remedy is a sentence that says what to do, empty
// when Status is OK.
type Result struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

// Check looks at one thing.
type Check interface {
	// Name is a short name in the user's words, such as "data folder".
	Name() string
	// Check looks. It leaves nothing behind and ends when ctx does.
	Check(ctx context.Context) Finding
}

// Finding is a Result without the name.
type Finding struct {
	Status Status
	Detail string
	Remedy string
}

func ok(format string, args ...any) Finding {
	return Finding{Status: OK, Detail: fmt.Sprintf(format, args...)}
}

func warn(remedy, format string, args ...any) Finding {
	return Finding{Status: Warn, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

func fail(remedy, format string, args ...any) Finding {
	return Finding{Status: Fail, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

// message is what a person can do something with: a fault's sentence, else the
// error itself, since the doctor is for whoever runs the machine.
func message(err error) string {
	if fault.CodeOf(err) == fault.CodeInternal {
		return err.Error()
	}
	return fault.Message(err)
}

// checkTimeout bounds one check, so that a hanging network file system or
// database does not hide what the others found.
const checkTimeout = 60 * time.Second

// Run makes the checks at the same time and returns their results in order. A
// check that does not end in a minute, or before ctx does, fails; it is left
// behind and must end by itself.
func Run(ctx context.Context, checks []Check) []Result {
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, fmt.Errorf("it did not end within %s", checkTimeout))
	defer cancel()
	results := make([]Result, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			found := make(chan Finding, 1)
			go func() { found <- c.Check(ctx) }()
			var f Finding
			select {
			case f = <-found:
			case <-ctx.Done():
				f = fail("look at what it needs and try again", "the check was given up: %v", context.Cause(ctx))
			}
			results[i] = Result{Name: c.Name(), Status: f.Status, Detail: f.Detail, Remedy: f.Remedy}
		})
	}
	wg.Wait()
	return results
}

// Worst returns the worst status among the results, OK when there is none.
func Worst(results []Result) Status {
	worst := OK
	for _, r := range results {
		if r.Status == Fail || r.Status == Warn && worst == OK {
			worst = r.Status
		}
	}
	return worst
}
