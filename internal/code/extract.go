package code

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/internal/fault"
)

// Limits of what an archive may become, against archives made to fill a disk: a
// small one may unpack to smallExtracted bytes, a larger one to maxRatio times its
// own size, none to more than maxExtracted.
const (
	maxExtracted   = 8 << 30
	smallExtracted = 64 << 20
	maxRatio       = 100
	maxEntries     = 200_000
)

// Extract unpacks the .tar.gz at path into folder, which it creates. Entries that
// would land outside of it, devices and links that lead outside are refused with
// fault.CodeInvalid, and nothing is left behind.
func Extract(path, folder string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return fault.Invalid("the code archive %s cannot be read: %w", path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fault.Invalid("the code archive %s cannot be read: %w", path, err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("extract code: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("extract code: %w", err)
	}
	defer root.Close()
	defer func() {
		if err != nil {
			_ = os.RemoveAll(folder)
		}
	}()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return fault.Invalid("the code archive %s is not a .tar.gz: %w", path, err)
	}
	limit := min(maxExtracted, max(smallExtracted, maxRatio*info.Size()))
	x := extraction{root: root, path: path, limit: limit, budget: limit}
	archive := tar.NewReader(unzipped)
	for range maxEntries {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Invalid("the code archive %s is damaged: %w", path, err)
		}
		if err := x.entry(header, archive); err != nil {
			return err
		}
	}
	return fault.Invalid("the code archive %s has more than %d entries", path, maxEntries)
}

type extraction struct {
	root   *os.Root
	path   string
	limit  int64
	budget int64 // what is left of limit
}

func (x *extraction) entry(header *tar.Header, content io.Reader) error {
	name := filepath.Clean(filepath.FromSlash(header.Name))
	if !filepath.IsLocal(name) {
		return fault.Invalid("the code archive %s has an entry outside of itself: %.200q", x.path, header.Name)
	}
	if name == "." {
		return nil
	}
	if err := x.root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("extract %s: %w", header.Name, err)
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return x.root.MkdirAll(name, 0o700)
	case tar.TypeReg:
		return x.file(name, header, content)
	case tar.TypeSymlink:
		if !filepath.IsLocal(filepath.Join(filepath.Dir(name), header.Linkname)) || filepath.IsAbs(header.Linkname) {
			return fault.Invalid("the code archive %s has a link that leads outside: %.200q", x.path, header.Name)
		}
		return x.root.Symlink(header.Linkname, name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fault.Invalid("the code archive %s has an entry that is neither file, folder nor link: %.200q", x.path, header.Name)
}

func (x *extraction) file(name string, header *tar.Header, content io.Reader) error {
	if x.budget -= header.Size; x.budget < 0 {
		return fault.Invalid("the code archive %s unpacks to more than the %d bytes that an archive of its size may hold", x.path, x.limit)
	}
	file, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600|fs.FileMode(header.Mode)&0o100)
	if err != nil {
		return fmt.Errorf("extract %s: %w", header.Name, err)
	}
	_, err = io.Copy(file, content)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("extract %s: %w", header.Name, err)
	}
	return nil
}
