// Package digest names content on this machine by what it is: "sha256:" and the
// hexadecimal SHA-256 of a file's bytes, or of a folder's listing, in which each
// file stands with its relative name and its own digest.
package digest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Prefix begins every digest.
const Prefix = "sha256:"

// Errors of content that gets no digest.
var (
	ErrTooLarge  = errors.New("larger than what is looked at")
	ErrChanged   = errors.New("changed while it was read")
	ErrIrregular = errors.New("neither a file nor a folder")
)

// Of is the digest of bytes.
func Of(data []byte) string {
	sum := sha256.Sum256(data)
	return Prefix + hex.EncodeToString(sum[:])
}

// maxFiles bounds the files of a folder.
const maxFiles = 10_000

// Path returns the digest of the file or folder at path and its size in bytes.
// More than limit bytes, or a folder of more than 10,000 files, are ErrTooLarge;
// a file that changes meanwhile is ErrChanged. Symbolic links are followed at path
// itself; within a folder they count as the place that they name, and where that is
// outside the folder as the content of that place.
func Path(ctx context.Context, path string, limit int64) (digest string, size int64, err error) {
	return of(ctx, path, limit, everything)
}

// Code is Path for a file or folder of code: what tools keep beside code (.git, the
// caches of linters and tests) is left out.
func Code(ctx context.Context, path string, limit int64) (digest string, err error) {
	digest, _, err = of(ctx, path, limit, code)
	return digest, err
}

// Modules is Code for a folder in which other things lie beside the code: only the
// files that Python imports count.
func Modules(ctx context.Context, path string, limit int64) (digest string, err error) {
	digest, _, err = of(ctx, path, limit, modules)
	return digest, err
}

// what of a folder is looked at.
type scope int

const (
	everything scope = iota
	code
	modules
)

func of(ctx context.Context, path string, limit int64, what scope) (digest string, size int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	switch {
	case info.IsDir():
		return folder(ctx, path, limit, what)
	case info.Mode().IsRegular():
		return file(ctx, path, info, limit)
	}
	return "", 0, ErrIrregular
}

func file(ctx context.Context, path string, info fs.FileInfo, limit int64) (string, int64, error) {
	if info.Size() > limit {
		return "", info.Size(), ErrTooLarge
	}
	in, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer in.Close()
	sum := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{sum}, &reader{ctx: ctx, in: in}, make([]byte, 256<<10))
	if err != nil {
		return "", n, err
	}
	after, err := in.Stat()
	if err != nil {
		return "", n, err
	}
	if n != info.Size() || after.Size() != info.Size() || !after.ModTime().Equal(info.ModTime()) {
		return "", n, ErrChanged
	}
	return Prefix + hex.EncodeToString(sum.Sum(nil)), n, nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	in  io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}

func folder(ctx context.Context, root string, limit int64, what scope) (string, int64, error) {
	w := &walk{ctx: ctx, limit: limit, what: what}
	sum, err := w.root(root, 0)
	return sum, w.total, err
}

// walk reads a folder and the folders outside it that its links lead to.
type walk struct {
	ctx          context.Context
	limit, total int64
	files        int
	what         scope
}

// maxLinks is how many links may lead from folder to folder.
const maxLinks = 8

func (w *walk) root(root string, links int) (string, error) {
	if links > maxLinks {
		return "", ErrIrregular
	}
	place, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := w.below(sum, place, "", links); err != nil {
		return "", err
	}
	return Prefix + hex.EncodeToString(sum.Sum(nil)), nil
}

// below adds what is in the folder name of root to sum, and counts it.
func (w *walk) below(sum io.Writer, root, name string, links int) (entries int, err error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	list, err := os.ReadDir(filepath.Join(root, name))
	if err != nil {
		return 0, err
	}
	for _, d := range list {
		at := filepath.Join(name, d.Name())
		if d.IsDir() {
			if !w.enters(d.Name()) {
				continue
			}
			entries++
			inside, err := w.below(sum, root, at, links)
			if err != nil {
				return entries, err
			}
			if inside == 0 && w.what != modules {
				err = w.add(sum, at, "folder")
			}
			if err != nil {
				return entries, err
			}
			continue
		}
		if w.what == modules && d.Type().IsRegular() && !importable[filepath.Ext(d.Name())] {
			continue
		}
		entries++
		entry, err := w.entry(root, at, d, links)
		if err == nil {
			err = w.add(sum, at, entry)
		}
		if err != nil {
			return entries, err
		}
	}
	return entries, nil
}

func (w *walk) enters(folder string) bool {
	switch {
	case folder == "__pycache__": // made by executing what is beside it
		return false
	case w.what == modules:
		return !strings.HasPrefix(folder, ".")
	}
	return w.what == everything || !noCode[folder]
}

// importable are the endings of the files that Python imports.
var importable = map[string]bool{".py": true, ".pyc": true, ".so": true}

// noCode are folders beside code that no program imports from.
var noCode = map[string]bool{
	".git": true, ".hg": true, ".svn": true, ".mypy_cache": true, ".ruff_cache": true, ".pytest_cache": true, ".ipynb_checkpoints": true,
}

func (w *walk) add(sum io.Writer, name, entry string) error {
	if w.files++; w.files > maxFiles {
		return ErrTooLarge
	}
	_, err := fmt.Fprintf(sum, "%s %s\n", strconv.Quote(filepath.ToSlash(name)), entry)
	return err
}

// entry is what a file or link is known by: a link within the folder by the place
// that it names, one that leads outside by the content there.
func (w *walk) entry(root, name string, d fs.DirEntry, links int) (string, error) {
	path := filepath.Join(root, name)
	switch {
	case d.Type().IsRegular():
		info, err := d.Info()
		if err != nil {
			return "", err
		}
		return w.file(path, info)
	case d.Type()&fs.ModeSymlink == 0:
		return "", ErrIrregular
	}
	target, err := os.Readlink(path)
	if err != nil {
		return "", err
	}
	place, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "-> " + target, nil
	}
	if err != nil {
		return "", err
	}
	if inside, err := filepath.Rel(root, place); err == nil && filepath.IsLocal(inside) {
		return "-> " + target, nil
	}
	info, err := os.Stat(place)
	switch {
	case err != nil:
		return "", err
	case info.IsDir():
		sum, err := w.root(place, links+1)
		return "=> folder " + sum, err
	case info.Mode().IsRegular():
		sum, err := w.file(place, info)
		return "=> " + sum, err
	}
	return "", ErrIrregular
}

func (w *walk) file(path string, info fs.FileInfo) (string, error) {
	sum, n, err := file(w.ctx, path, info, w.limit-w.total)
	w.total += n
	return sum, err
}
