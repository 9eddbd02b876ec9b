package cli

import (
	"context"
	"time"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/tune"
)

// System is what the commands need of the rest of the product. internal/app
// implements it; the commands themselves see only this and the HTTP client.
type System interface {
	// Connect returns a connection to the API of a data directory: over HTTP to the
	// server that runs there, otherwise to one opened within this process. It is
	// not asked when a server was named (--server, MILLRACE_URL).
	Connect(ctx context.Context, options ConnectOptions) (*Connection, error)

	// Running returns the URL of the server that runs on the data directory, ""
	// when none does. It is cheap and creates nothing.
	Running(dataDir string) string

	// Serve runs the server until ctx ends, then ends it in an orderly way. ready
	// is called once, with the base URL, when requests are answered.
	Serve(ctx context.Context, options ServeOptions, ready func(url string)) error

	// Run executes one run on the data directory within this process, where no
	// server runs, and returns when it is over (or queued, if request.Detach). The
	// error says why there is no run; a run that failed is a result. The end of
	// request.Abort aborts the run in an orderly way, which Run waits for; the end
	// of ctx kills it.
	Run(ctx context.Context, request RunRequest, observer Observer) (RunResult, error)

	// Resume continues an iterative task that was aborted, or whose runner was lost, in
	// the same way as Run executes one.
	Resume(ctx context.Context, request ResumeRequest, observer Observer) (RunResult, error)

	// Exec is the runner: it executes the spool folder and returns the exit status
	// of this process.
	Exec(ctx context.Context, spool string) int

	// Processor serves the deployed function of the folder dir until it is told to
	// end, and returns the exit status of this process. inherit names what the activator
	// has left open for it, "" for nothing.
	Processor(ctx context.Context, dir, inherit string) int

	// Activator holds the sockets of the functions of a data directory that nobody calls,
	// until there are none, and returns the exit status of this process.
	Activator(ctx context.Context, dataDir string) int
}

// ConnectOptions say which data directory a command works on.
type ConnectOptions struct {
	DataDir     string // never empty
	DatabaseURL string // "" means SQLite in DataDir
	Token       string // for the server that runs there; "" sends none
	Python      string // default interpreter; "" means the first found

	SecretKey     string // keys of secrets; "" means those of SecretKeyFile
	SecretKeyFile string // "" means secret.key in DataDir
}

// Connection is an open way to the API. Close it.
type Connection struct {
	Client    *client.Client
	Server    string       // base URL; "" when the API is in this process
	InProcess bool         // nothing goes on after Close
	Owner     bool         // the server's data directory is that of the command, and this user's
	Close     func() error // nil means nothing to close
}

// ServeOptions configure the server; zero values mean the stated defaults.
type ServeOptions struct {
	DataDir      string // never empty
	DatabaseURL  string // "" means SQLite in DataDir
	Listen       string // HOST:PORT; "" means 127.0.0.1:8080
	Backend      string // "" and "local" mean this machine
	Templates    int    // warm interpreters kept for environments; 0 none
	MaxRuns      int    // runs alive at once; 0 means twice the number of cores
	Python       string // default interpreter; "" means the first found
	ArtifactPath string // default artifact path; "" means a folder of DataDir
	Token        string // asked of every client; "" asks none
	Insecure     bool   // allow to serve beyond loopback without a token
	LogLevel     string // debug, info, warn or error; "" means info
	LogJSON      bool   // log lines are JSON objects

	SecretKey     string // see ConnectOptions
	SecretKeyFile string
}

// RunRequest is everything the flags of `millrace run` say. Function and
// Reference exclude each other.
type RunRequest struct {
	ConnectOptions

	// Function is the document of a function loaded from a file or folder, already
	// changed by the flags (kind, image, requirements, environment, …); nil when
	// Reference names a stored one.
	Function document.Object
	// Reference is [project/]name[:tag][@hash] of a stored function.
	Reference string
	// Overrides are changes of the stored function's spec for this run, as a
	// partial function document with the keys that submit_job overlays (env, image,
	// resources, …); nil for none.
	Overrides document.Object
	// Task is the run's document as submit_job takes it: metadata.uid and project
	// (always set), name ("" or absent: the system names it), labels; spec.handler,
	// parameters, inputs, output_path, state_thresholds, retry.
	Task document.Object

	Names []string // the hyperparameters of Task, in the order in which they were given

	EnsureProject bool            // create the project when it does not exist
	Detach        bool            // return when the run is queued; it goes on
	Abort         <-chan struct{} // closed: abort the run in an orderly way; nil: never
}

// UID is the run's uid.
func (r *RunRequest) UID() string { return document.String(r.Task, "metadata", "uid") }

// Project is the run's project.
func (r *RunRequest) Project() string { return document.String(r.Task, "metadata", "project") }

// ResumeRequest is everything that `millrace resume` says.
type ResumeRequest struct {
	ConnectOptions
	Key    run.Key
	Detach bool            // return when the run is queued; it goes on
	Abort  <-chan struct{} // as that of RunRequest
}

// RunResult is the outcome of a run.
type RunResult struct {
	Run      document.Object // as stored, with status.artifacts if there are any
	Detached bool            // the run was queued and goes on
	Search   string          // how far an iterative task is that has no table yet
}

// Observer is told how a run goes on, by one goroutine at a time, in order.
// It does not block for long: terminals and pipes are all it writes to.
type Observer interface {
	// Created is called once, when the run is stored and its uid is valid.
	Created(run document.Object)
	// Phase is called when the run enters a phase.
	Phase(change PhaseChange)
	// Progress tells how far the present phase is, such as the build of an environment.
	Progress(progress Progress)
	// Log passes bytes of the run's log; data is valid only during the call.
	Log(data []byte)
	// Results passes results as they come; iter is 0 but for child iterations.
	Results(iter int, results document.Object)
	// Search tells how far an iterative task is.
	Search(progress tune.Progress)
}

// Phase is a stretch of a run's life as a user sees it.
type Phase string

// The phases, in their order. A retry goes back to PhaseQueued.
const (
	PhaseQueued    Phase = "queued"    // accepted, waits for its turn
	PhasePreparing Phase = "preparing" // environment and code are made ready
	PhaseStarting  Phase = "starting"  // the worker loads the function
	PhaseRunning   Phase = "running"   // user code
	PhaseAborting  Phase = "aborting"  // an abort was asked for
	PhaseFinished  Phase = "finished"
)

// PhaseChange says which phase a run has entered.
type PhaseChange struct {
	Phase   Phase
	Attempt int       // from 1
	Text    string    // one line to add, such as the reason of a retry; may be ""
	Time    time.Time // zero means now
}

// Progress is how far a phase is.
type Progress struct {
	Text  string // what is being done, such as "installing scikit-learn"
	Done  int    // of Total; both 0 when unknown
	Total int
}
