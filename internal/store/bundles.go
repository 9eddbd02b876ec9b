package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// bundlePart is how much of a bundle a row holds: what one transaction writes.
const bundlePart = 1 << 20

// BundlePut keeps a bundle of code, whose name is the digest of its content, for all
// servers on the database. One that is there already is not read. It is to be seen when
// it is whole.
func (s *Store) BundlePut(ctx context.Context, name string, from io.Reader) error {
	whole := false
	err := s.Tx(ctx, func(tx *Tx) error {
		var err error
		if whole, err = tx.bundleUse(name); err != nil || whole {
			return err
		}
		_, err = tx.exec(`INSERT INTO bundles (name, used, whole) VALUES (?, ?, 0) ON CONFLICT (name) DO NOTHING`, name, tx.now.UnixMicro())
		return wrap(err, "store bundle %s", clip(name))
	})
	buffer := make([]byte, bundlePart)
	for number := 0; err == nil && !whole; number++ {
		n, readErr := io.ReadFull(from, buffer)
		if readErr != nil && !errors.Is(readErr, io.EOF) && !errors.Is(readErr, io.ErrUnexpectedEOF) {
			return fmt.Errorf("store bundle %s: %w", clip(name), readErr)
		}
		last := n < bundlePart
		err = s.Tx(ctx, func(tx *Tx) error {
			// Whoever sends it at the same time sends the same.
			_, err := tx.exec(`INSERT INTO bundle_parts (name, number, data) VALUES (?, ?, ?) ON CONFLICT (name, number) DO NOTHING`, name, number, buffer[:n])
			if err == nil && last {
				_, err = tx.exec(`UPDATE bundles SET whole = 1, used = ? WHERE name = ?`, tx.now.UnixMicro(), name)
			}
			return wrap(err, "store bundle %s", clip(name))
		})
		whole = last
	}
	return err
}

// bundleUse notes that a bundle is counted on, and reports whether it is there, whole.
func (tx *Tx) bundleUse(name string) (bool, error) {
	n, err := tx.exec(`UPDATE bundles SET used = ? WHERE name = ? AND whole = 1`, tx.now.UnixMicro(), name)
	return n > 0, wrap(err, "find bundle %s", clip(name))
}

// BundleGet writes a bundle to into; fault.CodeNotFound when it is not there.
func (s *Store) BundleGet(ctx context.Context, name string, into io.Writer) error {
	whole := false
	err := s.Tx(ctx, func(tx *Tx) (err error) {
		whole, err = tx.bundleUse(name)
		return err
	})
	if err != nil {
		return err
	}
	if !whole {
		return fault.NotFound("the code bundle %s is not in the database", clip(name))
	}
	for number, size := 0, bundlePart; size == bundlePart; number++ {
		var data []byte
		found, err := s.read.row(ctx, []any{&data}, `SELECT data FROM bundle_parts WHERE name = ? AND number = ?`, name, number)
		if err == nil && !found {
			err = errors.New("a part of it is missing")
		}
		if err != nil {
			return wrap(err, "read bundle %s", clip(name))
		}
		size = len(data)
		if _, err := into.Write(data); err != nil {
			return fmt.Errorf("read bundle %s: %w", clip(name), err)
		}
	}
	return nil
}

// BundlePrune deletes the bundles that named does not have and that nobody has stored or
// asked for since before, and what is left of those that never became whole. named is not
// called when there is nothing as old.
func (s *Store) BundlePrune(ctx context.Context, before time.Time, named func() (map[string]bool, error)) (removed int, err error) {
	var old []string
	err = s.read.each(ctx, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		old = append(old, name)
		return err
	}, `SELECT name FROM bundles WHERE used < ?`, before.UnixMicro())
	if err != nil || len(old) == 0 {
		return 0, wrap(err, "list bundles")
	}
	kept, err := named()
	if err != nil {
		return 0, err
	}
	for _, name := range old {
		if kept[name] {
			continue
		}
		err := s.Tx(ctx, func(tx *Tx) error { // looked at again: somebody may have asked for it meanwhile
			n, err := tx.exec(`DELETE FROM bundles WHERE name = ? AND used < ?`, name, before.UnixMicro())
			if err == nil && n > 0 {
				_, err = tx.exec(`DELETE FROM bundle_parts WHERE name = ?`, name)
				removed++
			}
			return wrap(err, "delete bundle %s", clip(name))
		})
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}
