package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/internal/fault"
)

// The exit statuses. Their meaning never changes; docs/cli.md lists them.
const (
	ExitOK          = 0   // done; of `run`: the run completed
	ExitFailed      = 1   // the run failed, or the command could not do what was asked
	ExitUsage       = 2   // the command line is wrong
	ExitUnreachable = 3   // no server answers, or it cannot take the request now
	ExitAborted     = 130 // the run was aborted, or the command was interrupted
)

// usageError is a mistake in the command line; usage is printed with it.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// troubleError is the error of a command whose status 1 is an answer: it ends with
// status 2, as diff does.
type troubleError struct{ error }

func (e troubleError) Unwrap() error { return e.error }

// trouble makes a troubleError of what would end with status 1 and is no answer.
func trouble(err error) error {
	var code exitError
	if err == nil || errors.As(err, &code) || exitStatus(err) != ExitFailed {
		return err
	}
	return troubleError{err}
}

// exitError ends a command with a status and nothing more to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitStatus is the status for the error of a command.
func exitStatus(err error) int {
	var code exitError
	var usage *usageError
	var trouble troubleError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &trouble):
		return ExitUsage
	case interrupted(err):
		return ExitAborted
	case fault.Is(err, fault.CodeUnavailable):
		return ExitUnreachable
	}
	return ExitFailed
}

func interrupted(err error) bool {
	return errors.Is(err, errInterrupted) || errors.Is(err, errKilled) || errors.Is(err, context.Canceled)
}
