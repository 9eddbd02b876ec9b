package store

import (
	"context"
	"database/sql"

	"github.com/millrace/millrace/internal/fault"
)

// ExecutionCreate stores a new execution; Updated is set by the store, and
// Created too when it is zero. fault.CodeNotFound when the project does not exist,
// fault.CodeConflict when there is one with this id or for this attempt at the run.
func (s *Store) ExecutionCreate(ctx context.Context, e Execution) error {
	return s.Tx(ctx, func(tx *Tx) error { return tx.ExecutionCreate(ctx, e) })
}

// ExecutionCreate is Store.ExecutionCreate in a transaction.
func (tx *Tx) ExecutionCreate(_ context.Context, e Execution) error {
	if e.ID == "" || e.UID == "" || e.Project == "" || e.Attempt < 1 {
		return fault.Invalid("an execution needs an id, a project, a run and an attempt from 1 on; got %q, %q, %q and %d", clip(e.ID), clip(e.Project), clip(e.UID), e.Attempt)
	}
	for field, text := range map[string]string{"id": e.ID, "project": e.Project, "uid": e.UID} {
		if err := checkIndexed(field, text); err != nil {
			return err
		}
	}
	if err := tx.requireProject(e.Project); err != nil {
		return err
	}
	var one int
	found, err := tx.row(tx.ctx, []any{&one}, `SELECT 1 FROM executions WHERE id = ? OR project = ? AND uid = ? AND attempt = ?`, e.ID, e.Project, e.UID, e.Attempt)
	if err != nil {
		return wrap(err, "look up execution %s", clip(e.ID))
	}
	if found {
		return fault.Conflict("Run %s/%s was executed already: its execution %s exists; use another uid", clip(e.Project), clip(e.UID), clip(e.ID))
	}
	if e.Created.IsZero() {
		e.Created = tx.now
	}
	_, err = tx.exec(`INSERT INTO executions (phase, abort, abort_text, backend, journal, not_before, created, started, finished, updated, outcome, plan, id, project, uid, attempt)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, append(e.columns(tx), e.ID, e.Project, e.UID, e.Attempt)...)
	return wrap(err, "store execution %s", e.ID)
}

// columns are the values of what an update may change.
func (e *Execution) columns(tx *Tx) []any {
	return []any{
		e.Phase, flag(e.Abort), e.AbortText, e.Backend, e.Offset, micros(e.NotBefore), micros(e.Created), micros(e.Started), micros(e.Finished),
		tx.now.UnixMicro(), encode(e.Outcome), encode(e.Plan),
	}
}

// ExecutionGet returns an execution; fault.CodeNotFound when there is none.
func (s *Store) ExecutionGet(ctx context.Context, id string) (Execution, error) {
	return s.read.executionGet(ctx, id, "")
}

// ExecutionGet is Store.ExecutionGet in a transaction.
func (tx *Tx) ExecutionGet(_ context.Context, id string) (Execution, error) {
	return tx.executionGet(tx.ctx, id, "")
}

func (v view) executionGet(ctx context.Context, id, lock string) (Execution, error) {
	list, err := v.executions(ctx, ` WHERE id = ?`+lock, id)
	if err == nil && len(list) == 0 {
		return Execution{}, fault.NotFound("Execution not found: %s", clip(id))
	}
	if err != nil {
		return Execution{}, err
	}
	return list[0], nil
}

// ExecutionActive returns all executions that are not finished, oldest first.
func (s *Store) ExecutionActive(ctx context.Context) ([]Execution, error) {
	return s.read.executions(ctx, ` WHERE phase <> 'finished' ORDER BY created, id`)
}

// ExecutionActive is Store.ExecutionActive in a transaction.
func (tx *Tx) ExecutionActive(context.Context) ([]Execution, error) {
	return tx.executions(tx.ctx, ` WHERE phase <> 'finished' ORDER BY created, id`)
}

// ExecutionList returns the executions of a run, or of all runs of the project
// when uid is "", in the order of their attempts.
func (s *Store) ExecutionList(ctx context.Context, project, uid string) ([]Execution, error) {
	return s.read.executionList(ctx, project, uid)
}

// ExecutionList is Store.ExecutionList in a transaction.
func (tx *Tx) ExecutionList(_ context.Context, project, uid string) ([]Execution, error) {
	return tx.executionList(tx.ctx, project, uid)
}

func (v view) executionList(ctx context.Context, project, uid string) ([]Execution, error) {
	if uid == "" {
		return v.executions(ctx, ` WHERE project = ? ORDER BY uid, attempt`, project)
	}
	return v.executions(ctx, ` WHERE project = ? AND uid = ? ORDER BY attempt`, project, uid)
}

// ExecutionUpdate stores what change makes of an execution; its identity (id,
// project, uid, attempt) stays. An error of change is returned as it is and
// nothing is written. fault.CodeNotFound when there is no such execution.
func (s *Store) ExecutionUpdate(ctx context.Context, id string, change func(*Execution) error) error {
	return s.Tx(ctx, func(tx *Tx) error { return tx.ExecutionUpdate(ctx, id, change) })
}

// ExecutionUpdate is Store.ExecutionUpdate in a transaction.
func (tx *Tx) ExecutionUpdate(_ context.Context, id string, change func(*Execution) error) error {
	e, err := tx.executionGet(tx.ctx, id, tx.dialect.lock)
	if err != nil {
		return err
	}
	if err := change(&e); err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE executions SET phase = ?, abort = ?, abort_text = ?, backend = ?, journal = ?, not_before = ?, created = ?, started = ?, finished = ?, updated = ?, outcome = ?, plan = ? WHERE id = ?`,
		append(e.columns(tx), id)...)
	return wrap(err, "store execution %s", clip(id))
}

// ExecutionDelete deletes the executions of a run; none is no error.
func (s *Store) ExecutionDelete(ctx context.Context, project, uid string) error {
	return s.Tx(ctx, func(tx *Tx) error { return tx.ExecutionDelete(ctx, project, uid) })
}

// ExecutionDelete is Store.ExecutionDelete in a transaction.
func (tx *Tx) ExecutionDelete(_ context.Context, project, uid string) error {
	_, err := tx.exec(`DELETE FROM executions WHERE project = ? AND uid = ?`, project, uid)
	return wrap(err, "delete executions of run %s/%s", clip(project), clip(uid))
}

func (v view) executions(ctx context.Context, clause string, args ...any) ([]Execution, error) {
	var out []Execution
	err := v.each(ctx, func(rows *sql.Rows) error {
		var (
			e                                     Execution
			abort                                 int
			notBefore, created, started, finished sql.NullInt64
			updated                               sql.NullInt64
			outcome, plan                         sql.RawBytes
		)
		err := rows.Scan(&e.ID, &e.Project, &e.UID, &e.Attempt, &e.Phase, &abort, &e.AbortText, &e.Backend, &e.Offset,
			&notBefore, &created, &started, &finished, &updated, &outcome, &plan)
		if err != nil {
			return err
		}
		e.Abort = abort != 0
		e.NotBefore, e.Created, e.Started, e.Finished, e.Updated = moment(notBefore), moment(created), moment(started), moment(finished), moment(updated)
		if e.Outcome, err = decode(outcome); err != nil {
			return err
		}
		e.Plan, err = decode(plan)
		out = append(out, e)
		return err
	}, `SELECT id, project, uid, attempt, phase, abort, abort_text, backend, journal, not_before, created, started, finished, updated, outcome, plan FROM executions`+clause, args...)
	return out, wrap(err, "read executions")
}
