package store

import (
	"context"
	"strings"

	"github.com/millrace/millrace/internal/run"
)

// On SQLite, where there is one writer, run_latest names the latest run of each
// name. On PostgreSQL such a row would make all writers of a name wait for each
// other until their commits, so run_names has the names alone, and an index finds
// the latest of each.

// runLatest notes that a run is written, after it was; old is what it was before.
func (tx *Tx) runLatest(key run.Key, old, now runRow) error {
	if key.Iter > 0 {
		return nil
	}
	if tx.dialect.postgres {
		if old.doc != nil {
			return nil
		}
		_, err := tx.exec(`INSERT INTO run_names (project, name) VALUES (?, ?) ON CONFLICT DO NOTHING`, key.Project, now.name)
		return wrap(err, "note the name of run %s", key)
	}
	name := now.name
	if old.doc != nil {
		if name = old.name; now.start < old.start {
			return tx.runLatestAgain(key.Project, name)
		}
	}
	n, err := tx.exec(`INSERT INTO run_latest (project, name, updated_id, updated, updated_start, start_id, start_time) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (project, name) DO UPDATE SET
			updated_id = excluded.updated_id, updated = excluded.updated, updated_start = excluded.updated_start,
			start_id = CASE WHEN (excluded.start_time, excluded.start_id) > (start_time, start_id) THEN excluded.start_id ELSE start_id END,
			start_time = max(excluded.start_time, start_time)
		WHERE (excluded.updated, excluded.updated_start, excluded.updated_id) >= (updated, updated_start, updated_id)`,
		key.Project, name, now.id, tx.now.UnixMicro(), now.start, now.id, now.start)
	if err != nil {
		return wrap(err, "note the latest run of %s/%s", clip(key.Project), clip(name))
	}
	if n == 0 { // the clock went back
		return tx.runLatestAgain(key.Project, name)
	}
	return nil
}

// runLatestAgain finds out which is the latest run of a name.
func (tx *Tx) runLatestAgain(project, name string) error {
	if tx.dialect.postgres {
		return nil // what is left of a name that no run has any more finds nothing
	}
	_, err := tx.exec(`DELETE FROM run_latest WHERE project = ? AND name = ?`, project, name)
	if err == nil {
		_, err = tx.exec(`INSERT INTO run_latest
			SELECT u.project, u.name, u.id, u.updated, u.start_time, s.id, s.start_time FROM runs u JOIN runs s
			WHERE u.id = (SELECT id FROM runs WHERE iter = 0 AND project = ? AND name = ? ORDER BY updated DESC, start_time DESC, id DESC LIMIT 1)
			AND s.id = (SELECT id FROM runs WHERE iter = 0 AND project = ? AND name = ? ORDER BY start_time DESC, id DESC LIMIT 1)`, project, name, project, name)
	}
	return wrap(err, "find the latest run of %s/%s", clip(project), clip(name))
}

// latestByTable is the query for the latest run of each name of a list that
// selects by nothing but project, name and start: run_latest says it, unless the
// run that changed last is too old; then the others of its name are looked at.
// "" for other lists.
func (v view) latestByTable(f RunFilter, p RunPartition) (string, []any) {
	plain := f
	plain.Partition, plain.Page, plain.Limit, plain.Unsorted, plain.Name, plain.Project = nil, Page{}, 0, false, NameFilter{}, ""
	plain.StartFrom = RunFilter{}.StartFrom
	if v.dialect.postgres || f.Project == "" || p.Rows != 1 || p.Ascending || !plain.isZero() {
		return "", nil
	}
	c := conditions{dialect: v.dialect}
	c.add("l.project = ?", f.Project)
	c.name("l.name", f.Name)
	if !p.SortByUpdated {
		c.between("l.start_time", f.StartFrom, f.StartTo)
		return `SELECT l.start_id AS id, l.start_time AS start_time, l.start_time AS newest FROM run_latest l` + c.where(), c.args
	}
	if f.StartFrom.IsZero() {
		return `SELECT l.updated_id AS id, l.updated_start AS start_time, l.updated AS newest FROM run_latest l` + c.where(), c.args
	}
	from := f.StartFrom.UnixMicro()
	others := conditions{dialect: v.dialect, args: c.args}
	others.parts = append(others.parts, c.parts...)
	c.add("l.updated_start >= ?", from)
	others.add("l.start_time >= ?", from)
	others.add("l.updated_start < ?", from)
	others.add(`r.id = (SELECT x.id FROM runs x WHERE x.project = l.project AND x.iter = 0 AND x.name = l.name AND +x.start_time >= ? ORDER BY x.updated DESC, x.start_time DESC, x.id DESC LIMIT 1)`, from)
	return `SELECT l.updated_id AS id, l.updated_start AS start_time, l.updated AS newest FROM run_latest l` + c.where() +
		` UNION ALL SELECT r.id, r.start_time, r.updated FROM run_latest l CROSS JOIN runs r` + others.where(), append(append([]any{}, c.args...), others.args...)
}

