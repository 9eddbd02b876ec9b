package datastore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/millrace/millrace/internal/fault"
)

// files are the files of this machine: all of them, or those below roots.
// Temporary files stand beside their target and begin with partPrefix; listings
// leave them out.
type files struct {
	roots    []string
	confined bool
}

const partPrefix = ".millrace-part-"

// folder is what files need of a file system. *os.Root is one that nothing leads
// out of, symbolic links included.
type folder interface {
	OpenFile(name string, flag int, mode fs.FileMode) (*os.File, error)
	Stat(name string) (fs.FileInfo, error)
	MkdirAll(name string, mode fs.FileMode) error
	Rename(from, to string) error
	Remove(name string) error
	RemoveAll(name string) error
	Close() error
}

// enter returns the folder that path is to be reached through, and its name there.
func (f files) enter(path string) (folder, string, error) {
	if !f.confined {
		return everything{}, path, nil
	}
	for _, root := range f.roots {
		name, err := filepath.Rel(root, path)
		if err != nil || !filepath.IsLocal(name) {
			continue
		}
		opened, err := os.OpenRoot(root)
		if err != nil {
			return nil, "", fileError(path, err)
		}
		return opened, name, nil
	}
	return nil, "", fault.Forbidden("%s is not below an artifact path of this server; files elsewhere are not handed out", path)
}

// everything is the whole file system; names are absolute.
type everything struct{}

func (everything) OpenFile(name string, flag int, mode fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, mode)
}
func (everything) Stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }
func (everything) MkdirAll(name string, mode fs.FileMode) error { return os.MkdirAll(name, mode) }
func (everything) Rename(from, to string) error                 { return os.Rename(from, to) }
func (everything) Remove(name string) error                     { return os.Remove(name) }
func (everything) RemoveAll(name string) error                  { return os.RemoveAll(name) }
func (everything) Close() error                                 { return nil }

// fileError gives an error of the operating system its fault code.
func fileError(path string, err error) error {
	var known *fault.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fault.NotFound("there is no file %s", path)
	case errors.Is(err, fs.ErrPermission):
		return fault.Forbidden("%s may not be used by this process: %w", path, err)
	case isNoRoom(err):
		return fault.Unavailable("there is no room for %s: %w; nothing was stored", path, err)
	case errors.Is(err, syscall.EISDIR):
		return fault.Invalid("%s is a folder", path)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fault.Invalid("%s is too long a name", path)
	case strings.Contains(err.Error(), "path escapes from parent"): // os.Root has no value for it
		return fault.Forbidden("%s leads out of the artifact path of this server through a symbolic link", path)
	}
	return err
}

// isNoRoom tells whether a file could not grow.
func isNoRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func fileInfo(path string, info fs.FileInfo) Info {
	return Info{
		URL: path, Size: info.Size(), Modified: info.ModTime(), Dir: info.IsDir(), ContentType: mime.TypeByExtension(filepath.Ext(path)),
		ETag: fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()),
	}
}

