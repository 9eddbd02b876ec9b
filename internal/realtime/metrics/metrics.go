// Package metrics counts what becomes of a function's events and requests, and
// writes that in the text format of Prometheus.
//
// The format is written by hand: it is a few lines, and every command would link
// Prometheus' own client.
package metrics

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// bounds are the upper bounds of the latency histogram in seconds.
var bounds = [...]float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// limits are the bounds in nanoseconds.
var limits = func() (out [len(bounds)]time.Duration) {
	for i, bound := range bounds {
		out[i] = time.Duration(bound * float64(time.Second))
	}
	return out
}()

// Counters count what becomes of one trigger's events. They outlive its workers,
// and may be used from several goroutines.
type Counters struct {
	Succeeded atomic.Uint64
	Failed    atomic.Uint64 // the handler raised, timed out or died; the program answered with 5xx or not at all
	Refused   atomic.Uint64 // nobody took it in time, or too many waited
	Restarts  atomic.Uint64 // of workers that ended unasked
	Immediate atomic.Uint64 // events that found a worker at once
	NoWorker  atomic.Uint64 // events that found none in time

	late      atomic.Uint64 // events that waited for a worker
	lateNanos atomic.Uint64
	nanos     atomic.Uint64
	buckets   [len(bounds) + 1]atomic.Uint64
	classes   [6]atomic.Uint64 // of HTTP answers, by the first digit
}

// Took notes how long an event took, from its arrival to its answer.
func (c *Counters) Took(d time.Duration) {
	c.nanos.Add(uint64(d))
	for i, limit := range limits {
		if d <= limit {
			c.buckets[i].Add(1)
			return
		}
	}
	c.buckets[len(limits)].Add(1)
}

// Waited notes how long an event waited for the worker that it has now.
func (c *Counters) Waited(d time.Duration) {
	c.late.Add(1)
	c.lateNanos.Add(uint64(max(d, 0)))
}

// Answered notes the status of an HTTP answer.
func (c *Counters) Answered(status int) {
	if class := status / 100; class >= 1 && class < len(c.classes) {
		c.classes[class].Add(1)
	}
}

// Sample is what is told of one trigger of one revision.
type Sample struct {
	Project, Function string
	Revision          int
	Kind, Trigger     string
	Counters          *Counters
	Workers, Busy     int // in rotation; of them with an event in progress
	Waiting, Open     int // events without a worker; events with one
}

// labels are the labels that Nuclio's users know, and the revision.
func (s *Sample) labels() string {
	return fmt.Sprintf("project=%s,function=%s,revision=\"%d\",trigger_kind=%s,trigger_id=%s",
		quote(s.Project), quote(s.Function), s.Revision, quote(s.Kind), quote(s.Trigger))
}

var quoter = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func quote(text string) string { return `"` + quoter.Replace(text) + `"` }

