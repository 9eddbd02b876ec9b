// Package fault is the one error type that people see: a code that says whose
// mistake it is and one sentence that says what, where, and what to do.
//
// Anything that is not a *fault.Error is internal: it is logged whole and shown
// to callers as an internal error.
package fault

import (
	"errors"
	"fmt"
)

// Code says what kind of failure an error is. The API maps it to a status, the
// command line to an exit status; neither looks at the text.
type Code string

// The codes. Each has one HTTP status (see internal/api).
const (
	CodeInvalid      Code = "invalid"       // the caller's input is wrong: 400
	CodeUnauthorized Code = "unauthorized"  // no or bad credentials: 401
	CodeForbidden    Code = "forbidden"     // not allowed: 403
	CodeNotFound     Code = "not_found"     // no such thing: 404
	CodeConflict     Code = "conflict"      // exists already, or its state forbids this: 409
	CodePrecondition Code = "precondition"  // something else has to happen first: 412
	CodeTooLarge     Code = "too_large"     // over a stated limit: 413
	CodeNotSupported Code = "not_supported" // this server does not do that: 501
	CodeUnavailable  Code = "unavailable"   // full or starting, try again: 503
	CodeInternal     Code = "internal"      // our mistake: 500
)

// Error carries a code and a sentence that is safe to show. Err, if any, is the
// cause; it is logged, and shown only where Message already contains it.
type Error struct {
	Code    Code
	Message string
	Err     error
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

func newf(code Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Invalid reports a mistake in the caller's input; the text names the field, the
// value and the remedy.
func Invalid(format string, args ...any) error { return newf(CodeInvalid, format, args...) }

// NotFound reports that the named thing does not exist.
func NotFound(format string, args ...any) error { return newf(CodeNotFound, format, args...) }

// Conflict reports that the thing exists already or that its state forbids the request.
func Conflict(format string, args ...any) error { return newf(CodeConflict, format, args...) }

// Precondition reports that something else has to happen first.
func Precondition(format string, args ...any) error { return newf(CodePrecondition, format, args...) }

// Forbidden reports that the caller may not do this.
func Forbidden(format string, args ...any) error { return newf(CodeForbidden, format, args...) }

// Unauthorized reports missing or wrong credentials.
func Unauthorized(format string, args ...any) error { return newf(CodeUnauthorized, format, args...) }

// TooLarge reports an input over a stated limit.
func TooLarge(format string, args ...any) error { return newf(CodeTooLarge, format, args...) }

// NotSupported reports a request that this server does not serve.
func NotSupported(format string, args ...any) error { return newf(CodeNotSupported, format, args...) }

// Unavailable reports that the server cannot take the request now.
func Unavailable(format string, args ...any) error { return newf(CodeUnavailable, format, args...) }

// CodeOf returns the code of the first *Error in err's chain, CodeInternal for
// any other error and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// Is reports whether err carries code.
func Is(err error, code Code) bool { return err != nil && CodeOf(err) == code }

// Message returns the sentence to show for err: that of the first *Error in the
// chain with whatever was wrapped around it, or "internal error" for the rest.
func Message(err error) string {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return err.Error()
	}
	return "internal error"
}
