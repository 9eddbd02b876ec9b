package realtime

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/limits"
)

// The modes of a revision.
const (
	ModeHandler = "handler" // Python workers call handler(context, event)
	ModeProgram = "program" // workers are a program that speaks the worker protocol, such as one in Go
	ModeCommand = "command" // a program that speaks HTTP on the port $PORT
)

// KindJobs is the kind of functions whose events are runs for handlers of jobs.
const KindJobs = "nuclio:mlrun"

// The kinds of triggers.
const (
	TriggerHTTP = "http"
	TriggerCron = "cron"
)

// Revision is one launch of a function: everything that its workers need. It is
// written once, and holds environment values, so that only its owner can read it.
// Durations are in nanoseconds in the file.
type Revision struct {
	Number  int    `json:"number"` // ≥ 1, grows with every deployment
	Project string `json:"project"`
	Name    string `json:"name"`
	Tag     string `json:"tag,omitempty"`
	Hash    string `json:"hash,omitempty"` // of the function's version
	Kind    string `json:"kind,omitempty"` // nuclio, nuclio:mlrun, application
	// Description is what the function's author says of it.
	Description string `json:"description,omitempty"`
	Mode        string `json:"mode"`

	Python     string   `json:"python,omitempty"`      // interpreter
	VirtualEnv string   `json:"virtual_env,omitempty"` // folder of the environment that Python belongs to
	Runtime    string   `json:"runtime,omitempty"`     // folder of the embedded Python runtime
	File       string   `json:"file,omitempty"`        // code file, relative to the revision's folder or absolute
	Folder     string   `json:"folder,omitempty"`      // code folder, first on sys.path
	Bundle     string   `json:"bundle,omitempty"`      // tar.gz to extract to the revision's code folder, which is Folder then
	Handler    string   `json:"handler,omitempty"`     // name, module:name or module.name
	Command    []string `json:"command,omitempty"`     // argv, for ModeCommand and ModeProgram
	Port       int      `json:"port,omitempty"`        // for ModeCommand: where the program listens if not at $PORT
	Env        []string `json:"env,omitempty"`         // KEY=VALUE on top of the processor's own environment
	Secrets    []string `json:"secrets,omitempty"`     // like Env; the values are never shown
	Path       []string `json:"path,omitempty"`        // appended to sys.path
	Workdir    string   `json:"workdir,omitempty"`     // relative to the code folder, or absolute

	Triggers     []Trigger     `json:"triggers,omitempty"` // without one of kind http there is a default one
	NoHTTP       bool          `json:"no_http,omitempty"`  // there is no default trigger of kind http
	EventTimeout time.Duration `json:"event_timeout,omitempty"`
	ReadyTimeout time.Duration `json:"ready_timeout,omitempty"` // until all workers are up; 0 is DefaultReadyTimeout
	Grace        time.Duration `json:"grace,omitempty"`         // for events in progress when it drains; 0 is DefaultGrace
	LogLimit     int64         `json:"log_limit,omitempty"`     // bytes of log file that are kept; 0 is DefaultLogLimit
	LogLevel     string        `json:"log_level,omitempty"`     // from which on records of context.logger are written; "" is debug
	// Patient says that workers which cannot be started are no error before
	// ReadyTimeout is over.
	Patient bool `json:"patient,omitempty"`

	CPU    float64 `json:"cpu,omitempty"`    // cores, of all workers together
	Memory int64   `json:"memory,omitempty"` // bytes, of all workers together
	Pids   int     `json:"pids,omitempty"`

	// One replica has the workers that each trigger asks for. Their number follows
	// the load between Min and Max (0: Min, at least 1) so that the share
	// TargetUtilisation of them is busy. With Min 0 all of them end after IdleToZero
	// without an event, and come back with the next one.
	Replicas          Replicas      `json:"replicas"`
	TargetUtilisation float64       `json:"target_utilisation,omitempty"` // in (0, 1]; 0 is DefaultUtilisation
	IdleToZero        time.Duration `json:"idle_to_zero,omitempty"`       // 0 is DefaultIdleToZero
}

// Replicas are the bounds of scaling.
type Replicas struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// What holds where a revision says nothing.
const (
	DefaultReadyTimeout        = 60 * time.Second
	DefaultGrace               = 30 * time.Second
	DefaultLogLimit            = 64 << 20
	DefaultUtilisation         = 0.75
	DefaultIdleToZero          = 10 * time.Minute
	DefaultAvailabilityTimeout = 10 * time.Second
	DefaultBatchSize           = 10
	DefaultBatchDelay          = time.Second

	maxWorkers = 1024 // of one pool
	maxThreads = 256  // of one worker
)

