// Package spool is the folder through which a runner and the server exchange
// what they know about one execution, so that either may die at any moment.
//
// The folder is created complete (written beside and renamed): launch.json says
// what to run. The runner holds a lock on the file "lock" for its whole life,
// hence the lock, not a process id, says whether it lives. Before it touches user
// code it creates the file "begun" exclusively: an execution begins at most once,
// however many runners are started for it. Standard output and error of the
// worker go straight into "log", and what happens goes into "journal", one JSON
// object a line; see docs/architecture.md for its records.
package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/filelock"
)

// Mode says what a worker does with the code.
type Mode string

// The modes: call a handler of a Python module, run a Python file as __main__,
// or execute a program.
const (
	ModeHandler Mode = "handler"
	ModeMain    Mode = "main"
	ModeCommand Mode = "command"
)

// Launch says everything that a runner needs to know. It is written once and
// holds environment values, so its file is readable by its owner only.
type Launch struct {
	Execution  string   `json:"execution"` // <uid>-<attempt>
	Project    string   `json:"project"`
	UID        string   `json:"uid"`
	Name       string   `json:"name"`
	Attempt    int      `json:"attempt"`
	Mode       Mode     `json:"mode"`
	Python     string   `json:"python,omitempty"`      // interpreter
	VirtualEnv string   `json:"virtual_env,omitempty"` // folder of the environment that Python belongs to
	Runtime    string   `json:"runtime,omitempty"`     // folder of the embedded Python runtime
	File       string   `json:"file,omitempty"`        // code file, relative to the spool or absolute
	Folder     string   `json:"folder,omitempty"`      // code folder: extracted bundle or directory, first on sys.path
	Bundle     string   `json:"bundle,omitempty"`      // tar.gz to extract into Folder before anything else
	Handler    string   `json:"handler,omitempty"`
	Command    []string `json:"command,omitempty"` // argv, for ModeCommand; argv after the file for ModeMain
	GoBuild    bool     `json:"go_build,omitempty"`
	Env        []string `json:"env,omitempty"` // KEY=VALUE on top of the runner's own environment
	// Secrets are variables like Env whose values are masked wherever they would be
	// read. They are gone from the file once the execution is over (Forget).
	Secrets []string `json:"secrets,omitempty"`
	// Hidden are values that the code gets in another way, and that are masked like
	// those of Secrets and forgotten with them.
	Hidden   []string        `json:"hidden,omitempty"`
	Path     []string        `json:"path,omitempty"` // appended to sys.path
	Workdir  string          `json:"workdir,omitempty"`
	Run      document.Object `json:"-"` // the run document at launch; in run.json, where NaN can be written
	Limits   Limits          `json:"limits"`
	GPUs     []string        `json:"gpus,omitempty"`
	Grace    time.Duration   `json:"grace"`     // between SIGTERM and SIGKILL at an abort
	LogLimit int64           `json:"log_limit"` // bytes of log after which the run is ended; 0: none
	Timeout  time.Duration   `json:"timeout"`   // of the execution; 0: none
	// Provenance is what the run's status.provenance begins with.
	Provenance json.RawMessage `json:"provenance,omitempty"`
	// Template is the socket of a template to fork the worker from, "" for none. One
	// that has gone meanwhile costs nothing.
	Template string `json:"template,omitempty"`
	// Imports is the file for what the code imports, to be written by the runner; ""
	// when that is known.
	Imports string `json:"imports,omitempty"`
	// Standalone says that no server follows this execution: whoever runs it brings
	// its end into the store.
	Standalone bool `json:"standalone,omitempty"`
	// Search makes it many calls: the iterations of a task. nil is one call.
	Search *Search `json:"search,omitempty"`
}

// Limits are the resources an execution may use; 0 means no limit.
type Limits struct {
	CPU    float64 `json:"cpu,omitempty"`    // cores
	Memory int64   `json:"memory,omitempty"` // bytes
	Pids   int     `json:"pids,omitempty"`
}

// Outcome is how an attempt ended.
type Outcome struct {
	State  string // completed, error or aborted
	Error  string // one sentence, or the chain of a Python exception
	Reason string // a short word: exception, exit, signal, oom, timeout, lost, …
	Exit   int
	Signal string
}

// Dir is the spool folder of one execution.
type Dir struct{ Path string }

// Root returns the folder of all spools below a data directory.
func Root(dataDir string) string { return filepath.Join(dataDir, "spool") }

// Of returns the spool of an execution below root; it need not exist.
func Of(root, execution string) Dir { return Dir{Path: filepath.Join(root, execution)} }

// Create makes the spool for launch below root, with files (names relative to
// the spool, their content) beside it. If it exists already it is left as it is:
// a launch that was decided once is not decided again.
func Create(root string, launch Launch, files map[string][]byte) (Dir, error) {
	return CreateAround(root, launch, files, "")
}