// Write writes samples, and what the function's processes use, in the text format
// of Prometheus. Errors of w are its reader's.
func Write(w io.Writer, samples []Sample, usage Usage) {
	p := page{to: w, samples: samples}
	p.family("nuclio_processor_handled_events_total", "counter", "Events by how they ended.", func(s *Sample, name, labels string) {
		fmt.Fprintf(w, "%s{%s,result=\"success\"} %d\n", name, labels, s.Counters.Succeeded.Load())
		fmt.Fprintf(w, "%s{%s,result=\"failure\"} %d\n", name, labels, s.Counters.Failed.Load()+s.Counters.Refused.Load())
	})
	p.counter("millrace_events_refused_total", "Events that no worker took in time, or that found the queue full.", func(c *Counters) uint64 { return c.Refused.Load() })
	p.counter("millrace_worker_restarts_total", "Workers that ended unasked and were replaced.", func(c *Counters) uint64 { return c.Restarts.Load() })
	p.family("millrace_http_responses_total", "counter", "Answers of triggers of kind http by the class of their status.", func(s *Sample, name, labels string) {
		if s.Kind != "http" {
			return
		}
		for class := 1; class < len(s.Counters.classes); class++ {
			fmt.Fprintf(w, "%s{%s,code=\"%dxx\"} %d\n", name, labels, class, s.Counters.classes[class].Load())
		}
	})
	p.family("millrace_event_duration_seconds", "histogram", "From the arrival of an event to its answer.", func(s *Sample, name, labels string) {
		total := uint64(0)
		for i, bound := range bounds {
			total += s.Counters.buckets[i].Load()
			fmt.Fprintf(w, "%s_bucket{%s,le=\"%g\"} %d\n", name, labels, bound, total)
		}
		total += s.Counters.buckets[len(bounds)].Load()
		fmt.Fprintf(w, "%s_bucket{%s,le=\"+Inf\"} %d\n", name, labels, total)
		fmt.Fprintf(w, "%s_sum{%s} %g\n", name, labels, time.Duration(s.Counters.nanos.Load()).Seconds())
		fmt.Fprintf(w, "%s_count{%s} %d\n", name, labels, total)
	})
	p.allocations()
	p.gauge("millrace_workers", "Workers in rotation.", func(s *Sample) int { return s.Workers })
	p.gauge("millrace_workers_busy", "Workers with an event in progress.", func(s *Sample) int { return s.Busy })
	p.gauge("millrace_events_waiting", "Events without a worker.", func(s *Sample) int { return s.Waiting })
	p.gauge("millrace_events_in_progress", "Events with a worker.", func(s *Sample) int { return s.Open })
	usage.write(w)
}

// allocations are series under the names that dashboards for Nuclio know, as far as
// they mean something here.
func (p *page) allocations() {
	const allocation = "nuclio_processor_worker_allocation"
	p.family(allocation+"_total", "counter", "Events by how they found a worker.", func(s *Sample, name, labels string) {
		c := s.Counters
		fmt.Fprintf(p.to, "%s{%s,result=\"success_immediate\"} %d\n", name, labels, c.Immediate.Load())
		fmt.Fprintf(p.to, "%s{%s,result=\"success_after_wait\"} %d\n", name, labels, c.late.Load())
		fmt.Fprintf(p.to, "%s{%s,result=\"error_timeout\"} %d\n", name, labels, c.NoWorker.Load())
	})
	p.counter(allocation+"_count", "Events that looked for a worker.", func(c *Counters) uint64 { return c.Immediate.Load() + c.late.Load() + c.NoWorker.Load() })
	p.counter(allocation+"_wait_duration_milliseconds_sum", "What the events that found a worker waited for it.", func(c *Counters) uint64 {
		return uint64(time.Duration(c.lateNanos.Load()).Milliseconds())
	})
	const handled = "nuclio_processor_handled_events_duration_milliseconds"
	p.counter(handled+"_sum", "From the arrival of events to their answers.", func(c *Counters) uint64 { return uint64(time.Duration(c.nanos.Load()).Milliseconds()) })
	p.counter(handled+"_count", "Events that were answered.", func(c *Counters) (total uint64) {
		for i := range c.buckets {
			total += c.buckets[i].Load()
		}
		return total
	})
}

// page writes families of samples.
type page struct {
	to      io.Writer
	samples []Sample
}

func (p *page) family(name, kind, help string, each func(s *Sample, name, labels string)) {
	fmt.Fprintf(p.to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	for i := range p.samples {
		each(&p.samples[i], name, p.samples[i].labels())
	}
}

func (p *page) counter(name, help string, value func(*Counters) uint64) {
	p.family(name, "counter", help, func(s *Sample, name, labels string) {
		fmt.Fprintf(p.to, "%s{%s} %d\n", name, labels, value(s.Counters))
	})
}

func (p *page) gauge(name, help string, value func(*Sample) int) {
	p.family(name, "gauge", help, func(s *Sample, name, labels string) { fmt.Fprintf(p.to, "%s{%s} %d\n", name, labels, value(s)) })
}
