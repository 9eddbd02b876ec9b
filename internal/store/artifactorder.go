package store

import (
	"context"
	"database/sql"
	"strings"

	"github.com/millrace/millrace/internal/document"
)

// How a list of artifacts is found, however many a project has:
//
//   - a key, a tree, a uid or a parent: by its index, since few artifacts have one;
//   - a rare tag or label: its rows, found by artifact_tags and artifact_labels;
//   - a kind: an index in the order of the list;
//   - a frequent tag: its rows, which are in that order too;
//   - everything else is looked at along the order of the list until the page is
//     full, the key within the index.
//
// Rare and frequent are told apart by counting up to rareLabel, as for runs.

// ArtifactList returns one element for each artifact and tag that match, newest
// first; metadata.tag is null for an artifact without tags. more says whether a
// page follows.
func (s *Store) ArtifactList(ctx context.Context, filter ArtifactFilter) ([]document.Object, bool, error) {
	return s.read.artifactList(ctx, filter)
}

func (v view) artifactList(ctx context.Context, filter ArtifactFilter) (items []document.Object, more bool, err error) {
	query, args, err := v.artifactOrder(ctx, filter)
	if err != nil {
		return nil, false, err
	}
	err = v.each(ctx, func(rows *sql.Rows) error {
		var (
			text sql.RawBytes
			tag  sql.NullString
			has  bool
		)
		if err := rows.Scan(&text, &tag, &has); err != nil {
			return err
		}
		doc, err := decode(text)
		if err != nil {
			return err
		}
		setHasChildren(doc, has)
		document.Set(doc, nil, "metadata", "tag")
		if tag.Valid {
			document.Set(doc, tag.String, "metadata", "tag")
		}
		items = append(items, doc)
		return nil
	}, query, args...)
	items, more = cut(items, filter.Page)
	return items, more, wrap(err, "list artifacts")
}

// artifactOrder is the query of a list; its rows are documents with their tags.
func (v view) artifactOrder(ctx context.Context, f ArtifactFilter) (query string, args []any, err error) {
	c, err := artifactConditions(v.dialect, f)
	if err != nil {
		return "", nil, err
	}
	limit, limitArgs := window(f.Page, f.Limit)
	if f.Partition != nil {
		query, args := artifactPartitions(f, c)
		return query + limit, append(args, limitArgs...), nil
	}
	// CROSS JOIN fixes the order of the tables in SQLite.
	const byArtifact = `SELECT ` + artifactColumns + ` FROM artifacts a %JOIN artifact_tags t ON t.artifact_id = a.id`
	const order = ` ORDER BY a.updated DESC, a.id DESC, t.tag`
	// The plus keeps the order from being looked up in an index, which would be gone
	// along for as long as the few rows do not come.
	const few = ` ORDER BY +a.updated DESC, a.id DESC, t.tag`
	if f.Project == "*" || f.Parent != nil || f.Tree != "" || f.UID != "" || f.Name.Value != "" && !f.Name.Contains {
		join := "LEFT "
		if f.tagged() {
			join = ""
		}
		return strings.Replace(byArtifact, "%", join, 1) + c.where() + few + limit, append(c.args, limitArgs...), nil
	}
	tags, err := v.artifactTagCount(ctx, f)
	if err != nil {
		return "", nil, err
	}
	if !f.tagged() || tags > rareLabel {
		if label, ok, err := v.rareArtifactLabel(ctx, f); err != nil {
			return "", nil, err
		} else if ok {
			query := `SELECT ` + artifactColumns + ` FROM (SELECT DISTINCT artifact_id FROM artifact_labels` + label.where() + `) l CROSS JOIN artifacts a LEFT JOIN artifact_tags t ON t.artifact_id = a.id`
			return query + c.where() + ` AND a.id = l.artifact_id` + few + limit, append(append(label.args, c.args...), limitArgs...), nil
		}
	}
	oneKind := len(f.Kinds) == 1 || f.Category != "" && f.Category != "other"
	if f.tagged() && (tags <= rareLabel || !oneKind) {
		c.between("t.updated", f.Since, f.Until)
		c.name("t.key", f.Name)
		return `SELECT ` + artifactColumns + ` FROM artifact_tags t CROSS JOIN artifacts a` + c.where() + ` AND a.id = t.artifact_id ORDER BY t.updated DESC, t.artifact_id DESC` + limit,
			append(c.args, limitArgs...), nil
	}
	if f.tagged() {
		return `SELECT ` + artifactColumns + ` FROM artifacts a CROSS JOIN artifact_tags t` + c.where() + ` AND t.artifact_id = a.id` + order + limit, append(c.args, limitArgs...), nil
	}
	return strings.Replace(byArtifact, "%", "LEFT ", 1) + c.where() + order + limit, append(c.args, limitArgs...), nil
}

