package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/filelock"
)

// Dir is the folder of one deployed function.
type Dir struct{ Path string }

// DirOf returns the folder of a function below a data directory; it need not exist.
func DirOf(dataDir, project, name string) Dir {
	return Dir{Path: filepath.Join(dataDir, "functions", project, name)}
}

func (d Dir) file(name string) string { return filepath.Join(d.Path, name) }

// Log is the path of the function's log: what its workers write.
func (d Dir) Log() string { return d.file("log") }

// Lock is the path of the file that a living processor has locked.
func (d Dir) Lock() string { return d.file("lock") }

// Metrics is the path of the file in which a processor that is parked has left what
// it had counted.
func (d Dir) Metrics() string { return d.file("metrics.json") }

// Alive reports whether the folder is served: by a processor, or by the activator
// that starts one with the next request (Parked).
func (d Dir) Alive() bool { return filelock.Held(d.Lock()) }

// Parked reports whether the activator has the function's sockets.
func (d Dir) Parked() bool { return filelock.Disowned(d.Lock()) }

// PID returns the process id of the processor, 0 without one.
func (d Dir) PID() int { return filelock.Holder(d.Lock()) }

// ProcessorLog is the name of the file in the folder where a processor speaks of
// itself; its workers have a log of their own.
const ProcessorLog = "processor.log"

// HTTPSocket and ControlSocket are the names of the sockets in the folder. Their
// paths can be longer than the kernel takes; DialHTTP and Client know a way.
const (
	HTTPSocket    = "http.sock"
	ControlSocket = "control.sock"
)

// RevisionDir is the folder of a revision, whether it exists or not.
func (d Dir) RevisionDir(number int) string {
	return filepath.Join(d.Path, "revisions", strconv.Itoa(number))
}

// Create makes the folder.
func (d Dir) Create() error {
	if err := os.MkdirAll(filepath.Join(d.Path, "revisions"), 0o700); err != nil {
		return fmt.Errorf("create the function's folder: %w", err)
	}
	return nil
}

// WriteRevision writes a revision and files beside it (names relative to its
// folder, content). One that exists is left as it is.
func (d Dir) WriteRevision(r Revision, files map[string][]byte) error {
	if err := r.Check(); err != nil {
		return err
	}
	target := d.RevisionDir(r.Number)
	if _, err := os.Stat(filepath.Join(target, "revision.json")); err == nil {
		return nil
	}
	if err := d.Create(); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(target), ".new-")
	if err != nil {
		return fmt.Errorf("write revision %d: %w", r.Number, err)
	}
	defer os.RemoveAll(temp)
	for name, content := range files {
		path := filepath.Join(temp, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("write revision %d: %w", r.Number, err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("write revision %d: %w", r.Number, err)
		}
	}
	if err := writeJSON(filepath.Join(temp, "revision.json"), r); err != nil {
		return fmt.Errorf("write revision %d: %w", r.Number, err)
	}
	if err := os.Rename(temp, target); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write revision %d: %w", r.Number, err)
	}
	return nil
}

// Revision reads a revision.
func (d Dir) Revision(number int) (Revision, error) {
	var r Revision
	err := readJSON(filepath.Join(d.RevisionDir(number), "revision.json"), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fault.NotFound("revision %d is not in %s", number, d.Path)
	}
	if err != nil {
		return r, fmt.Errorf("read revision %d: %w", number, err)
	}
	return r, r.Check()
}

// RemoveRevision removes a revision's folder. The processor must not serve it any more.
func (d Dir) RemoveRevision(number int) error {
	return os.RemoveAll(d.RevisionDir(number))
}

// WriteDesired writes what should be.
func (d Dir) WriteDesired(desired Desired) error {
	if err := desired.Check(); err != nil {
		return err
	}
	if err := d.Create(); err != nil {
		return err
	}
	if err := writeJSON(d.file("desired.json"), desired); err != nil {
		return fmt.Errorf("write desired: %w", err)
	}
	return nil
}

// Desired reads what should be; an empty one if nothing was written.
func (d Dir) Desired() (Desired, error) {
	var desired Desired
	err := readJSON(d.file("desired.json"), &desired)
	if errors.Is(err, fs.ErrNotExist) {
		return desired, nil
	}
	if err != nil {
		return desired, fmt.Errorf("read desired: %w", err)
	}
	return desired, desired.Check()
}

// Status reads the last status that a processor wrote; the processor may be gone
// (Alive says so). fs.ErrNotExist if there has never been one.
func (d Dir) Status() (Status, error) {
	var status Status
	if err := readJSON(d.file("status.json"), &status); err != nil {
		return status, fmt.Errorf("read status: %w", err)
	}
	return status, nil
}

// WriteStatus leaves the status for who cannot ask.
func (d Dir) WriteStatus(status Status) error { return writeJSON(d.file("status.json"), status) }

func readJSON(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// writeJSON replaces the file as a whole.
func writeJSON(path string, value any) error {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(append(raw, '\n'))
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
	}
	return err
}
