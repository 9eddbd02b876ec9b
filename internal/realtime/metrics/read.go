package metrics

import (
	"bufio"
	"bytes"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reading is what a function's metrics say at a time, all its revisions and
// triggers together.
type Reading struct {
	Events, Errors, Restarts float64
	Workers, Busy, Waiting   int
	CPU                      float64 // seconds
	Memory                   int64   // bytes
	Processes                int
	latency                  map[float64]float64 // events that took at most the key's seconds
}

// Read reads the text of Write. What it does not know it passes over.
func Read(text []byte) Reading {
	r := Reading{latency: map[float64]float64{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		series, number, ok := cutLast(lines.Bytes(), ' ')
		value, err := strconv.ParseFloat(string(number), 64)
		if !ok || err != nil || len(series) == 0 || series[0] == '#' {
			continue
		}
		name, labels, _ := strings.Cut(string(series), "{")
		switch name {
		case "nuclio_processor_handled_events_total":
			r.Events += value
			if strings.Contains(labels, `,result="failure"`) {
				r.Errors += value
			}
		case "millrace_worker_restarts_total":
			r.Restarts += value
		case "millrace_workers":
			r.Workers += int(value)
		case "millrace_workers_busy":
			r.Busy += int(value)
		case "millrace_events_waiting":
			r.Waiting += int(value)
		case "millrace_processes":
			r.Processes = int(value)
		case "millrace_cpu_seconds_total":
			r.CPU = value
		case "millrace_memory_bytes":
			r.Memory = int64(value)
		case "millrace_event_duration_seconds_bucket":
			_, bound, _ := strings.Cut(labels, `,le="`)
			if upper, err := strconv.ParseFloat(strings.TrimSuffix(bound, `"}`), 64); err == nil {
				r.latency[upper] += value
			}
		}
	}
	return r
}

// Rates are what happened between two readings.
type Rates struct {
	Events, Errors float64       // a second
	CPU            float64       // cores
	P50, P99       time.Duration // of latency, estimated within the histogram's buckets; 0 without an event
}

// Since compares with an earlier reading. Counters that have become less belong to
// a processor that was started anew: they count from 0.
func (r Reading) Since(before Reading, passed time.Duration) Rates {
	seconds := passed.Seconds()
	if seconds <= 0 {
		return Rates{}
	}
	if before.Events > r.Events {
		before = Reading{CPU: min(before.CPU, r.CPU)}
	}
	rise := map[float64]float64{}
	for upper, count := range r.latency {
		rise[upper] = count - before.latency[upper]
	}
	return Rates{
		Events: (r.Events - before.Events) / seconds, Errors: max(r.Errors-before.Errors, 0) / seconds,
		CPU: max(r.CPU-before.CPU, 0) / seconds, // processes that have ended take theirs along
		P50: quantile(rise, 0.5), P99: quantile(rise, 0.99),
	}
}

// quantile estimates from a cumulated histogram as Prometheus does.
func quantile(upto map[float64]float64, q float64) time.Duration {
	uppers := slices.Sorted(maps.Keys(upto))
	if len(uppers) == 0 || upto[uppers[len(uppers)-1]] <= 0 {
		return 0
	}
	rank := q * upto[uppers[len(uppers)-1]]
	lower, below := 0.0, 0.0
	for _, upper := range uppers {
		if count := upto[upper]; count >= rank {
			if math.IsInf(upper, 1) {
				break
			}
			share := (rank - below) / (count - below)
			return time.Duration((lower + share*(upper-lower)) * float64(time.Second))
		}
		lower, below = upper, upto[upper]
	}
	return time.Duration(lower * float64(time.Second))
}
