package run

import (
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Transition reports whether a run in state from may move to state to. A run that
// has no state yet (from "") may take any; staying where it is is always allowed.
//
//	created, pending, running, pendingRetry, unknown ──► any state
//	aborting ──► aborting, aborted, error
//	completed, error, aborted, skipped ──► themselves
//
// The live states may follow each other in any order, because the clients that
// write them are not ordered: the process that runs the user's code, the program
// that waits for it, and the server.
func Transition(from, to State) bool {
	switch {
	case from == to, from == "":
		return true
	case from.Terminal():
		return false
	case from == Aborting:
		return to == Aborted || to == Error
	}
	return true
}

// ParseState reads a state word as a client wrote it; "" is "". Errors carry
// fault.CodeInvalid and list the states.
func ParseState(word string) (State, error) {
	if s := State(word); word == "" || s.Known() {
		return s, nil
	}
	words := make([]string, 0, len(States()))
	for _, s := range States() {
		words = append(words, string(s))
	}
	return "", fault.Invalid("status.state: unknown run state %q; it has to be one of %s", clip(word), strings.Join(words, ", "))
}

// StateOf returns the state in doc, "" when it has none.
func StateOf(doc document.Object) State { return State(document.String(doc, "status", "state")) }

// clip shortens what a client wrote so that it can stand in a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
