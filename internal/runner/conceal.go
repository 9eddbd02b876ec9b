package runner

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/spool"
)

// sourceLimit bounds what is read of a file of secrets.
const sourceLimit = 1 << 20

// Conceal finds the values that the run's code reads from secret sources of its own
// (files, variables of the environment) and has them masked like those of the
// project. A source that is not there is the code's business.
func Conceal(dir spool.Dir, launch spool.Launch) error {
	if len(document.List(launch.Run, "spec", "secret_sources")) == 0 {
		return nil
	}
	r := &runner{dir: dir, launch: launch}
	if launch.Bundle != "" {
		r.launch.Folder = filepath.Join(dir.Path, "code")
	}
	values := r.sourced()
	if len(values) == 0 {
		return nil
	}
	return dir.Conceal(values)
}

// conceal is Conceal for the runner itself, which masks what it writes from here on.
func (r *runner) conceal() error {
	err := Conceal(r.dir, r.launch)
	r.launch.Hidden = append(r.launch.Hidden, r.sourced()...)
	r.masker = Masker(r.launch)
	return err
}

// sourced are the values of the sources that the runtime reads by itself
// (millrace/_secrets.py), read in the same way.
func (r *runner) sourced() []string {
	sources := document.List(r.launch.Run, "spec", "secret_sources")
	if len(sources) == 0 {
		return nil
	}
	var values []string
	environ := Variables(append(os.Environ(), r.environment()...))
	for _, item := range sources {
		source, _ := item.(document.Object)
		switch document.String(source, "kind") {
		case "file":
			values = append(values, r.fromFile(document.String(source, "source"), environ)...)
		case "env":
			for name := range strings.SplitSeq(document.String(source, "source"), ",") {
				values = append(values, environ[strings.TrimSpace(name)])
			}
		case "kubernetes":
			for _, name := range document.List(source, "source") {
				if text, ok := name.(string); ok {
					values = append(values, environ[secret.Variable(text)])
				}
			}
		}
	}
	return values
}

func (r *runner) fromFile(path string, environ map[string]string) []string {
	if path == "" {
		return nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.workdir(), path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, sourceLimit))
	if err != nil {
		return nil
	}
	var values []string
	for line := range strings.Lines(string(text)) {
		_, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") {
			continue
		}
		value = strings.TrimSpace(value)
		values = append(values, value)
		expanded := os.Expand(value, func(name string) string { return environ[name] })
		if expanded != value {
			values = append(values, expanded)
		}
	}
	return values
}
