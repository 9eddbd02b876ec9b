package store

import (
	"context"
	"database/sql"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// The states of a background task.
const (
	TaskRunning   = "running"
	TaskSucceeded = "succeeded"
	TaskFailed    = "failed"
)

// maxTaskError is how many characters of an error the task of a project keeps.
const maxTaskError = 255

// TaskPut creates or changes a background task: metadata.name is required,
// metadata.project ("" or absent for a global one) is where it is found,
// metadata.timeout counts in seconds. A task that has ended, or whose time was up,
// keeps its state and error. The store sets metadata.updated.
func (s *Store) TaskPut(ctx context.Context, doc document.Object) error {
	return s.Tx(ctx, func(tx *Tx) error { return tx.TaskPut(ctx, doc) })
}

// TaskPut is Store.TaskPut in a transaction.
func (tx *Tx) TaskPut(_ context.Context, doc document.Object) error {
	doc = document.Clone(doc)
	for _, path := range [][]string{{"metadata"}, {"status"}} {
		if _, err := document.Want[document.Object](doc, path...); err != nil {
			return err
		}
	}
	metadata, status := document.Ensure(doc, "metadata"), document.Ensure(doc, "status")
	name, project, state := document.String(metadata, "name"), document.String(metadata, "project"), document.String(status, "state")
	if name == "" {
		return fault.Invalid("metadata.name: a background task needs a name")
	}
	for field, text := range map[string]string{"metadata.name": name, "metadata.project": project, "metadata.kind": document.String(metadata, "kind")} {
		if err := checkIndexed(field, text); err != nil {
			return err
		}
	}
	if state != TaskRunning && state != TaskSucceeded && state != TaskFailed {
		return fault.Invalid("status.state: %q is not the state of a background task; it has to be running, succeeded or failed", clip(state))
	}
	if text := document.String(status, "error"); project != "" && utf8.RuneCountInString(text) > maxTaskError {
		status["error"] = string([]rune(text)[:maxTaskError])
	}
	if project != "" {
		if err := tx.requireProject(project); err != nil {
			return err
		}
	}
	old, err := tx.tasks(tx.ctx, tx.now, ` WHERE project = ? AND name = ?`+tx.dialect.lock, project, name)
	if err != nil {
		return err
	}
	created := tx.now
	if len(old) > 0 {
		if at, err := document.ParseTime(document.String(old[0], "metadata", "created")); err == nil {
			created = at
		}
		if was := document.String(old[0], "status", "state"); was != TaskRunning {
			state = was
			status["state"] = was
			status["error"] = document.Get(old[0], "status", "error")
		}
	}
	metadata["created"], metadata["updated"] = document.Time(created), document.Time(tx.now)
	if _, ok := doc["spec"].(document.Object); !ok {
		doc["spec"] = document.Object{}
	}
	doc["kind"] = "BackgroundTask"
	var expires time.Time
	if seconds, ok := document.Int(metadata, "timeout"); ok && seconds > 0 && seconds < 1<<31 {
		expires = tx.now.Add(time.Duration(seconds) * time.Second)
	}
	_, err = tx.exec(`INSERT INTO tasks (project, name, kind, state, created, updated, expires, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (project, name) DO UPDATE SET kind = excluded.kind, state = excluded.state, updated = excluded.updated, expires = excluded.expires, doc = excluded.doc`,
		project, name, document.String(metadata, "kind"), state, created.UnixMicro(), tx.now.UnixMicro(), micros(expires), encode(doc))
	return wrap(err, "store task %s", clip(name))
}

// TaskGet returns a background task of a project, or a global one when project is
// "". A running task whose time is up reads as failed. fault.CodeNotFound when
// there is none.
func (s *Store) TaskGet(ctx context.Context, project, name string) (document.Object, error) {
	return s.read.taskGet(ctx, s.clock(), project, name)
}

// TaskGet is Store.TaskGet in a transaction.
func (tx *Tx) TaskGet(_ context.Context, project, name string) (document.Object, error) {
	return tx.taskGet(tx.ctx, tx.now, project, name)
}

func (v view) taskGet(ctx context.Context, now time.Time, project, name string) (document.Object, error) {
	list, err := v.tasks(ctx, now, ` WHERE project = ? AND name = ?`, project, name)
	if err == nil && len(list) == 0 {
		return nil, fault.NotFound("Background task not found: %s", clip(name))
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// TaskList returns the background tasks that match, oldest first. A running task
// whose time is up is a failed one to the filter too.
func (s *Store) TaskList(ctx context.Context, filter TaskFilter) ([]document.Object, error) {
	c := conditions{dialect: s.read.dialect}
	c.add("project = ?", filter.Project)
	c.equal("kind", filter.Kind)
	c.between("created", filter.CreatedFrom, filter.CreatedTo)
	c.between("updated", filter.UpdatedFrom, filter.UpdatedTo)
	tasks, err := s.read.tasks(ctx, s.clock(), c.where()+` ORDER BY created, name`, c.args...)
	if err != nil || filter.State == "" {
		return tasks, err
	}
	kept := tasks[:0]
	for _, task := range tasks {
		if document.String(task, "status", "state") == filter.State {
			kept = append(kept, task)
		}
	}
	return kept, nil
}

// tasks reads tasks as they are at now.
func (v view) tasks(ctx context.Context, now time.Time, clause string, args ...any) ([]document.Object, error) {
	var out []document.Object
	err := v.each(ctx, func(rows *sql.Rows) error {
		var (
			expires sql.NullInt64
			text    sql.RawBytes
		)
		if err := rows.Scan(&expires, &text); err != nil {
			return err
		}
		doc, err := decode(text)
		if err != nil {
			return err
		}
		if at := moment(expires); expires.Valid && now.After(at) && document.String(doc, "status", "state") == TaskRunning {
			status := document.Ensure(doc, "status")
			status["state"], status["error"] = TaskFailed, "timed out: no word of its end by "+document.Time(at)
		}
		out = append(out, doc)
		return nil
	}, `SELECT expires, doc FROM tasks`+clause, args...)
	return out, wrap(err, "read tasks")
}
