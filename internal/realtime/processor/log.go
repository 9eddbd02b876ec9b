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

// ownLogLimit bounds the file in which the processor speaks of itself, to which its
// standard output and error go.
const ownLogLimit = 4 << 20

// trim moves the newest part of a file that has grown over limit to path.1 and begins it
// anew. It is open for appending elsewhere, so that its content has to go, not its name;
// what is written between the copy and the end of the content is lost.
func trim(path string, limit int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() <= limit {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.CreateTemp(filepath.Dir(path), ".log-")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name())
	if _, err = from.Seek(info.Size()-limit/2, io.SeekStart); err == nil {
		_, err = io.CopyN(to, from, limit/2) // not to its end: it may grow faster than it is read
	}
	if errors.Is(err, io.EOF) { // somebody else has begun it anew
		err = nil
	}
	if closed := to.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(to.Name(), path+".1")
	}
	if err == nil {
		err = os.Truncate(path, 0)
	}
	return err
}
