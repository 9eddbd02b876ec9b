package tune

import (
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Steering is a change of a task while it runs. What is 0, nil or empty stays.
type Steering struct {
	Parallel      int     // iterations at once
	MaxIterations int     // of random and tpe: how many there are in all, those that have ended included
	MaxErrors     int     // failed iterations that are put up with
	StopCondition *string // "" removes it
	Queue         []document.Object
}

// steeringNames are the keys of a Steering as a document.
var steeringNames = []string{"parallel", "max_iterations", "max_errors", "stop_condition", "queue"}

// ParseSteering reads a change as {"parallel", "max_iterations", "max_errors",
// "stop_condition", "queue"}; queue is one set of parameters or a list of them.
// Errors carry fault.CodeInvalid and name the field.
func ParseSteering(doc document.Object) (Steering, error) {
	var s Steering
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		if !slices.Contains(steeringNames, name) {
			return s, fault.Invalid("%s is not known; what can be changed is %s", name, strings.Join(steeringNames, ", "))
		}
	}
	for name, field := range map[string]*int{"parallel": &s.Parallel, "max_iterations": &s.MaxIterations, "max_errors": &s.MaxErrors} {
		if doc[name] == nil {
			continue
		}
		n, ok := document.ToInt(doc[name])
		if !ok || n < 1 || n > maxPoints {
			return s, fault.Invalid("%s must be a whole number from 1 on, got %s", name, document.Encode(doc[name]))
		}
		*field = int(n)
	}
	switch text := doc["stop_condition"].(type) {
	case nil:
	case string:
		text = strings.TrimSpace(text)
		if _, err := CompileStop(text); err != nil {
			return s, err
		}
		s.StopCondition = &text
	default:
		return s, fault.Invalid("stop_condition must be a string, got %s", document.TypeName(text))
	}
	points, ok := doc["queue"].([]any)
	if !ok && doc["queue"] != nil {
		points = []any{doc["queue"]}
	}
	for _, item := range points {
		point, ok := item.(document.Object)
		if !ok || len(point) == 0 {
			return s, fault.Invalid("queue must be parameters such as {\"rate\": 0.1}, or a list of them, got %s", document.Encode(item))
		}
		s.Queue = append(s.Queue, point)
	}
	if s.Empty() {
		return s, fault.Invalid("nothing is changed; give one of %s", strings.Join(steeringNames, ", "))
	}
	return s, nil
}

// Empty reports whether s changes nothing.
func (s Steering) Empty() bool {
	return s.Parallel == 0 && s.MaxIterations == 0 && s.MaxErrors == 0 && s.StopCondition == nil && len(s.Queue) == 0
}

// Document is what ParseSteering reads.
func (s Steering) Document() document.Object {
	out := document.Object{}
	for name, n := range map[string]int{"parallel": s.Parallel, "max_iterations": s.MaxIterations, "max_errors": s.MaxErrors} {
		if n > 0 {
			out[name] = n
		}
	}
	if s.StopCondition != nil {
		out["stop_condition"] = *s.StopCondition
	}
	if len(s.Queue) > 0 {
		list := make([]any, len(s.Queue))
		for i, point := range s.Queue {
			list[i] = point
		}
		out["queue"] = list
	}
	return out
}

// Over returns the change that s after before amounts to. Points that either
// queues are left out: they have been queued.
func (s Steering) Over(before Steering) Steering {
	out := before
	out.Queue = nil
	if s.Parallel > 0 {
		out.Parallel = s.Parallel
	}
	if s.MaxIterations > 0 {
		out.MaxIterations = s.MaxIterations
	}
	if s.MaxErrors > 0 {
		out.MaxErrors = s.MaxErrors
	}
	if s.StopCondition != nil {
		out.StopCondition = s.StopCondition
	}
	return out
}

// Check refuses a change that does not fit a task with these options.
func (s Steering) Check(o Options) error {
	if s.MaxIterations > 0 && o.Strategy != Random && o.Strategy != TPE {
		return fault.Invalid("max_iterations is for the strategies random and tpe; a grid or a list is as long as its values make it")
	}
	return nil
}
