package filelock_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// A child that holds the description of a holder that is gone does so for a moment.
func TestLockOfTheDead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	lock, err := filelock.Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(gone.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(50*time.Millisecond, lock.Release)
	defer timer.Stop()
	next, err := filelock.Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	next.Release()
}

// TestHandOver: a lock that is handed to another process, here through another
// descriptor, is held all the time, and says whose it is.
func TestHandOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	lock, err := filelock.Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(lock.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	next, err := filelock.Inherit(os.NewFile(uintptr(fd), path))
	if err != nil {
		t.Fatal(err)
	}
	if filelock.Disowned(path) {
		t.Error("disowned by nobody")
	}
	if err := next.Disown(); err != nil {
		t.Fatal(err)
	}
	lock.Leave()
	if !filelock.Held(path) || !filelock.Disowned(path) || filelock.Holder(path) != 0 {
		t.Errorf("held %t, disowned %t, holder %d", filelock.Held(path), filelock.Disowned(path), filelock.Holder(path))
	}
	if _, err := filelock.Acquire(path); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("taken while it is held for nobody: %v", err)
	}
	stranger, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := filelock.Inherit(stranger); err == nil {
		t.Error("inherited by a file that has not the lock")
	}
	if err := next.Sign(); err != nil {
		t.Fatal(err)
	}
	if filelock.Disowned(path) || filelock.Holder(path) != os.Getpid() {
		t.Errorf("disowned %t, holder %d", filelock.Disowned(path), filelock.Holder(path))
	}
	next.Release()
	if filelock.Held(path) {
		t.Error("held after its release")
	}
}
