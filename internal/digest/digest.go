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
// itself; within a folder they count as the place that they name.
func Path(ctx context.Context, path string, limit int64) (digest string, size int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	switch {
	case info.IsDir():
		return folder(ctx, path, limit)
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

func folder(ctx context.Context, root string, limit int64) (string, int64, error) {
	sum := sha256.New()
	var total int64
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || d.IsDir() {
			if d.IsDir() && d.Name() == "__pycache__" {
				return filepath.SkipDir // made by executing what is beside it
			}
			return err
		}
		if files++; files > maxFiles {
			return ErrTooLarge
		}
		entry := ""
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			if entry, err = os.Readlink(path); err != nil {
				return err
			}
			entry = "-> " + entry
		case d.Type().IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			content, n, err := file(ctx, path, info, limit-total)
			if err != nil {
				return err
			}
			total += n
			entry = content
		default:
			return ErrIrregular
		}
		fmt.Fprintf(sum, "%s %s\n", strconv.Quote(filepath.ToSlash(name)), entry)
		return nil
	})
	if err != nil {
		return "", total, err
	}
	return Prefix + hex.EncodeToString(sum.Sum(nil)), total, nil
}
