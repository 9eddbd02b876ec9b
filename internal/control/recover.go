package control

import (
	"context"
	"errors"

	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// Recover brings the store up to date with what runners did while no loop was
// running: it applies their journals and ends the executions whose runner is gone.
// It starts nothing; executions that wait keep waiting for a server.
func (c *Control) Recover(ctx context.Context) error {
	active, err := c.Store.ExecutionActive(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range active {
		if e.Phase == "starting" || e.Phase == "running" {
			_, err := c.Settle(ctx, e.ID)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Settle applies the news of one execution and finishes it when its runner is
// gone. It reports whether the execution is over.
func (c *Control) Settle(ctx context.Context, id string) (bool, error) {
	if done, err := c.settleAtOnce(ctx, id); done || err != nil {
		return done, err
	}
	state := c.Backend.State(id)
	e, _, err := c.Apply(ctx, id)
	if err != nil || e.Phase == "finished" {
		return err == nil, err
	}
	if state != Gone {
		return false, nil
	}
	c.Backend.Clean(id)
	return true, c.finish(ctx, id, told(e))
}

// settleAtOnce does Settle in one transaction, which a short run spends most of
// its time waiting for, when its runner is gone and has told little enough, with
// no children among it.
func (c *Control) settleAtOnce(ctx context.Context, id string) (bool, error) {
	if c.Backend.State(id) != Gone {
		return false, nil
	}
	e, err := c.Store.ExecutionGet(ctx, id)
	if err != nil || e.Phase == "finished" {
		return err == nil, err
	}
	records, next, err := c.Backend.Journal(id, e.Offset)
	if err != nil || len(records) == 0 || records[len(records)-1].Type != "end" {
		return false, err
	}
	for _, record := range records {
		if record.Iter > 0 {
			return false, nil
		}
	}
	c.Backend.Clean(id)
	stale := false
	err = c.finishAfter(ctx, id, records[len(records)-1].Outcome(), func(tx *store.Tx) error {
		err := c.apply(ctx, tx, e, records, next)
		stale = errors.Is(err, errStale)
		return err
	})
	// Stale: another process has applied them, and has finished the execution or is
	// about to; the ordinary way finds out.
	return err == nil && !stale, err
}

// Running reports whether the loop runs.
func (c *Control) Running() bool { return c.stop != nil }

// StopRun carries out what the loop would do about an aborted run, for a process
// without one: it ends executions that wait, and tells the runner of one that
// lives, which brings the end into the store.
func (c *Control) StopRun(ctx context.Context, key run.Key) error {
	executions, err := c.Store.ExecutionList(ctx, key.Project, key.UID)
	if err != nil {
		return err
	}
	for _, e := range executions {
		switch {
		case e.Phase == "finished" || !e.Abort:
		case e.Phase == "queued" || e.Phase == "preparing":
			if err := c.finish(ctx, e.ID, abortedOutcome); err != nil {
				return err
			}
		case c.Backend.State(e.ID) == Alive:
			c.Backend.Stop(e.ID, false)
		default:
			if _, err := c.Settle(ctx, e.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// MarkStarting notes that a waiting attempt is being executed by this process,
// which holds its spool.
func (c *Control) MarkStarting(ctx context.Context, id string) error {
	return c.Store.ExecutionUpdate(ctx, id, func(e *store.Execution) error {
		if e.Abort {
			return errAborted
		}
		e.Phase, e.Started = "starting", c.Now()
		return nil
	})
}
