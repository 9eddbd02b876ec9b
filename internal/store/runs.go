package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
)

// RunPut stores a whole run as run.Replace says and returns it as stored.
// fault.CodeNotFound when the project does not exist, fault.CodeInvalid for a
// document that is not a run or has another name than the stored one.
func (s *Store) RunPut(ctx context.Context, key run.Key, doc document.Object) (stored document.Object, err error) {
	err = s.Tx(ctx, func(tx *Tx) error {
		stored, err = tx.RunPut(ctx, key, doc)
		return err
	})
	return stored, err
}

// RunPut is Store.RunPut in a transaction.
func (tx *Tx) RunPut(_ context.Context, key run.Key, doc document.Object) (document.Object, error) {
	if err := key.Validate(); err != nil {
		return nil, err
	}
	if err := tx.requireProject(key.Project); err != nil {
		return nil, err
	}
	old, err := tx.runForUpdate(key)
	if err != nil {
		return nil, err
	}
	stored, err := run.Replace(old.doc, doc, key, tx.now)
	if err != nil {
		return nil, err
	}
	return stored, tx.runWrite(key, old, stored)
}

// RunUpdate changes parts of a run as run.Update says and returns it as stored.
// fault.CodeNotFound when there is no such run.
func (s *Store) RunUpdate(ctx context.Context, key run.Key, updates document.Object) (stored document.Object, err error) {
	err = s.Tx(ctx, func(tx *Tx) error {
		stored, err = tx.RunUpdate(ctx, key, updates)
		return err
	})
	return stored, err
}

// RunUpdate is Store.RunUpdate in a transaction.
func (tx *Tx) RunUpdate(_ context.Context, key run.Key, updates document.Object) (document.Object, error) {
	old, err := tx.runForUpdate(key)
	if err != nil {
		return nil, err
	}
	if old.doc == nil {
		return nil, runMissing(key)
	}
	stored, err := run.Update(old.doc, updates, tx.now)
	if err != nil {
		return nil, err
	}
	return stored, tx.runWrite(key, old, stored)
}

// RunMutate stores what change makes of a run, settled by run.Settle: whatever
// change does, a final state stays. change gets its own copy and may return it;
// an error of change is returned as it is and nothing is written. change may be
// called again, see Tx. fault.CodeNotFound when there is no such run.
func (s *Store) RunMutate(ctx context.Context, key run.Key, change func(document.Object) (document.Object, error)) (stored document.Object, err error) {
	err = s.Tx(ctx, func(tx *Tx) error {
		stored, err = tx.RunMutate(ctx, key, change)
		return err
	})
	return stored, err
}

// RunMutate is Store.RunMutate in a transaction.
func (tx *Tx) RunMutate(_ context.Context, key run.Key, change func(document.Object) (document.Object, error)) (document.Object, error) {
	old, err := tx.runForUpdate(key)
	if err != nil {
		return nil, err
	}
	if old.doc == nil {
		return nil, runMissing(key)
	}
	return tx.runChange(key, old, document.Clone(old.doc), change)
}

func (tx *Tx) runChange(key run.Key, old runRow, doc document.Object, change func(document.Object) (document.Object, error)) (document.Object, error) {
	doc, err := change(doc)
	if err != nil {
		return nil, err
	}
	if err := run.Settle(old.doc, doc, tx.now); err != nil {
		return nil, err
	}
	return doc, tx.runWrite(key, old, doc)
}

// RunGet returns a run; fault.CodeNotFound when there is none.
func (s *Store) RunGet(ctx context.Context, key run.Key) (document.Object, error) {
	return s.read.runGet(ctx, key)
}

// RunGet is Store.RunGet in a transaction.
func (tx *Tx) RunGet(_ context.Context, key run.Key) (document.Object, error) {
	return tx.runGet(tx.ctx, key)
}

func (v view) runGet(ctx context.Context, key run.Key) (document.Object, error) {
	row, err := v.run(ctx, key, "")
	if err == nil && row.doc == nil {
		err = runMissing(key)
	}
	return row.doc, err
}

func runMissing(key run.Key) error {
	return fault.NotFound("Run not found: uid=%s, iter=%d, project=%s", clip(key.UID), key.Iter, clip(key.Project))
}

// RunDelete deletes a run with all its iterations. A run that does not exist is
// no error; one that is pending or running is refused with fault.CodeInvalid.
func (s *Store) RunDelete(ctx context.Context, project, uid string) error {
	return s.Tx(ctx, func(tx *Tx) error { return tx.RunDelete(ctx, project, uid) })
}

// RunDelete is Store.RunDelete in a transaction.
func (tx *Tx) RunDelete(_ context.Context, project, uid string) error {
	parent, err := tx.runForUpdate(run.Key{Project: project, UID: uid})
	if err != nil {
		return err
	}
	if state := run.StateOf(parent.doc); state == run.Pending || state == run.Running {
		return fault.Invalid("Can not delete run %s in state %s; abort it first", clip(uid), state)
	}
	var rows []runRow
	err = tx.each(tx.ctx, func(r *sql.Rows) error {
		row, err := scanRun(r)
		rows = append(rows, row)
		return err
	}, runColumns+` WHERE project = ? AND uid = ?`, project, uid)
	if err != nil {
		return wrap(err, "read run %s/%s", clip(project), clip(uid))
	}
	for _, row := range rows {
		for key, value := range row.labels() {
			if err := tx.runUnlabel(project, row, key, value); err != nil {
				return err
			}
		}
	}
	if _, err := tx.exec(`DELETE FROM run_uses WHERE run_id IN (SELECT id FROM runs WHERE project = ? AND uid = ?)`, project, uid); err != nil {
		return wrap(err, "delete what run %s/%s used", clip(project), clip(uid))
	}
	if _, err = tx.exec(`DELETE FROM runs WHERE project = ? AND uid = ?`, project, uid); err != nil || parent.doc == nil {
		return wrap(err, "delete run %s/%s", clip(project), clip(uid))
	}
	return tx.runLatestAgain(project, parent.name)
}

