package app

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/millrace/millrace/internal/filelock"
)

// address is what server.json says: how to reach the server of a data directory.
type address struct {
	URL string `json:"url"`
	PID int    `json:"pid"`
	// Embedded says that its database is the one in the data directory.
	Embedded bool `json:"embedded"`
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

// lockServer takes the lock of the one server of a data directory;
// filelock.ErrHeld when another has it.
func lockServer(dir string) (*filelock.Lock, error) {
	return filelock.Acquire(filepath.Join(dir, "server.lock"))
}

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

// serverID names the server of a data directory among those that share its database. It
// stays the same.
func serverID(dir string) (string, error) {
	path := filepath.Join(dir, "server.id")
	raw, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(raw)) > 0 {
		return string(bytes.TrimSpace(raw)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("name the server: %w", err)
	}
	id := rand.Text()
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("name the server: %w", err)
	}
	return id, nil
}

// Running returns the address of the server that runs on the data directory now,
// "" when none does.
func Running(dir string) string {
	if !filelock.Held(filepath.Join(dir, "server.lock")) {
		return ""
	}
	return announced(dir).URL
}

// owns tells whether the folder is this user's, so that what is written there is as
// its server would have written it.
func owns(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// announced is what the server that ran last on the data directory wrote.
func announced(dir string) (at address) {
	if raw, err := os.ReadFile(filepath.Join(dir, "server.json")); err != nil || json.Unmarshal(raw, &at) != nil {
		return address{}
	}
	return at
}
