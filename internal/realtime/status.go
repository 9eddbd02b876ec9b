package realtime

import "time"

// State is what a revision is doing.
type State string

// The states of a revision.
const (
	StateStarting     State = "starting"
	StateReady        State = "ready"
	StateError        State = "error" // it cannot serve; Message says why
	StateDraining     State = "draining"
	StateScaledToZero State = "scaled-to-zero"
)

// Status is what a processor has brought about.
type Status struct {
	PID       int              `json:"pid"` // 0 when it is parked
	Started   time.Time        `json:"started"`
	Address   string           `json:"address,omitempty"` // HOST:PORT of the own port, "" without one
	TLS       bool             `json:"tls,omitempty"`
	State     State            `json:"state"`             // of the function: that of what has traffic, or shall have it
	Message   string           `json:"message,omitempty"` // one sentence, with state error or where something desired could not be done
	Routes    []Route          `json:"routes"`            // as they are served now
	Revisions []RevisionStatus `json:"revisions"`
	Draining  bool             `json:"draining,omitempty"` // the processor is about to end
	Parked    bool             `json:"parked,omitempty"`   // there is no process: the next request starts one
	Desired   string           `json:"desired,omitempty"`  // of one that is parked: digest of what it has brought about
	Updated   time.Time        `json:"updated"`
}

// RevisionStatus is the state of one revision.
type RevisionStatus struct {
	Number   int             `json:"number"`
	State    State           `json:"state"`
	Message  string          `json:"message,omitempty"`
	Handler  string          `json:"handler,omitempty"` // the name of what was loaded
	Triggers []TriggerStatus `json:"triggers,omitempty"`
}

// TriggerStatus is the state of a trigger's workers.
type TriggerStatus struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Workers  int    `json:"workers"`  // loaded and alive
	Busy     int    `json:"busy"`     // of them, with an event in progress
	Waiting  int    `json:"waiting"`  // events without a worker
	Handled  uint64 `json:"handled"`  // events answered by the handler
	Failed   uint64 `json:"failed"`   // events whose handler raised, or that no handler answered
	Restarts uint64 `json:"restarts"` // workers that crashed or hung, and were replaced
}

// Revision returns the status of a revision; ok is false if the processor has none of that number.
func (s *Status) Revision(number int) (status RevisionStatus, ok bool) {
	for _, r := range s.Revisions {
		if r.Number == number {
			return r, true
		}
	}
	return RevisionStatus{}, false
}
