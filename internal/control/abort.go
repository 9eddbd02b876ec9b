package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// abortable are the kinds whose runs can be aborted.
var abortable = []function.Kind{
	function.KindJob, function.KindSpark, function.KindRemoteSpark, function.KindMPIJob, function.KindDatabricks,
	function.KindLocal, function.KindHandler, function.KindDefault,
}

// abortGrace is how long after its end an abort's task is still the answer to a
// repeated request.
const abortGrace = 10 * time.Second

// Abort asks for the end of a run and returns the background task that stands for
// it; updates are dotted changes applied to the run, such as
// status.status_text. While an abort goes on, and for ten seconds after, the same
// task is returned. A run that has ended already, or whose kind cannot be
// aborted, gives a failed task, as clients expect. fault.CodeNotFound when there
// is no such run.
func (c *Control) Abort(ctx context.Context, key run.Key, updates document.Object) (document.Object, error) {
	executions, err := c.Store.ExecutionList(ctx, key.Project, key.UID)
	if err != nil {
		return nil, err
	}
	now := c.Now()
	var task document.Object
	err = c.Store.Tx(ctx, func(tx *store.Tx) error {
		doc, err := tx.RunGet(ctx, key)
		if err != nil {
			return err
		}
		if id := document.String(doc, "status", "abort_task_id"); id != "" {
			if earlier, err := tx.TaskGet(ctx, key.Project, id); err == nil && current(earlier, now) {
				task = earlier
				return nil
			}
		}
		id := uuid.NewString()
		task = newTask(id, "run.abort."+key.UID, key.Project, now)
		state := run.State(document.String(doc, "status", "state"))
		kind := function.Kind(document.String(doc, "metadata", "labels", "kind"))
		switch {
		case state.Terminal():
			endTask(task, fmt.Errorf("run %s is already in terminal state %s, can not be aborted", key.UID, state), now)
			return tx.TaskPut(ctx, task)
		case !slices.Contains(abortable, kind):
			endTask(task, fmt.Errorf("runs of kind %s can not be aborted", kind), now)
			return tx.TaskPut(ctx, task)
		}
		waiting := false
		for _, e := range executions {
			if e.Phase == "finished" {
				continue
			}
			waiting = true
			if err := tx.ExecutionUpdate(ctx, e.ID, func(e *store.Execution) error {
				e.Abort = true
				e.AbortText, _ = updates["status.status_text"].(string)
				if reason, ok := updates["status.reason"].(string); ok {
					e.Plan = document.Clone(e.Plan)
					e.Plan["abort_reason"] = reason
				}
				return nil
			}); err != nil {
				return err
			}
		}
		if !waiting {
			endTask(task, nil, now)
		}
		if err := tx.TaskPut(ctx, task); err != nil {
			return err
		}
		_, err = tx.RunMutate(ctx, key, func(doc document.Object) (document.Object, error) {
			for path, value := range updates {
				if keys := document.SplitPath(path); strings.Join(keys, ".") != "status.state" {
					document.Set(doc, value, keys...)
				}
			}
			document.Set(doc, id, "status", "abort_task_id")
			setState(doc, string(run.Aborting))
			if !waiting { // executed by a client, which learns of it at its next write
				setState(doc, string(run.Aborted))
				document.Set(doc, now, "status", "end_time")
			}
			return doc, nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.Wake()
	return task, nil
}

// current reports whether an abort's task still answers a repeated request.
func current(task document.Object, now time.Time) bool {
	switch document.String(task, "status", "state") {
	case "running":
		return true
	case "succeeded":
		at, err := document.ParseTime(document.String(task, "metadata", "updated"))
		return err == nil && now.Sub(at) < abortGrace
	}
	return false
}

// taskTimeout is how long a background task may be running, in seconds.
const taskTimeout = 3600

func newTask(id, kind, project string, now time.Time) document.Object {
	return document.Object{
		"kind": "BackgroundTask",
		"metadata": document.Object{
			"name": id, "kind": kind, "project": project,
			"created": document.Time(now), "updated": document.Time(now), "timeout": taskTimeout,
		},
		"spec":   document.Object{},
		"status": document.Object{"state": "running", "error": nil},
	}
}

func endTask(task document.Object, err error, now time.Time) {
	document.Set(task, document.Time(now), "metadata", "updated")
	document.Set(task, "succeeded", "status", "state")
	if err != nil {
		document.Set(task, "failed", "status", "state")
		document.Set(task, err.Error(), "status", "error")
	}
}

// endTask ends the background task of an aborted run. A task that is gone or
// ended is left alone.
func (c *Control) endTask(ctx context.Context, execution, id string, failure error) error {
	e, err := c.Store.ExecutionGet(ctx, execution)
	if err != nil {
		return err
	}
	return c.Store.Tx(ctx, func(tx *store.Tx) error {
		task, err := tx.TaskGet(ctx, e.Project, id)
		if fault.Is(err, fault.CodeNotFound) || err == nil && document.String(task, "status", "state") != "running" {
			return nil
		}
		if err != nil {
			return err
		}
		endTask(task, failure, c.Now())
		return tx.TaskPut(ctx, task)
	})
}

// DeleteRun removes a run with all its iterations, executions, spools and log.
// A run that is live is refused with fault.CodeInvalid; deleting a missing one is
// no error.
func (c *Control) DeleteRun(ctx context.Context, project, uid string) error {
	doc, err := c.Store.RunGet(ctx, run.Key{Project: project, UID: uid})
	if fault.Is(err, fault.CodeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	executions, err := c.Store.ExecutionList(ctx, project, uid)
	if err != nil {
		return err
	}
	state := document.String(doc, "status", "state")
	if state == string(run.Running) || state == string(run.Pending) {
		return fault.Invalid("Can not delete run %s in state %s; abort it first", uid, state)
	}
	for _, e := range executions {
		if e.Phase != "finished" {
			return fault.Invalid("Can not delete run %s while it is %s; abort it first", uid, e.Phase)
		}
	}
	if err := c.Store.RunDelete(ctx, project, uid); err != nil {
		return err
	}
	if err := c.Store.ExecutionDelete(ctx, project, uid); err != nil {
		return err
	}
	for _, e := range executions {
		if err := c.Backend.Remove(e.ID); err != nil {
			return fmt.Errorf("remove execution %s: %w", e.ID, err)
		}
	}
	return c.Logs.Remove(project, uid)
}

// DeleteProject aborts what lives in the project, waits for its end, and then
// deletes the project with all it holds. It returns the background task that
// stands for this.
func (c *Control) DeleteProject(ctx context.Context, name string) (document.Object, error) {
	c.mu.Lock()
	if id := c.deleting[name]; id != "" {
		c.mu.Unlock()
		return c.Store.TaskGet(ctx, "", id)
	}
	id := uuid.NewString()
	c.deleting[name] = id
	c.mu.Unlock()
	task := newTask(id, "project.deletion."+name, "", c.Now())
	if err := c.Store.Tx(ctx, func(tx *store.Tx) error { return tx.TaskPut(ctx, task) }); err != nil {
		return nil, err
	}
	background, cancel := context.WithTimeout(context.WithoutCancel(ctx), taskTimeout*time.Second)
	c.work.Go(func() {
		defer cancel()
		err := c.deleteProject(background, name)
		if err != nil {
			c.Logger.ErrorContext(background, "delete project", "project", name, "error", err)
		}
		ended := document.Clone(task)
		endTask(ended, err, c.Now())
		if err := c.Store.Tx(background, func(tx *store.Tx) error { return tx.TaskPut(background, ended) }); err != nil {
			c.Logger.ErrorContext(background, "end task", "task", id, "error", err)
		}
		c.mu.Lock()
		delete(c.deleting, name)
		c.mu.Unlock()
	})
	return task, nil
}

func (c *Control) deleteProject(ctx context.Context, name string) error {
	var all []store.Execution
	for {
		active, err := c.Store.ExecutionActive(ctx)
		if err != nil {
			return err
		}
		live := false
		for _, e := range active {
			if e.Project != name {
				continue
			}
			live = true
			if !e.Abort {
				if _, err := c.Abort(ctx, runKey(e), document.Object{"status.status_text": "the project was deleted"}); err != nil {
					return err
				}
			}
		}
		if !live {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.ended:
			return fault.Unavailable("the server stops; delete project %s again", name)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if c.Undeploy != nil {
		if err := c.Undeploy(ctx, name); err != nil {
			return err
		}
	}
	all, err := c.Store.ExecutionList(ctx, name, "")
	if err != nil {
		return err
	}
	if err := c.Store.ProjectDelete(ctx, name); err != nil {
		return err
	}
	for _, e := range all {
		if err := c.Backend.Remove(e.ID); err != nil {
			return fmt.Errorf("remove execution %s: %w", e.ID, err)
		}
	}
	return c.Logs.Remove(name, "")
}

func executionID(uid string, attempt int) string { return fmt.Sprintf("%s-%d", uid, attempt) }