// artifactTagCount counts the artifacts with the tag of a filter, up to one more
// than are rare.
func (v view) artifactTagCount(ctx context.Context, f ArtifactFilter) (n int64, err error) {
	if f.tagged() {
		_, err = v.row(ctx, []any{&n}, `SELECT COUNT(*) FROM (SELECT 1 FROM artifact_tags WHERE project = ? AND tag = ? LIMIT ?) l`, f.Project, f.Tag, int64(rareLabel)+1)
	}
	return n, wrap(err, "count tags")
}

// rareArtifactLabel returns the conditions on artifact_labels of the rarest label
// of a filter, if it is rare.
func (v view) rareArtifactLabel(ctx context.Context, f ArtifactFilter) (rarest conditions, found bool, err error) {
	best := int64(rareLabel) + 1
	for _, label := range reduce(f.Labels) {
		if label.KeyContains {
			continue
		}
		c := conditions{dialect: v.dialect}
		c.add("project = ?", f.Project)
		c.add("key = ?", cutLabel(label.Key))
		if label.HasValue && !label.ValueContains {
			c.add("value = ?", cutLabel(label.Value))
		}
		var n int64
		if _, err := v.row(ctx, []any{&n}, `SELECT COUNT(*) FROM (SELECT 1 FROM artifact_labels`+c.where()+` LIMIT ?) l`, append(append([]any{}, c.args...), int64(rareLabel)+1)...); err != nil {
			return c, false, wrap(err, "count labels")
		}
		if n < best {
			rarest, best, found = c, n, true
		}
	}
	return rarest, found, nil
}

// artifactPartitions is the query of a list that keeps some artifacts of each key.
func artifactPartitions(f ArtifactFilter, c conditions) (string, []any) {
	sort, direction := "updated", "DESC"
	if f.Partition.SortByCreated {
		sort = "created"
	}
	if f.Partition.Ascending {
		direction = "ASC"
	}
	query := `SELECT ` + artifactColumns + ` FROM (SELECT id, ROW_NUMBER() OVER (PARTITION BY project, key ORDER BY ` + sort + ` ` + direction + `, id ` + direction + `) AS place
		FROM (SELECT DISTINCT a.id AS id, a.project AS project, a.key AS key, a.` + sort + ` AS ` + sort + ` FROM artifacts a` + tagJoin(f) + c.where() + `) d) w
		JOIN artifacts a ON a.id = w.id LEFT JOIN artifact_tags t ON t.artifact_id = a.id WHERE w.place <= ?`
	args := append(c.args, int64(max(f.Partition.Rows, 1)))
	if f.tagged() {
		query, args = query+` AND t.tag = ?`, append(args, f.Tag)
	}
	return query + ` ORDER BY a.updated DESC, a.id DESC, t.tag`, args
}

// cutLabel is as much of a label's key or value as artifact_labels has.
func cutLabel(text string) string {
	const most = 250 // as in the migration
	n := 0
	for i := range text {
		if n == most {
			return text[:i]
		}
		n++
	}
	return text
}

// artifactLabels brings the rows of an artifact to what labels says; had says
// that there may be some.
func (tx *Tx) artifactLabels(project string, id int64, had bool, labels map[string]string) error {
	before := map[[2]string]bool{}
	if had {
		err := tx.each(tx.ctx, func(rows *sql.Rows) error {
			var at [2]string
			err := rows.Scan(&at[0], &at[1])
			before[at] = true
			return err
		}, `SELECT key, value FROM artifact_labels WHERE artifact_id = ?`, id)
		if err != nil {
			return wrap(err, "read labels of an artifact of project %s", clip(project))
		}
	}
	for key, value := range labels {
		at := [2]string{cutLabel(key), cutLabel(value)}
		if before[at] {
			delete(before, at)
			continue
		}
		if _, err := tx.exec(`INSERT INTO artifact_labels (project, key, value, artifact_id) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, project, at[0], at[1], id); err != nil {
			return wrap(err, "label an artifact of project %s", clip(project))
		}
	}
	for at := range before {
		if _, err := tx.exec(`DELETE FROM artifact_labels WHERE project = ? AND key = ? AND value = ? AND artifact_id = ?`, project, at[0], at[1], id); err != nil {
			return wrap(err, "label an artifact of project %s", clip(project))
		}
	}
	return nil
}
