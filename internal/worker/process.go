package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Command says what process to start. Argv[0] is a path or is looked up in the
// PATH of this process. Env nil means an empty environment, never this process's
// own. Stdout and Stderr may be the same file; nil is /dev/null. Standard input
// is /dev/null.
type Command struct {
	Argv   []string
	Env    []string
	Dir    string
	Stdout *os.File
	Stderr *os.File
	// Attr, when set, may change how the process is started (credentials, cgroup
	// descriptor, namespaces). Setpgid and the death signal are set already.
	Attr func(*syscall.SysProcAttr)

	extra []*os.File
}

// Process is one child process and the process group it leads. It dies with this
// process, and what it leaves behind in its group dies with it.
//
// One goroutine starts it, waits for it and closes done as its last act. That
// goroutine keeps its OS thread: on Linux the death signal of a child is tied to
// the thread that started it, not to the process.
type Process struct {
	pid  int
	done chan struct{}
	exit Exit // set before done is closed

	mu     sync.Mutex
	gone   bool // reaped, or about to be: the pid may belong to somebody else
	killed bool // Kill or Terminate was asked for
}

// StartCommand starts a process that does not speak the protocol: any executable.
// ctx is for the start alone.
func StartCommand(ctx context.Context, c Command) (*Process, error) {
	return startProcess(ctx, c, nil)
}

// startProcess starts c; ended, if not nil, is called after the process is gone
// and before Done says so.
func startProcess(ctx context.Context, c Command, ended func()) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if len(c.Argv) == 0 {
		return nil, errors.New("start process: the command is empty")
	}
	path, err := exec.LookPath(c.Argv[0])
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], unwrapPath(errors.Unwrap(err)))
	}
	cmd := &exec.Cmd{Path: path, Args: c.Argv, Env: c.Env, Dir: c.Dir, ExtraFiles: c.extra}
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	// An *os.File in an interface is not nil even when the pointer is.
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	if c.Stderr != nil {
		cmd.Stderr = c.Stderr
	}
	cmd.SysProcAttr = processAttr()
	if c.Attr != nil {
		c.Attr(cmd.SysProcAttr)
	}
	p := &Process{done: make(chan struct{})}
	started := make(chan error, 1)
	go p.supervise(cmd, started, ended)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], unwrapPath(err))
	}
	return p, nil
}

// unwrapPath drops the operation and path that package os puts before an error.
func unwrapPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		if path.Op == "chdir" {
			return fmt.Errorf("enter the working directory %s: %w", path.Path, path.Err)
		}
		return path.Err
	}
	return err
}

func (p *Process) supervise(cmd *exec.Cmd, started chan<- error, ended func()) {
	runtime.LockOSThread() // for good: the thread ends with this goroutine
	err := cmd.Start()
	if err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	waitUntilExited(p.pid)
	p.mu.Lock()
	// The leader is a zombie now, so its group's number cannot be anybody else's.
	p.gone = true
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	killed := p.killed
	p.mu.Unlock()
	err = cmd.Wait()
	p.exit = exitOf(cmd.ProcessState, err)
	p.exit.Killed = killed
	if ended != nil {
		ended()
	}
	close(p.done)
}

// PID returns the process id, which is also that of its group.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process is gone and everything it sent has been handled.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns how the process ended, once it has. It may be called often.
func (p *Process) Wait() Exit {
	<-p.done
	return p.exit
}

// Signal sends s to the whole group; to a process that is gone it does nothing.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil
	}
	if err := syscall.Kill(-p.pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process group %d: %w", signalName(s), p.pid, err)
	}
	return nil
}

// interrupt sends SIGINT to the process alone.
func (p *Process) interrupt() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil
	}
	return syscall.Kill(p.pid, syscall.SIGINT)
}

// Kill ends the group at once. It does not wait; Wait does.
func (p *Process) Kill() error {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	return p.Signal(syscall.SIGKILL)
}

// Terminate asks the group to end with SIGTERM, kills it after grace, and
// returns how the process ended. Zero grace kills at once.
func (p *Process) Terminate(grace time.Duration) (Exit, error) {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	if grace > 0 {
		if err := p.Signal(syscall.SIGTERM); err != nil {
			return Exit{}, err
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.done:
			return p.exit, nil
		case <-timer.C:
		}
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return Exit{}, err
	}
	return p.Wait(), nil
}
