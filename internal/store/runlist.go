package store

import (
	"context"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// How a list of runs is found. Each of these answers a first page without looking
// at more than a few rows beyond those it returns, however many runs there are:
//
//   - by start time, within a project, a name or one state: an index in that order;
//   - with labels: run_labels, which is in that order for each key and value;
//   - the latest of each name: see latest.go.
//
// Other filters (a substring, an end time) are checked row by row along the order
// of the best of these indices. Statistics are not kept, so that a plan does not
// change with them; where a choice depends on the data, rare and frequent
// are told apart by counting up to rareLabel.
const (
	// rareLabel is up to how many runs a label makes a list go by that label
	// although other filters could lead it.
	rareLabel = 1000
	// maxNames is up to how many names are looked up one by one.
	maxNames = 2000
	// maxUIDs bounds a filter by uids; databases bound the parameters of a query.
	maxUIDs = 10000
)

// RunList returns the runs that match, newest start first, without
// status.artifacts. more says whether a page follows. The project "" is "*".
func (s *Store) RunList(ctx context.Context, filter RunFilter) (items []document.Object, more bool, err error) {
	if len(filter.UIDs) > maxUIDs {
		return nil, false, fault.Invalid("uid: %d values are too many for one list; give at most %d", len(filter.UIDs), maxUIDs)
	}
	if filter.Project == "*" {
		filter.Project = ""
	}
	var query string
	var args []any
	if filter.Partition != nil {
		query, args, err = s.read.runPartitions(ctx, filter)
	} else {
		query, args, err = s.read.runOrder(ctx, filter)
	}
	if err == nil {
		items, err = s.read.docs(ctx, query, args...)
	}
	items, more = cut(items, filter.Page)
	return items, more, wrap(err, "list runs")
}

// runConditions are the filters on the table called alias except labels and states.
func (v view) runConditions(alias string, f RunFilter) conditions {
	c := conditions{dialect: v.dialect}
	c.equal(alias+".project", f.Project)
	// As text, so that partial indices serve it.
	if f.WithChildren {
		c.add(alias + ".iter >= 0")
	} else {
		c.add(alias + ".iter = 0")
	}
	c.name(alias+".name", f.Name)
	c.in(alias+".uid", f.UIDs)
	c.between(alias+".start_time", f.StartFrom, f.StartTo)
	c.between(alias+".updated", f.UpdatedFrom, f.UpdatedTo)
	c.between(alias+".end_time", f.EndFrom, f.EndTo)
	return c
}

// runOrder is the query of a list that is not partitioned.
func (v view) runOrder(ctx context.Context, f RunFilter) (string, []any, error) {
	c := v.runConditions("r", f)
	limit, limitArgs := window(f.Page, f.Limit)
	labels := reduce(f.Labels)
	if f.Unsorted {
		c.in("r.state", f.States)
		c.labels("r", labels)
		return `SELECT r.doc FROM runs r` + c.where() + ` ORDER BY r.id` + limit, append(c.args, limitArgs...), nil
	}
	lead, rare, err := v.leadingLabel(ctx, f, labels)
	if err != nil {
		return "", nil, err
	}
	others := f.Name.Value != "" && !f.Name.Contains || len(f.States) > 0
	if lead >= 0 && (rare || !others) {
		return v.runsByLabel(f, c, labels, lead)
	}
	c.labels("r", labels)
	// Several states: the first rows of each, merged. Along the start times alone a
	// search for a few live runs would pass by all that are over.
	if len(f.States) > 1 && f.Project != "" && !f.WithChildren && limit != "" && f.Name.Value == "" && len(f.UIDs) == 0 {
		upTo := limitArgs[0].(int64) + int64(f.Page.Offset)
		union, args := "", []any(nil)
		for i, state := range f.States {
			if i > 0 {
				union += " UNION ALL "
			}
			one := c
			one.parts = append([]string{"r.state = ?"}, c.parts...)
			union += `SELECT * FROM (SELECT r.id AS id, r.start_time AS start_time FROM runs r` + one.where() + ` ORDER BY r.start_time DESC, r.id DESC LIMIT ?) s` + string(rune('a'+i%26))
			args = append(append(append(args, state), c.args...), upTo)
		}
		query := `SELECT r.doc FROM (SELECT id, start_time FROM (` + union + `) u ORDER BY start_time DESC, id DESC` + limit + `) k CROSS JOIN runs r WHERE r.id = k.id ORDER BY k.start_time DESC, k.id DESC`
		return query, append(args, limitArgs...), nil
	}
	c.in("r.state", f.States)
	return `SELECT r.doc FROM runs r` + c.where() + ` ORDER BY r.start_time DESC, r.id DESC` + limit, append(c.args, limitArgs...), nil
}

// leadingLabel picks the label filter that a list can go along, -1 for none: the
// rarest that names a key and a value, or a rare key. rare says whether few runs
// have it.
func (v view) leadingLabel(ctx context.Context, f RunFilter, labels []LabelFilter) (lead int, rare bool, err error) {
	lead = -1
	if f.Project == "" || len(f.UIDs) > 0 {
		return lead, false, nil
	}
	best := int64(rareLabel) + 1
	for i, label := range labels {
		if label.KeyContains {
			continue
		}
		exact := label.HasValue && !label.ValueContains
		query, args := `SELECT COUNT(*) FROM (SELECT 1 FROM run_labels WHERE project = ? AND key = ?`, []any{f.Project, label.Key}
		if exact {
			query, args = query+` AND value = ?`, append(args, label.Value)
		}
		var n int64
		if _, err := v.row(ctx, []any{&n}, query+` LIMIT ?) l`, append(args, int64(rareLabel)+1)...); err != nil {
			return lead, false, err
		}
		if n < best || exact && lead < 0 {
			lead, best = i, n
		}
	}
	return lead, best <= rareLabel, nil
}

// runsByLabel goes along the label filter labels[lead] and checks the others.
func (v view) runsByLabel(f RunFilter, c conditions, labels []LabelFilter, lead int) (string, []any, error) {
	by := labels[lead]
	x := conditions{dialect: v.dialect}
	x.add("r.id = x.run_id")
	x.add("x.project = ?", f.Project)
	x.label("x.key", "x.value", by)
	if !f.WithChildren {
		x.add("x.child = 0")
	}
	c.in("r.state", f.States)
	for i, label := range labels {
		if i != lead {
			c.labels("r", []LabelFilter{label})
		}
	}
	x.parts, x.args = append(x.parts, c.parts...), append(x.args, c.args...)
	limit, limitArgs := window(f.Page, f.Limit)
	// CROSS JOIN fixes the order of the tables in SQLite.
	query := `SELECT r.doc FROM run_labels x CROSS JOIN runs r` + x.where() + ` ORDER BY x.start_time DESC, x.run_id DESC` + limit
	return query, append(x.args, limitArgs...), nil
}

// runPartitions is the query of a list that keeps some runs of each name.
func (v view) runPartitions(ctx context.Context, f RunFilter) (string, []any, error) {
	p := *f.Partition
	p.Rows = max(p.Rows, 1)
	sort, direction := "start_time", "DESC"
	if p.SortByUpdated {
		sort = "updated"
	}
	if p.Ascending {
		direction = "ASC"
	}
	inner, args := v.latestByTable(f, p)
	if inner == "" {
		var err error
		if inner, args, err = v.latestOfNames(ctx, f, p, sort); err != nil {
			return "", nil, err
		}
	}
	if inner == "" {
		by := "r.name"
		if p.ByProject {
			by = "r.project, r.name"
		}
		c := v.runConditions("r", f)
		c.in("r.state", f.States)
		c.labels("r", f.Labels)
		inner = `SELECT id, start_time, newest FROM (SELECT r.id AS id, r.start_time AS start_time,
			MAX(r.` + sort + `) OVER (PARTITION BY ` + by + `) AS newest,
			ROW_NUMBER() OVER (PARTITION BY ` + by + ` ORDER BY ` + byThen("r", sort, direction) + `) AS place
			FROM runs r` + c.where() + `) w WHERE place <= ?`
		args = append(c.args, int64(p.Rows))
	}
	if p.Max > 0 {
		inner = `SELECT id, start_time FROM (SELECT id, start_time, DENSE_RANK() OVER (ORDER BY newest DESC) AS place FROM (` + inner + `) n) m WHERE place <= ?`
		args = append(args, int64(p.Max))
	}
	order := ` ORDER BY k.start_time DESC, k.id DESC`
	if f.Unsorted {
		order = ` ORDER BY k.id`
	}
	// The page is cut before the documents are read.
	limit, limitArgs := window(f.Page, f.Limit)
	return `SELECT r.doc FROM (SELECT k.id, k.start_time FROM (` + inner + `) k` + order + limit + `) k CROSS JOIN runs r WHERE r.id = k.id` + order, append(args, limitArgs...), nil
}

// byThen is the order inside a partition: by the column, then by start and id,
// which is the order of the indices.
func byThen(alias, column, direction string) string {
	order := alias + "." + column + " " + direction
	if column != "start_time" {
		order += ", " + alias + ".start_time " + direction
	}
	return order + ", " + alias + ".id " + direction
}