// Trigger is a source of events with workers of its own.
type Trigger struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Workers int    `json:"workers,omitempty"` // of one replica; 0 is 1
	// AvailabilityTimeout is how long an event waits for a worker before it is
	// refused with 503. nil is DefaultAvailabilityTimeout, 0 refuses at once.
	AvailabilityTimeout *time.Duration `json:"availability_timeout,omitempty"`
	// Queue is how many events may wait; 0 is 1024 for every worker there may be.
	Queue int    `json:"queue,omitempty"`
	Batch *Batch `json:"batch,omitempty"` // the handler takes lists of events
	// Concurrency is how many events a coroutine handler has in progress in one
	// worker at most; 0 is 1000.
	Concurrency int `json:"concurrency,omitempty"`
	// Threads is how many events a worker of free-threaded Python handles at once; 0
	// is 1.
	Threads int `json:"threads,omitempty"`
	// Termination is how long a worker that shall end may take for what it has begun
	// and for its termination callback; 0 is the revision's Grace.
	Termination time.Duration `json:"termination,omitempty"`
	// Allocator names workers that all triggers with the same Allocator share; "" are
	// the trigger's own.
	Allocator string `json:"allocator,omitempty"`
	Cron      *Cron  `json:"cron,omitempty"` // for TriggerCron
}

// Batch collects events for a handler that takes lists.
type Batch struct {
	Size  int           `json:"size"`  // events at most; 0 is DefaultBatchSize
	Delay time.Duration `json:"delay"` // the first one waits at most; 0 is DefaultBatchDelay
}

// Cron fires events at times. Interval wins over Schedule.
type Cron struct {
	Schedule string            `json:"schedule,omitempty"` // five fields, six with seconds first, or @hourly and the like
	Interval time.Duration     `json:"interval,omitempty"`
	Zone     string            `json:"zone,omitempty"` // IANA name; "" is this machine's
	Body     string            `json:"body,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"`
	Path     string            `json:"path,omitempty"`
	Method   string            `json:"method,omitempty"`
}

// Check refuses what cannot be served, naming the field.
func (r *Revision) Check() error {
	switch {
	case r.Number < 1:
		return fault.Invalid("the revision's number is %d; numbers begin with 1", r.Number)
	case r.Project == "" || r.Name == "":
		return fault.Invalid("revision %d names no function: set project and name", r.Number)
	case r.Mode == ModeHandler && (r.Python == "" || r.Runtime == ""):
		return fault.Invalid("revision %d of %s names no interpreter: set python and runtime", r.Number, r.Name)
	case r.Mode == ModeHandler && r.Handler == "":
		return fault.Invalid("revision %d of %s names no handler", r.Number, r.Name)
	case r.Mode == ModeProgram && len(r.Command) == 0:
		return fault.Invalid("revision %d of %s names no program: set command", r.Number, r.Name)
	case r.Mode == ModeCommand && len(r.Command) == 0:
		return fault.Invalid("revision %d of %s has no command: name the program that serves on $PORT", r.Number, r.Name)
	case r.Mode != ModeHandler && r.Mode != ModeProgram && r.Mode != ModeCommand:
		return fault.Invalid("revision %d of %s has the mode %q; modes are %s, %s and %s", r.Number, r.Name, r.Mode, ModeHandler, ModeProgram, ModeCommand)
	case r.Replicas.Min < 0 || r.Replicas.Max < 0 || r.Replicas.Max > 0 && r.Replicas.Max < r.Replicas.Min:
		return fault.Invalid("%s has replicas from %d to %d; the least cannot be over the most, nor negative", r.Name, r.Replicas.Min, r.Replicas.Max)
	case r.TargetUtilisation < 0 || r.TargetUtilisation > 1:
		return fault.Invalid("%s has the target utilisation %v; it is a share between 0 and 1", r.Name, r.TargetUtilisation)
	case r.EventTimeout < 0 || r.ReadyTimeout < 0 || r.Grace < 0 || r.IdleToZero < 0:
		return fault.Invalid("a timeout of %s is negative", r.Name)
	case r.Port < 0 || r.Port > 65535:
		return fault.Invalid("%s listens on the port %d; ports are below 65536", r.Name, r.Port)
	}
	if err := (limits.Limits{CPU: r.CPU, Memory: r.Memory, Pids: r.Pids}).Check(); err != nil {
		return err
	}
	return r.checkTriggers()
}