// isZero reports whether a filter selects everything.
func (f RunFilter) isZero() bool {
	return f.Project == "" && f.Name == (NameFilter{}) && len(f.UIDs) == 0 && len(f.Labels) == 0 && len(f.States) == 0 && !f.WithChildren &&
		f.StartFrom.IsZero() && f.StartTo.IsZero() && f.UpdatedFrom.IsZero() && f.UpdatedTo.IsZero() && f.EndFrom.IsZero() && f.EndTo.IsZero() && f.Partition == nil
}

// latestOfNames is the query for the first rows of each name, looked up one by
// one; "" when that is not possible or there are too many names.
func (v view) latestOfNames(ctx context.Context, f RunFilter, p RunPartition, sort string) (string, []any, error) {
	if f.Project == "" || f.WithChildren || p.Ascending || len(f.UIDs) > 0 {
		return "", nil, nil
	}
	names := "run_latest"
	if v.dialect.postgres {
		names = "run_names"
	}
	var n int
	if _, err := v.row(ctx, []any{&n}, `SELECT COUNT(*) FROM (SELECT 1 FROM `+names+` WHERE project = ? LIMIT ?) l`, f.Project, maxNames+1); err != nil || n > maxNames {
		return "", nil, err
	}
	outer := conditions{dialect: v.dialect}
	outer.add("names.project = ?", f.Project)
	outer.name("names.name", f.Name)
	if !f.StartFrom.IsZero() {
		// Names that have nothing recent are passed by at once.
		outer.add("EXISTS (SELECT 1 FROM runs e WHERE e.project = ? AND e.iter = 0 AND e.name = names.name AND e.start_time >= ?)", f.Project, f.StartFrom.UnixMicro())
	}
	f.Name = NameFilter{}
	c := v.runConditions("x", f)
	if sort != "start_time" {
		// The plus keeps the bounds from being looked up in the index by start time,
		// whose rows would then have to be sorted.
		for i, part := range c.parts {
			if strings.HasPrefix(part, "x.start_time ") {
				c.parts[i] = "+" + part
			}
		}
	}
	c.add("x.name = names.name")
	c.in("x.state", f.States)
	c.labels("x", f.Labels)
	newest := func(name string) string {
		if p.Max == 0 {
			return "0" // nobody asks
		}
		return `MAX(y.` + sort + `) OVER (PARTITION BY ` + name + `)`
	}
	first := `FROM runs x` + c.where() + ` ORDER BY ` + byThen("x", sort, "DESC") + ` LIMIT ?`
	rows := append(c.args, int64(p.Rows))
	if v.dialect.postgres {
		query := `SELECT y.id, y.start_time, ` + newest("names.name") + ` AS newest
			FROM ` + names + ` names CROSS JOIN LATERAL (SELECT x.id, x.start_time, x.updated ` + first + `) y` + outer.where()
		// The subquery stands before the conditions on names.
		return query, append(rows, outer.args...), nil
	}
	in := "IN"
	if p.Rows == 1 {
		in = "=" // needs no table of the subquery's rows
	}
	query := `SELECT y.id AS id, y.start_time AS start_time, ` + newest("y.name") + ` AS newest
		FROM ` + names + ` names CROSS JOIN runs y` + outer.where() + ` AND y.id ` + in + ` (SELECT x.id ` + first + `)`
	return query, append(outer.args, rows...), nil
}