// runRow is a run with what its columns say; doc is nil when there is none.
type runRow struct {
	id    int64
	iter  int
	name  string
	state string
	start int64
	doc   document.Object
}

const runColumns = `SELECT id, iter, name, state, start_time, doc FROM runs`

func scanRun(rows *sql.Rows) (row runRow, err error) {
	var text sql.RawBytes
	if err := rows.Scan(&row.id, &row.iter, &row.name, &row.state, &row.start, &text); err != nil {
		return row, err
	}
	row.doc, err = decode(text)
	return row, err
}

// labels are those that are indexed, which are those of the document.
func (r runRow) labels() map[string]string { return document.Strings(r.doc, "metadata", "labels") }

func (v view) run(ctx context.Context, key run.Key, lock string) (row runRow, err error) {
	err = v.each(ctx, func(rows *sql.Rows) error {
		row, err = scanRun(rows)
		return err
	}, runColumns+` WHERE project = ? AND uid = ? AND iter = ?`+lock, key.Project, key.UID, key.Iter)
	return row, wrap(err, "read run %s", clip(key.String()))
}

func (tx *Tx) runForUpdate(key run.Key) (runRow, error) {
	if err := tx.holdProject(key.Project, shared); err != nil {
		return runRow{}, err
	}
	return tx.run(tx.ctx, key, tx.dialect.lock)
}

// runWrite stores doc in place of old. Columns that are indexed are only written
// when they change, since that is what an update costs.
func (tx *Tx) runWrite(key run.Key, old runRow, doc document.Object) error {
	labels, err := run.Labels(doc)
	if err != nil {
		return err
	}
	now := runRow{
		id: old.id, iter: key.Iter, name: document.String(doc, "metadata", "name"),
		state: document.String(doc, "status", "state"), start: run.Time(doc, "status", "start_time").UnixMicro(),
	}
	end, updated, text := micros(run.Time(doc, "status", "end_time")), tx.now.UnixMicro(), encode(doc)
	switch {
	case old.doc == nil:
		now.id, err = tx.insert(`INSERT INTO runs (project, uid, iter, name, state, start_time, updated, end_time, labels, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			key.Project, key.UID, key.Iter, now.name, now.state, now.start, updated, end, labelText(labels), text)
	case old.start == now.start && old.state == now.state:
		_, err = tx.exec(`UPDATE runs SET updated = ?, end_time = ?, labels = ?, doc = ? WHERE id = ?`, updated, end, labelText(labels), text, now.id)
	case old.start == now.start:
		_, err = tx.exec(`UPDATE runs SET state = ?, updated = ?, end_time = ?, labels = ?, doc = ? WHERE id = ?`, now.state, updated, end, labelText(labels), text, now.id)
	default:
		_, err = tx.exec(`UPDATE runs SET state = ?, start_time = ?, updated = ?, end_time = ?, labels = ?, doc = ? WHERE id = ?`, now.state, now.start, updated, end, labelText(labels), text, now.id)
	}
	if err != nil {
		return wrap(err, "store run %s", key)
	}
	if err := tx.runLatest(key, old, now); err != nil {
		return err
	}
	if err := tx.runUses(key, now.id, old.doc, doc); err != nil {
		return err
	}
	return tx.runLabels(key.Project, old, now, labels)
}

// runLabels brings the label rows from what they were to what they have to be.
func (tx *Tx) runLabels(project string, old, now runRow, labels map[string]string) error {
	before := map[string]string{}
	if old.doc != nil {
		before = old.labels()
	}
	for key, value := range before {
		if kept, ok := labels[key]; ok && kept == value && old.start == now.start {
			continue
		}
		if err := tx.runUnlabel(project, old, key, value); err != nil {
			return err
		}
	}
	var rows []any
	for key, value := range labels {
		if kept, ok := before[key]; ok && kept == value && old.start == now.start {
			continue
		}
		rows = append(rows, project, key, value, flag(now.iter > 0), now.start, now.id)
	}
	for len(rows) > 0 {
		n := min(len(rows)/6, maxLabelRows)
		_, err := tx.exec(`INSERT INTO run_labels (project, key, value, child, start_time, run_id) VALUES `+strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?), ", n), ", "), rows[:6*n]...)
		if err != nil {
			return wrap(err, "label a run of project %s", project)
		}
		rows = rows[6*n:]
	}
	return nil
}

// maxLabelRows bounds the rows of one statement, and so how many different ones
// there are.
const maxLabelRows = 16

func (tx *Tx) runUnlabel(project string, row runRow, key, value string) error {
	_, err := tx.exec(`DELETE FROM run_labels WHERE project = ? AND key = ? AND value = ? AND child = ? AND start_time = ? AND run_id = ?`,
		project, key, value, flag(row.iter > 0), row.start, row.id)
	return wrap(err, "label a run of project %s", project)
}
