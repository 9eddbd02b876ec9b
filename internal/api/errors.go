package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// failure is how a fault code looks on the wire: the status and the class that
// clients of this API raise for it.
type failure struct {
	status int
	class  string
}

var failures = map[fault.Code]failure{
	fault.CodeInvalid:      {http.StatusBadRequest, "MLRunInvalidArgumentError"},
	fault.CodeUnauthorized: {http.StatusUnauthorized, "MLRunUnauthorizedError"},
	fault.CodeForbidden:    {http.StatusForbidden, "MLRunAccessDeniedError"},
	fault.CodeNotFound:     {http.StatusNotFound, "MLRunNotFoundError"},
	fault.CodeConflict:     {http.StatusConflict, "MLRunConflictError"},
	fault.CodePrecondition: {http.StatusPreconditionFailed, "MLRunPreconditionFailedError"},
	fault.CodeTooLarge:     {http.StatusRequestEntityTooLarge, "MLRunHTTPError"},
	fault.CodeNotSupported: {http.StatusNotImplemented, "MLRunNotImplementedServerError"},
	fault.CodeUnavailable:  {http.StatusServiceUnavailable, "MLRunServiceUnavailableError"},
	fault.CodeInternal:     {http.StatusInternalServerError, "MLRunInternalServerError"},
}

// reasonError asks for the older error shape, {"detail": {"reason": …}}.
type reasonError struct{ err error }

func (e reasonError) Error() string { return e.err.Error() }
func (e reasonError) Unwrap() error { return e.err }

// withReason renders err with a reason object; nil stays nil.
func withReason(err error) error {
	if err == nil {
		return nil
	}
	return reasonError{err}
}

// renderError returns the status and the body for err. Internal errors show
// nothing of their text.
func renderError(err error) (int, []byte) {
	if fault.CodeOf(err) == fault.CodeInternal && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		err = fault.Unavailable("there is no room on a disk of the server: %w; free some space on it", err)
	}
	known := failures[fault.CodeOf(err)]
	message := fault.Message(err)
	var detail any = known.class + "(" + pythonRepr(message) + ")"
	var reason reasonError
	if errors.As(err, &reason) {
		detail = document.Object{"reason": message}
	}
	return known.status, document.Encode(document.Object{"detail": detail})
}

// pythonRepr quotes s as Python's repr does for a str.
func pythonRepr(s string) string {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var out strings.Builder
	out.Grow(len(s) + 2)
	out.WriteRune(quote)
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			out.WriteRune('\\')
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\r':
			out.WriteString(`\r`)
		case r == '\t':
			out.WriteString(`\t`)
		case unicode.IsPrint(r):
			out.WriteRune(r)
		case r < 0x100:
			out.WriteString(`\x` + hexDigits(r, 2))
		case r < 0x10000:
			out.WriteString(`\u` + hexDigits(r, 4))
		default:
			out.WriteString(`\U` + hexDigits(r, 8))
		}
	}
	out.WriteRune(quote)
	return out.String()
}

func hexDigits(r rune, width int) string {
	digits := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", max(0, width-len(digits))) + digits
}
