package store

import (
	"context"
)

// CacheGet returns the uid of the run that was last noted under key; "" when there
// is none. The run may be gone meanwhile.
func (s *Store) CacheGet(ctx context.Context, project, key string) (uid string, err error) {
	_, err = s.read.row(ctx, []any{&uid}, `SELECT uid FROM cache WHERE project = ? AND key = ?`, project, key)
	return uid, wrap(err, "look up the cache of project %s", clip(project))
}

// CachePut notes that the run with this uid has the outputs of key, in place of
// another run.
func (tx *Tx) CachePut(_ context.Context, project, key, uid string) error {
	if err := checkIndexed("key", key); err != nil {
		return err
	}
	if err := tx.requireProject(project); err != nil {
		return err
	}
	tx.wrote = true
	_, err := tx.exec(`INSERT INTO cache (project, key, uid, created) VALUES (?, ?, ?, ?)
		ON CONFLICT (project, key) DO UPDATE SET uid = excluded.uid, created = excluded.created`, project, key, uid, tx.now.UnixMicro())
	return wrap(err, "note outputs in the cache of project %s", clip(project))
}
