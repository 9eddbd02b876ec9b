// Package runner is what runs beside the user's code: it takes an execution from
// its spool, starts the worker, makes the call, and writes the journal. It needs
// no server and no database, so a server may be killed and come back meanwhile.
//
// A runner ends in one of these ways, each told by the journal's end record:
// the call was answered (completed or error), the worker died (error, with its
// exit status or signal), it was asked to stop (aborted when the server asked,
// which the note "abort" tells). A runner that is killed writes no end record;
// who finds its lock free knows.
package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/datachannel"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/limits"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/worker"
)

// Options configure one run of a spool.
type Options struct {
	Logger *slog.Logger
	// Worker is a worker process that was started ahead of the launch, with its
	// output going to Output; nil starts one.
	Worker *worker.Worker
	Output *os.File
	// Observe, if any, sees every record as it is written to the journal.
	Observe func(t string, body document.Object)
	// Kill, when it is closed, ends the wait for a process that was asked to end:
	// it is killed. nil never is.
	Kill <-chan struct{}
	// Resolver returns what finds artifacts for an execution; nil refuses their URLs.
	Resolver func(launch spool.Launch) datastore.Resolver
	// Sync makes the journal and the log durable against a loss of power at the end.
	Sync bool
}

// Run executes the spool's launch to its end and returns the outcome. ctx ends it
// early. Errors are those of the runner itself: spool.ErrHeld when another runner
// has it, fault.CodeConflict when it has begun before.
func Run(ctx context.Context, dir spool.Dir, options Options) (spool.Outcome, error) {
	lock, err := dir.Acquire()
	if err != nil {
		return spool.Outcome{}, err
	}
	defer lock.Release()
	return RunHeld(ctx, dir, options)
}

// RunHeld is Run for a caller that holds the spool's lock.
func RunHeld(ctx context.Context, dir spool.Dir, options Options) (spool.Outcome, error) {
	launch, err := dir.Launch()
	if err != nil {
		return spool.Outcome{}, err
	}
	if err := dir.Begin(); err != nil {
		return spool.Outcome{}, err
	}
	journal, err := dir.OpenJournal()
	if err != nil {
		return spool.Outcome{}, err
	}
	defer journal.Close()
	r := &runner{Options: options, dir: dir, launch: launch, journal: journal}
	outcome := r.execute(ctx)
	outcome.Error = r.masker.String(outcome.Error)
	if len(r.launch.Values()) > 0 {
		if err := Hide(dir); err != nil { // whoever settles the execution tries again
			r.Logger.Error("hide secrets", "execution", launch.Execution, "error", err)
		}
	}
	if err := dir.Note("clean", "1"); err != nil {
		r.Logger.Error("note clean", "error", err)
	}
	if err := r.write("end", outcome.Body()); err != nil {
		return outcome, err
	}
	if options.Sync {
		return outcome, journal.Sync()
	}
	return outcome, nil
}

type runner struct {
	Options
	dir     spool.Dir
	launch  spool.Launch
	journal *spool.Journal
	group   *limits.Group
	forked  atomic.Bool // a worker is a template's child
	masker  *secret.Masker
	outputs []output             // artifacts whose content nobody has named yet
	data    *datachannel.Channel // nil until it is open
	order   []string             // of the parameters of an iterative task
}

func (r *runner) write(t string, body document.Object) error {
	if err := r.journal.Append(t, r.masker.Object(body)); err != nil {
		return err
	}
	if r.Observe != nil {
		r.Observe(t, body)
	}
	return nil
}

