package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/internal/fault"
)

// Keys is where the keys are.
type Keys struct {
	// Text is the keys themselves, the current one first (MILLRACE_SECRET_KEY); it wins.
	Text string
	// File is the path of a file with them, readable by its owner only.
	File string
	// Create says that a missing File is made, with a new key.
	Create bool
}

// load reads the keys. create says that one is needed to encrypt, so that a
// missing file may be made.
func (k Keys) load(create bool) (Ring, error) {
	if k.Text != "" {
		ring, err := ParseRing(k.Text)
		if err != nil {
			return nil, fmt.Errorf("MILLRACE_SECRET_KEY: %w", err)
		}
		return ring, nil
	}
	ring, err := k.read()
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	if !k.Create || !create {
		return nil, fault.Precondition("the file of the secret key, %s, is not there; restore it, or make one with 'openssl rand -base64 32' and set the secrets again", k.File)
	}
	ring = Ring{NewKey()}
	if err := k.write(ring, false); errors.Is(err, fs.ErrExist) {
		return k.read() // another process was faster
	} else if err != nil {
		return nil, err
	}
	return ring, nil
}

func (k Keys) read() (Ring, error) {
	file, err := os.Open(k.File)
	if err != nil {
		return nil, keyFile(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, keyFile(err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fault.Precondition("the file of the secret key, %s, can be read by others (mode %04o); run: chmod 600 %s", k.File, info.Mode().Perm(), k.File)
	}
	raw, err := os.ReadFile(k.File)
	if err != nil {
		return nil, keyFile(err)
	}
	ring, err := ParseRing(string(raw))
	if err != nil {
		return nil, fault.Precondition("the file of the secret key, %s: %w", k.File, err)
	}
	return ring, nil
}

func keyFile(err error) error { return fmt.Errorf("file of the secret key: %w", err) }

// write makes the file whole and durable or not at all; without replace it fails
// with fs.ErrExist when it is there.
func (k Keys) write(ring Ring, replace bool) error {
	folder := filepath.Dir(k.File)
	temp, err := os.CreateTemp(folder, ".secret-key-") // 0600
	if err != nil {
		return keyFile(err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(ring.Text())
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return keyFile(err)
	}
	if replace {
		err = os.Rename(temp.Name(), k.File)
	} else {
		err = os.Link(temp.Name(), k.File)
	}
	if err != nil {
		return keyFile(err)
	}
	dir, err := os.Open(folder)
	if err != nil {
		return keyFile(err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
