// Package filelock is a lock on a file that ends with its process and can be
// asked for without taking it, so that looking never gets in the way of a process
// that wants it.
//
// It is a lock of an open file description (F_OFD_SETLK), which belongs to one
// Acquire and not to the whole process as POSIX locks do.
package filelock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld is returned by Acquire while another holder has the lock.
var ErrHeld = errors.New("the lock is held")

// Lock is a lock that is held.
type Lock struct{ file *os.File }

func whole(kind int16) *unix.Flock_t { return &unix.Flock_t{Type: kind, Whence: io.SeekStart} }

// Acquire takes the lock on path until Release or the end of this process, and
// writes the process id into the file, which it creates. ErrHeld when somebody
// else has it.
//
// A holder that was killed while it started a child leaves the lock to that until
// it executes its program: as long as the process in the file is gone, Acquire
// waits, up to five seconds.
func Acquire(path string) (*Lock, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = take(file)
	for until := time.Now().Add(orphaned); err != nil && time.Now().Before(until) && dead(path); err = take(file) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		file.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, ErrHeld
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	lock := &Lock{file: file}
	if err := lock.Sign(); err != nil {
		file.Close()
		return nil, err
	}
	return lock, nil
}

// Inherit takes over a lock that another process holds and has handed the open file
// of; it goes on being held. Until Sign the file tells of the other process.
func Inherit(file *os.File) (*Lock, error) {
	if err := take(file); err != nil {
		return nil, fmt.Errorf("inherit lock: %w", err)
	}
	return &Lock{file: file}, nil
}

// File is the open file that has the lock, for handing it to another process. It is
// the lock's own.
func (l *Lock) File() *os.File { return l.file }

// Sign writes the id of this process into the file.
func (l *Lock) Sign() error { return l.write(strconv.Itoa(os.Getpid())) }

// Disown notes that the lock is held for nobody's life: Holder is 0 and Disowned true
// until somebody signs.
func (l *Lock) Disown() error { return l.write(disowned) }

const disowned = "-"

func (l *Lock) write(text string) error {
	err := l.file.Truncate(0)
	if err == nil {
		_, err = l.file.WriteAt([]byte(text), 0)
	}
	if err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

// Leave lets go of the lock without giving it back: whoever has been handed its file
// goes on holding it.
func (l *Lock) Leave() { l.file.Close() }

// Disowned reports whether the lock on path is held, and by a process that has
// disowned it.
func Disowned(path string) bool {
	raw, err := os.ReadFile(path)
	return err == nil && string(raw) == disowned && Held(path)
}

const orphaned = 5 * time.Second

func take(file *os.File) error {
	return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, whole(unix.F_WRLCK))
}

// dead reports whether the process that took the lock on path is gone though the
// lock is held.
func dead(path string) bool {
	pid := Holder(path)
	return pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// Release gives the lock back; a second call does nothing.
func (l *Lock) Release() {
	// Unlocked by name, since a child between fork and exec shares the description.
	if err := unix.FcntlFlock(l.file.Fd(), unix.F_OFD_SETLK, whole(unix.F_UNLCK)); err == nil {
		l.file.Close()
	}
}

// Held reports whether somebody holds the lock on path now.
func Held(path string) bool {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	query := whole(unix.F_WRLCK)
	return unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, query) == nil && query.Type != unix.F_UNLCK
}

// Holder returns the process id of the holder, 0 when the lock is free.
func Holder(path string) int {
	if !Held(path) {
		return 0
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0
	}
	return pid
}
