package processor

import (
	"context"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/metrics"
)

// source is a trigger, and the pool that takes its events: its own, or that of all
// triggers which name the same allocator. It is never changed.
type source struct {
	trigger realtime.Trigger
	pool    *pool
	stats   *metrics.Counters
	leads   bool // the numbers of the pool are told with those of this trigger
	shared  bool // so that an event has to say where it comes from
}

// submit is pool.submit for an event of the trigger.
func (s *source) submit(e *event) error {
	e.stats, e.wait = s.stats, *s.trigger.AvailabilityTimeout
	if s.shared && e.request.TriggerKind == "" {
		e.request.TriggerKind, e.request.TriggerName = s.trigger.Kind, s.trigger.Name
	}
	return s.pool.submit(e)
}

// connect makes the pools, and the sources of their events, which go on counting where
// those of the processor before have ended.
func (s *serving) connect(ctx context.Context, b *before) {
	last, _ := b.status.Revision(s.spec.Number)
	counters := func(trigger realtime.Trigger) *metrics.Counters {
		if counted := b.saved.Counters(s.spec.Number, trigger.Name); counted != nil {
			return counted
		}
		return &metrics.Counters{}
	}
	shared := map[string]*source{} // by allocator
	for _, trigger := range s.spec.Triggers {
		first := shared[trigger.Allocator]
		if trigger.Allocator == "" || first == nil {
			first = &source{trigger: trigger, pool: s.newPool(ctx, trigger), leads: true, shared: trigger.Allocator != ""}
			first.stats = counters(trigger)
			first.pool.stats, first.pool.handler = first.stats, last.Handler
			s.pools = append(s.pools, first.pool)
			s.add(first)
			if trigger.Allocator != "" {
				shared[trigger.Allocator] = first
			}
			continue
		}
		s.add(&source{trigger: trigger, pool: first.pool, stats: counters(trigger), shared: true})
	}
}

func (s *serving) add(one *source) {
	s.sources = append(s.sources, one)
	if one.trigger.Kind == realtime.TriggerHTTP {
		s.http = one
	}
}

// newPool makes the pool of a trigger, or of all triggers with its allocator: as many
// workers as the one that asks for most, which are told the allocator's name for the
// trigger's.
func (s *serving) newPool(ctx context.Context, trigger realtime.Trigger) *pool {
	grace := func(t realtime.Trigger) time.Duration {
		if t.Termination > 0 {
			return t.Termination
		}
		return s.spec.Grace
	}
	longest, workers := grace(trigger), trigger
	if trigger.Allocator != "" {
		workers.Kind, workers.Name = "", trigger.Allocator
		for _, other := range s.spec.Triggers {
			if other.Allocator == trigger.Allocator {
				workers.Workers, workers.Queue = max(workers.Workers, other.Workers), max(workers.Queue, other.Queue)
				workers.Concurrency, longest = max(workers.Concurrency, other.Concurrency), max(longest, grace(other))
			}
		}
	}
	p := newPool(ctx, workers, s.hire(workers), s.logger)
	p.timeout, p.startup, p.grace = s.spec.EventTimeout, s.spec.ReadyTimeout, longest
	p.scale = scale{least: s.spec.Replicas.Min, most: s.spec.Replicas.Max, utilisation: s.spec.TargetUtilisation, idle: s.spec.IdleToZero}
	return p
}
