package processor

import "time"

// record counts an event whose handler is done with it, or dead.
func (e *event) record() {
	if e.failed || e.err != nil || e.broken {
		e.stats.Failed.Add(1)
	} else {
		e.stats.Succeeded.Add(1)
	}
	e.stats.Took(time.Since(e.arrived))
}
