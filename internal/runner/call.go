package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/worker"
)

// call loads the code into the worker and makes the one call of the run.
func (r *runner) call(ctx context.Context, w *worker.Worker) spool.Outcome {
	run := r.launch.Run
	load := worker.Load{
		Mode: string(r.launch.Mode), File: r.file(), Folder: r.launch.Folder, Handler: r.launch.Handler,
		Args: r.argv(), Path: r.launch.Path, Env: r.environment(), Dir: r.workdir(), Run: run,
	}
	if _, err := w.Load(ctx, load); err != nil {
		return r.ended(ctx, w, worker.Answer{}, err)
	}
	answer, err := w.Call(ctx, worker.Call{Run: run}, func(event worker.Event) error {
		return r.write(event.Type, event.Body)
	})
	return r.ended(ctx, w, answer, err)
}

// command waits for a program; what it reported through the state file that the
// MLRun SDK writes is part of its result.
func (r *runner) command(ctx context.Context, w *worker.Worker) spool.Outcome {
	select {
	case <-w.Done():
		return r.ended(ctx, w, worker.Answer{}, nil)
	case <-ctx.Done():
		return r.ended(ctx, w, worker.Answer{}, ctx.Err())
	}
}

// ended turns the end of a call into an outcome, and makes sure that the worker is
// gone: a worker that has answered may end by itself, any other is stopped.
func (r *runner) ended(ctx context.Context, w *worker.Worker, answer worker.Answer, err error) spool.Outcome {
	interrupted := ctx.Err() != nil
	grace := r.launch.Grace
	if answered := err == nil; answered && !interrupted && r.launch.Mode != spool.ModeCommand {
		w.Finish() // no more calls: it may run its exit handlers
	}
	if interrupted {
		w.Terminate(grace)
	} else if err == nil {
		select {
		case <-w.Done():
		case <-ctx.Done():
			interrupted = true
			w.Terminate(grace)
		}
	} else {
		w.Terminate(min(grace, time.Second))
	}
	exit := w.Wait()
	if err := r.meta(); err != nil {
		r.Logger.Error("read state file", "execution", r.launch.Execution, "error", err)
	}
	var failure *worker.Failure
	switch {
	case interrupted && errors.Is(context.Cause(ctx), errLogFull):
		return spool.Outcome{State: "error", Reason: "log", Exit: exit.Code, Signal: exit.Signal,
			Error: fmt.Sprintf("the run was ended: its log grew over the limit of %d bytes", r.launch.LogLimit)}
	case interrupted && errors.Is(context.Cause(ctx), errTimeout):
		return spool.Outcome{State: "aborted", Reason: "timeout", Exit: exit.Code, Signal: exit.Signal,
			Error: fmt.Sprintf("the run was aborted: it executed for longer than %s; raise spec.state_thresholds.executing to allow more", r.launch.Timeout)}
	case interrupted && (err != nil || !answer.Complete):
		return spool.Outcome{State: "aborted", Reason: "stopped", Exit: exit.Code, Signal: exit.Signal}
	case errors.As(err, &failure):
		return spool.Outcome{State: "error", Reason: failure.Reason, Error: failure.Text, Exit: exit.Code, Signal: exit.Signal}
	case r.group.OOM():
		return spool.Outcome{State: "error", Reason: "oom", Exit: exit.Code, Signal: exit.Signal,
			Error: fmt.Sprintf("the process was killed: it used more than its memory limit of %d bytes; raise spec.resources.limits.memory", r.launch.Limits.Memory)}
	case err != nil:
		return spool.Outcome{State: "error", Reason: "exit", Error: died(exit, err), Exit: exit.Code, Signal: exit.Signal}
	case r.launch.Mode == spool.ModeCommand && (exit.Code != 0 || exit.Signal != ""):
		return spool.Outcome{State: "error", Reason: "exit", Error: exit.String() + r.lastLine(), Exit: exit.Code, Signal: exit.Signal}
	}
	return spool.Outcome{State: "completed"}
}

// died says how a worker ended without an answer.
func died(exit worker.Exit, err error) string {
	if exit.Signal == "" && exit.Code == 0 && !errors.Is(err, worker.ErrGone) {
		return err.Error()
	}
	return "the process ended before the handler returned: " + exit.String()
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
	for _, item := range document.List(doc, "status", "artifacts") {
		if artifact, ok := item.(document.Object); ok {
			if err := r.write("artifact", document.Object{"key": document.String(artifact, "metadata", "key"), "doc": artifact}); err != nil {
				return err
			}
		}
	}
	if text := document.String(doc, "status", "error"); text != "" {
		return r.write("update", document.Object{"error": text, "state": "error"})
	}
	return nil
}
