package processor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/datachannel"
	"github.com/millrace/millrace/internal/limits"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/worker"
)

// revisionVariable marks what the workers of a revision start, so that whatever
// they leave behind is found.
const revisionVariable = "MILLRACE_REVISION"

// hire starts one worker for a trigger and loads the function into it.
func (s *serving) hire(trigger realtime.Trigger) hire {
	return func(ctx context.Context, number int) (*worker.Worker, string, error) {
		r := &s.spec
		spec := worker.Spec{
			Interpreter: r.Python, RuntimeDir: r.Runtime, Env: append(os.Environ(), s.interpreterEnvironment()...),
			Stdout: s.log, Stderr: s.log, Logger: s.logger, Template: s.warm.socket(ctx),
		}
		if r.Mode == realtime.ModeProgram { // it sees its environment before it is told what to serve
			spec.Program = r.Command
			for name, value := range s.environment(trigger) {
				spec.Env = append(spec.Env, name+"="+value)
			}
		}
		w, err := worker.Start(ctx, spec)
		if err != nil {
			return nil, "", err
		}
		if w.Forked() {
			s.forked.Store(true)
		}
		handler, err := s.load(ctx, w, trigger, number)
		if err != nil {
			_, gone := w.Terminate(time.Second)
			return nil, "", errors.Join(err, gone)
		}
		return w, handler, nil
	}
}

func (s *serving) load(ctx context.Context, w *worker.Worker, trigger realtime.Trigger, number int) (string, error) {
	if err := s.group.Add(w.PID()); err != nil {
		return "", err
	}
	begun, err := os.CreateTemp(s.folder, "begun-")
	if err != nil {
		return "", fmt.Errorf("start worker: %w", err)
	}
	defer os.Remove(begun.Name())
	if _, err := begun.Write(make([]byte, 8)); err != nil {
		begun.Close()
		return "", fmt.Errorf("start worker: %w", err)
	}
	go func() { // until nobody asks any more, which is when the worker is gone
		<-w.Done()
		begun.Close()
	}()
	r := &s.spec
	load := worker.Load{
		Mode: worker.ModeEvent, File: r.CodeFile(s.folder), Handler: r.Handler, Workdir: r.WorkDir(s.folder), PythonPath: r.Path,
		Env: s.environment(trigger),
		Event: &worker.EventLoad{
			TriggerKind: trigger.Kind, TriggerName: trigger.Name, Worker: strconv.Itoa(number), Batch: trigger.Batch != nil, Jobs: r.Kind == realtime.KindJobs, Threads: trigger.Threads, LogLevel: r.LogLevel,
			Begun: begun.Name(), Mark: worker.MarkOf(begun),
		},
	}
	if r.Folder != "" {
		load.Path = []string{r.Folder}
	}
	load.Report = s.warm.wondering()
	handler, err := w.Load(ctx, load)
	if modules, ok := w.Modules(); ok && err == nil {
		s.warm.learn(ctx, modules)
	}
	return handler, err
}

// interpreterEnvironment is what has to be set before an interpreter starts.
func (s *serving) interpreterEnvironment() []string {
	out := []string{revisionVariable + "=" + s.mark}
	for _, entry := range s.spec.Env {
		if strings.HasPrefix(entry, "PYTHON") && !strings.HasPrefix(entry, "PYTHONPATH=") {
			out = append(out, entry)
		}
	}
	return out
}

// environment is what the function's code finds, with the names that users of
// Nuclio know.
func (s *serving) environment(trigger realtime.Trigger) map[string]string {
	r := &s.spec
	out := map[string]string{
		"NUCLIO_FUNCTION_NAME": r.Name, "NUCLIO_FUNCTION_VERSION": r.Hash, "NUCLIO_FUNCTION_HANDLER": r.Handler, "NUCLIO_HANDLER": r.Handler,
		"NUCLIO_FUNCTION_DESCRIPTION": r.Description,
		"MILLRACE_FUNCTIONS":          filepath.Dir(s.home), "NUCLIO_FUNCTION_INSTANCE": r.Project + "-" + r.Name, "NUCLIO_TRIGGER": trigger.Name,
	}
	for _, entry := range append(append([]string{}, r.Env...), r.Secrets...) {
		if name, value, ok := strings.Cut(entry, "="); ok {
			out[name] = value
		}
	}
	if s.data != nil {
		out[datachannel.Variable] = s.data.Path()
	}
	return out
}

// confine makes the group that bounds the revision's processes.
func (s *serving) confine() error {
	wanted := limits.Limits{CPU: s.spec.CPU, Memory: s.spec.Memory, Pids: s.spec.Pids}
	if wanted == (limits.Limits{}) {
		return nil
	}
	group, err := limits.Create(fmt.Sprintf("%s-%s-%d", s.spec.Project, s.spec.Name, s.spec.Number), wanted)
	s.group = group
	return err
}

// sweep ends whatever the workers have left running.
func (s *serving) sweep() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(s.group.Kill(ctx), s.group.Close())
	switch {
	case s.group == nil && s.forked.Load(): // what they leave is adopted by nobody
		_, err = limits.KillTagged(ctx, revisionVariable, s.mark)
	case s.group == nil:
		err = limits.KillAdopted(ctx, revisionVariable, s.mark)
	}
	return err
}
