// Package run is the run object: one tracked execution of a function, its
// states, and how its document changes.
//
// A run is identified by project, uid and iteration; iteration 0 is the run
// itself, 1…N are children of an iterative task and share its uid. Terminal
// states are final: no store, update or late report changes them.
package run

import (
	"slices"
)

// State is the word in status.state; the spelling is part of the API.
type State string

// The states. Created, Pending, Running, PendingRetry, Aborting and Unknown are
// live; the rest are terminal.
const (
	Created      State = "created"
	Pending      State = "pending"
	Running      State = "running"
	Completed    State = "completed"
	Error        State = "error"
	Aborting     State = "aborting"
	Aborted      State = "aborted"
	Skipped      State = "skipped"
	Unknown      State = "unknown"
	PendingRetry State = "pendingRetry"
)

// States lists all states in the order of a run's life.
func States() []State {
	return []State{Created, Pending, Running, PendingRetry, Aborting, Unknown, Completed, Error, Aborted, Skipped}
}

// Terminal reports whether s is final.
func (s State) Terminal() bool {
	return s == Completed || s == Error || s == Aborted || s == Skipped
}

// Known reports whether s is one of States.
func (s State) Known() bool { return slices.Contains(States(), s) }

// Key identifies a run. Iter is 0 except for children of an iterative task.
type Key struct {
	Project string
	UID     string
	Iter    int
}
