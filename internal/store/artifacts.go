package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// ArtifactPut stores an artifact under put.Key and returns it as stored. The same
// content of the same producer and iteration is the same artifact: it is updated
// and gets put.Tag (default latest). A new one gets latest too. A link is not
// stored: it marks the artifact that it points at as the best iteration, and
// that one is returned. fault.CodeNotFound when the project, or what a link
// points at, does not exist; fault.CodeConflict for CreateOnly when the artifact
// exists.
func (s *Store) ArtifactPut(ctx context.Context, put ArtifactPut) (stored document.Object, err error) {
	err = s.Tx(ctx, func(tx *Tx) error {
		stored, err = tx.ArtifactPut(ctx, put)
		return err
	})
	return stored, err
}

// ArtifactPut is Store.ArtifactPut in a transaction.
func (tx *Tx) ArtifactPut(_ context.Context, put ArtifactPut) (document.Object, error) {
	if err := artifact.ValidateKey("key", put.Key); err != nil {
		return nil, err
	}
	tag := put.Tag
	if tag == "" {
		tag = latest
	}
	if err := artifact.ValidateTag(tag); err != nil {
		return nil, err
	}
	if err := checkIndexed("tree", put.Tree); err != nil {
		return nil, err
	}
	if document.String(put.Doc, "kind") == artifact.KindLink {
		return tx.artifactLink(put)
	}
	at := artifact.Address{Project: put.Project, Tree: put.Tree, UID: put.UID, Iter: put.Iter, HasIter: put.HasIter}
	doc, at, err := artifact.Stored(put.Doc, at, time.Time{}, tx.now)
	if err != nil {
		return nil, err
	}
	if err := tx.requireProject(put.Project); err != nil {
		return nil, err
	}
	if err := tx.lockArtifact(put.Project, put.Key); err != nil {
		return nil, err
	}
	if err := tx.lockContent(shared); err != nil {
		return nil, err
	}
	var id, created int64
	found, err := tx.row(tx.ctx, []any{&id, &created}, `SELECT id, created FROM artifacts WHERE project = ? AND key = ? AND uid = ?`, put.Project, put.Key, at.UID)
	if err != nil {
		return nil, wrap(err, "read artifact %s/%s", put.Project, put.Key)
	}
	if found && put.CreateOnly {
		return nil, fault.Conflict("Artifact %s/%s exists already with the uid %s", put.Project, put.Key, at.UID)
	}
	labels, kind, producer := labelText(document.Strings(doc, "metadata", "labels")), document.String(doc, "kind"), document.String(doc, "spec", "producer", "uri")
	tags := []string{tag}
	if found {
		document.Set(doc, artifact.Time(time.UnixMicro(created)), "metadata", "created")
		_, err = tx.exec(`UPDATE artifacts SET kind = ?, producer_uri = ?, labels = ?, updated = ?, target = ?, doc = ? WHERE id = ?`, kind, producer, labels, tx.now.UnixMicro(), document.String(doc, "spec", "target_path"), encode(doc), id)
	} else {
		if tag != latest {
			tags = append(tags, latest)
		}
		id, err = tx.insert(`INSERT INTO artifacts (project, key, uid, kind, tree, iter, best, producer_uri, labels, created, updated, target, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			put.Project, put.Key, at.UID, kind, at.Tree, at.Iter, flag(at.Iter == 0), producer, labels, tx.now.UnixMicro(), tx.now.UnixMicro(), document.String(doc, "spec", "target_path"), encode(doc))
	}
	if err == nil {
		_, err = tx.exec(`DELETE FROM content_removals WHERE artifact_id = ?`, id)
	}
	if err == nil && found {
		_, err = tx.exec(`UPDATE artifact_tags SET updated = ? WHERE artifact_id = ?`, tx.now.UnixMicro(), id)
	}
	if err != nil {
		return nil, wrap(err, "store artifact %s/%s", put.Project, put.Key)
	}
	if err := tx.artifactLabels(put.Project, id, found, document.Strings(doc, "metadata", "labels")); err != nil {
		return nil, err
	}
	for _, t := range tags {
		if err := tx.artifactTag(artifactRow{id: id, key: put.Key, tree: at.Tree, iter: at.Iter}, put.Project, t); err != nil {
			return nil, err
		}
	}
	if err := tx.artifactParent(put.Project, id, doc); err != nil {
		return nil, err
	}
	document.Set(doc, tag, "metadata", "tag")
	var has bool
	if found {
		_, err = tx.row(tx.ctx, []any{&has}, `SELECT `+hasChildren+` FROM artifacts a WHERE a.id = ?`, id)
		setHasChildren(doc, has)
	}
	return doc, wrap(err, "read artifact %s/%s", put.Project, put.Key)
}

// artifactLink moves the mark of the best iteration.
func (tx *Tx) artifactLink(put ArtifactPut) (document.Object, error) {
	link, err := artifact.LinkOf(put.Doc, put.Key, put.Tree)
	if err != nil {
		return nil, err
	}
	if err := tx.requireProject(put.Project); err != nil {
		return nil, err
	}
	if err := tx.lockArtifact(put.Project, link.Key); err != nil {
		return nil, err
	}
	var (
		id   int64
		text []byte
	)
	found, err := tx.row(tx.ctx, []any{&id, &text}, `SELECT id, doc FROM artifacts WHERE project = ? AND key = ? AND tree = ? AND iter = ? ORDER BY updated DESC, id DESC LIMIT 1`,
		put.Project, link.Key, link.Tree, link.Iter)
	if err != nil {
		return nil, wrap(err, "read artifact %s/%s", put.Project, clip(link.Key))
	}
	if !found {
		return nil, fault.NotFound("Artifact not found: %s/%s#%d@%s, which a link points at", put.Project, clip(link.Key), link.Iter, clip(link.Tree))
	}
	if _, err := tx.exec(`UPDATE artifacts SET best = CASE WHEN id = ? THEN 1 ELSE 0 END WHERE project = ? AND key = ? AND tree = ? AND (best = 1 OR id = ?)`,
		id, put.Project, link.Key, link.Tree, id); err != nil {
		return nil, wrap(err, "link artifact %s/%s", put.Project, clip(link.Key))
	}
	return decode(text)
}

// lockArtifact makes transactions that change the tags and marks of one key take
// turns. On SQLite they do anyway.
func (tx *Tx) lockArtifact(project, key string) error {
	if !tx.dialect.postgres {
		return nil
	}
	return tx.advise(exclusive, "artifact "+project+"/"+key)
}

// artifactRow is what tags need to know of an artifact.
type artifactRow struct {
	id   int64
	key  string
	tree string
	iter int
}

// artifactTag points tag at an artifact: other producers of that key lose it, and
// so does what the same producer and iteration stored before. Other iterations
// keep it.
func (tx *Tx) artifactTag(row artifactRow, project, tag string) error {
	var stale []int64
	err := tx.each(tx.ctx, func(rows *sql.Rows) error {
		var other artifactRow
		if err := rows.Scan(&other.id, &other.tree, &other.iter); err != nil {
			return err
		}
		if other.id != row.id && (other.tree != row.tree || other.iter == row.iter) {
			stale = append(stale, other.id)
		}
		return nil
	}, `SELECT a.id, a.tree, a.iter FROM artifact_tags t JOIN artifacts a ON a.id = t.artifact_id WHERE t.project = ? AND t.key = ? AND t.tag = ?`, project, row.key, tag)
	if err != nil {
		return wrap(err, "tag artifact %s/%s", project, clip(row.key))
	}
	for _, id := range stale {
		if _, err := tx.exec(`DELETE FROM artifact_tags WHERE project = ? AND key = ? AND tag = ? AND artifact_id = ?`, project, row.key, tag, id); err != nil {
			return wrap(err, "tag artifact %s/%s", project, clip(row.key))
		}
	}
	_, err = tx.exec(`INSERT INTO artifact_tags (project, key, tag, artifact_id, updated) SELECT project, key, ?, id, updated FROM artifacts WHERE id = ? ON CONFLICT DO NOTHING`, tag, row.id)
	return wrap(err, "tag artifact %s/%s", project, clip(row.key))
}

// ArtifactDelete deletes the artifacts that match, with their tags, and returns
// how many.
func (s *Store) ArtifactDelete(ctx context.Context, filter ArtifactFilter) (n int, err error) {
	err = s.Tx(ctx, func(tx *Tx) error {
		n, err = tx.ArtifactDelete(ctx, filter)
		return err
	})
	return n, err
}

// ArtifactDelete is Store.ArtifactDelete in a transaction.
func (tx *Tx) ArtifactDelete(_ context.Context, filter ArtifactFilter) (int, error) {
	c, err := artifactConditions(tx.dialect, filter)
	if err != nil {
		return 0, err
	}
	limit, args := window(Page{}, filter.Limit)
	n, err := tx.exec(`DELETE FROM artifacts WHERE id IN (SELECT id FROM (SELECT DISTINCT a.id AS id, a.updated AS updated FROM artifacts a`+tagJoin(filter)+c.where()+` ORDER BY updated DESC, id DESC`+limit+`) d)`, append(c.args, args...)...)
	return int(n), wrap(err, "delete artifacts")
}