func (r *Revision) checkTriggers() error {
	seen, shared := map[string]bool{}, map[string]Trigger{}
	http := 0
	for _, t := range r.Triggers {
		switch {
		case t.Name == "" || seen[t.Name]:
			return fault.Invalid("%s has two triggers of the name %q; names are unique and not empty", r.Name, t.Name)
		case t.Workers < 0 || t.Workers*max(r.Replicas.Max, 1) > maxWorkers:
			return fault.Invalid("the trigger %s of %s asks for %d workers; up to %d of all replicas are possible", t.Name, r.Name, t.Workers, maxWorkers)
		case t.Threads < 0 || t.Threads > maxThreads:
			return fault.Invalid("the trigger %s of %s asks for %d threads; a worker has from 1 to %d", t.Name, r.Name, t.Threads, maxThreads)
		case t.Threads > 1 && t.Batch != nil:
			return fault.Invalid("the trigger %s of %s has a batch and threads; a handler of batches takes them one after the other", t.Name, r.Name)
		case t.Threads > 1 && (r.Mode != ModeHandler || r.Kind == KindJobs):
			return fault.Invalid("the trigger %s of %s asks for threads, which handlers of events in Python have", t.Name, r.Name)
		case t.Queue < 0 || t.Concurrency < 0 || t.AvailabilityTimeout != nil && *t.AvailabilityTimeout < 0:
			return fault.Invalid("a limit of the trigger %s of %s is negative", t.Name, r.Name)
		case t.Termination < 0:
			return fault.Invalid("the termination timeout of the trigger %s of %s is negative", t.Name, r.Name)
		case t.Batch != nil && (t.Batch.Size < 0 || t.Batch.Delay < 0):
			return fault.Invalid("the batch of the trigger %s of %s is negative", t.Name, r.Name)
		}
		seen[t.Name] = true
		if first, ok := shared[t.Allocator]; ok && !t.alike(first) {
			return fault.Invalid("the triggers %s and %s of %s share the workers %s, and have different batches or threads; say the same of both", first.Name, t.Name, r.Name, t.Allocator)
		}
		if t.Allocator != "" {
			shared[t.Allocator] = t
		}
		switch t.Kind {
		case TriggerHTTP:
			http++
		case TriggerCron:
			if _, err := t.Cron.Timetable(); err != nil {
				return fmt.Errorf("the trigger %s of %s: %w", t.Name, r.Name, err)
			}
		default:
			return fault.NotSupported("the trigger %s of %s is of the kind %q; this version has %s and %s", t.Name, r.Name, t.Kind, TriggerHTTP, TriggerCron)
		}
	}
	if http > 1 {
		return fault.Invalid("%s has %d triggers of kind http; one is possible", r.Name, http)
	}
	return nil
}

// alike reports whether t and other may share workers.
func (t Trigger) alike(other Trigger) bool {
	if (t.Batch == nil) != (other.Batch == nil) || t.Batch != nil && *t.Batch != *other.Batch {
		return false
	}
	return max(t.Threads, 1) == max(other.Threads, 1)
}

// WithDefaults returns the revision with its default trigger and values.
func (r Revision) WithDefaults() Revision {
	triggers := make([]Trigger, 0, len(r.Triggers)+1)
	http := r.NoHTTP
	for _, t := range r.Triggers {
		triggers = append(triggers, t.withDefaults(r))
		http = http || t.Kind == TriggerHTTP
	}
	if !http {
		triggers = append(triggers, Trigger{Name: "default-http", Kind: TriggerHTTP}.withDefaults(r))
	}
	r.Triggers = triggers
	orDefault(&r.ReadyTimeout, DefaultReadyTimeout)
	orDefault(&r.Grace, DefaultGrace)
	orDefault(&r.LogLimit, DefaultLogLimit)
	orDefault(&r.TargetUtilisation, DefaultUtilisation)
	orDefault(&r.IdleToZero, DefaultIdleToZero)
	if r.Replicas.Max == 0 {
		r.Replicas.Max = max(r.Replicas.Min, 1)
	}
	return r
}

func (t Trigger) withDefaults(r Revision) Trigger {
	orDefault(&t.Workers, 1)
	orDefault(&t.Concurrency, 1000)
	orDefault(&t.Threads, 1)
	if t.AvailabilityTimeout == nil {
		timeout := DefaultAvailabilityTimeout
		t.AvailabilityTimeout = &timeout
	}
	if t.Queue == 0 {
		t.Queue = 1024 * t.Workers * t.Threads * max(r.Replicas.Max, r.Replicas.Min, 1)
	}
	if t.Batch != nil {
		batch := *t.Batch
		orDefault(&batch.Size, DefaultBatchSize)
		orDefault(&batch.Delay, DefaultBatchDelay)
		t.Batch = &batch
	}
	return t
}

func orDefault[T comparable](value *T, instead T) {
	var zero T
	if *value == zero {
		*value = instead
	}
}

// WithoutThreads returns the revision for an interpreter with a global lock: processes
// take the place of threads.
func (r Revision) WithoutThreads() Revision {
	r.Triggers = slices.Clone(r.Triggers)
	for i, t := range r.Triggers {
		if t.Threads > 1 {
			r.Triggers[i].Workers, r.Triggers[i].Threads = max(t.Workers, 1)*t.Threads, 0
		}
	}
	return r
}

// WorkDir is where workers run: the code folder, or what the revision says.
func (r *Revision) WorkDir(folder string) string {
	base := folder
	if r.Folder != "" {
		base = r.Folder
	}
	switch {
	case r.Workdir == "":
		return base
	case filepath.IsAbs(r.Workdir):
		return r.Workdir
	}
	return filepath.Join(base, r.Workdir)
}

// CodeFile is the absolute path of the code file, "" without one.
func (r *Revision) CodeFile(folder string) string {
	if r.File == "" || filepath.IsAbs(r.File) {
		return r.File
	}
	if r.Folder != "" {
		return filepath.Join(r.Folder, r.File)
	}
	return filepath.Join(folder, r.File)
}
