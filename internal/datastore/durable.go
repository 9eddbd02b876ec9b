package datastore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// writebackEvery is how many bytes are written before the disk is told to begin
// with them: what is left to do when the file is synced is little then.
const writebackEvery = 8 << 20

// steady is a file that is on its way to the disk while it is written.
type steady struct {
	file  *os.File
	from  int64 // where the bytes begin that the disk was not told of
	until int64
}

func (s *steady) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	if s.until += int64(n); s.until-s.from >= writebackEvery {
		startWriteback(s.file, s.from, s.until-s.from)
		s.from = s.until
	}
	return n, err
}

// makeFolders makes a folder and those above it, and returns when they are on the
// disk.
func makeFolders(in folder, name string) error {
	var made []string
	for at := name; ; at = filepath.Dir(at) {
		_, err := in.Stat(at)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		made = append(made, at)
	}
	if err := in.MkdirAll(name, 0o777); err != nil {
		return err
	}
	for _, folder := range made {
		if err := syncFolder(in, filepath.Dir(folder)); err != nil {
			return err
		}
	}
	return nil
}

// syncFolder returns when the names in a folder are on the disk.
func syncFolder(in folder, name string) error {
	dir, err := in.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) { // a file system that has nothing to do for it
		err = nil
	}
	return errors.Join(err, dir.Close())
}
