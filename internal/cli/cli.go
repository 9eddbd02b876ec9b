// Package cli is the command line: one file a command, each an options struct, a
// constructor that declares flags, help and examples, and a run function on
// injected streams and clients.
//
// The rules all commands keep:
//
//   - Data goes to standard output, everything else to standard error. What a
//     function prints is data of `run` and `logs`; with -o json or yaml the one
//     document is, and the function's output goes to standard error.
//   - Colour, bars and lines that rewrite themselves appear on a terminal only;
//     what is piped has a stable form. NO_COLOR is honoured.
//   - Exit statuses are those of exit.go. Wrong usage prints the usage, any other
//     error is one sentence.
//   - A command talks to the server named by --server or MILLRACE_URL; without one
//     to the server that runs on the data directory; without that to the same API
//     opened within this process (System).
//
// Nothing happens at init time and commands are built on demand, because the time
// from exec to user code is a promise of the product.
package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// Main runs the command line in process and returns the exit status.
func Main(ctx context.Context, process Process, system System) int {
	signals := process.Signals
	if len(process.Args) > 0 && slices.Contains([]string{"exec", "processor", "activator"}, process.Args[0]) {
		signals = nil // they know themselves what signals mean, and how long its end may take
	}
	watch := watchSignals(ctx, signals)
	defer watch.stop()
	e := &env{Process: process, system: system, soft: watch.soft, hard: watch.hard}
	done := make(chan int, 1)
	go func() { done <- e.execute() }()
	select {
	case code := <-done:
		return code
	case <-watch.hard.Done():
	}
	if ctx.Err() != nil {
		return <-done
	}
	// The second signal: whatever the command is doing has a moment to end.
	select {
	case code := <-done:
		return code
	case <-time.After(killDelay):
		return ExitAborted
	}
}

// env is what every command works with.
type env struct {
	Process
	system     System
	soft, hard context.Context // see interrupts
	global     globalOptions
}

// execute runs the command and reports its error.
func (e *env) execute() int {
	root := newRoot(e)
	root.SetArgs(e.Args)
	command, err := root.ExecuteContextC(e.soft)
	if err == nil {
		return ExitOK
	}
	var code exitError
	if errors.As(err, &code) {
		return int(code)
	}
	status := exitStatus(err)
	switch {
	case status == ExitAborted:
		fmt.Fprintln(e.Stderr, "millrace: interrupted")
	case status == ExitUsage && !errors.As(err, new(troubleError)):
		fmt.Fprintf(e.Stderr, "millrace: %s\n\n", oneLine(err.Error()))
		fmt.Fprint(e.Stderr, command.UsageString())
	default:
		fmt.Fprintf(e.Stderr, "millrace: %s\n", oneLine(sentence(err)))
	}
	return status
}

// sentence is the text of an error that people see. Errors that are not faults
// happen on this machine (a file that cannot be written, a closed pipe), so their
// text is shown as well.
func sentence(err error) string {
	if fault.CodeOf(err) != fault.CodeInternal {
		return fault.Message(err)
	}
	return err.Error()
}

// oneLine keeps a message on one line.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// printf writes data to standard output.
func (e *env) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(e.Stdout, format, args...)
	return err
}

// say writes one line for the person to standard error; a failure to write there
// is nobody's concern.
func (e *env) say(format string, args ...any) {
	_, _ = fmt.Fprintf(e.Stderr, format+"\n", args...)
}
