package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/document"
)

// Target executes cases. A backend joins the suite by implementing it.
type Target interface {
	// Run executes the case whose files are in dir and returns what a user sees
	// of it. An error means that the target itself did not work; a run that fails
	// is an outcome.
	Run(ctx context.Context, c Case, dir string) (Outcome, error)
	// Lacks returns why this target or machine does not offer an ability that a
	// case needs, "" when it does.
	Lacks(need string) string
}

// CLI is the target that is reached through the command line, with a server
// (Environment has MILLRACE_URL) or without.
type CLI struct {
	// Binary is the millrace executable.
	Binary string
	// Environment is what the command gets beside the environment of the test.
	Environment []string
	// AbortBySignal aborts by interrupting the command, as a user without a server
	// does; otherwise `millrace abort` is used.
	AbortBySignal bool
	// Missing says which abilities are not to be had, and why.
	Missing map[string]string
}

// Lacks implements Target.
func (t *CLI) Lacks(need string) string { return t.Missing[need] }

// Run implements Target.
func (t *CLI) Run(ctx context.Context, c Case, dir string) (Outcome, error) {
	project := projectOf(c)
	if _, err := t.command(ctx, dir, "project", "create", project).Output(); err != nil {
		return Outcome{}, fmt.Errorf("project create: %w", describe(err))
	}
	args := []string{"run", c.Source, "--project", project, "--output", "json"}
	args = append(args, t.taskArgs(c)...)
	cmd := t.command(ctx, dir, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout = &stdout
	watch := &watcher{needle: c.AbortWhenLog, seen: make(chan struct{})}
	cmd.Stderr = watch
	if err := cmd.Start(); err != nil {
		return Outcome{}, err
	}
	over := make(chan struct{})
	var aborting sync.WaitGroup
	var abortErr error
	if c.AbortWhenLog != "" {
		aborting.Go(func() {
			select {
			case <-watch.seen:
				abortErr = t.abort(ctx, cmd.Process, project, dir)
			case <-over:
			}
		})
	}
	err := cmd.Wait()
	close(over)
	aborting.Wait()
	stderr = watch.text
	if abortErr != nil {
		return Outcome{}, fmt.Errorf("abort: %w", abortErr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Outcome{}, err
	}
	if ctx.Err() != nil {
		return Outcome{}, fmt.Errorf("not over in time; it said: %s", short(stderr.String()))
	}
	out := Outcome{Exit: cmd.ProcessState.ExitCode(), Message: stderr.String()}
	if len(bytes.TrimSpace(stdout.Bytes())) == 0 {
		return out, nil
	}
	if out.Run, err = document.DecodeObject(stdout.Bytes()); err != nil {
		return Outcome{}, fmt.Errorf("standard output is not one JSON object (%w): %s", err, short(stdout.String()))
	}
	logs := t.command(ctx, dir, "logs", document.String(out.Run, "metadata", "uid"), "--project", project)
	if out.Log, err = logs.Output(); err != nil {
		return Outcome{}, fmt.Errorf("logs: %w", describe(err))
	}
	return out, nil
}

// taskArgs renders the task as the flags a user would type.
func (t *CLI) taskArgs(c Case) []string {
	var args []string
	flag := func(name, value string) {
		if value != "" {
			args = append(args, name, value)
		}
	}
	flag("--kind", c.Task.Kind)
	flag("--handler", c.Task.Handler)
	for _, key := range sortedKeys(c.Task.Params) {
		flag("--param", key+"="+literal(c.Task.Params[key]))
	}
	for _, key := range sortedKeys(c.Task.Inputs) {
		flag("--input", key+"="+c.Task.Inputs[key])
	}
	for _, requirement := range c.Task.Requirements {
		flag("--requirement", requirement)
	}
	return args
}

// literal renders a parameter for --param: JSON, which needs no thought about
// what a bare word would be taken for.
func literal(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("conformance: a parameter of a case is not JSON: %v", err))
	}
	return string(data)
}

func (t *CLI) abort(ctx context.Context, process *os.Process, project, dir string) error {
	if t.AbortBySignal {
		return process.Signal(syscall.SIGINT)
	}
	out, err := t.command(ctx, dir, "get", "runs", "--project", project, "--output", "json").Output()
	if err != nil {
		return fmt.Errorf("get runs: %w", describe(err))
	}
	runs, err := decodeList(out)
	if err != nil {
		return err
	}
	if len(runs) != 1 {
		return fmt.Errorf("project %s has %d runs, want 1", project, len(runs))
	}
	if _, err := t.command(ctx, dir, "abort", document.String(runs[0], "metadata", "uid"), "--project", project).Output(); err != nil {
		return describe(err)
	}
	return nil
}

func (t *CLI) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.Binary, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), t.Environment...)
	// A command that hangs is interrupted first, so that it can end what it started.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 15 * time.Second
	return cmd
}

// decodeList reads a list of objects, or an object with one list under "items".
func decodeList(data []byte) ([]document.Object, error) {
	var list []document.Object
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("not a JSON list (%w): %s", err, short(string(data)))
	}
	return list, nil
}

// describe puts what a command wrote to standard error into its error.
func describe(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

// projectOf gives each case a project of its own, so that it sees only its runs.
func projectOf(c Case) string { return slug("c-" + c.topic + "-" + c.Name) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// watcher keeps what is written to it and closes seen once that contains needle.
type watcher struct {
	text   bytes.Buffer
	needle string
	seen   chan struct{}
	done   bool
}

// Write implements io.Writer; os/exec calls it from one goroutine, and Wait
// returns after the last call.
func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if w.needle != "" && !w.done && strings.Contains(w.text.String(), w.needle) {
		w.done = true
		close(w.seen)
	}
	return n, err
}
