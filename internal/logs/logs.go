// Package logs finds the log bytes of a run: in the spools of its executions, or
// in the file that a client posted which executed the run itself.
//
// The log of a run is the concatenation of its attempts' logs, in order, so that
// byte offsets stay valid while attempts are added. Before a spool exists, what
// the preparation of an execution said (its prelude) stands in its place; the
// spool's log starts with the same bytes.
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
)

// Executions lists the attempts of a run.
type Executions interface {
	ExecutionList(ctx context.Context, project, uid string) ([]store.Execution, error)
}

// Logs reads and writes logs below a data directory.
type Logs struct {
	executions Executions
	spools     string
	posted     string
}

// New returns the logs below dataDir.
func New(dataDir string, executions Executions) *Logs {
	return &Logs{executions: executions, spools: spool.Root(dataDir), posted: filepath.Join(dataDir, "logs")}
}

// Prelude is the file that collects what is said about an execution before its
// spool exists.
func (l *Logs) Prelude(execution string) string {
	return filepath.Join(l.spools, execution+".prelude")
}

// files lists the log files of a run in order; attempt 0 means all attempts.
func (l *Logs) files(ctx context.Context, project, uid string, attempt int) ([]string, error) {
	executions, err := l.executions.ExecutionList(ctx, project, uid)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(executions, func(a, b store.Execution) int { return a.Attempt - b.Attempt })
	var paths []string
	for _, e := range executions {
		if attempt != 0 && e.Attempt != attempt {
			continue
		}
		if path := spool.Of(l.spools, e.ID).Log(); exists(path) {
			paths = append(paths, path)
		} else {
			paths = append(paths, l.Prelude(e.ID))
		}
	}
	if len(executions) > 0 && attempt != 0 && len(paths) == 0 {
		return nil, fault.NotFound("run %s has no attempt %d; it had %d", uid, attempt, len(executions))
	}
	posted, err := l.file(project, uid)
	if err != nil {
		return nil, err
	}
	return append(paths, posted), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// file is where posted bytes of a run are kept. Project and uid come from a URL
// and become names of files, so whatever could lead elsewhere is refused.
func (l *Logs) file(project, uid string) (string, error) {
	for _, part := range []string{project, uid} {
		if part == "" || !filepath.IsLocal(part) || filepath.Base(part) != part || len(part) > 200 {
			return "", fault.Invalid("%.80q cannot name a log", part)
		}
	}
	return filepath.Join(l.posted, project, uid), nil
}

// Size returns the number of bytes of a run's log so far; attempt 0 means all
// attempts together. A run without a log has size 0.
func (l *Logs) Size(ctx context.Context, project, uid string, attempt int) (int64, error) {
	paths, err := l.files(ctx, project, uid, attempt)
	if err != nil {
		return 0, err
	}
	var size int64
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			size += info.Size()
		}
	}
	return size, nil
}

// Read opens the bytes [offset, offset+size) of a run's log, as far as they
// exist now; a negative size means to the end. What may be the beginning of a secret
// is there once more is, or the execution has ended. The caller closes the reader.
func (l *Logs) Read(ctx context.Context, project, uid string, attempt int, offset, size int64) (io.ReadCloser, error) {
	paths, err := l.files(ctx, project, uid, attempt)
	if err != nil {
		return nil, err
	}
	section := &section{}
	for i, path := range paths {
		if size == 0 {
			break
		}
		masker := l.Masker(path) // before the file: afterwards it may be the masked one already
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			section.Close()
			return nil, fmt.Errorf("open log: %w", err)
		}
		info, err := file.Stat()
		if err != nil || offset >= info.Size() {
			file.Close()
			if err != nil {
				section.Close()
				return nil, fmt.Errorf("open log: %w", err)
			}
			offset -= info.Size()
			continue
		}
		n := info.Size() - offset
		if size >= 0 {
			n = min(n, size)
			size -= n
		}
		section.files = append(section.files, file)
		if masker != nil && !slices.ContainsFunc(paths[i+1:], exists) && !ended(path) {
			held, err := masker.Held(file, info.Size())
			if err != nil {
				section.Close()
				return nil, fmt.Errorf("read log: %w", err)
			}
			n = max(0, min(n, info.Size()-held-offset))
		}
		if masker != nil {
			section.parts = append(section.parts, masker.Reader(file, info.Size(), offset, n))
		} else {
			section.parts = append(section.parts, io.NewSectionReader(file, offset, n))
		}
		offset = 0
	}
	section.Reader = io.MultiReader(section.parts...)
	return section, nil
}

type section struct {
	io.Reader
	files []*os.File
	parts []io.Reader
}

// Close closes the files.
func (s *section) Close() error {
	var errs []error
	for _, file := range s.files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// Append adds what a client posts to the log of a run, or replaces what was
// posted before.
func (l *Logs) Append(_ context.Context, project, uid string, data io.Reader, truncate bool) error {
	path, err := l.file(project, uid)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("append log: %w", err)
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if truncate {
		flags |= os.O_TRUNC
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return fmt.Errorf("append log: %w", err)
	}
	_, err = io.Copy(file, data)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("append log: %w", err)
	}
	return nil
}

// Remove deletes what clients posted for a run, for a whole project when uid is "".
func (l *Logs) Remove(project, uid string) error {
	name := uid
	if uid == "" {
		name = "all"
	}
	path, err := l.file(project, name)
	if err != nil {
		return err
	}
	if uid == "" {
		path = filepath.Dir(path)
	}
	return os.RemoveAll(path)
}
