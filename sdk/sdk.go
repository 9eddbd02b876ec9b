// Package sdk is for functions written in Go. A function is a program whose main
// calls Serve:
//
//	func main() {
//		sdk.Serve(func(ctx *sdk.Context, event *sdk.Event) (any, error) {
//			return "Hello, " + string(event.Body), nil
//		})
//	}
//
// Millrace builds it, starts it and hands it the events of the function's triggers,
// many at once: the handler runs in a goroutine of its own for each. Standard
// output and error are the function's log. The package needs nothing but the
// standard library.
package sdk

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// Handler answers one event. It is called from many goroutines at once.
//
// What it returns becomes the response: nil is status 204, a string or []byte the
// body of one with status 200, an io.Reader a body that is sent piece by piece as
// it is read (and closed, if it is an io.Closer); a *Response says everything, and
// any other value becomes JSON. An *Error has a status of its own; any other error,
// and a panic, is status 500, written to the log.
type Handler func(ctx *Context, event *Event) (any, error)

// Event is what a trigger hands to the function.
type Event struct {
	ID          string
	Method      string // of HTTP
	Path        string // below the function's address; bytes that are no UTF-8 are U+FFFD
	URL         string
	ContentType string
	Timestamp   time.Time
	Fields      map[string]string // of the query
	Headers     map[string]string // as they were written; of one that came several times the last
	Body        []byte
	Trigger     Trigger
}

// Trigger is what an event came by.
type Trigger struct {
	Kind string `json:"kind"` // http, cron …
	Name string `json:"name"`
}

// Context is the surroundings of one event. As a context.Context it ends when the
// handler has returned.
type Context struct {
	context.Context
	// Logger writes to the function's log, and to the response when the caller asked
	// for log records.
	Logger *slog.Logger
	// Worker is the number of this process among those of its trigger.
	Worker string
}

// Error is an error with a status of its own and a text for the caller.
type Error struct {
	Status int // 400 to 599
	Text   string
}

func (e *Error) Error() string { return e.Text }

// Errorf returns an *Error.
func Errorf(status int, format string, args ...any) error {
	return &Error{Status: status, Text: fmt.Sprintf(format, args...)}
}

// workerVariable tells a program that it was started as a worker.
const workerVariable = "MILLRACE_WORKER"

// Serve serves events until there are no more, and ends the process.
func Serve(handler Handler) {
	if os.Getenv(workerVariable) == "" {
		fmt.Fprintln(os.Stderr, "this program is a function; deploy it: millrace deploy DIR --kind nuclio")
		os.Exit(64)
	}
	os.Exit(serveInherited(handler))
}
