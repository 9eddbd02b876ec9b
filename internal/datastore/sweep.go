package datastore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Sweep removes what writers that were killed have left below the folder root, when
// nothing has been added to it for longer than age. Symbolic links are not followed.
func Sweep(ctx context.Context, root string, age time.Duration) (removed int, err error) {
	in, err := os.OpenRoot(root)
	if err != nil {
		return 0, ignoreMissing(err)
	}
	defer in.Close()
	s := &sweep{ctx: ctx, in: in, before: time.Now().Add(-age)}
	err = s.folder(".")
	return s.removed, err
}

type sweep struct {
	ctx     context.Context
	in      *os.Root
	before  time.Time
	removed int
}

func (s *sweep) folder(name string) error {
	dir, err := s.in.Open(name)
	if err != nil {
		return ignoreMissing(err)
	}
	defer dir.Close()
	var errs []error
	var folders []string
	for {
		entries, err := dir.ReadDir(entriesAtOnce)
		for _, d := range entries {
			switch below := filepath.Join(name, d.Name()); {
			case strings.HasPrefix(d.Name(), partPrefix):
				errs = append(errs, s.part(below, d))
			case d.IsDir():
				folders = append(folders, below)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(err, context.Cause(s.ctx)); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	errs = append(errs, dir.Close())
	for _, below := range folders {
		errs = append(errs, s.folder(below))
	}
	return errors.Join(errs...)
}

// part removes a file or folder that is no longer written.
func (s *sweep) part(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil || info.ModTime().After(s.before) {
		return ignoreMissing(err)
	}
	s.removed++
	return s.in.RemoveAll(name)
}