// execute never fails: whatever goes wrong becomes the outcome.
func (r *runner) execute(ctx context.Context) spool.Outcome {
	if err := r.unpack(); err != nil {
		return failed("code", err)
	}
	if err := r.conceal(); err != nil {
		return failed("start", err)
	}
	output := r.Output
	if output == nil {
		var err error
		if output, err = os.OpenFile(r.dir.Log(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
			return failed("start", fmt.Errorf("open log: %w", err))
		}
		defer output.Close()
	}
	if err := r.confine(); err != nil {
		return failed("limits", err)
	}
	defer r.sweep(context.WithoutCancel(ctx))
	lease, err := env.Use(r.launch.VirtualEnv) // until then nobody prunes it
	if err != nil {
		return failed("environment", err)
	}
	defer lease.Close() //nolint:errcheck // it ends with this process in any case
	if err := r.openData(); err != nil {
		return failed("start", err)
	}
	defer func() {
		if err := r.data.Close(); err != nil {
			r.Logger.Error("close data channel", "execution", r.launch.Execution, "error", err)
		}
	}()
	process, call, err := r.start(ctx, output)
	if err != nil {
		return failed("start", err)
	}
	defer process.Kill() //nolint:errcheck // gone already in all but the paths of failure
	watched, stop := r.watch(ctx, output)
	defer stop()
	host, _ := os.Hostname()
	document.Set(r.launch.Run, host, "metadata", "labels", "host")
	started := document.Object{"pid": process.PID(), "host": host, "limits": r.applied()}
	if r.launch.Provenance != nil {
		record, err := document.DecodeObject(r.launch.Provenance)
		if err != nil {
			return failed("start", err)
		}
		record["machine"] = r.machine(host)
		started["provenance"] = record
	}
	if err := r.write("started", started); err != nil {
		return failed("journal", err)
	}
	finish := r.observeInputs(watched)
	defer finish()
	switch {
	case call == nil:
		return r.command(watched, process)
	case r.launch.Search != nil:
		return r.iterations(watched, call, output)
	}
	return r.call(watched, call)
}

// confine makes the group that bounds the execution's processes. An execution
// without limits needs none: joining a control group takes longer than a short run.
func (r *runner) confine() (err error) {
	wanted := limits.Limits{CPU: r.launch.Limits.CPU, Memory: r.launch.Limits.Memory, Pids: r.launch.Limits.Pids}
	if wanted == (limits.Limits{}) {
		return limits.Adopt()
	}
	if r.group, err = limits.Create(r.launch.Execution, wanted); err != nil {
		return err
	}
	if path := r.group.Path(); path != "" {
		return r.dir.Note("group", path)
	}
	return nil
}

// sweep ends whatever the execution has left running.
func (r *runner) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := errors.Join(r.group.Kill(ctx), r.group.Close())
	switch {
	case r.group == nil && r.forked.Load(): // what it leaves is adopted by nobody
		_, err = limits.KillTagged(ctx, ExecutionVariable, r.launch.Execution)
	case r.group == nil:
		err = limits.KillAdopted(ctx, ExecutionVariable, r.launch.Execution)
	}
	if err != nil {
		r.Logger.Error("end what the execution left running", "execution", r.launch.Execution, "error", err)
	}
}

// ExecutionVariable is the environment variable by which the processes of an
// execution are found.
const ExecutionVariable = "MILLRACE_EXECUTION"

func failed(reason string, err error) spool.Outcome {
	text := fault.Message(err)
	if fault.CodeOf(err) == fault.CodeInternal {
		text = err.Error()
	}
	return spool.Outcome{State: "error", Reason: reason, Error: text}
}

// applied says which limits hold and by which means, for the run's status.
func (r *runner) applied() document.Object {
	applied := r.group.Applied()
	out := document.Object{"mechanism": cmp.Or(applied.Mechanism, "none")}
	if applied.CPU > 0 {
		out["cpu"] = applied.CPU
	}
	if applied.Memory > 0 {
		out["memory"] = applied.Memory
	}
	if applied.Pids > 0 {
		out["pids"] = applied.Pids
	}
	if len(applied.Unenforced) > 0 {
		out["unenforced"] = applied.Unenforced
	}
	return out
}

// unpack extracts the bundle of a folder's code.
func (r *runner) unpack() error {
	if r.launch.Bundle == "" {
		return nil
	}
	folder := filepath.Join(r.dir.Path, "code")
	if err := code.Extract(r.launch.Bundle, folder); err != nil {
		return err
	}
	r.launch.Folder = folder
	return nil
}

// start brings up the process, inside the limits, before it can touch user code.
// The worker is nil for a plain program.
func (r *runner) start(ctx context.Context, output *os.File) (*worker.Process, *worker.Worker, error) {
	if r.launch.Mode == spool.ModeCommand {
		argv, env := r.argv(), append(os.Environ(), r.environment()...)
		if !filepath.IsAbs(argv[0]) && strings.Contains(argv[0], "/") {
			argv[0] = filepath.Join(r.workdir(), argv[0])
		}
		process, err := worker.StartCommand(ctx, worker.Command{
			Argv: r.group.Wrap(argv), Env: env, Dir: r.workdir(), Stdout: output, Stderr: output,
		})
		return process, nil, err
	}
	w := r.Worker
	if w != nil {
		if err := r.group.Add(w.PID()); err != nil {
			return nil, nil, errors.Join(err, w.Kill())
		}
		return w.Process, w, nil
	}
	w, err := r.worker(ctx, output)
	if err != nil {
		return nil, nil, err
	}
	return w.Process, w, nil
}