func (f files) open(_ context.Context, path string, r Range) (io.ReadCloser, Info, error) {
	in, name, err := f.enter(path)
	if err != nil {
		return nil, Info{}, err
	}
	defer in.Close()                                                  // what is open stays so
	file, err := in.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hold us up
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

func (f files) stat(_ context.Context, path string) (Info, error) {
	in, name, err := f.enter(path)
	if err != nil {
		return Info{}, err
	}
	defer in.Close()
	info, err := in.Stat(name)
	if err != nil {
		return Info{}, fileError(path, err)
	}
	return fileInfo(path, info), nil
}

func (f files) put(_ context.Context, path string, body io.Reader, _ content) error {
	return f.putNamed(path, body, func() string { return path })
}

// putNamed writes body beside path and renames it to what target returns once all
// is on the disk, which is in the same folder. It returns when the name is, too.
func (f files) putNamed(path string, body io.Reader, target func() string) (err error) {
	in, name, err := f.enter(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if info, err := in.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fault.Invalid("%s exists and is not a regular file; choose another name", path)
	}
	beside := filepath.Dir(name)
	if err := makeFolders(in, beside); err != nil {
		return fileError(path, err)
	}
	part := filepath.Join(beside, partPrefix+rand.Text())
	file, err := in.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fileError(path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(in.Remove(part)))
		}
	}()
	_, err = io.Copy(&steady{file: file}, body) // body is a checkedReader, which has buffers of its own
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = in.Rename(part, filepath.Join(beside, filepath.Base(target())))
	}
	if err == nil {
		err = syncFolder(in, beside)
	}
	return fileError(path, err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (f files) walk(_ context.Context, root string, recursive bool, yield func(Entry) error) error {
	in, name, err := f.enter(root)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat(name)
	if err != nil {
		return fileError(root, err)
	}
	if !info.IsDir() {
		return fault.Invalid("%s is a file, not a folder", root)
	}
	return fileError(root, walkFolder(in, name, "", recursive, func(below string, d fs.DirEntry) error {
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		entry := Entry{Name: filepath.ToSlash(below), Size: info.Size(), Modified: info.ModTime(), Dir: d.IsDir()}
		if d.IsDir() {
			entry.Size = 0
		}
		return yield(entry)
	}))
}

// entriesAtOnce is how many names of a folder are in memory. A folder that has no more
// is listed in order.
const entriesAtOnce = 4096

// walkFolder calls visit for what is in the folder at, whose own name is below, and
// with recursive for what is below it.
func walkFolder(in folder, at, below string, recursive bool, visit func(below string, d fs.DirEntry) error) error {
	dir, err := in.OpenFile(at, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) && below != "" {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	var folders []string // walked when this one is closed, so that none is open beside it
	for first := true; ; first = false {
		entries, err := dir.ReadDir(entriesAtOnce)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(entries) == 0 {
			break
		}
		if first && len(entries) < entriesAtOnce {
			slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		}
		for _, d := range entries {
			if strings.HasPrefix(d.Name(), partPrefix) {
				continue
			}
			if err := visit(filepath.Join(below, d.Name()), d); err != nil {
				return err
			}
			if d.IsDir() && recursive {
				folders = append(folders, d.Name())
			}
		}
	}
	if err := dir.Close(); err != nil {
		return err
	}
	for _, name := range folders {
		if err := walkFolder(in, filepath.Join(at, name), filepath.Join(below, name), recursive, visit); err != nil {
			return err
		}
	}
	return nil
}

func (f files) remove(_ context.Context, path string) error {
	in, name, err := f.enter(path)
	if err != nil {
		return err
	}
	defer in.Close()
	return fileError(path, ignoreMissing(in.Remove(name)))
}

func (f files) removeAll(path string) error {
	in, name, err := f.enter(path)
	if err != nil {
		return err
	}
	defer in.Close()
	return fileError(path, in.RemoveAll(name))
}

var errOtherDevice = errors.New("another file system")

// adopt moves the finished file at from, which is ours and on the disk, to path.
// errOtherDevice when it would have to be copied.
func (f files) adopt(from, path string) error {
	in, name, err := f.enter(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := makeFolders(in, filepath.Dir(name)); err != nil {
		return fileError(path, err)
	}
	if f.confined { // os.Root cannot rename from outside: see that the folder is where it seems
		if err := f.reallyBelow(filepath.Dir(path)); err != nil {
			return err
		}
	}
	err = os.Rename(from, path)
	if errors.Is(err, syscall.EXDEV) {
		return errOtherDevice
	}
	if err == nil {
		err = syncFolder(in, filepath.Dir(name))
	}
	return fileError(path, err)
}

// reallyBelow refuses a folder that a symbolic link has led out of the roots.
func (f files) reallyBelow(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fileError(path, err)
	}
	for _, root := range f.roots {
		if root, err = filepath.EvalSymlinks(root); err != nil {
			continue
		}
		if name, err := filepath.Rel(root, real); err == nil && filepath.IsLocal(name) {
			return nil
		}
	}
	return fault.Forbidden("%s leads out of the artifact path of this server through a symbolic link", path)
}
