package activator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
	"unique"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/filelock"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/template"
)

// InheritFlag is the flag of the processor's command that names what it inherits.
const InheritFlag = "inherit"

// states of a function.
type state int

const (
	arriving state = iota // its processor has not ended
	parked
	waking // a processor is being started
	served // a processor has it
	gone   // nobody has it
)

// function is one that is held.
//
// Goroutines: one for each socket that takes events, which waits for a connection
// without taking it; one that serves the control socket; and, when something has come, one that
// starts the processor.
type function struct {
	activator *activator
	dir       realtime.Dir
	listen    string
	command   []string
	environ   []unique.Handle[string] // functions have most of it in common
	keeps     []string                // keys in activator.kept
	lock      *filelock.Lock
	files     []*os.File // control, http, own
	control   *controlListener

	environments []string // these two until it is added
	templates    []template.Spec

	mu    sync.Mutex
	state state
	done  chan struct{} // closed when it is served or gone
}

// controlListener is a listener of a control socket; base has the function.
type controlListener struct {
	net.Listener
	base context.Context
}

type functionKey struct{}

// newFunction makes it of what was received, and closes files with an error.
func newFunction(a *activator, r request, files []*os.File) (*function, error) {
	f := &function{
		activator: a, dir: realtime.Dir{Path: r.Dir}, listen: r.Listen, command: r.Command, files: files[1:], environments: r.VirtualEnvs, templates: r.Templates,
		done: make(chan struct{}),
	}
	for _, entry := range r.Environ {
		f.environ = append(f.environ, unique.Make(entry))
	}
	var err error
	if f.lock, err = filelock.Inherit(files[0]); err != nil {
		for _, file := range files {
			file.Close()
		}
		return nil, err
	}
	listener, err := net.FileListener(f.files[0])
	if err != nil {
		f.drop()
		return nil, fmt.Errorf("take over the control socket: %w", err)
	}
	f.control = &controlListener{Listener: listener, base: context.WithValue(context.Background(), functionKey{}, f)}
	return f, nil
}

// drop closes what it has; whoever else has it goes on.
func (f *function) drop() {
	for _, file := range f.files {
		file.Close() // whoever waits for a connection ends
	}
	if f.control != nil {
		f.control.Close()
	}
	f.lock.Leave()
}

// begin waits for connections and orders.
func (f *function) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.activator
	if a.ctx.Err() != nil {
		f.state = gone
		f.drop()
		a.remove(f)
		close(f.done)
		return
	}
	f.state = parked
	a.work.Go(func() { _ = a.control.Serve(f.control) }) // until it is closed
	for _, file := range f.files[1:] {
		a.work.Go(func() {
			if wait(file) == nil {
				f.rouse()
			}
		})
	}
}

// wait returns when a connection has come, or with an error when file is closed.
func wait(file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

// rouse has a processor started, unless that is under way. It does not wait.
func (f *function) rouse() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != parked || f.activator.ctx.Err() != nil {
		return
	}
	f.state = waking
	f.activator.work.Go(f.wake)
}

// release lets go of a function that is parked: nobody serves it then. It returns
// what became of it.
func (f *function) release() state {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == parked {
		f.end(gone)
		f.lock.Release()
		close(f.done)
	}
	return f.state
}

// end closes the sockets; f.mu is held.
func (f *function) end(next state) {
	f.state = next
	for _, file := range f.files {
		file.Close()
	}
	f.control.Close()
	f.activator.remove(f)
}

// How often a processor is started that does not come to serve, and the pauses between.
const (
	tries      = 4
	firstPause = 250 * time.Millisecond
	serveTime  = time.Minute // a processor may take until it serves
)

// wake starts a processor. If none comes to serve the function is let go: whoever keeps
// it starts one himself, and says what is wrong.
func (f *function) wake() {
	a := f.activator
	var err error
	for try := range tries {
		if try > 0 {
			select {
			case <-a.ctx.Done():
			case <-time.After(firstPause << (try - 1)):
			}
		}
		select {
		case <-a.ctx.Done():
			err = a.ctx.Err()
		case a.starting <- struct{}{}:
			err = f.start()
			<-a.starting
		}
		if err == nil || a.ctx.Err() != nil {
			break
		}
		a.logger.Warn("a processor was started and does not serve", "folder", f.dir.Path, "error", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.end(served)
		f.lock.Leave()
		a.logger.Debug("woken", "folder", f.dir.Path)
	} else {
		f.end(gone)
		f.lock.Release()
		a.logger.Error("a parked function cannot be served and is let go", "folder", f.dir.Path, "error", err)
	}
	close(f.done)
}

// start starts a processor and waits until it serves.
func (f *function) start() error {
	log, err := os.OpenFile(filepath.Join(f.dir.Path, realtime.ProcessorLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open processor log: %w", err)
	}
	defer log.Close()
	told, serves, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start processor: %w", err)
	}
	defer told.Close()
	defer serves.Close()
	cmd := exec.Command(f.command[0], append(f.command[1:len(f.command):len(f.command)], "--"+InheritFlag, namesOf(f.listen))...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = f.dir.Path, log, log
	for _, entry := range f.environ {
		cmd.Env = append(cmd.Env, entry.Value())
	}
	cmd.ExtraFiles = append([]*os.File{serves, f.lock.File()}, f.files...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start processor: %w", err)
	}
	serves.Close()
	ended := make(chan error, 1)
	// This goroutine ends with the processor, which is meant to outlive this process:
	// nobody waits for it.
	go func() { ended <- cmd.Wait() }()
	stop := context.AfterFunc(f.activator.ctx, func() { told.Close() }) // it has all it needs without us
	defer stop()
	_ = told.SetReadDeadline(time.Now().Add(serveTime))
	var word [1]byte
	if n, err := told.Read(word[:]); n == 1 || f.activator.ctx.Err() != nil {
		return nil
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = cmd.Process.Kill()
		<-ended
		return fmt.Errorf("it did not serve within %v", serveTime)
	}
	if err := <-ended; err != nil {
		return err
	}
	return errors.New("it ended")
}
