package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/millrace/millrace/runtime/python"
)

var runtimeDigest = sync.OnceValues(func() (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(python.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(python.FS, path)
		fmt.Fprintf(hash, "%s %d\n", path, len(data))
		hash.Write(data)
		return err
	})
	return hex.EncodeToString(hash.Sum(nil))[:16], err
})

// Unpack writes the embedded Python runtime into a folder of dir that is named
// by its digest, unless it is there, and returns that folder's absolute path. It
// may be called by many processes at once: the folder appears whole.
//
// The folder has to stay writable for whoever runs workers: the first start of
// each interpreter version leaves its bytecode there.
func Unpack(dir string) (string, error) {
	digest, err := runtimeDigest()
	if err != nil {
		return "", fmt.Errorf("read the embedded runtime: %w", err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("unpack the runtime: %w", err)
	}
	target := filepath.Join(dir, digest)
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("unpack the runtime: %w", err)
	}
	temporary, err := os.MkdirTemp(dir, "."+digest+"-")
	if err != nil {
		return "", fmt.Errorf("unpack the runtime: %w", err)
	}
	defer os.RemoveAll(temporary)
	if err := os.Chmod(temporary, 0o755); err != nil {
		return "", fmt.Errorf("unpack the runtime: %w", err)
	}
	if err := os.CopyFS(temporary, python.FS); err != nil {
		return "", fmt.Errorf("unpack the runtime: %w", err)
	}
	err = os.Rename(temporary, target)
	// Somebody else may have been faster; theirs has the same content.
	if err != nil && !errors.Is(err, fs.ErrExist) {
		if _, statErr := os.Stat(target); statErr != nil {
			return "", fmt.Errorf("unpack the runtime: %w", err)
		}
	}
	return target, nil
}
