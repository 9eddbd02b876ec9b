// Package pyenv finds the Python interpreters of a machine for suites and
// scripts of this repository, and keeps virtual environments for them in the
// user's cache folder, each under a digest of what is in it. The product has its
// own (internal/env); a suite must not be judged by the code it judges.
package pyenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// Interpreter is a Python on this machine.
type Interpreter struct {
	Path    string
	Version string // "3.11.7"
}

// Minor returns "3.11" for "3.11.7".
func (i Interpreter) Minor() string {
	parts := strings.SplitN(i.Version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// Interpreters returns one working CPython for each minor version found in PATH
// and in pyenv's folder, oldest first.
func Interpreters() []Interpreter {
	var candidates []string
	for minor := 9; minor <= 14; minor++ {
		name := fmt.Sprintf("python3.%d", minor)
		if path, err := exec.LookPath(name); err == nil {
			candidates = append(candidates, path)
		}
		candidates = append(candidates, "/usr/bin/"+name)
	}
	if path, err := exec.LookPath("python3"); err == nil {
		candidates = append(candidates, path)
	}
	pyenv := os.Getenv("PYENV_ROOT")
	if home, err := os.UserHomeDir(); pyenv == "" && err == nil {
		pyenv = filepath.Join(home, ".pyenv")
	}
	if more, err := filepath.Glob(filepath.Join(pyenv, "versions", "3.*", "bin", "python3")); err == nil {
		candidates = append(candidates, more...)
	}
	found := map[string]Interpreter{}
	for _, path := range candidates {
		// A shim answers only for the versions it is set to; the question decides.
		out, err := exec.Command(path, "-c",
			"import sys, ensurepip; print(sys.executable, '.'.join(map(str, sys.version_info[:3])))").Output()
		if err != nil {
			continue
		}
		exe, version, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
		if !ok {
			continue
		}
		i := Interpreter{Path: exe, Version: version}
		if _, known := found[i.Minor()]; !known {
			found[i.Minor()] = i
		}
	}
	var list []Interpreter
	for minor := 9; minor <= 14; minor++ {
		if i, ok := found[fmt.Sprintf("3.%d", minor)]; ok {
			list = append(list, i)
		}
	}
	return list
}

// Find returns the first of the minor versions that is on this machine.
func Find(minors ...string) (Interpreter, bool) {
	all := Interpreters()
	for _, minor := range minors {
		for _, i := range all {
			if i.Minor() == minor {
				return i, true
			}
		}
	}
	return Interpreter{}, false
}

// Venv returns the Python of a virtual environment that has the requirements,
// and makes it when there is none yet. It is kept in the user's cache folder,
// named by interpreter and requirements, and never changed afterwards; several
// processes may ask for the same one at once.
func Venv(ctx context.Context, python Interpreter, requirements ...string) (string, error) {
	sort.Strings(requirements)
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{python.Path, python.Version}, requirements...), "\n")))
	dir := filepath.Join(cache, "millrace-test", "venv-"+hex.EncodeToString(sum[:8]))
	bin := filepath.Join(dir, "bin", "python")
	complete := filepath.Join(dir, "complete")
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(complete); err == nil {
		return bin, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	steps := [][]string{{python.Path, "-m", "venv", dir}}
	if len(requirements) > 0 {
		steps = append(steps, append([]string{bin, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"}, requirements...))
	}
	for _, step := range steps {
		cmd := exec.CommandContext(ctx, step[0], step[1:]...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(step, " "), err, out)
		}
	}
	return bin, os.WriteFile(complete, []byte(strings.Join(requirements, "\n")+"\n"), 0o644)
}

// IndexAnswers reports whether a Python package index serves a small package,
// and otherwise what pip said.
func IndexAnswers(ctx context.Context, python Interpreter) (bool, string) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "index-")
	if err != nil {
		return false, err.Error()
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, python.Path, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
		"--disable-pip-version-check", "--retries", "1", "--dest", dir, "six==1.16.0")
	out, err := cmd.CombinedOutput()
	return err == nil, strings.TrimSpace(string(out))
}
