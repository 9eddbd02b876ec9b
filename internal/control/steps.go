package control

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
)

func runKey(e store.Execution) run.Key { return run.Key{Project: e.Project, UID: e.UID} }

// prepare makes the execution ready in the background, unless that goes on
// already or too much else is being prepared.
func (c *Control) prepare(ctx context.Context, e store.Execution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.preparing[e.ID] != nil || len(c.preparing) >= maxPreparing {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	c.preparing[e.ID] = cancel
	c.work.Go(func() {
		defer cancel()
		launch, files, err := c.Preparer.Prepare(ctx, e, c.progress(ctx, e))
		var earlier document.Object
		if err == nil {
			earlier, err = c.Kept(ctx, e.Project, launch)
		}
		c.mu.Lock()
		delete(c.preparing, e.ID)
		if err == nil && ctx.Err() == nil && earlier == nil {
			c.prepared[e.ID] = prepared{launch: launch, files: files}
		}
		c.mu.Unlock()
		switch {
		case ctx.Err() != nil: // aborted, which the loop sees, or the server stops
		case err != nil:
			c.report(ctx, e, c.Unprepared(ctx, e.ID, err))
		case earlier != nil:
			c.report(ctx, e, c.Adopt(ctx, e.ID, launch, earlier))
		}
		c.Wake()
	})
}

// Unprepared ends an execution that could not be made ready with cause as the
// attempt's error.
func (c *Control) Unprepared(ctx context.Context, id string, cause error) error {
	text := fault.Message(cause)
	if fault.CodeOf(cause) == fault.CodeInternal {
		c.Logger.ErrorContext(ctx, "prepare execution", "execution", id, "error", cause)
		text = "the execution could not be prepared: " + cause.Error()
	}
	return c.finish(ctx, id, spool.Outcome{State: "error", Error: text, Reason: "prepare"})
}

// progress returns a function that shows what the preparation does: in the run's
// status, at most a few times a second.
func (c *Control) progress(ctx context.Context, e store.Execution) func(Step) {
	var last time.Time
	first := true
	return func(step Step) {
		now := c.Now()
		if !first && now.Sub(last) < 300*time.Millisecond {
			return
		}
		if first {
			first = false
			err := c.Store.Tx(ctx, func(tx *store.Tx) error {
				return tx.ExecutionUpdate(ctx, e.ID, func(e *store.Execution) error {
					e.Phase = "preparing"
					return nil
				})
			})
			c.report(ctx, e, err)
		}
		last = now
		c.report(ctx, e, c.statusText(ctx, e, "pending", step.String()))
	}
}

// launch gives the execution a slot and hands it to the backend; started is
// false when it has to wait for devices.
func (c *Control) launch(ctx context.Context, e store.Execution, ready prepared) (started bool, err error) {
	if n := len(ready.launch.GPUs); n > 0 {
		ids, ok := c.Devices.Take(e.ID, n)
		if !ok {
			c.put(e.ID, ready)
			return false, c.statusText(ctx, e, "pending", fmt.Sprintf("waiting for %d free GPUs", n))
		}
		ready.launch.GPUs = ids
	}
	err = c.Store.Tx(ctx, func(tx *store.Tx) error {
		return tx.ExecutionUpdate(ctx, e.ID, func(e *store.Execution) error {
			if e.Abort {
				return errAborted
			}
			e.Phase = "starting"
			e.Started = c.Now()
			if file := SteerFile(e.Plan); file != nil { // with what came since it was prepared
				ready.files = maps.Clone(ready.files)
				ready.files[spool.SteerFile] = file
			}
			return nil
		})
	})
	if err == errAborted { //nolint:errorlint // our own sentinel, unwrapped by contract of Tx
		c.Wake()
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := c.Backend.Start(ctx, ready.launch, ready.files); err != nil {
		c.Logger.ErrorContext(ctx, "start execution", "execution", e.ID, "error", err)
		text := "the execution could not be started: " + err.Error()
		return false, c.finish(ctx, e.ID, spool.Outcome{State: "error", Error: text, Reason: "start"})
	}
	c.follow(ctx, e)
	return true, nil
}

var errAborted = fault.Conflict("the run was aborted")

// follow watches a started execution in the background until it is finished.
func (c *Control) follow(ctx context.Context, e store.Execution) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.following[e.ID] {
		return
	}
	c.following[e.ID] = true
	c.work.Go(func() {
		defer c.Wake()
		defer func() {
			c.mu.Lock()
			delete(c.following, e.ID)
			c.mu.Unlock()
		}()
		c.watch(ctx, e.ID)
	})
}

// watch applies an execution's news as they come: at once when the backend can
// tell, else with a pause that grows from 10 ms to half a second without news.
func (c *Control) watch(ctx context.Context, id string) {
	w := watcher{Control: c, id: id}
	pause := 10 * time.Millisecond
	for {
		changed := c.Backend.Changed(id)
		done, news, err := w.advance(ctx)
		if done || ctx.Err() != nil {
			return
		}
		if err != nil {
			c.Logger.ErrorContext(ctx, "follow execution", "execution", id, "error", err)
			return // the loop takes it up again at its next turn
		}
		if news {
			pause = 10 * time.Millisecond
		} else {
			pause = min(2*pause, 500*time.Millisecond)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			pause = 10 * time.Millisecond
		case <-time.After(pause):
		}
	}
}

type watcher struct {
	*Control
	id      string
	stopped time.Time // when the backend was asked to stop it
}

// forceAfter is how long past its grace period a runner that was asked to stop
// may live.
const forceAfter = 5 * time.Second

func (w *watcher) advance(ctx context.Context) (done, news bool, err error) {
	state := w.Backend.State(w.id) // before the journal: what a dead runner wrote is all there
	e, applied, err := w.Apply(ctx, w.id)
	if err != nil {
		return false, false, err
	}
	switch {
	case e.Phase == "finished":
		return true, true, nil
	case state == Absent:
		if e.Phase == "starting" { // nothing has begun: once more
			return true, true, w.requeue(ctx, w.id)
		}
		return true, true, w.finish(ctx, w.id, lost)
	case state == Gone:
		w.Backend.Clean(w.id)
		return true, true, w.finish(ctx, w.id, told(e))
	}
	if !e.Abort {
		// the runner keeps this limit itself; here it is for one that hangs
		if err := w.overdue(ctx, e, "executing", e.Started.Add(time.Minute)); err != nil {
			return false, applied, err
		}
		return false, applied, nil
	}
	grace, _ := document.Int(e.Plan, "grace_ms")
	switch now := w.Now(); {
	case w.stopped.IsZero():
		w.stopped = now
		w.Backend.Stop(w.id, false)
	case now.Sub(w.stopped) > time.Duration(grace)*time.Millisecond+forceAfter:
		w.Backend.Stop(w.id, true)
	}
	return false, applied, nil
}

var lost = spool.Outcome{
	State: "error", Reason: "lost",
	Error: "the runner of this run was killed before the run ended; what it reported until then is kept, start the run again or give the function spec.retry",
}

// told is the outcome that an execution's runner told, lost when it could not.
func told(e store.Execution) spool.Outcome {
	if document.String(e.Outcome, "state") == "" {
		return lost
	}
	return spool.Record{Body: e.Outcome}.Outcome()
}

func (c *Control) requeue(ctx context.Context, id string) error {
	return c.Store.Tx(ctx, func(tx *store.Tx) error {
		return tx.ExecutionUpdate(ctx, id, func(e *store.Execution) error {
			e.Phase = "queued"
			return nil
		})
	})
}

// waited applies the thresholds of an execution that has not started.
func (c *Control) waited(ctx context.Context, e store.Execution) error {
	if e.NotBefore.After(c.Now()) {
		return nil
	}
	name := "pending_not_scheduled"
	if e.Phase == "preparing" {
		name = "pending_scheduled"
	}
	since := e.Created
	if e.NotBefore.After(since) {
		since = e.NotBefore
	}
	return c.overdue(ctx, e, name, since)
}

// overdue aborts the run when it has been in a state for longer than the state's
// threshold, which the plan holds in milliseconds (0 or less: for ever).
func (c *Control) overdue(ctx context.Context, e store.Execution, threshold string, since time.Time) error {
	ms, ok := document.Int(e.Plan, "thresholds_ms", threshold)
	limit := time.Duration(ms) * time.Millisecond
	if !ok || limit <= 0 || since.IsZero() || c.Now().Sub(since) <= limit {
		return nil
	}
	text := fmt.Sprintf("the run was aborted: it was longer than %s in the state of its threshold %s; raise spec.state_thresholds.%s to allow more", limit, threshold, threshold)
	_, err := c.Abort(ctx, runKey(e), document.Object{"status.status_text": text, "status.reason": "timeout"})
	return err
}
