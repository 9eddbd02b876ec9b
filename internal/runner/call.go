package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/template"
	"github.com/millrace/millrace/internal/worker"
)

// call loads the code into the worker and makes the one call of the run.
func (r *runner) call(ctx context.Context, w *worker.Worker) spool.Outcome {
	if _, err := w.Load(ctx, r.load(r.launch.Run)); err != nil {
		return r.ended(ctx, w.Process, worker.Answer{}, err)
	}
	answer, err := w.Call(ctx, worker.Call{}, func(event worker.Event) error {
		body := event.Doc
		delete(body, "t")
		if event.Iter > 0 {
			body["iter"] = event.Iter
		}
		if event.Type == "artifact" {
			r.noteOutput(body)
		}
		return r.write(event.Type, body)
	})
	r.learn(w)
	if err == nil { // no more calls: it has its grace period for exit handlers and threads
		draining, cancel := context.WithTimeout(ctx, r.launch.Grace)
		defer cancel()
		if _, err := w.Drain(draining); err != nil && ctx.Err() == nil {
			r.Logger.Info("the process did not end by itself after the call", "execution", r.launch.Execution, "reason", err)
		}
	}
	return r.ended(ctx, w.Process, answer, err)
}

// learn notes what the code imports, for the template of later runs.
func (r *runner) learn(w *worker.Worker) {
	modules, ok := w.Modules()
	if !ok || r.launch.Imports == "" {
		return
	}
	if err := template.Learn(r.launch.Imports, modules); err != nil {
		r.Logger.Info("what the code imports is not noted", "execution", r.launch.Execution, "reason", err)
	}
}

// load says what code a worker loads, for calls that belong to doc.
func (r *runner) load(doc document.Object) worker.Load {
	load := worker.Load{
		Mode: worker.ModeHandler, File: r.file(), Handler: r.launch.Handler, Workdir: r.workdir(),
		PythonPath: r.launch.Path, Env: Variables(r.environment()), Run: doc, Report: r.launch.Imports != "",
	}
	if r.launch.Mode == spool.ModeMain {
		load.Mode, load.Argv = worker.ModeMain, r.argv()
	}
	if r.launch.Folder != "" {
		load.Path = []string{r.launch.Folder}
	}
	return load
}

// Variables are KEY=VALUE entries as a map; the last of a name counts.
func Variables(environ []string) map[string]string {
	out := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			out[name] = value
		}
	}
	return out
}

// command waits for a program.
func (r *runner) command(ctx context.Context, process *worker.Process) spool.Outcome {
	select {
	case <-process.Done():
		return r.ended(ctx, process, worker.Answer{}, nil)
	case <-ctx.Done():
		return r.ended(ctx, process, worker.Answer{}, context.Cause(ctx))
	}
}

// terminate asks the process to end and kills it after grace, or when Kill says so.
func (r *runner) terminate(process *worker.Process, grace time.Duration) (worker.Exit, error) {
	over := make(chan struct{})
	var killing sync.WaitGroup
	killing.Go(func() {
		select {
		case <-r.Kill:
			if err := process.Kill(); err != nil {
				r.Logger.Error("kill process", "execution", r.launch.Execution, "error", err)
			}
		case <-over:
		}
	})
	defer killing.Wait()
	defer close(over)
	return process.Terminate(grace)
}

