package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/project"
)

// ProjectCreate stores a new project and returns it as stored; fault.CodeConflict
// when it exists.
func (s *Store) ProjectCreate(ctx context.Context, doc document.Object) (stored document.Object, err error) {
	err = s.Tx(ctx, func(tx *Tx) error {
		stored, err = tx.ProjectCreate(ctx, doc)
		return err
	})
	return stored, err
}

// ProjectCreate is Store.ProjectCreate in a transaction.
func (tx *Tx) ProjectCreate(_ context.Context, doc document.Object) (document.Object, error) {
	stored, err := project.New(doc, tx.now)
	if err != nil {
		return nil, err
	}
	name := document.String(stored, "metadata", "name")
	old, err := tx.project(tx.ctx, name, "")
	if err != nil {
		return nil, err
	}
	if old != nil {
		return nil, fault.Conflict("Project %s already exists", name)
	}
	return stored, tx.projectInsert(name, stored)
}

// ProjectPut creates or replaces the project called name and returns it as
// stored; fault.CodeConflict when doc names another.
func (s *Store) ProjectPut(ctx context.Context, name string, doc document.Object) (stored document.Object, err error) {
	err = s.Tx(ctx, func(tx *Tx) error {
		stored, err = tx.ProjectPut(ctx, name, doc)
		return err
	})
	return stored, err
}

// ProjectPut is Store.ProjectPut in a transaction.
func (tx *Tx) ProjectPut(_ context.Context, name string, doc document.Object) (document.Object, error) {
	old, err := tx.project(tx.ctx, name, tx.dialect.lock)
	if err != nil {
		return nil, err
	}
	stored, err := project.Replace(old, name, doc, tx.now)
	if err != nil {
		return nil, err
	}
	if old == nil {
		return stored, tx.projectInsert(name, stored)
	}
	return stored, tx.projectUpdate(name, stored)
}

// ProjectPatch merges patch into the project and returns it as stored: objects
// deeply, the rest replaced, lists appended when additive. fault.CodeNotFound
// when there is no such project.
func (s *Store) ProjectPatch(ctx context.Context, name string, patch document.Object, additive bool) (stored document.Object, err error) {
	err = s.Tx(ctx, func(tx *Tx) error {
		stored, err = tx.ProjectPatch(ctx, name, patch, additive)
		return err
	})
	return stored, err
}

// ProjectPatch is Store.ProjectPatch in a transaction.
func (tx *Tx) ProjectPatch(_ context.Context, name string, patch document.Object, additive bool) (document.Object, error) {
	old, err := tx.project(tx.ctx, name, tx.dialect.lock)
	if err != nil {
		return nil, err
	}
	if old == nil {
		return nil, projectMissing(name)
	}
	stored, err := project.Patch(old, patch, additive, tx.now)
	if err != nil {
		return nil, err
	}
	return stored, tx.projectUpdate(name, stored)
}

// ProjectGet returns a project; fault.CodeNotFound when there is none.
func (s *Store) ProjectGet(ctx context.Context, name string) (document.Object, error) {
	return s.read.projectGet(ctx, name)
}

// ProjectGet is Store.ProjectGet in a transaction.
func (tx *Tx) ProjectGet(_ context.Context, name string) (document.Object, error) {
	return tx.projectGet(tx.ctx, name)
}

func (v view) projectGet(ctx context.Context, name string) (document.Object, error) {
	doc, err := v.project(ctx, name, "")
	if err == nil && doc == nil {
		err = projectMissing(name)
	}
	return doc, err
}

func projectMissing(name string) error { return fault.NotFound("Project not found: %s", clip(name)) }

// project returns nil when there is none.
func (v view) project(ctx context.Context, name, lock string) (document.Object, error) {
	var text []byte
	found, err := v.row(ctx, []any{&text}, `SELECT doc FROM projects WHERE name = ?`+lock, name)
	if err != nil || !found {
		return nil, wrap(err, "read project %s", clip(name))
	}
	return decode(text)
}

func projectColumns(doc document.Object) (owner, state, labels, text string) {
	return document.String(doc, "spec", "owner"), document.String(doc, "status", "state"), labelText(document.Strings(doc, "metadata", "labels")), encode(doc)
}

const projectInsert = `INSERT INTO projects (name, owner, state, labels, created, doc) VALUES (?, ?, ?, ?, ?, ?)`

func (tx *Tx) projectInsert(name string, doc document.Object) error {
	owner, state, labels, text := projectColumns(doc)
	_, err := tx.exec(projectInsert, name, owner, state, labels, tx.now.UnixMicro(), text)
	return wrap(err, "store project %s", name)
}

func (tx *Tx) projectUpdate(name string, doc document.Object) error {
	owner, state, labels, text := projectColumns(doc)
	_, err := tx.exec(`UPDATE projects SET owner = ?, state = ?, labels = ?, doc = ? WHERE name = ?`, owner, state, labels, text, name)
	return wrap(err, "store project %s", name)
}

