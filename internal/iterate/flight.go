package iterate

import (
	"maps"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

// flight is an iteration that is being executed.
type flight struct {
	trial   tune.Trial
	place   *place
	process Process
	ending  Ending

	// begun is when the code came to it: when it was sent, or when the one before it
	// in its process ended.
	begun time.Time
	// interrupted is why it was asked to end: "", or a word of status.reason.
	interrupted string
	deadline    time.Time // when its process is killed; zero for never
	shown       bool      // the journal has it as running
	shared      bool      // other processes wrote to the log meanwhile

	mu        sync.Mutex
	body      document.Object // results and what else belongs into its record
	artifacts []Record
	steps     int // reports of the metric
}

// The reasons for which an iteration is ended by this program.
const (
	reasonTimeout = "timeout"
	reasonEarly   = "early_stopping"
)

// merged are the parts of an update that are merged key by key.
var merged = []string{"results", "labels", "annotations", "parameters", "inputs"}

// observe takes an emission of the iteration. It returns the reported value of
// metric, when there is one.
func (f *flight) observe(t string, doc document.Object, metric string) (value float64, step int, reported bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch t {
	case "update":
		for _, part := range merged {
			if values := document.Map(doc, part); len(values) > 0 {
				into := document.Ensure(f.body, part)
				maps.Copy(into, values)
			}
		}
		if metric == "" {
			return 0, 0, false
		}
		results := document.Map(doc, "results")
		if value, reported = document.ToFloat(results[metric]); reported {
			f.steps++
		}
		return value, f.steps, reported
	case "artifact", "provenance":
		body := maps.Clone(doc)
		delete(body, "t")
		body["iter"] = f.trial.Iter
		f.artifacts = append(f.artifacts, Record{Type: t, Body: body})
	}
	return 0, 0, false
}

// log is where in the log its output is: begin and end of each part.
func (f *flight) log() []any {
	marks := f.ending.Own
	if marks == nil || !f.shared { // what the code's child processes wrote is in Log alone
		marks = f.ending.Log[:]
	}
	var out []any
	for i := 0; i+1 < len(marks); i += 2 {
		if marks[i+1] > marks[i] {
			out = append(out, marks[i], marks[i+1])
		}
	}
	return out
}

// results are those it has so far.
func (f *flight) results() document.Object { return document.Map(f.body, "results") }

// record is the child record of the iteration in a state.
func (f *flight) record(state string) document.Object {
	body := document.Clone(f.body) // a running iteration goes on changing it
	body["iter"], body["state"], body["start"] = f.trial.Iter, state, f.begun
	parameters := f.trial.Point.Object()
	if own := document.Map(body, "parameters"); own != nil {
		maps.Copy(parameters, own)
	}
	body["parameters"] = parameters
	return body
}
