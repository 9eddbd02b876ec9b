package processor

import "time"

// record counts an event whose handler is done with it, or dead.
func (p *pool) record(e *event) {
	if e.failed || e.err != nil || e.broken {
		p.stats.Failed.Add(1)
	} else {
		p.stats.Succeeded.Add(1)
	}
	p.stats.Took(time.Since(e.arrived))
}
