package store

import (
	"cmp"
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// ArtifactIdentifier names artifacts of a project to be tagged; zero fields match
// any. A UID that is no artifact's is taken for a tree.
type ArtifactIdentifier struct {
	Key, Kind, UID, Tree string
	Iter                 *int
}

// ArtifactTags returns the tags that artifacts of the project have, by name;
// category (one of artifact.Categories, or none) restricts it.
func (s *Store) ArtifactTags(ctx context.Context, project, category string) ([]string, error) {
	c, err := artifactConditions(s.read.dialect, ArtifactFilter{Project: project, Category: category})
	if err != nil {
		return nil, err
	}
	query := `SELECT DISTINCT t.tag FROM artifact_tags t JOIN artifacts a ON a.id = t.artifact_id` + c.where() + ` ORDER BY t.tag`
	if category == "" { // from each tag to the next, however many artifacts have it
		query = `WITH RECURSIVE tags(tag) AS (
			SELECT * FROM (SELECT a.tag FROM artifact_tags a WHERE a.project = ? ORDER BY a.tag LIMIT 1) first
			UNION ALL
			SELECT (SELECT n.tag FROM artifact_tags n WHERE n.project = ? AND n.tag > tags.tag ORDER BY n.tag LIMIT 1) FROM tags WHERE tags.tag IS NOT NULL
		) SELECT tag FROM tags WHERE tag IS NOT NULL ORDER BY tag`
		c.args = []any{project, project}
	}
	tags, err := s.read.strings(ctx, query, c.args...)
	return tags, wrap(err, "list tags")
}

// TagAppend gives the tag to the artifacts named; see ArtifactPut for what loses
// it. It returns how many there are. fault.CodeNotFound when the project does not
// exist, fault.CodeInvalid for a bad tag.
func (s *Store) TagAppend(ctx context.Context, project, tag string, ids []ArtifactIdentifier) (int, error) {
	return s.tagArtifacts(ctx, project, tag, ids, func(*Tx, artifactRow) error { return nil })
}

// TagReplace is TagAppend for artifacts that lose all their other tags.
func (s *Store) TagReplace(ctx context.Context, project, tag string, ids []ArtifactIdentifier) (int, error) {
	return s.tagArtifacts(ctx, project, tag, ids, func(tx *Tx, row artifactRow) error {
		_, err := tx.exec(`DELETE FROM artifact_tags WHERE artifact_id = ?`, row.id)
		return wrap(err, "untag artifact %s/%s", project, clip(row.key))
	})
}

func (s *Store) tagArtifacts(ctx context.Context, project, tag string, ids []ArtifactIdentifier, before func(*Tx, artifactRow) error) (n int, err error) {
	if err := artifact.ValidateTag(tag); err != nil {
		return 0, err
	}
	err = s.Tx(ctx, func(tx *Tx) error {
		rows, err := tx.identified(project, ids)
		if err != nil {
			return err
		}
		n = len(rows)
		for _, row := range rows {
			if err := tx.lockArtifact(project, row.key); err != nil {
				return err
			}
			if err := before(tx, row); err != nil {
				return err
			}
			if err := tx.artifactTag(row, project, tag); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// TagDelete takes the tag from the artifacts named and returns how many were
// named. Errors are those of TagAppend.
func (s *Store) TagDelete(ctx context.Context, project, tag string, ids []ArtifactIdentifier) (n int, err error) {
	if err := artifact.ValidateTag(tag); err != nil {
		return 0, err
	}
	err = s.Tx(ctx, func(tx *Tx) error {
		rows, err := tx.identified(project, ids)
		if err != nil {
			return err
		}
		n = len(rows)
		for _, row := range rows {
			if _, err := tx.exec(`DELETE FROM artifact_tags WHERE artifact_id = ? AND tag = ?`, row.id, tag); err != nil {
				return wrap(err, "untag artifact %s/%s", project, clip(row.key))
			}
		}
		return nil
	})
	return n, err
}

// identified returns the artifacts that any of ids names, each once, by key, so
// that transactions lock keys in one order.
func (tx *Tx) identified(project string, ids []ArtifactIdentifier) ([]artifactRow, error) {
	if err := tx.requireProject(project); err != nil {
		return nil, err
	}
	if len(ids) > maxIdentifiers {
		return nil, fault.Invalid("identifiers: %d are too many for one request; give at most %d", len(ids), maxIdentifiers)
	}
	seen := map[int64]artifactRow{}
	for _, id := range ids {
		found, err := tx.identify(project, id, seen)
		if err != nil {
			return nil, err
		}
		if !found && id.UID != "" && id.Tree == "" {
			id.Tree, id.UID = id.UID, ""
			if _, err := tx.identify(project, id, seen); err != nil {
				return nil, err
			}
		}
	}
	return sortedRows(seen), nil
}

// maxIdentifiers bounds one request to tag.
const maxIdentifiers = 10000

func (tx *Tx) identify(project string, id ArtifactIdentifier, into map[int64]artifactRow) (found bool, err error) {
	c, err := artifactConditions(tx.dialect, ArtifactFilter{Project: project, Name: NameFilter{Value: id.Key}, Iter: id.Iter, UID: id.UID, Tree: id.Tree})
	if err != nil {
		return false, err
	}
	c.equal("a.kind", id.Kind)
	err = tx.each(tx.ctx, func(rows *sql.Rows) error {
		var row artifactRow
		if err := rows.Scan(&row.id, &row.key, &row.tree, &row.iter); err != nil {
			return err
		}
		into[row.id], found = row, true
		return nil
	}, `SELECT a.id, a.key, a.tree, a.iter FROM artifacts a`+c.where(), c.args...)
	return found, wrap(err, "find artifacts of project %s", project)
}

// IdentifierOf reads an identifier as the API has it; null means any. Errors
// carry fault.CodeInvalid.
func IdentifierOf(doc document.Object) (ArtifactIdentifier, error) {
	var id ArtifactIdentifier
	for field, into := range map[string]*string{"key": &id.Key, "kind": &id.Kind, "uid": &id.UID, "producer_id": &id.Tree} {
		text, err := document.Want[string](doc, field)
		if err != nil {
			return id, err
		}
		*into = text
	}
	if value := doc["iter"]; value != nil {
		n, ok := document.ToInt(value)
		if !ok || n < 0 || n > 1<<31-1 {
			return id, fault.Invalid("iter must be a whole number from 0 on, got %s", clip(string(document.Encode(value))))
		}
		iter := int(n)
		id.Iter = &iter
	}
	return id, nil
}

func sortedRows(rows map[int64]artifactRow) []artifactRow {
	return slices.SortedFunc(maps.Values(rows), func(a, b artifactRow) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.id, b.id))
	})
}
