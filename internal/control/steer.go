package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/tune"
)

// Steering is a change of an iterative task while it runs.
type Steering = tune.Steering

// iterative reports whether an execution is one of an iterative task.
func iterative(e store.Execution) bool { return document.Map(e.Plan, "search") != nil }

// latest is the newest attempt at a run that has to be an iterative task.
func latest(ctx context.Context, tx *store.Tx, key run.Key) (store.Execution, error) {
	executions, err := tx.ExecutionList(ctx, key.Project, key.UID)
	if err != nil {
		return store.Execution{}, err
	}
	if len(executions) == 0 || !iterative(executions[len(executions)-1]) {
		return store.Execution{}, notIterative(key)
	}
	return executions[len(executions)-1], nil
}

// Steer changes an iterative task that is not over. The change is durable when it
// returns; a task that runs takes it up within a quarter of a second, one that
// waits when it begins. fault.CodeNotFound when there is no such run,
// fault.CodeConflict when it is over or not iterative, fault.CodeInvalid when the
// change does not fit the task, as a stop condition with a name that none of its
// iterations logs.
func (c *Control) Steer(ctx context.Context, key run.Key, change Steering) error {
	for begin := c.Now(); ; {
		var started string // the execution that has to be told itself
		err := c.Store.Tx(ctx, func(tx *store.Tx) error {
			started = ""
			doc, err := tx.RunGet(ctx, key)
			if err != nil {
				return err
			}
			e, err := latest(ctx, tx, key)
			if err != nil {
				return err
			}
			if state := run.StateOf(doc); state.Terminal() || e.Phase == "finished" || e.Abort {
				return fault.Conflict("run %s is %s and cannot be changed any more", key.UID, state)
			}
			options, err := tune.ParseOptions(document.Map(e.Plan, "run"))
			if err != nil {
				return err
			}
			if err := change.Check(options); err != nil {
				return err
			}
			if err := change.CheckLogged(tune.LoggedOf(document.Map(e.Plan, "search_state"))); err != nil {
				return err
			}
			if e.Phase == "starting" || e.Phase == "running" {
				started = e.ID
				return nil
			}
			return tx.ExecutionUpdate(ctx, e.ID, func(e *store.Execution) error {
				e.Plan = document.Clone(e.Plan)
				list := append(document.List(e.Plan, "search", "steering"), change.Document())
				document.Set(e.Plan, list, "search", "steering")
				return nil
			})
		})
		if err != nil || started == "" {
			return err
		}
		err = c.Backend.Steer(started, change)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// It is just being started, or was requeued: look again.
		if c.Now().Sub(begin) > 5*time.Second {
			return fault.Unavailable("run %s is being started; try again in a moment", key.UID)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// SteerFile is the content of the spool's file for the changes that an execution
// was asked for while it waited; nil when there are none.
func SteerFile(plan document.Object) []byte {
	var out []byte
	for _, change := range document.List(plan, "search", "steering") {
		out = append(document.Append(out, change), '\n')
	}
	return out
}

// Resume queues the next attempt of an iterative task that was aborted, or whose
// runner was lost, and returns the run as it is then. The attempt continues where
// the task was: iterations that have ended are not executed again.
// fault.CodeNotFound when there is no such run, fault.CodeConflict when it is not
// iterative, not over, or ended in another way.
func (c *Control) Resume(ctx context.Context, key run.Key) (document.Object, error) {
	var stored document.Object
	err := c.Store.Tx(ctx, func(tx *store.Tx) error {
		doc, err := tx.RunGet(ctx, key)
		if err != nil {
			return err
		}
		e, err := latest(ctx, tx, key)
		if err != nil {
			return err
		}
		state, reason := run.StateOf(doc), document.String(doc, "status", "reason")
		switch {
		case !state.Terminal() || e.Phase != "finished":
			return fault.Conflict("run %s is %s; only a task that is over can be resumed", key.UID, state)
		case state == run.Completed || reason == spool.ReasonIterations:
			return fault.Conflict("run %s has executed all its iterations; there is nothing to resume", key.UID)
		case state == run.Error && reason != lost.Reason:
			return fault.Conflict("run %s ended with an error of its own; what can be resumed is a task that was aborted, or whose runner was lost", key.UID)
		}
		now := c.Now()
		next := nextAttempt(e, time.Time{}, now)
		if err := c.carryOn(&next, e); err != nil {
			return err
		}
		delete(next.Plan, "abort_reason")
		if err := tx.ExecutionCreate(ctx, next); err != nil {
			return err
		}
		if err := tx.RunChildrenDrop(ctx, key, run.Aborted, func(doc document.Object) bool {
			return document.String(doc, "status", "reason") == interrupted
		}); err != nil {
			return err
		}
		stored, err = tx.RunReopen(ctx, key, func(doc document.Object) {
			status := document.Ensure(doc, "status")
			for _, field := range []string{"error", "reason", "status_text", "abort_task_id"} {
				delete(status, field)
			}
			status["state"] = string(run.Created)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.Wake()
	return stored, nil
}

// resumes says whether this process continues an iterative task whose runner was
// lost by itself, which it does once.
func (c *Control) resumes(e store.Execution, outcome spool.Outcome) bool {
	return c.Running() && iterative(e) && outcome.Reason == lost.Reason && !document.Bool(e.Plan, "search", "resumed")
}

// carryOn gives the attempt after e what e was asked for and did not take up. Where
// e was is in its plan already.
func (c *Control) carryOn(next *store.Execution, e store.Execution) error {
	if !iterative(e) {
		return nil
	}
	mark, _ := document.Int(e.Plan, "search_state", "steered")
	changes, err := c.Backend.Steering(e.ID, mark)
	if err != nil {
		return fmt.Errorf("read what was wanted of run %s: %w", e.UID, err)
	}
	list := make([]any, len(changes))
	for i, change := range changes {
		list[i] = change.Document()
	}
	search := maps.Clone(document.Map(e.Plan, "search"))
	search["steering"], search["resumed"] = list, true
	next.Plan = maps.Clone(e.Plan)
	next.Plan["search"] = search
	if state := maps.Clone(document.Map(e.Plan, "search_state")); state != nil {
		delete(state, "steered") // an offset of the file of e
		next.Plan["search_state"] = state
	}
	return nil
}

// interrupted is how an iteration ends that its task left behind: whoever continues
// the task executes it again.
const interrupted = "interrupted"

// childOutcome is the outcome of an iteration that has not ended when its execution
// has.
func childOutcome(e store.Execution, outcome spool.Outcome) spool.Outcome {
	if !iterative(e) {
		return outcome
	}
	return spool.Outcome{State: string(run.Aborted), Reason: interrupted}
}
