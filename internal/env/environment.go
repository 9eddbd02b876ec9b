package env

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// markerFile is written last: a folder without it is half-built. Its
// modification time is when the environment was last used.
const markerFile = "millrace-env.json"

// Environment is what a function's process is started with.
type Environment struct {
	// Path is the virtual environment's folder; empty when no requirement asked
	// for one and Python is the plain interpreter.
	Path string
	// Python is the executable to start.
	Python string
	// Interpreter is the interpreter that the environment is built from.
	Interpreter Interpreter
	// Lock has one line for each installed package, such as
	// "six==1.16.0 --hash=sha256:…", sorted by name. No line has credentials.
	Lock []string
	// LockDigest is "sha256:" and the digest of Lock: equal on every machine that
	// installed the same files. Empty when Lock is.
	LockDigest string
}

// marker is the content of markerFile.
type marker struct {
	Interpreter Interpreter `json:"interpreter"`
	Lock        []string    `json:"lock"`
	LockDigest  string      `json:"lock_digest"`
	Built       time.Time   `json:"built"`
	Bytes       int64       `json:"bytes"`
}

func pythonIn(folder string) string { return filepath.Join(folder, "bin", "python") }

// open returns the complete environment in folder; ok is false when there is
// none or when its interpreter is gone.
func openEnvironment(folder string) (env Environment, m marker, ok bool) {
	data, err := os.ReadFile(filepath.Join(folder, markerFile))
	if err != nil || json.Unmarshal(data, &m) != nil {
		return Environment{}, marker{}, false
	}
	if _, err := os.Stat(pythonIn(folder)); err != nil {
		return Environment{}, marker{}, false
	}
	return Environment{
		Path: folder, Python: pythonIn(folder), Interpreter: m.Interpreter,
		Lock: m.Lock, LockDigest: m.LockDigest,
	}, m, true
}

// touch notes that the environment is used now.
func touch(folder string) error {
	now := time.Now()
	if err := os.Chtimes(filepath.Join(folder, markerFile), now, now); err != nil {
		return fmt.Errorf("note use of environment: %w", err)
	}
	return nil
}

// Lease keeps an environment from being pruned until it is closed or its process
// ends. Closing twice is harmless.
type Lease struct{ file *os.File }

// Close gives the environment back.
func (l *Lease) Close() error {
	if l == nil || l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("release environment: %w", err)
	}
	return nil
}

// Use takes a lease on the environment at path, as Ensure returned it. The
// empty path needs none and gives a lease that does nothing. It fails with
// fault.CodePrecondition when the environment is not there any more.
func Use(path string) (*Lease, error) {
	if path == "" {
		return &Lease{}, nil
	}
	gone := fault.Precondition("the environment %s is not there any more: run again, and it is built anew", path)
	if _, _, ok := openEnvironment(path); !ok {
		return nil, gone
	}
	f, err := tryLock(envLockPath(filepath.Dir(path), filepath.Base(path)), false)
	if errors.Is(err, errLocked) { // only somebody who removes it holds it exclusively
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	lease := &Lease{file: f}
	if _, _, ok := openEnvironment(path); !ok {
		return nil, errors.Join(gone, lease.Close())
	}
	if err := touch(path); err != nil {
		return nil, errors.Join(err, lease.Close())
	}
	return lease, nil
}

func envLockPath(root, name string) string {
	return filepath.Join(root, "busy", "env-"+name+".lock")
}

// folderSize adds up the files below folder; what vanishes meanwhile counts
// nothing.
func folderSize(folder string) int64 {
	var total int64
	_ = filepath.WalkDir(folder, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}

// isDigest reports whether a folder's name is that of an environment.
func isDigest(name string) bool {
	return len(name) == 32 && strings.Trim(name, "0123456789abcdef") == ""
}