// ended makes sure that the process is gone, and turns how it ended into an
// outcome. err is nil when a call was answered or a program ended by itself.
func (r *runner) ended(ctx context.Context, process *worker.Process, answer worker.Answer, err error) spool.Outcome {
	grace := time.Second
	if ctx.Err() != nil && answer.State == "" {
		grace = r.launch.Grace
	}
	exit, terminateErr := r.terminate(process, grace)
	if terminateErr != nil {
		r.Logger.Error("end process", "execution", r.launch.Execution, "error", terminateErr)
	}
	if err := r.meta(); err != nil {
		r.Logger.Error("read state file", "execution", r.launch.Execution, "error", err)
	}
	outcome := spool.Outcome{State: string(run.Error), Exit: exit.Code, Signal: exit.SignalName()}
	fail := func(reason, format string, args ...any) spool.Outcome {
		outcome.Reason, outcome.Error = reason, fmt.Sprintf(format, args...)
		return outcome
	}
	var failure *worker.Failure
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errLogFull), errors.Is(cause, errTimeout), cause != nil && (err != nil || answer.State != run.Completed):
		return r.cut(cause, outcome)
	case answer.State == run.Completed:
		return spool.Outcome{State: string(run.Completed)}
	case answer.Failure != nil:
		return fail("exception", "%s", answer.Failure.Message)
	case errors.As(err, &failure):
		return fail("load", "%s", failure.Message)
	case r.group.OOM():
		return fail("oom", "the process was killed: it used more than its memory limit of %d bytes; raise spec.resources.limits.memory", r.launch.Limits.Memory)
	case r.launch.Mode == spool.ModeCommand && err == nil && exit.Success():
		return spool.Outcome{State: string(run.Completed)}
	case r.launch.Mode == spool.ModeCommand && err == nil:
		return fail("exit", "the process %s%s", exit, r.lastLine())
	case answer.State == run.Aborted:
		outcome.State = string(run.Aborted)
		return outcome
	}
	var died *worker.DiedError
	if errors.As(err, &died) && died.Cause == nil {
		return fail("exit", "the process %s before the handler returned", died.Exit)
	}
	return fail("worker", "%v", err)
}

// cut is the outcome of an execution that was ended from outside.
func (r *runner) cut(cause error, outcome spool.Outcome) spool.Outcome {
	switch {
	case errors.Is(cause, errLogFull):
		outcome.Reason, outcome.Error = "log", fmt.Sprintf("the run was ended: its log grew over the limit of %d bytes", r.launch.LogLimit)
		return outcome
	case errors.Is(cause, errTimeout):
		outcome.Reason, outcome.Error = "timeout", fmt.Sprintf("the run was aborted: it executed for longer than %s; raise spec.state_thresholds.executing to allow more", r.launch.Timeout)
	default:
		outcome.Reason = "stopped"
	}
	outcome.State = string(run.Aborted)
	return outcome
}

// lastLine quotes the end of the log of a failed program, which usually says why.
func (r *runner) lastLine() string {
	file, err := os.Open(r.dir.Log())
	if err != nil {
		return ""
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return ""
	}
	tail := make([]byte, min(info.Size(), 2000))
	if _, err := file.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(tail), []byte("\n"))
	last := bytes.ToValidUTF8(bytes.TrimSpace(lines[len(lines)-1]), []byte("\ufffd"))
	if len(last) == 0 {
		return ""
	}
	return "; its last line was: " + string(last[:min(len(last), 500)])
}

// meta journals what the user's code left in the file named by MLRUN_META_TMPFILE:
// the run as the MLRun SDK sees it. With a server the SDK reports over HTTP as
// well; both say the same.
func (r *runner) meta() error {
	raw, err := os.ReadFile(r.metaFile())
	if errors.Is(err, os.ErrNotExist) || err == nil && len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	doc, err := document.DecodeObject(raw)
	if err != nil {
		return err
	}
	update := document.Object{}
	for name, path := range map[string][]string{
		"results": {"status", "results"}, "labels": {"metadata", "labels"}, "annotations": {"metadata", "annotations"}, "parameters": {"spec", "parameters"},
	} {
		if value := document.Map(doc, path...); len(value) > 0 {
			update[name] = value
		}
	}
	if len(update) > 0 {
		if err := r.write("update", update); err != nil {
			return err
		}
	}
	artifacts := document.List(doc, "status", "artifacts")
	if Variables(r.environment())["MLRUN_DBPATH"] != "" {
		artifacts = nil // the SDK has stored them in the server itself, in full
	}
	for _, item := range artifacts {
		if artifact, ok := item.(document.Object); ok {
			body := document.Object{"key": document.String(artifact, "metadata", "key"), "doc": artifact}
			r.noteOutput(body)
			if err := r.write("artifact", body); err != nil {
				return err
			}
		}
	}
	if text := document.String(doc, "status", "error"); text != "" {
		return r.write("update", document.Object{"error": text, "state": "error"})
	}
	return nil
}
