package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
)

// ChildChange is what becomes of one iteration of a run. Change is called as that
// of RunMutate.
type ChildChange struct {
	Iter   int
	Change func(document.Object) (document.Object, error)
}

// RunChildren is RunMutate for iterations of the run that key names, each at most
// once; one that is not there yet is made from its parent: its name, labels and
// what it executes. Those that are new are written together, many rows a
// statement. fault.CodeNotFound when there is no parent.
func (tx *Tx) RunChildren(_ context.Context, key run.Key, changes []ChildChange) error {
	if err := tx.holdProject(key.Project, shared); err != nil {
		return err
	}
	stored, err := tx.children(key, changes)
	if err != nil {
		return err
	}
	var parent document.Object
	var fresh []freshChild
	for _, change := range changes {
		key.Iter = change.Iter
		old := stored[change.Iter]
		if old.doc != nil {
			if _, err := tx.runChange(key, old, document.Clone(old.doc), change.Change); err != nil {
				return err
			}
			continue
		}
		if parent == nil {
			if parent, err = tx.RunGet(tx.ctx, run.Key{Project: key.Project, UID: key.UID}); err != nil {
				return err
			}
			if err := tx.requireProject(key.Project); err != nil {
				return err
			}
		}
		doc, err := change.Change(run.Child(parent, key))
		if err != nil {
			return err
		}
		if err := run.Settle(nil, doc, tx.now); err != nil {
			return err
		}
		labels, err := run.Labels(doc)
		if err != nil {
			return err
		}
		fresh = append(fresh, freshChild{iter: change.Iter, doc: doc, labels: labels, start: run.Time(doc, "status", "start_time").UnixMicro()})
	}
	return tx.insertChildren(key, fresh)
}

// RunChildrenDrop deletes the iterations of the run that key names which are in a
// state and of which drop says so.
func (tx *Tx) RunChildrenDrop(_ context.Context, key run.Key, state run.State, drop func(document.Object) bool) error {
	if err := tx.holdProject(key.Project, shared); err != nil {
		return err
	}
	var rows []runRow
	err := tx.each(tx.ctx, func(r *sql.Rows) error {
		row, err := scanRun(r)
		if err == nil && drop(row.doc) {
			rows = append(rows, row)
		}
		return err
	}, runColumns+` WHERE project = ? AND uid = ? AND iter > 0 AND state = ?`+tx.dialect.lock, key.Project, key.UID, string(state))
	if err != nil {
		return wrap(err, "read iterations of run %s", clip(key.String()))
	}
	for _, row := range rows {
		for label, value := range row.labels() {
			if err := tx.runUnlabel(key.Project, row, label, value); err != nil {
				return err
			}
		}
		if _, err := tx.exec(`DELETE FROM run_uses WHERE run_id = ?`, row.id); err != nil {
			return wrap(err, "delete an iteration of run %s", clip(key.String()))
		}
		if _, err := tx.exec(`DELETE FROM runs WHERE id = ?`, row.id); err != nil {
			return wrap(err, "delete an iteration of run %s", clip(key.String()))
		}
	}
	return nil
}

// RunChildrenEach calls yield for the iterations of the run that key names, by
// their numbers. An error of yield ends it and is returned.
func (s *Store) RunChildrenEach(ctx context.Context, key run.Key, yield func(iter int, doc document.Object) error) error {
	return s.read.each(ctx, func(rows *sql.Rows) error {
		row, err := scanRun(rows)
		if err != nil {
			return wrap(err, "read iterations of run %s", clip(key.String()))
		}
		return yield(row.iter, row.doc)
	}, runColumns+` WHERE project = ? AND uid = ? AND iter > 0 ORDER BY iter`, key.Project, key.UID)
}

// RunReopen is RunMutate for a run that is over and goes on: its state, and what
// explains it, may be changed.
func (tx *Tx) RunReopen(_ context.Context, key run.Key, change func(document.Object)) (document.Object, error) {
	old, err := tx.runForUpdate(key)
	if err != nil {
		return nil, err
	}
	if old.doc == nil {
		return nil, runMissing(key)
	}
	doc := document.Clone(old.doc)
	change(doc)
	open := document.Clone(old.doc)
	delete(document.Map(open, "status"), "state")
	if err := run.Settle(open, doc, tx.now); err != nil {
		return nil, err
	}
	return doc, tx.runWrite(key, old, doc)
}

// children reads those of the iterations that are there.
func (tx *Tx) children(key run.Key, changes []ChildChange) (map[int]runRow, error) {
	stored := map[int]runRow{}
	for len(changes) > 0 {
		n := chunk(len(changes))
		args := []any{key.Project, key.UID}
		for _, change := range changes[:n] {
			args = append(args, change.Iter)
		}
		err := tx.each(tx.ctx, func(rows *sql.Rows) error {
			row, err := scanRun(rows)
			stored[row.iter] = row
			return err
		}, runColumns+` WHERE project = ? AND uid = ? AND iter IN (?`+strings.Repeat(", ?", n-1)+`)`+tx.dialect.lock, args...)
		if err != nil {
			return nil, wrap(err, "read iterations of run %s", clip(key.String()))
		}
		changes = changes[n:]
	}
	return stored, nil
}

type freshChild struct {
	iter   int
	doc    document.Object
	labels map[string]string
	start  int64
}

func (tx *Tx) insertChildren(key run.Key, fresh []freshChild) error {
	var labels []any
	updated := tx.now.UnixMicro()
	for len(fresh) > 0 {
		n := chunk(len(fresh))
		rows := make([]any, 0, 10*n)
		for _, child := range fresh[:n] {
			rows = append(rows, key.Project, key.UID, child.iter, document.String(child.doc, "metadata", "name"), document.String(child.doc, "status", "state"),
				child.start, updated, micros(run.Time(child.doc, "status", "end_time")), labelText(child.labels), encode(child.doc))
		}
		ids := make(map[int]int64, n)
		tx.wrote = true
		err := tx.each(tx.ctx, func(rows *sql.Rows) error {
			var iter int
			var id int64
			err := rows.Scan(&iter, &id)
			ids[iter] = id
			return err
		}, `INSERT INTO runs (project, uid, iter, name, state, start_time, updated, end_time, labels, doc) VALUES `+values(n, 10)+` RETURNING iter, id`, rows...)
		if err != nil {
			return wrap(err, "store iterations of run %s", clip(key.String()))
		}
		for _, child := range fresh[:n] {
			for label, value := range child.labels {
				labels = append(labels, key.Project, label, value, flag(true), child.start, ids[child.iter])
			}
		}
		fresh = fresh[n:]
	}
	for len(labels) > 0 {
		n := chunk(len(labels) / 6)
		if _, err := tx.exec(`INSERT INTO run_labels (project, key, value, child, start_time, run_id) VALUES `+values(n, 6), labels[:6*n]...); err != nil {
			return wrap(err, "label iterations of run %s", clip(key.String()))
		}
		labels = labels[6*n:]
	}
	return nil
}

// chunk is how many of n rows go into the next statement: there are only a few
// sizes, so that each is a statement that is prepared already.
func chunk(n int) int {
	for _, size := range []int{64, 16, 4} {
		if n >= size {
			return size
		}
	}
	return 1
}

// values are the placeholders of rows rows of columns columns.
func values(rows, columns int) string {
	row := "(?" + strings.Repeat(", ?", columns-1) + ")"
	return row + strings.Repeat(", "+row, rows-1)
}
