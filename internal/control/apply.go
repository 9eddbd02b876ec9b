package control

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/provenance"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
)

// errStale says that somebody else applied the same records in between.
var errStale = errors.New("the journal was applied by another process meanwhile")

// Apply writes the journal records of an execution that are not in the store yet,
// each batch in the transaction that moves the execution's offset past it: a
// record counts once, whoever applies it and however often one was killed
// doing so. It returns the execution as it is then and whether there was news.
func (c *Control) Apply(ctx context.Context, id string) (store.Execution, bool, error) {
	news := false
	for {
		e, err := c.Store.ExecutionGet(ctx, id)
		if err != nil || e.Phase == "finished" {
			return e, news, err
		}
		if c.Backend.State(id) == Absent {
			return e, news, nil
		}
		records, next, err := c.Backend.Journal(id, e.Offset)
		if err != nil {
			return e, news, err
		}
		if len(records) == 0 {
			return e, news, nil
		}
		begin := time.Now()
		err = c.Store.Tx(ctx, func(tx *store.Tx) error { return c.apply(ctx, tx, e, records, next) })
		if err != nil && !errors.Is(err, errStale) {
			return e, news, err
		}
		news = true
		if iterative(e) && c.Backend.State(id) == Alive {
			gather(ctx, time.Since(begin))
		}
	}
}

// gather lets records of an iterative task come together, in proportion to what a
// batch costs: the documents of a large task are large, and read for each batch.
func gather(ctx context.Context, took time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(min(3*took, 300*time.Millisecond)):
	}
}