// ProjectList returns the projects that match, by name.
func (s *Store) ProjectList(ctx context.Context, filter ProjectFilter) ([]document.Object, error) {
	c := conditions{dialect: s.read.dialect}
	c.equal("p.owner", filter.Owner)
	c.equal("p.state", filter.State)
	c.labels("p", filter.Labels)
	docs, err := s.read.docs(ctx, `SELECT p.doc FROM projects p`+c.where()+` ORDER BY p.name`, c.args...)
	return docs, wrap(err, "list projects")
}

// docs reads a query of one document column.
func (v view) docs(ctx context.Context, query string, args ...any) ([]document.Object, error) {
	var out []document.Object
	err := v.each(ctx, func(rows *sql.Rows) error {
		var text sql.RawBytes
		if err := rows.Scan(&text); err != nil {
			return err
		}
		doc, err := decode(text)
		out = append(out, doc)
		return err
	}, query, args...)
	return out, err
}

// contents are the tables whose rows keep a project from being deleted unless
// that is asked for, under the name that people know them by.
var contents = []struct{ name, table string }{
	{"artifacts", "artifacts"}, {"functions", "functions"}, {"runs", "runs"},
	{"secrets", "secrets"},
}

// ProjectContents returns the kinds of things that the project holds, such as
// "functions"; none for a project that does not exist.
func (s *Store) ProjectContents(ctx context.Context, name string) ([]string, error) {
	var kinds []string
	for _, c := range contents {
		var one int
		found, err := s.read.row(ctx, []any{&one}, `SELECT 1 FROM `+c.table+` WHERE project = ? LIMIT 1`, name)
		if err != nil {
			return nil, wrap(err, "look into project %s", clip(name))
		}
		if found {
			kinds = append(kinds, c.name)
		}
	}
	return kinds, nil
}

// ProjectDelete deletes the project with everything in it, in one transaction. A
// project that does not exist is no error.
func (s *Store) ProjectDelete(ctx context.Context, name string) error {
	return s.Tx(ctx, func(tx *Tx) error { return tx.ProjectDelete(ctx, name) })
}

// ProjectDelete is Store.ProjectDelete in a transaction.
func (tx *Tx) ProjectDelete(_ context.Context, name string) error {
	if err := tx.holdProject(name, exclusive); err != nil {
		return err
	}
	delete(tx.known, name)
	if _, err := tx.exec(`DELETE FROM projects WHERE name = ?`, name); err != nil {
		return wrap(err, "delete project %s", clip(name))
	}
	if _, err := tx.exec(`DELETE FROM run_uses WHERE run_id IN (SELECT id FROM runs WHERE project = ?)`, name); err != nil {
		return wrap(err, "delete what runs of project %s used", clip(name))
	}
	latest := "run_latest"
	if tx.dialect.postgres {
		latest = "run_names"
	}
	for _, table := range []string{
		"artifact_labels", "artifact_tags", "artifacts", "run_labels", latest, "runs", "executions", "cache", "function_tags", "functions", "tasks", "secrets",
		"deployment_revisions", "deployments", "api_gateways",
	} {
		if name == "" {
			break // the project of global tasks is not a project
		}
		if _, err := tx.exec(`DELETE FROM `+table+` WHERE project = ?`, name); err != nil {
			return wrap(err, "delete %s of project %s", table, clip(name))
		}
	}
	return nil
}

// recent is the window of the counters of a summary.
const recent = 24 * time.Hour

// ProjectSummary counts what the project holds, in the document that clients
// read: runs by distinct names, those that ended within the last 24 hours or are
// not over; models and files by distinct keys. fault.CodeNotFound when there is
// no such project.
func (s *Store) ProjectSummary(ctx context.Context, name string) (document.Object, error) {
	if _, err := s.ProjectGet(ctx, name); err != nil {
		return nil, err
	}
	now := s.clock().UTC()
	since := now.Add(-recent).UnixMicro()
	summary := document.Object{
		"name": name, "updated": document.Time(now), "feature_sets_count": 0, "distinct_schedules_count": 0,
		"distinct_scheduled_jobs_pending_count": 0, "distinct_scheduled_pipelines_pending_count": 0,
		"pipelines_completed_recent_count": 0, "pipelines_failed_recent_count": 0, "pipelines_running_count": 0,
	}
	const runs = `SELECT COUNT(DISTINCT name) FROM runs WHERE project = ? AND iter = 0 AND state IN `
	for field, query := range map[string]struct {
		sql  string
		args []any
	}{
		"runs_completed_recent_count": {runs + `('completed') AND start_time >= ?`, []any{name, since}},
		"runs_failed_recent_count":    {runs + `('error', 'aborted') AND start_time >= ?`, []any{name, since}},
		"runs_running_count":          {runs + `('created', 'pending', 'running', 'pendingRetry', 'aborting', 'unknown')`, []any{name}},
		"models_count":                {`SELECT COUNT(DISTINCT key) FROM artifacts WHERE project = ? AND kind = 'model'`, []any{name}},
		"files_count":                 {`SELECT COUNT(DISTINCT key) FROM artifacts WHERE project = ? AND kind NOT IN ('model', 'dataset')`, []any{name}},
	} {
		var n int64
		if _, err := s.read.row(ctx, []any{&n}, query.sql, query.args...); err != nil {
			return nil, wrap(err, "count in project %s", clip(name))
		}
		summary[field] = n
	}
	return summary, nil
}
