package env

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// candidate is an executable that may be a Python interpreter.
type candidate struct {
	path   string // where it was found, shims already resolved
	origin string
}

// search knows where interpreters are kept. It starts no process.
type search struct {
	configured string
	path       []string
	folders    []string
	pyenv      pyenv
}

func newSearch(cfg InterpreterConfig) search {
	getenv := cfg.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	folders := cfg.Folders
	if folders == nil {
		folders = []string{"/usr/local/bin", "/usr/bin"}
		if runtime.GOOS == "darwin" {
			folders = append([]string{"/opt/homebrew/bin"}, folders...)
		}
	}
	return search{
		configured: cfg.Default,
		path:       slices.DeleteFunc(filepath.SplitList(getenv("PATH")), func(dir string) bool { return !filepath.IsAbs(dir) }),
		folders:    folders,
		pyenv:      newPyenv(getenv, cfg.Dir),
	}
}

// preferred returns the configured executable, or PATH's python3 or python.
func (s search) preferred() (candidate, error) {
	switch {
	case s.configured == "":
		for _, name := range []string{"python3", "python"} {
			if path, ok := s.onPath(name); ok {
				return candidate{path: path, origin: "PATH"}, nil
			}
		}
		return candidate{}, errNoDefault
	case strings.ContainsRune(s.configured, filepath.Separator):
		path, err := filepath.Abs(s.configured)
		if err != nil {
			return candidate{}, fmt.Errorf("find %s: %w", s.configured, err)
		}
		if !executable(path) {
			return candidate{}, fault.Precondition("the Python interpreter %s is not an executable file: correct --python", path)
		}
		if target, ok := s.pyenv.resolve(path); ok {
			path = target
		}
		return candidate{path: path, origin: "default"}, nil
	}
	path, ok := s.onPath(s.configured)
	if !ok {
		return candidate{}, fault.Precondition("the Python interpreter %q is not on PATH: correct --python", s.configured)
	}
	return candidate{path: path, origin: "default"}, nil
}

// onPath finds name as a shell would, looking through pyenv's shims.
func (s search) onPath(name string) (string, bool) {
	for _, dir := range s.path {
		path := filepath.Join(dir, name)
		if !executable(path) {
			continue
		}
		if !s.pyenv.isShim(path) {
			return path, true
		}
		if target, ok := s.pyenv.resolve(path); ok {
			return target, true
		}
		// pyenv says "system" or has no such command there: the next folder counts.
	}
	return "", false
}

var pythonName = lazyregexp.New(`^python3(\.\d+t?)?$`)

// all returns every candidate, the preferred one first; the same file may
// appear more than once.
func (s search) all() []candidate {
	var out []candidate
	if c, err := s.preferred(); err == nil {
		out = append(out, c)
	}
	scan := func(dir, origin string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return // a folder of PATH need not exist
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if pythonName.MatchString(e.Name()) && executable(path) && !s.pyenv.isShim(path) {
				out = append(out, candidate{path: path, origin: origin})
			}
		}
	}
	for _, dir := range s.path {
		scan(dir, "PATH")
	}
	for _, path := range s.pyenv.interpreters() {
		out = append(out, candidate{path: path, origin: "pyenv"})
	}
	for _, dir := range s.folders {
		scan(dir, dir)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(c candidate) bool {
		exe, _, err := locate(c.path)
		again := err != nil || seen[exe]
		seen[exe] = true
		return again
	})
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// locate returns the file to start for path and that file with every link
// followed. They differ only inside a virtual environment, whose executable has
// to be started under its own name to see the environment's packages.
func locate(path string) (exe, real string, err error) {
	real, err = filepath.EvalSymlinks(path)
	if err != nil {
		return "", "", fmt.Errorf("follow links: %w", err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", "", fmt.Errorf("follow links: %w", err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "pyvenv.cfg")); err == nil {
		return filepath.Join(dir, filepath.Base(path)), real, nil
	}
	return real, real, nil
}