// worker starts a worker within the limits of the execution.
func (r *runner) worker(ctx context.Context, output *os.File) (*worker.Worker, error) {
	w, err := worker.Start(ctx, worker.Spec{
		Interpreter: r.launch.Python, RuntimeDir: r.launch.Runtime, Env: append(os.Environ(), r.interpreterEnvironment()...),
		Stdout: output, Stderr: output, Template: r.launch.Template, Logger: r.Logger,
	})
	if err != nil {
		return nil, err
	}
	if w.Forked() {
		r.forked.Store(true)
	}
	if err := r.group.Add(w.PID()); err != nil {
		return nil, errors.Join(err, w.Kill())
	}
	return w, nil
}

// interpreterEnvironment is what has to be set before an interpreter starts.
func (r *runner) interpreterEnvironment() []string {
	var out []string
	for _, entry := range r.launch.Env {
		if strings.HasPrefix(entry, "PYTHON") && !strings.HasPrefix(entry, "PYTHONPATH=") {
			out = append(out, entry)
		}
	}
	return out
}

func (r *runner) workdir() string {
	base := r.dir.Work()
	if r.launch.Folder != "" {
		base = r.launch.Folder
	}
	switch {
	case r.launch.Workdir == "":
		return base
	case filepath.IsAbs(r.launch.Workdir):
		return r.launch.Workdir
	}
	return filepath.Join(base, r.launch.Workdir)
}

// file is the absolute path of the code file.
func (r *runner) file() string {
	switch {
	case r.launch.File == "" || filepath.IsAbs(r.launch.File):
		return r.launch.File
	case strings.HasPrefix(r.launch.File, "code/"):
		return filepath.Join(r.dir.Path, r.launch.File)
	}
	return filepath.Join(r.workdir(), r.launch.File)
}

func (r *runner) argv() []string {
	argv := make([]string, len(r.launch.Command))
	for i, word := range r.launch.Command {
		argv[i] = strings.ReplaceAll(word, kind.CodeFile, r.file())
	}
	return argv
}

const maxVariable = 120 << 10

// environment is what an execution sees on top of the runner's own environment.
func (r *runner) environment() []string {
	env := []string{
		ExecutionVariable + "=" + r.launch.Execution,
		"MLRUN_META_TMPFILE=" + r.metaFile(),
		"MLRUN_DEFAULT_PROJECT=" + r.launch.Project,
		"MLRUN_ACTIVE_PROJECT=" + r.launch.Project,
	}
	// A longer value could not be passed on to a program by the kernel.
	if config := document.Encode(r.launch.Run); len(config) < maxVariable {
		env = append(env, "MLRUN_EXEC_CONFIG="+string(config))
	}
	if r.data != nil {
		env = append(env, r.data.Environment())
	}
	if len(r.launch.GPUs) > 0 {
		env = append(env, "CUDA_VISIBLE_DEVICES="+strings.Join(r.launch.GPUs, ","))
	}
	return append(append(env, r.launch.Env...), r.launch.Secrets...)
}

func (r *runner) metaFile() string { return filepath.Join(r.dir.Path, "meta.json") }

// Why a runner ends its worker itself.
var (
	errLogFull = errors.New("log limit")
	errTimeout = errors.New("timeout")
)

// watch returns a context that ends when the time of the execution is over or its
// log grows over the limit; stop ends the watching and waits for it.
func (r *runner) watch(ctx context.Context, output *os.File) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if r.launch.LogLimit <= 0 && r.launch.Timeout <= 0 {
		return ctx, func() { cancel(nil) }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		var timeout <-chan time.Time
		if r.launch.Timeout > 0 {
			timer := time.NewTimer(r.launch.Timeout)
			defer timer.Stop()
			timeout = timer.C
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-timeout:
				cancel(errTimeout)
				return
			case <-ticker.C:
				if info, err := output.Stat(); err == nil && r.launch.LogLimit > 0 && info.Size() > r.launch.LogLimit {
					cancel(errLogFull)
					return
				}
			}
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}
