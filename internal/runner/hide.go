package runner

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/spool"
)

// Masker masks the secrets of an execution; nil when it has none.
func Masker(launch spool.Launch) *secret.Masker {
	return secret.NewMasker(launch.Values())
}

// Hide masks the secrets of an execution that is over in its log, and takes them
// out of its launch. Until then whoever serves the log masks them (logs.Masker).
// The second time it does nothing.
//
// The masked log takes the place of the other as a whole, so that a reader sees
// one or the other; it has the same number of bytes, so that positions stay valid.
func Hide(dir spool.Dir) error {
	launch, err := dir.Launch()
	if err != nil || len(launch.Values()) == 0 {
		return nil //nolint:nilerr // without a launch nothing was ever executed here
	}
	if masker := Masker(launch); masker != nil {
		if err := maskLog(dir.Log(), masker); err != nil {
			return fmt.Errorf("mask secrets in the log: %w", err)
		}
	}
	return dir.Forget()
}

func maskLog(path string, masker *secret.Masker) error {
	log, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer log.Close()
	found := false
	look := masker.Stream(func(_ []byte, masked bool) error {
		found = found || masked
		return nil
	})
	if err := pass(log, look); err != nil || !found {
		return err
	}
	if _, err := log.Seek(0, io.SeekStart); err != nil {
		return err
	}
	temp := path + ".masked"
	clean, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(clean, 64<<10)
	err = pass(log, masker.Stream(func(text []byte, _ bool) error {
		_, err := out.Write(text)
		return err
	}))
	if err := errors.Join(err, out.Flush(), clean.Sync(), clean.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, path)
}

func pass(log io.Reader, to *secret.Stream) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := log.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return to.Close()
		}
		if err != nil {
			return err
		}
	}
}
