package store

import (
	"bytes"
	"context"
	"database/sql"
	"path"
	"strings"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Removal is content that is being deleted with its record. It is in the database from
// before the first byte goes until the record goes, so that whoever finds it can go on.
type Removal struct {
	ID    int64           // of the record
	Force bool            // the record stays when its content cannot be deleted
	Doc   document.Object // the record
}

// ArtifactDeleteData deletes the artifacts that match, one after the other, each after
// its content, which release deletes through RemovalStep. An error of release keeps the
// record and ends the call. It returns how many were deleted.
func (s *Store) ArtifactDeleteData(ctx context.Context, filter ArtifactFilter, force bool, release func(Removal) error) (int, error) {
	c, err := artifactConditions(s.read.dialect, filter)
	if err != nil {
		return 0, err
	}
	var ids []int64
	err = s.read.each(ctx, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT DISTINCT a.id FROM artifacts a`+tagJoin(filter)+c.where()+` ORDER BY a.id`, c.args...)
	if err != nil {
		return 0, wrap(err, "list artifacts to delete")
	}
	for n, id := range ids {
		removal, err := s.removalBegin(ctx, id, force)
		if err != nil {
			return n, err
		}
		if removal.Doc == nil {
			continue
		}
		if err := s.RemovalEnd(ctx, removal, release(removal)); err != nil {
			return n, err
		}
	}
	return len(ids), nil
}

// removalBegin notes that a record goes with its content; no document when there is no
// such record any more. One that had begun goes on.
func (s *Store) removalBegin(ctx context.Context, id int64, force bool) (Removal, error) {
	removal := Removal{ID: id, Force: force}
	err := s.Tx(ctx, func(tx *Tx) error {
		var text []byte
		found, err := tx.row(tx.ctx, []any{&text}, `SELECT doc FROM artifacts WHERE id = ?`+tx.dialect.lock, id)
		if err != nil || !found {
			return wrap(err, "read artifact to delete")
		}
		if removal.Doc, err = decode(text); err != nil {
			return err
		}
		_, err = tx.exec(`INSERT INTO content_removals (artifact_id, force, doc) VALUES (?, ?, ?) ON CONFLICT (artifact_id) DO UPDATE SET force = excluded.force, doc = excluded.doc`, id, flag(force), string(text))
		return wrap(err, "note the removal of content")
	})
	return removal, err
}

// Removals lists what has begun and not ended.
func (s *Store) Removals(ctx context.Context) ([]Removal, error) {
	var removals []Removal
	err := s.read.each(ctx, func(rows *sql.Rows) error {
		var (
			removal Removal
			text    []byte
		)
		err := rows.Scan(&removal.ID, &removal.Force, &text)
		if err == nil {
			removal.Doc, err = decode(text)
		}
		removals = append(removals, removal)
		return err
	}, `SELECT artifact_id, force, doc FROM content_removals ORDER BY artifact_id`)
	return removals, wrap(err, "list removals of content")
}

// RemovalStep calls remove with those of targets that no other record of any project has
// its content at. When they are on this machine no record can be stored meanwhile; removal
// elsewhere may take long, and a record that is stored meanwhile is seen by the next step. A
// record that was stored again since the removal began ends it with fault.CodeConflict.
func (s *Store) RemovalStep(ctx context.Context, removal Removal, targets []string, remove func(targets []string) error) error {
	var free []string
	elsewhere := false
	err := s.Tx(ctx, func(tx *Tx) error {
		free = nil // a transaction may be run again
		if err := tx.lockContent(exclusive); err != nil {
			return err
		}
		var one int
		found, err := tx.row(tx.ctx, []any{&one}, `SELECT 1 FROM content_removals WHERE artifact_id = ?`+tx.dialect.lock, removal.ID)
		if err != nil {
			return wrap(err, "read removal of content")
		}
		if !found {
			return overtaken(removal)
		}
		sharing := sharing{tx: tx, id: removal.ID, around: map[string][]resident{}}
		for _, target := range targets {
			shared, err := sharing.of(target)
			if err != nil {
				return err
			}
			if !shared {
				free = append(free, target)
			}
			elsewhere = elsewhere || strings.Contains(target, "://") && !strings.HasPrefix(target, "file://")
		}
		if elsewhere || len(free) == 0 {
			return nil
		}
		return remove(free)
	})
	if err != nil || !elsewhere || len(free) == 0 {
		return err
	}
	return remove(free)
}

func overtaken(removal Removal) error {
	return fault.Conflict("artifact %s/%s was stored again while its content was being deleted, so it stays; delete it again",
		document.String(removal.Doc, "metadata", "project"), clip(artifact.Key(removal.Doc)))
}

// RemovalEnd deletes the record whose content has gone, or lets it stay when failed is an
// error, which is returned. What the end of the context has interrupted stays begun.
func (s *Store) RemovalEnd(ctx context.Context, removal Removal, failed error) error {
	if err := context.Cause(ctx); err != nil && failed != nil {
		return err
	}
	err := s.Tx(context.WithoutCancel(ctx), func(tx *Tx) error {
		n, err := tx.exec(`DELETE FROM content_removals WHERE artifact_id = ?`, removal.ID)
		if err != nil || failed != nil {
			return wrap(err, "end removal of content")
		}
		if n == 0 {
			var one int
			if found, err := tx.row(tx.ctx, []any{&one}, `SELECT 1 FROM artifacts WHERE id = ?`, removal.ID); err != nil || !found {
				return wrap(err, "read artifact to delete")
			}
			return overtaken(removal)
		}
		_, err = tx.exec(`DELETE FROM artifacts WHERE id = ?`, removal.ID)
		return wrap(err, "delete artifact")
	})
	if err != nil {
		return err
	}
	return failed
}

// lockContent makes those who store records (shared) and those who delete content
// (exclusive) take turns. On SQLite they do anyway.
func (tx *Tx) lockContent(lock string) error {
	if !tx.dialect.postgres {
		return nil
	}
	return tx.advise(lock, "content of artifacts")
}

// sharing finds records, other than that of id, that have their content at a place: there
// itself, or in a folder around it that belongs to a folder artifact or to a model that
// names the file.
type sharing struct {
	tx     *Tx
	id     int64
	around map[string][]resident // by folder
}

// resident is a record whose content is in a folder; names is the text that names the
// files of a model, nil of other kinds, which have all that is there.
type resident struct{ names []byte }

func (s sharing) of(target string) (bool, error) {
	target = strings.TrimPrefix(target, "file://")
	for _, place := range []string{target, "file://" + target} {
		var one int
		if found, err := s.tx.row(s.tx.ctx, []any{&one}, `SELECT 1 FROM artifacts WHERE `+s.tx.dialect.target()+` AND id <> ? LIMIT 1`, place, place, s.id); err != nil || found {
			return found, wrap(err, "look for records that share content")
		}
	}
	name := path.Base(target)
	for folder := path.Dir(target); folder != "." && folder != "/" && !strings.HasSuffix(folder, ":"); folder = path.Dir(folder) {
		residents, err := s.in(folder)
		if err != nil {
			return false, err
		}
		for _, r := range residents {
			if r.names == nil || bytes.Contains(r.names, []byte(name)) {
				return true, nil
			}
		}
	}
	return false, nil
}

// in lists who has content in a folder.
func (s sharing) in(folder string) ([]resident, error) {
	if known, ok := s.around[folder]; ok {
		return known, nil
	}
	places := []string{folder, folder + "/", "file://" + folder, "file://" + folder + "/"}
	if scheme, rest, remote := strings.Cut(folder, ":/"); remote { // path.Dir has made one slash of two
		places = []string{scheme + "://" + rest, scheme + "://" + rest + "/"}
	}
	var residents []resident
	for _, place := range places {
		err := s.tx.each(s.tx.ctx, func(rows *sql.Rows) error {
			var (
				kind string
				text []byte
			)
			err := rows.Scan(&kind, &text)
			if kind != artifact.KindModel {
				text = nil
			}
			residents = append(residents, resident{names: text})
			return err
		}, `SELECT kind, doc FROM artifacts WHERE `+s.tx.dialect.target()+` AND id <> ?`, place, place, s.id)
		if err != nil {
			return nil, wrap(err, "look for records that share content")
		}
	}
	s.around[folder] = residents
	return residents, nil
}
