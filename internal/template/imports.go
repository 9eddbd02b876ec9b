package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Imports is what workers had imported when they had loaded their code, by code and
// interpreter: one small file each, which can be made again.
type Imports struct{ Dir string }

// maxImports bounds the names of a file.
const maxImports = 20000

// File is the file of the modules that code with the digest imports in an
// interpreter; it need not exist.
func (i Imports) File(digest, interpreter string) string {
	sum := sha256.Sum256([]byte(digest + "\n" + interpreter))
	return filepath.Join(i.Dir, hex.EncodeToString(sum[:16])+".json")
}

// Learnt returns the modules of a file; ok is false when they are not known.
func Learnt(file string) (modules []string, ok bool) {
	raw, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(raw, &modules) != nil || len(modules) > maxImports {
		return nil, false
	}
	return modules, true
}

// Learn writes the modules of a file; it appears whole.
func Learn(file string, modules []string) error {
	if modules == nil {
		modules = []string{}
	}
	raw, err := json.Marshal(modules)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("note what was imported: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return fmt.Errorf("note what was imported: %w", err)
	}
	_, err = temp.Write(raw)
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("note what was imported: %w", err)
	}
	return nil
}

// Prune removes files that were written before a time.
func (i Imports) Prune(before time.Time) error {
	entries, err := os.ReadDir(i.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if info, infoErr := entry.Info(); infoErr == nil && info.ModTime().Before(before) {
			err = errors.Join(err, os.Remove(filepath.Join(i.Dir, entry.Name())))
		}
	}
	return err
}