// CreateAround is Create with a log file that exists already, and may be open in
// a worker that was started ahead: it is moved into the spool. "" means none.
func CreateAround(root string, launch Launch, files map[string][]byte, log string) (Dir, error) {
	dir := Of(root, launch.Execution)
	if _, err := os.Stat(filepath.Join(dir.Path, "launch.json")); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return dir, fmt.Errorf("create spool: %w", err)
	}
	temp, err := os.MkdirTemp(root, ".new-")
	if err != nil {
		return dir, fmt.Errorf("create spool: %w", err)
	}
	defer os.RemoveAll(temp)
	raw, err := json.Marshal(launch)
	if err != nil {
		return dir, fmt.Errorf("encode launch: %w", err)
	}
	for name, content := range map[string][]byte{"launch.json": raw, "run.json": document.Canonical(launch.Run), "log": nil, "journal": nil} {
		if err := os.WriteFile(filepath.Join(temp, name), content, 0o600); err != nil {
			return dir, fmt.Errorf("create spool: %w", err)
		}
	}
	if err := os.Mkdir(filepath.Join(temp, "work"), 0o700); err != nil {
		return dir, fmt.Errorf("create spool: %w", err)
	}
	for name, content := range files {
		path := filepath.Join(temp, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return dir, fmt.Errorf("create spool: %w", err)
		}
		mode := fs.FileMode(0o600)
		if bytes.HasPrefix(content, []byte("#!")) {
			mode = 0o700
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			return dir, fmt.Errorf("create spool: %w", err)
		}
	}
	if log != "" {
		if err := os.Rename(log, filepath.Join(temp, "log")); err != nil {
			return dir, fmt.Errorf("create spool: %w", err)
		}
	}
	if err := os.Rename(temp, dir.Path); err != nil {
		if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
			return dir, nil
		}
		return dir, fmt.Errorf("create spool: %w", err)
	}
	return dir, nil
}

// Exists reports whether the spool is there.
func (d Dir) Exists() bool {
	_, err := os.Stat(d.file("launch.json"))
	return err == nil
}

func (d Dir) file(name string) string { return filepath.Join(d.Path, name) }

// Log is the path of the log file.
func (d Dir) Log() string { return d.file("log") }

// Work is the path of the working folder.
func (d Dir) Work() string { return d.file("work") }

// Launch reads what to run.
func (d Dir) Launch() (Launch, error) {
	launch, err := d.settings()
	if err != nil {
		return launch, err
	}
	raw, err := os.ReadFile(d.file("run.json"))
	if err != nil {
		return launch, fmt.Errorf("read launch: %w", err)
	}
	if launch.Run, err = document.DecodeObject(raw); err != nil {
		return launch, fmt.Errorf("read run of %s: %w", d.Path, err)
	}
	return launch, nil
}

// Values are those that are masked: of Secrets, and Hidden.
func (l Launch) Values() []string {
	values := make([]string, 0, len(l.Secrets)+len(l.Hidden))
	for _, entry := range l.Secrets {
		_, value, _ := strings.Cut(entry, "=")
		values = append(values, value)
	}
	return append(values, l.Hidden...)
}

// Values are those of the launch, nil when there is none.
func (d Dir) Values() []string {
	launch, err := d.settings()
	if err != nil {
		return nil
	}
	return launch.Values()
}

// Conceal adds values to those that are masked.
func (d Dir) Conceal(values []string) error {
	return d.rewrite(func(launch *Launch) bool {
		before := len(launch.Hidden)
		for _, value := range values {
			if value != "" && !slices.Contains(launch.Values(), value) {
				launch.Hidden = append(launch.Hidden, value)
			}
		}
		return len(launch.Hidden) > before
	})
}

// Forget takes the secrets out of the launch, for good.
func (d Dir) Forget() error {
	return d.rewrite(func(launch *Launch) bool {
		had := len(launch.Secrets)+len(launch.Hidden) > 0
		launch.Secrets, launch.Hidden = nil, nil
		return had
	})
}

// settings is the launch without its run.
func (d Dir) settings() (launch Launch, err error) {
	raw, err := os.ReadFile(d.file("launch.json"))
	if err != nil {
		return launch, fmt.Errorf("read launch: %w", err)
	}
	if err := json.Unmarshal(raw, &launch); err != nil {
		return launch, fmt.Errorf("read launch of %s: %w", d.Path, err)
	}
	return launch, nil
}

// rewrite replaces the launch by what change makes of it, if that says so.
func (d Dir) rewrite(change func(launch *Launch) bool) error {
	launch, err := d.settings()
	if err != nil || !change(&launch) {
		return err
	}
	raw, err := json.Marshal(launch)
	if err != nil {
		return fmt.Errorf("write launch: %w", err)
	}
	temp := d.file(".launch.json")
	if err := os.WriteFile(temp, raw, 0o600); err != nil {
		return fmt.Errorf("write launch: %w", err)
	}
	return os.Rename(temp, d.file("launch.json"))
}

// Remove deletes the spool with all it holds; a missing one is no error.
func (d Dir) Remove() error { return os.RemoveAll(d.Path) }

// ErrHeld is returned by Acquire while another process holds the lock.
var ErrHeld = filelock.ErrHeld

// Acquire takes the lock for this process until its release or its death. ErrHeld
// when another process has it.
func (d Dir) Acquire() (*filelock.Lock, error) { return filelock.Acquire(d.file("lock")) }

