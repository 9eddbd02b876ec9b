package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// Process is this process as the commands see it: a value, so that a test can be
// one.
type Process struct {
	Args    []string // without the program's name
	Getenv  func(string) string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Dir     string           // the working directory
	HomeDir string           // "" when there is none
	Signals <-chan os.Signal // interrupts and requests to terminate; nil: none ever
	// Terminal reports whether a stream is a terminal, and its width in columns (0:
	// unknown). It is asked late, and may be asked again when the window changes.
	Terminal func(stream io.Writer) (width int, is bool)
	// Version returns the version of this binary; nil means unknown.
	Version func() string
}

// terminal is Process.Terminal with a nil function meaning no terminal.
func (p *Process) terminal(stream io.Writer) (int, bool) {
	if p.Terminal == nil {
		return 0, false
	}
	return p.Terminal(stream)
}

var (
	errInterrupted = errors.New("interrupted")
	errKilled      = errors.New("interrupted twice")
)

// interrupts turns signals into two contexts: soft ends with the first signal
// ("stop in an orderly way"), hard with the second ("stop now").
type interrupts struct {
	soft, hard context.Context
	stop       func()
}

func watchSignals(ctx context.Context, signals <-chan os.Signal) *interrupts {
	hard, cancelHard := context.WithCancelCause(ctx)
	soft, cancelSoft := context.WithCancelCause(hard)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		first := true
		for {
			select {
			case <-stop:
				return
			case _, ok := <-signals:
				if !ok {
					signals = nil
					continue
				}
				if first {
					first = false
					cancelSoft(errInterrupted)
					continue
				}
				cancelHard(errKilled)
			}
		}
	}()
	return &interrupts{soft: soft, hard: hard, stop: func() {
		close(stop)
		<-stopped
		cancelSoft(nil)
		cancelHard(nil)
	}}
}

// killDelay is how long a command may take to return after the second signal.
const killDelay = 10 * time.Second

// version is Process.Version with a nil function meaning "unknown".
func (p *Process) version() string {
	if p.Version == nil {
		return "unknown"
	}
	return p.Version()
}
