package datastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/millrace/millrace/internal/fault"
)

// files are the files of this machine. Temporary files stand beside their target
// and begin with partPrefix; listings leave them out.
type files struct{}

const partPrefix = ".millrace-part-"

// fileError gives an error of the operating system its fault code.
func fileError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fault.NotFound("there is no file %s: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fault.Forbidden("%s may not be used by this process: %w", path, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fault.Unavailable("there is no room for %s: %w; nothing was stored", path, err)
	case errors.Is(err, syscall.EISDIR):
		return fault.Invalid("%s is a folder: %w", path, err)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fault.Invalid("%s is too long a name: %w", path, err)
	}
	return err
}

func fileInfo(path string, info fs.FileInfo) Info {
	return Info{
		URL: path, Size: info.Size(), Modified: info.ModTime(), Dir: info.IsDir(), ContentType: mime.TypeByExtension(filepath.Ext(path)),
		ETag: fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()),
	}
}

func (files) open(_ context.Context, path string, r Range) (io.ReadCloser, Info, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hold us up
	if err != nil {
		return nil, Info{}, fileError(path, err)
	}
	stat, err := file.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = fault.Invalid("%s is not a regular file", path)
	}
	info := Info{}
	if err == nil {
		info = fileInfo(path, stat)
		err = checkRange(path, info, r)
	}
	if err == nil && r.Offset > 0 {
		_, err = file.Seek(r.Offset, io.SeekStart)
	}
	if err != nil {
		return nil, Info{}, errors.Join(err, file.Close())
	}
	return limited(file, r), info, nil
}

// checkRange refuses a range past the end, and an object that has changed.
func checkRange(name string, info Info, r Range) error {
	if r.ETag != "" && r.ETag != info.ETag {
		return changed(name)
	}
	if r.Offset > info.Size {
		return fault.Invalid("%s has %d bytes; there is none at %d", name, info.Size, r.Offset)
	}
	return nil
}

func changed(name string) error {
	return fault.Precondition("%s has changed since its first part was read; begin again", name)
}

// limited ends a body after the length of r.
func limited(body io.ReadCloser, r Range) io.ReadCloser {
	if r.Length == 0 {
		return body
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(body, r.Length), body}
}

func (files) stat(_ context.Context, path string) (Info, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Info{}, fileError(path, err)
	}
	return fileInfo(path, info), nil
}

const copyBuffer = 1 << 20

func (files) put(_ context.Context, path string, body io.Reader, _ content) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fault.Invalid("%s exists and is not a regular file; choose another name", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fileError(path, err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), partPrefix+"*")
	if err != nil {
		return fileError(path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(file.Name())))
		}
	}()
	// The wrapper hides ReadFrom, which would use a small buffer of its own.
	_, err = io.CopyBuffer(struct{ io.Writer }{file}, body, make([]byte, copyBuffer))
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Chmod(file.Name(), 0o666&^umask())
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return fileError(path, err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (files) walk(ctx context.Context, root string, recursive bool, yield func(Entry) error) error {
	info, err := os.Stat(root)
	if err != nil {
		return fileError(root, err)
	}
	if !info.IsDir() {
		return fault.Invalid("%s is a file, not a folder", root)
	}
	return fileError(root, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == root, strings.HasPrefix(d.Name(), partPrefix):
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		entry := Entry{Name: filepath.ToSlash(name), Size: info.Size(), Modified: info.ModTime(), Dir: d.IsDir()}
		if d.IsDir() {
			entry.Size = 0
		}
		if err := yield(entry); err != nil {
			return err
		}
		if d.IsDir() && !recursive {
			return fs.SkipDir
		}
		return nil
	}))
}

func (files) remove(_ context.Context, path string) error {
	return fileError(path, ignoreMissing(os.Remove(path)))
}

func (files) removeAll(path string) error { return fileError(path, os.RemoveAll(path)) }
