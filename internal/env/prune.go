package env

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// pruneGrace protects an environment between Ensure and Use.
const pruneGrace = 15 * time.Minute

// Stored is one environment on disk.
type Stored struct {
	Environment
	Bytes    int64
	Built    time.Time
	LastUsed time.Time
}

// PrunePolicy says what may go. A zero field sets no bound.
type PrunePolicy struct {
	// MaxAge removes what was not used for so long.
	MaxAge time.Duration
	// MaxBytes removes the least recently used until the rest is no larger.
	MaxBytes int64
	// Grace protects what was used within it; 0 means a quarter of an hour, a
	// negative value none.
	Grace time.Duration
}

// Pruned says what Prune removed.
type Pruned struct {
	Environments int
	HalfBuilt    int
	Bytes        int64
}

// List returns the complete environments, least recently used first.
func (m *Manager) List(ctx context.Context) ([]Stored, error) {
	entries, err := os.ReadDir(m.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list environments: %w", err)
	}
	var out []Stored
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if !e.IsDir() || !isDigest(e.Name()) {
			continue
		}
		folder := m.folder(e.Name())
		env, mark, ok := openEnvironment(folder)
		info, err := os.Stat(filepath.Join(folder, markerFile))
		if !ok || err != nil {
			continue
		}
		out = append(out, Stored{Environment: env, Bytes: mark.Bytes, Built: mark.Built, LastUsed: info.ModTime()})
	}
	slices.SortFunc(out, func(a, b Stored) int {
		return cmp.Or(a.LastUsed.Compare(b.LastUsed), cmp.Compare(a.Path, b.Path))
	})
	return out, nil
}

// Prune removes environments as the policy says, and whatever a killed build
// left. It never touches one that is in use (see Use), being built, or used
// within the policy's grace. Resolved requirements are kept: a removed
// environment is built again from the same packages.
func (m *Manager) Prune(ctx context.Context, policy PrunePolicy) (Pruned, error) {
	grace := policy.Grace
	if grace == 0 {
		grace = pruneGrace
	}
	var done Pruned
	stored, err := m.List(ctx)
	if err != nil {
		return done, err
	}
	var total int64
	for _, s := range stored {
		total += s.Bytes
	}
	now := time.Now()
	var failed error
	for _, s := range stored {
		if err := ctx.Err(); err != nil {
			return done, errors.Join(failed, context.Cause(ctx))
		}
		idle := now.Sub(s.LastUsed)
		old := policy.MaxAge > 0 && idle > policy.MaxAge
		large := policy.MaxBytes > 0 && total > policy.MaxBytes
		if idle < grace || !old && !large {
			continue
		}
		removed, err := m.remove(s.Path, func() bool {
			info, err := os.Stat(filepath.Join(s.Path, markerFile))
			return err == nil && info.ModTime().Equal(s.LastUsed) // not used since it was listed
		})
		failed = errors.Join(failed, err)
		if removed {
			done.Environments++
			done.Bytes += s.Bytes
			total -= s.Bytes
		}
	}
	halfBuilt, err := m.removeHalfBuilt()
	done.HalfBuilt = halfBuilt
	failed = errors.Join(failed, err)
	if policy.MaxAge > 0 {
		failed = errors.Join(failed, m.removeOldLogs(now.Add(-policy.MaxAge)))
	}
	return done, failed
}

// remove deletes the environment at folder if nobody holds it and still says so
// once nobody can take it.
func (m *Manager) remove(folder string, still func() bool) (bool, error) {
	lock := envLockPath(m.dir, filepath.Base(folder))
	held, err := tryLock(lock, true)
	if errors.Is(err, errLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer held.Close()
	if !still() {
		return false, nil
	}
	// The marker goes first, so that a removal that is killed leaves a half-built
	// environment, not a broken one.
	if err := os.Remove(filepath.Join(folder, markerFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("remove environment: %w", err)
	}
	if err := removeTree(folder); err != nil {
		return false, fmt.Errorf("remove environment: %w", err)
	}
	if err := os.Remove(lock); err != nil {
		return true, fmt.Errorf("remove lock file: %w", err)
	}
	return true, nil
}

func (m *Manager) removeHalfBuilt() (int, error) {
	entries, err := os.ReadDir(m.dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("list environments: %w", err)
	}
	count := 0
	var failed error
	for _, e := range entries {
		folder := m.folder(e.Name())
		halfBuilt := func() bool {
			_, err := os.Stat(filepath.Join(folder, markerFile))
			return errors.Is(err, os.ErrNotExist)
		}
		if !e.IsDir() || !isDigest(e.Name()) || !halfBuilt() {
			continue
		}
		removed, err := m.remove(folder, halfBuilt)
		failed = errors.Join(failed, err)
		if removed {
			count++
		}
	}
	return count, failed
}

// removeOldLogs deletes logs of builds that ended before limit.
func (m *Manager) removeOldLogs(limit time.Time) error {
	dir := filepath.Join(m.dir, "logs")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list build logs: %w", err)
	}
	var failed error
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().Before(limit) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				failed = errors.Join(failed, fmt.Errorf("remove build log: %w", err))
			}
		}
	}
	return failed
}
