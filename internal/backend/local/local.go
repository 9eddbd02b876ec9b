// Package local realises launches as processes on this machine: each in a spool
// below the data directory, by a runner that is detached from the server and
// outlives it.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/limits"
	"github.com/millrace/millrace/internal/runner"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/tune"
)

// Backend starts and watches runners. The zero value is not usable; see New.
type Backend struct {
	root       string
	executable string
	prelude    func(execution string) string
	logger     *slog.Logger

	// Ended, if any, is called with the spool of each runner that this process started
	// and that has ended. Set it before the first start.
	Ended func(dir spool.Dir)

	mu      sync.Mutex
	runners map[string]chan struct{} // execution → closed when the runner that we started is gone
}

// New returns a backend for the spools below dataDir. executable is the millrace
// binary that becomes the runner; prelude names the file with log lines from
// before the launch.
func New(dataDir, executable string, prelude func(string) string, logger *slog.Logger) *Backend {
	return &Backend{
		root: spool.Root(dataDir), executable: executable, prelude: prelude,
		logger: logger, runners: map[string]chan struct{}{},
	}
}

// Start implements control.Backend.
func (b *Backend) Start(_ context.Context, launch spool.Launch, files map[string][]byte) error {
	if files == nil {
		files = map[string][]byte{}
	}
	if said, err := os.ReadFile(b.prelude(launch.Execution)); err == nil {
		files["log"] = said
	}
	dir, err := spool.Create(b.root, launch, files)
	if err != nil {
		return err
	}
	_ = os.Remove(b.prelude(launch.Execution))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.starting(launch.Execution) || dir.Begun() || dir.Alive() {
		return nil
	}
	return b.spawn(launch.Execution, dir)
}

// starting reports whether a runner that this process started is there. One that
// ended before it began may be started again. b.mu is held.
func (b *Backend) starting(id string) bool {
	gone := b.runners[id]
	if gone == nil {
		return false
	}
	select {
	case <-gone:
		return false
	default:
		return true
	}
}

// spawn starts the runner in a session of its own, with the server's environment
// less what is the server's alone. b.mu is held.
func (b *Backend) spawn(id string, dir spool.Dir) error {
	output, err := os.OpenFile(filepath.Join(dir.Path, "runner.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open runner log: %w", err)
	}
	defer output.Close()
	if b.logger.Enabled(context.Background(), slog.LevelDebug) {
		if err := dir.Note("debug", "1"); err != nil {
			return fmt.Errorf("start runner: %w", err)
		}
	}
	cmd := exec.Command(b.executable, "exec", "--spool", dir.Path)
	cmd.Dir = dir.Path
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(Environment(os.Environ()), runner.ExecutionVariable+"="+id)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start runner: %w", err)
	}
	gone := make(chan struct{})
	b.runners[id] = gone
	// This goroutine ends with the runner, which is meant to outlive this process:
	// nobody waits for it.
	go func() {
		err := cmd.Wait()
		b.logger.Debug("runner ended", "execution", id, "result", fmt.Sprint(err))
		if b.Ended != nil {
			b.Ended(dir)
		}
		close(gone)
	}()
	return nil
}

// Environment is the part of a server's environment that executions may see.
func Environment(environ []string) []string {
	kept := environ[:0:0]
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if name == "MILLRACE_TOKEN" || name == "MILLRACE_DATABASE_URL" || strings.HasPrefix(name, "MILLRACE_SECRET") || name == runner.ExecutionVariable {
			continue
		}
		kept = append(kept, entry)
	}
	return kept
}

// State implements control.Backend.
func (b *Backend) State(id string) control.State {
	b.mu.Lock()
	starting := b.starting(id)
	b.mu.Unlock()
	dir := spool.Of(b.root, id)
	switch {
	case starting, dir.Alive():
		return control.Alive
	case dir.Begun():
		return control.Gone
	}
	return control.Absent
}

// Journal implements control.Backend.
func (b *Backend) Journal(id string, offset int64) ([]spool.Record, int64, error) {
	return spool.Of(b.root, id).ReadJournal(offset)
}

// Steer implements control.Backend.
func (b *Backend) Steer(id string, change tune.Steering) error {
	return spool.Of(b.root, id).Steer(change)
}

// Steering implements control.Backend.
func (b *Backend) Steering(id string, offset int64) ([]tune.Steering, error) {
	changes, _, err := spool.Of(b.root, id).Steering(offset)
	return changes, err
}

// ParameterFile is what an earlier attempt kept of its task's parameter file, nil
// when it kept none.
func (b *Backend) ParameterFile(id string) ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(spool.Of(b.root, id).Path, spool.ParameterFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// Stop implements control.Backend.
func (b *Backend) Stop(id string, force bool) {
	dir := spool.Of(b.root, id)
	if err := dir.Note("abort", "1"); err != nil {
		b.logger.Error("note abort", "execution", id, "error", err)
	}
	sig := syscall.SIGTERM
	if force {
		sig = syscall.SIGKILL
	}
	dir.Signal(sig)
}

// Clean implements control.Backend: it ends the processes that a killed runner
// left, through their limits group and by their environment.
func (b *Backend) Clean(id string) {
	dir := spool.Of(b.root, id)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if path := dir.Noted("group"); path != "" {
		if group, err := limits.Open(path); err == nil {
			if err := errors.Join(group.Kill(ctx), group.Close()); err != nil {
				b.logger.Error("clean limits group", "execution", id, "error", err)
			}
		}
	}
	if err := runner.Hide(dir); err != nil {
		b.logger.Error("hide secrets", "execution", id, "error", err)
	}
	if dir.Noted("clean") == "" { // its runner did not get to say that nothing is left
		if _, err := limits.KillTagged(ctx, runner.ExecutionVariable, id); err != nil {
			b.logger.Error("clean processes", "execution", id, "error", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.runners, id)
}

// Close waits for nothing and ends nothing: runners outlive the server. It lets go
// of those that have ended.
func (b *Backend) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.runners)
}

// Remove implements control.Backend.
func (b *Backend) Remove(id string) error {
	if err := os.Remove(b.prelude(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return spool.Of(b.root, id).Remove()
}

// Held implements control.Backend.
func (b *Backend) Held(id string) []string {
	launch, err := spool.Of(b.root, id).Launch()
	if err != nil {
		return nil // it has no spool yet, hence no devices
	}
	return launch.GPUs
}

// Changed implements control.Backend: it tells the end of runners that this
// process started; others are found by looking.
func (b *Backend) Changed(id string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	gone := b.runners[id]
	if gone == nil {
		return nil
	}
	select {
	case <-gone:
		return nil
	default:
		return gone
	}
}

// Detach starts the runner of a spool that exists, for a process that will not
// stay to watch it.
func (b *Backend) Detach(id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spawn(id, spool.Of(b.root, id))
}
