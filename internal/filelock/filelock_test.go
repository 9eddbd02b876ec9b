package filelock_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/internal/filelock"
)

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	if filelock.Held(path) || filelock.Holder(path) != 0 {
		t.Error("held before anybody took it")
	}
	lock, err := filelock.Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // asking takes nothing
		if !filelock.Held(path) || filelock.Holder(path) != os.Getpid() {
			t.Error("not held")
		}
	}
	if _, err := filelock.Acquire(path); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("taken twice: %v", err)
	}
	lock.Release()
	lock.Release()
	if filelock.Held(path) {
		t.Error("held after its release")
	}
	if lock, err = filelock.Acquire(path); err != nil {
		t.Fatal(err)
	}
	lock.Release()
}
