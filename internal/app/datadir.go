package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// address is what server.json says: how to reach the server of a data directory.
type address struct {
	URL string `json:"url"`
	PID int    `json:"pid"`
}

// dataDir makes the folder usable and returns its absolute path.
func dataDir(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	for _, name := range []string{"", "spool", "logs", "artifacts", "bundles", "envs", "runtime", "cache"} {
		if err := os.MkdirAll(filepath.Join(path, name), 0o700); err != nil {
			return "", fmt.Errorf("data directory: %w", err)
		}
	}
	return path, nil
}

// serverLock is held by the one server of a data directory.
type serverLock struct{ file *os.File }

var errServed = errors.New("another server runs on this data directory")

func lockServer(dir string) (*serverLock, error) {
	file, err := os.OpenFile(filepath.Join(dir, "server.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errServed
		}
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	return &serverLock{file: file}, nil
}

func (l *serverLock) release() { l.file.Close() }

// announce writes how to reach this server, readable when it listens already.
func announce(dir string, at address) error {
	raw, err := json.Marshal(at)
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, ".server.json")
	if err := os.WriteFile(temp, raw, 0o600); err != nil {
		return fmt.Errorf("announce server: %w", err)
	}
	return os.Rename(temp, filepath.Join(dir, "server.json"))
}

// Running returns the address of the server that runs on the data directory now,
// "" when none does.
func Running(dir string) string {
	file, err := os.OpenFile(filepath.Join(dir, "server.lock"), os.O_RDWR, 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		return ""
	}
	raw, err := os.ReadFile(filepath.Join(dir, "server.json"))
	if err != nil {
		return ""
	}
	var at address
	if json.Unmarshal(raw, &at) != nil {
		return ""
	}
	return at.URL
}