// apply is one batch of Apply: the records between the execution's offset and next.
func (c *Control) apply(ctx context.Context, tx *store.Tx, e store.Execution, records []spool.Record, next int64) error {
	if err := tx.ExecutionUpdate(ctx, e.ID, func(now *store.Execution) error {
		if now.Offset != e.Offset || now.Phase == "finished" {
			return errStale
		}
		now.Offset = next
		for _, record := range records {
			switch record.Type {
			case "started":
				now.Phase = "running"
				now.Started = record.Time
			case "end":
				now.Outcome = record.Body
			case "search":
				now.Plan = maps.Clone(now.Plan)
				now.Plan["search_state"] = searchState(record.Body)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return c.write(ctx, tx, e, records)
}

// write brings records into the run, its children and the artifacts.
func (c *Control) write(ctx context.Context, tx *store.Tx, e store.Execution, records []spool.Record) error {
	changes := map[int][]spool.Record{} // iteration → records, in order
	var order []int
	for _, record := range records {
		switch record.Type {
		case "artifact":
			if err := c.artifact(ctx, tx, e, record); err != nil {
				return err
			}
		case "end", "search":
			continue
		}
		if changes[record.Iter] == nil {
			order = append(order, record.Iter)
		}
		changes[record.Iter] = append(changes[record.Iter], record)
	}
	var children []store.ChildChange
	for _, iter := range order {
		change := func(doc document.Object) (document.Object, error) {
			for _, record := range changes[iter] {
				merge(doc, record)
			}
			return doc, nil
		}
		if iter > 0 {
			children = append(children, store.ChildChange{Iter: iter, Change: change})
			continue
		}
		if _, err := tx.RunMutate(ctx, runKey(e), change); err != nil {
			return err
		}
	}
	if err := tx.RunChildren(ctx, runKey(e), children); err != nil {
		return err
	}
	for _, record := range records {
		if record.Type == "iterations" {
			if err := c.adoptBest(ctx, tx, e, record); err != nil {
				return err
			}
		}
	}
	return nil
}

// merge brings one record into the document of its run.
func merge(doc document.Object, record spool.Record) {
	body := record.Body
	switch record.Type {
	case "started":
		setState(doc, string(run.Running))
		document.Set(doc, record.Time, "status", "start_time")
		delete(document.Ensure(doc, "status"), "status_text")
		if host := document.String(body, "host"); host != "" {
			document.Set(doc, host, "metadata", "labels", "host")
		}
		if limits := document.Get(body, "limits"); limits != nil {
			document.Set(doc, limits, "status", "limits")
		}
		if record := document.Map(body, "provenance"); record != nil {
			delete(document.Ensure(doc, "status"), "provenance") // of an attempt before
			provenance.Merge(doc, record)
		}
	case "provenance":
		provenance.Merge(doc, body)
	case "update", "child":
		run.Merge(doc, body)
		if state := document.String(body, "state"); state != "" {
			setState(doc, state)
		}
		if text := document.String(body, "error"); text != "" {
			document.Set(doc, text, "status", "error")
		}
		if record.Type == "child" {
			mergeChild(doc, body)
		}
	case "iterations":
		if table := document.List(body, "table"); table != nil {
			document.Set(doc, table, "status", "iterations")
		}
		if best, ok := document.Int(body, "best"); ok && best > 0 {
			document.Set(doc, best, "status", "results", "best_iteration")
		}
	case "artifact":
		if uri := document.String(body, "uri"); uri != "" {
			document.Set(doc, uri, "status", "artifact_uris", document.String(body, "key"))
		}
		provenance.Artifact(doc, body)
	}
}

func (c *Control) artifact(ctx context.Context, tx *store.Tx, e store.Execution, record spool.Record) error {
	doc := document.Map(record.Body, "doc")
	if doc == nil {
		return nil
	}
	key := document.String(doc, "spec", "db_key")
	if key == "" {
		key = document.String(record.Body, "key")
	}
	_, err := tx.ArtifactPut(ctx, store.ArtifactPut{
		Project: e.Project, Key: key, Tag: document.String(doc, "metadata", "tag"), Tree: document.String(doc, "metadata", "tree"),
		Iter: record.Iter, HasIter: true, Doc: doc,
	})
	return err
}

// setState moves the run to a state if that is allowed; final states stay.
func setState(doc document.Object, state string) {
	from, to := run.State(document.String(doc, "status", "state")), run.State(state)
	if run.Transition(from, to) {
		document.Set(doc, state, "status", "state")
	}
}

// finish ends an attempt: the run gets its final state, or the next attempt is
// queued when the run asks for retries. Finishing twice does nothing.
func (c *Control) finish(ctx context.Context, id string, outcome spool.Outcome) error {
	return c.finishAfter(ctx, id, outcome, func(*store.Tx) error { return nil })
}

// finishAfter is finish with something to be done before, in the same transaction.
func (c *Control) finishAfter(ctx context.Context, id string, outcome spool.Outcome, before func(*store.Tx) error) error {
	now := c.Now()
	var task string
	children, err := c.liveChildren(ctx, id)
	if err != nil {
		return err
	}
	err = c.Store.Tx(ctx, func(tx *store.Tx) error {
		if err := before(tx); err != nil {
			return err
		}
		outcome, children := outcome, children // this function may run more than once
		var e store.Execution
		if err := tx.ExecutionUpdate(ctx, id, func(stored *store.Execution) error {
			if stored.Phase == "finished" {
				return errStale
			}
			if stored.Abort {
				outcome.State = string(run.Aborted)
				if reason := document.String(stored.Plan, "abort_reason"); reason != "" {
					outcome.Reason = reason
				}
			}
			stored.Phase, stored.Finished, stored.Outcome = "finished", now, outcome.Body()
			e = *stored
			return nil
		}); err != nil {
			return err
		}
		retry, delay := c.retry(e, outcome)
		if retry {
			next := nextAttempt(e, now.Add(delay), now)
			if err := c.carryOn(&next, e); err != nil {
				return err
			}
			if err := tx.ExecutionCreate(ctx, next); err != nil {
				return err
			}
		}
		if retry && iterative(e) {
			children = nil // the next attempt executes them
		}
		ends := make([]store.ChildChange, len(children))
		for i, iter := range children {
			ends[i] = store.ChildChange{Iter: iter, Change: func(doc document.Object) (document.Object, error) {
				conclude(doc, childOutcome(e, outcome), now)
				return doc, nil
			}}
		}
		if err := tx.RunChildren(ctx, runKey(e), ends); err != nil {
			return err
		}
		stored, err := tx.RunMutate(ctx, runKey(e), func(doc document.Object) (document.Object, error) {
			task = document.String(doc, "status", "abort_task_id")
			attempt(doc, e, outcome, now)
			if retry {
				setState(doc, string(run.PendingRetry))
				document.Set(doc, e.Attempt, "status", "retry_count")
				document.Set(doc, outcome.Error, "status", "status_text")
				return doc, nil
			}
			conclude(doc, outcome, now)
			if e.AbortText != "" {
				document.Set(doc, e.AbortText, "status", "status_text")
			}
			return doc, nil
		})
		if key := provenance.Keepable(stored); err == nil && key != "" {
			return tx.CachePut(ctx, e.Project, key, e.UID)
		}
		return err
	})
	if errors.Is(err, errStale) {
		return nil
	}
	if err != nil {
		return err
	}
	c.Devices.Free(id)
	if task != "" {
		return c.endTask(ctx, id, task, nil)
	}
	return nil
}

// attempt appends how one attempt ended to status.attempts, once there is more
// than one to tell of or it failed.
func attempt(doc document.Object, e store.Execution, outcome spool.Outcome, now time.Time) {
	if e.Attempt == 1 && outcome.State == string(run.Completed) {
		return
	}
	entry := document.Object{"attempt": e.Attempt, "end_time": now}
	if !e.Started.IsZero() {
		entry["start_time"] = e.Started
	}
	for key, value := range outcome.Body() {
		entry[key] = value
	}
	document.Set(doc, append(document.List(doc, "status", "attempts"), document.Object(entry)), "status", "attempts")
}

// conclude gives the run its final state; one that has a final state keeps it.
func conclude(doc document.Object, outcome spool.Outcome, now time.Time) {
	state := run.State(document.String(doc, "status", "state"))
	if state.Terminal() {
		return
	}
	if state == run.Aborting && outcome.State == string(run.Completed) {
		outcome.State = string(run.Aborted)
	}
	provenance.Results(doc)
	status := document.Ensure(doc, "status")
	status["state"] = outcome.State
	status["end_time"] = now
	delete(status, "status_text")
	switch {
	case outcome.Error == "":
	case outcome.State == string(run.Error):
		status["error"] = outcome.Error
	default:
		status["status_text"] = outcome.Error
	}
	if outcome.Reason != "" {
		status["reason"] = outcome.Reason
	}
}

// nextAttempt is the execution that follows e.
func nextAttempt(e store.Execution, notBefore, now time.Time) store.Execution {
	return store.Execution{
		ID: executionID(e.UID, e.Attempt+1), Project: e.Project, UID: e.UID, Attempt: e.Attempt + 1,
		Phase: "queued", Plan: e.Plan, Backend: e.Backend, Created: now, NotBefore: notBefore,
	}
}

// retry says whether a failed attempt is followed by another, and after how long:
// the base delay doubled for each attempt since the first, at most an hour. Failed
// iterations do not make their task fail as attempts do: each of them has been
// executed, and another attempt would have nothing to do.
func (c *Control) retry(e store.Execution, outcome spool.Outcome) (bool, time.Duration) {
	count, _ := document.Int(e.Plan, "retry", "count")
	if outcome.State != string(run.Error) || iterative(e) && outcome.Reason == spool.ReasonIterations {
		return false, 0
	}
	if c.resumes(e, outcome) {
		return true, 0
	}
	if int64(e.Attempt) > count {
		return false, 0
	}
	base, _ := document.Int(e.Plan, "retry", "base_delay_ms")
	delay := time.Duration(base) * time.Millisecond
	for range e.Attempt - 1 {
		delay = min(2*delay, time.Hour)
	}
	return true, delay
}

// liveChildren lists the iterations of the execution's run that have no final state.
func (c *Control) liveChildren(ctx context.Context, id string) ([]int, error) {
	e, err := c.Store.ExecutionGet(ctx, id)
	if err != nil {
		return nil, err
	}
	docs, _, err := c.Store.RunList(ctx, store.RunFilter{
		Project: e.Project, UIDs: []string{e.UID}, WithChildren: true,
		States: []string{string(run.Created), string(run.Running), string(run.Pending)},
	})
	var iters []int
	for _, doc := range docs {
		if iter, ok := document.Int(doc, "metadata", "iteration"); ok && iter > 0 {
			iters = append(iters, int(iter))
		}
	}
	return iters, err
}
