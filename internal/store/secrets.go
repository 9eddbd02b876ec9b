package store

import (
	"bytes"
	"context"
	"database/sql"
	"strings"

	"github.com/millrace/millrace/internal/secret"
)

// SecretPut implements secret.Store.
func (s *Store) SecretPut(ctx context.Context, project string, secrets []secret.Sealed) error {
	return s.Tx(ctx, func(tx *Tx) error {
		if err := tx.requireProject(project); err != nil {
			return err
		}
		for _, one := range secrets {
			if _, err := tx.exec(`INSERT INTO secrets (project, name, key_id, value, created, updated) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (project, name) DO UPDATE SET key_id = excluded.key_id, value = excluded.value, updated = excluded.updated`,
				project, one.Name, one.KeyID, one.Value, tx.now.UnixMicro(), tx.now.UnixMicro()); err != nil {
				return wrap(err, "store secret %s/%s", clip(project), clip(one.Name))
			}
		}
		return nil
	})
}

// SecretNames implements secret.Store.
func (s *Store) SecretNames(ctx context.Context, project string) ([]string, error) {
	names, err := s.read.strings(ctx, `SELECT name FROM secrets WHERE project = ? ORDER BY name`, project)
	return names, wrap(err, "list secrets")
}

const secretColumns = `SELECT project, name, key_id, value FROM secrets`

func (v view) secrets(ctx context.Context, query string, args ...any) (out []secret.Sealed, err error) {
	err = v.each(ctx, func(rows *sql.Rows) error {
		var (
			one   secret.Sealed
			value sql.RawBytes
		)
		if err := rows.Scan(&one.Project, &one.Name, &one.KeyID, &value); err != nil {
			return err
		}
		one.Value = bytes.Clone(value)
		out = append(out, one)
		return nil
	}, query, args...)
	return out, wrap(err, "read secrets")
}

// among is a condition that name is one of names, with its arguments.
func among(project string, names []string) (string, []any) {
	args := []any{project}
	for _, name := range names {
		args = append(args, name)
	}
	return ` WHERE project = ? AND name IN (` + strings.TrimSuffix(strings.Repeat("?, ", len(names)), ", ") + `)`, args
}

// SecretGet implements secret.Store.
func (s *Store) SecretGet(ctx context.Context, project string, names []string) ([]secret.Sealed, error) {
	if len(names) == 0 {
		return nil, nil
	}
	where, args := among(project, names)
	return s.read.secrets(ctx, secretColumns+where, args...)
}

// SecretDelete implements secret.Store.
func (s *Store) SecretDelete(ctx context.Context, project string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	where, args := among(project, names)
	return s.Tx(ctx, func(tx *Tx) error {
		_, err := tx.exec(`DELETE FROM secrets`+where, args...)
		return wrap(err, "delete secrets")
	})
}

// SecretOthers implements secret.Store.
func (s *Store) SecretOthers(ctx context.Context, keyID string, limit int) ([]secret.Sealed, error) {
	return s.read.secrets(ctx, secretColumns+` WHERE key_id <> ? ORDER BY project, name LIMIT ?`, keyID, limit)
}

// SecretReplace implements secret.Store.
func (s *Store) SecretReplace(ctx context.Context, old, replacement []secret.Sealed) error {
	return s.Tx(ctx, func(tx *Tx) error {
		for i, now := range replacement {
			if _, err := tx.exec(`UPDATE secrets SET key_id = ?, value = ? WHERE project = ? AND name = ? AND key_id = ? AND value = ?`,
				now.KeyID, now.Value, now.Project, now.Name, old[i].KeyID, old[i].Value); err != nil {
				return wrap(err, "encrypt secret %s/%s again", clip(now.Project), clip(now.Name))
			}
		}
		return nil
	})
}
