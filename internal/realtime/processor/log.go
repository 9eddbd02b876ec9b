package processor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/internal/realtime"
)

// openLog opens the function's log for appending.
func openLog(d realtime.Dir) (*os.File, error) {
	file, err := os.OpenFile(d.Log(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log %s: %w", filepath.Base(d.Log()), err)
	}
	return file, nil
}

// trimLog moves a log that has grown over limit aside and begins it anew. Workers
// have it open for appending, so that its content has to go, not its name.
func trimLog(d realtime.Dir, limit int64) error {
	info, err := os.Stat(d.Log())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() <= limit {
		return err
	}
	from, err := os.Open(d.Log())
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.CreateTemp(d.Path, ".log-")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name())
	if _, err = from.Seek(max(info.Size()-limit/2, 0), io.SeekStart); err == nil {
		_, err = io.Copy(to, from)
	}
	if closed := to.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(to.Name(), d.Log()+".1")
	}
	if err == nil {
		err = os.Truncate(d.Log(), 0)
	}
	return err
}