// Alive reports whether a runner holds the lock now.
func (d Dir) Alive() bool { return filelock.Held(d.file("lock")) }

// Signal sends sig to the living runner; false when none lives, or when it is
// this process.
func (d Dir) Signal(sig syscall.Signal) bool {
	pid := filelock.Holder(d.file("lock"))
	return pid > 1 && pid != os.Getpid() && syscall.Kill(pid, sig) == nil
}

// Begin marks that user code is about to be touched. It fails with
// fault.CodeConflict when that happened before: an execution begins once.
func (d Dir) Begin() error {
	file, err := os.OpenFile(d.file("begun"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fault.Conflict("the execution in %s has begun before; a retry needs a new attempt", d.Path)
	}
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	return file.Close()
}

// Begun reports whether Begin succeeded in some process.
func (d Dir) Begun() bool {
	_, err := os.Stat(d.file("begun"))
	return err == nil
}

// Note writes a small named fact, such as the path of the limits group, that
// another process needs to clean up after a killed runner.
func (d Dir) Note(name, value string) error {
	return os.WriteFile(d.file("note-"+name), []byte(value), 0o600)
}

// Noted reads a fact written by Note, "" when there is none.
func (d Dir) Noted(name string) string {
	raw, err := os.ReadFile(d.file("note-" + name))
	if err != nil {
		return ""
	}
	return string(raw)
}

// Journal appends records; it is safe for one goroutine.
type Journal struct {
	file *os.File
	buf  []byte
}

// OpenJournal opens the journal for appending.
func (d Dir) OpenJournal() (*Journal, error) {
	file, err := os.OpenFile(d.file("journal"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{file: file}, nil
}

// Append writes one record of type t as one line in one write; "t" and "time"
// are added to body, which may be nil.
func (j *Journal) Append(t string, body document.Object) error {
	j.Add(t, body)
	return j.Flush()
}

// Add is Append without the write, which Flush makes for all that was added.
func (j *Journal) Add(t string, body document.Object) {
	record := maps.Clone(body)
	if record == nil {
		record = document.Object{}
	}
	record["t"], record["time"] = t, time.Now()
	j.buf = append(document.Append(j.buf, record), '\n')
}

// Flush writes what was added, in one write.
func (j *Journal) Flush() error {
	_, err := j.file.Write(j.buf)
	j.buf = j.buf[:0]
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// Sync makes what was appended durable against a loss of power.
func (j *Journal) Sync() error { return j.file.Sync() }

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }

// Record is one line of the journal.
type Record struct {
	Type string
	Time time.Time
	Iter int
	Body document.Object
}

// maxRead bounds what one ReadJournal call takes into memory.
const maxRead = 1 << 20

// ReadJournal returns the complete records from byte offset on and the offset
// behind the last of them. A line without its end is left for the next call: it
// is still being written, or its writer was killed. At most a few MiB are read at
// a time; call again until no record comes.
func (d Dir) ReadJournal(offset int64) ([]Record, int64, error) {
	file, err := os.Open(d.file("journal"))
	if err != nil {
		return nil, offset, fmt.Errorf("read journal: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, offset, fmt.Errorf("read journal: %w", err)
	}
	size := info.Size() - offset
	if size <= 0 {
		return nil, offset, nil
	}
	limit := int64(maxRead)
	for {
		raw := make([]byte, min(size, limit))
		n, err := file.ReadAt(raw, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, offset, fmt.Errorf("read journal: %w", err)
		}
		raw = raw[:n]
		end := bytes.LastIndexByte(raw, '\n') + 1
		if end == 0 && int64(n) == limit && limit < size { // one record larger than the window
			limit *= 2
			continue
		}
		records, err := parse(raw[:end])
		return records, offset + int64(end), err
	}
}

func parse(raw []byte) ([]Record, error) {
	var records []Record
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		body, err := document.DecodeObject(line)
		if err != nil {
			return records, fmt.Errorf("journal record %.80q: %w", line, err)
		}
		record := Record{Type: document.String(body, "t"), Body: body}
		if at, err := document.ParseTime(document.String(body, "time")); err == nil {
			record.Time = at
		}
		if n, ok := document.Int(body, "iter"); ok {
			record.Iter = int(n)
		}
		records = append(records, record)
	}
	return records, nil
}

// Outcome reads an "end" record.
func (r Record) Outcome() Outcome {
	exit, _ := document.Int(r.Body, "exit")
	return Outcome{
		State: document.String(r.Body, "state"), Error: document.String(r.Body, "error"),
		Reason: document.String(r.Body, "reason"), Exit: int(exit), Signal: document.String(r.Body, "signal"),
	}
}

// Body renders o as the body of an "end" record.
func (o Outcome) Body() document.Object {
	body := document.Object{"state": o.State}
	if o.Error != "" {
		body["error"] = o.Error
	}
	if o.Reason != "" {
		body["reason"] = o.Reason
	}
	if o.Exit != 0 {
		body["exit"] = o.Exit
	}
	if o.Signal != "" {
		body["signal"] = o.Signal
	}
	return body
}
