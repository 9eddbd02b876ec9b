package env

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// How often a held lock is tried again: often at first, because most are held
// for a moment, then calmly.
const (
	lockRetryFirst = 5 * time.Millisecond
	lockRetryMost  = 100 * time.Millisecond
)

// errLocked: somebody else holds the lock.
var errLocked = errors.New("locked by another process")

// tryLock takes an advisory lock on the file at path, making it if needed. It
// returns errLocked when that is not possible at once. Closing the file, or the
// end of all processes that inherited it, gives the lock back.
func tryLock(path string, exclusive bool) (*os.File, error) {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, fmt.Errorf("open lock: %w", err)
		}
		for {
			err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
			if !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		if err != nil {
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, errLocked
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// Prune removes lock files: one that is no longer in the folder guards
		// nothing.
		held, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(held, there) {
			return f, nil
		}
		f.Close()
	}
}

// waitLock takes an exclusive lock, calling waiting once if it has to wait.
func waitLock(ctx context.Context, path string, waiting func()) (*os.File, error) {
	pause := lockRetryFirst
	for first := true; ; first = false {
		f, err := tryLock(path, true)
		if !errors.Is(err, errLocked) {
			return f, err
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(pause*2, lockRetryMost)
	}
}
