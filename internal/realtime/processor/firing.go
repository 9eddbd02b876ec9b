package processor

import (
	"context"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/worker"
)

// fire sends an event of a trigger whenever the timetable says so, for as long as the
// revision has traffic. A time at which the event before has not been answered yet
// is left out.
func (s *serving) fire(ctx context.Context, from *source, times realtime.Timetable) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	next := times.Next(time.Now())
	for !next.IsZero() {
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if s.active.Load() {
			s.send(ctx, from)
		}
		for now := time.Now(); !next.IsZero() && !next.After(now); {
			next = times.Next(next)
		}
	}
}

func (s *serving) send(ctx context.Context, from *source) {
	c := from.trigger.Cron
	e := newEvent()
	e.request = worker.Request{
		ID: eventID(), Method: c.Method, Path: c.Path, Timestamp: e.arrived, Body: []byte(c.Body),
	}
	for name, value := range c.Headers {
		e.request.Headers = append(e.request.Headers, [2]string{name, value})
		if strings.EqualFold(name, "Content-Type") {
			e.request.ContentType, e.request.JSON = value, isJSON(value) && c.Body != ""
		}
	}
	span, traceparent := s.tracer.Fire(from.trigger.Name)
	if span != nil {
		e.request.Headers = append(e.request.Headers, [2]string{"Traceparent", traceparent})
	}
	if err := from.submit(e); err != nil {
		span.End(0, err.Error())
		s.logger.Warn("the time of a cron trigger passed without its event", "trigger", from.trigger.Name, "error", err)
		return
	}
	select {
	case <-e.settled:
	case <-ctx.Done():
		e.abandon()
		span.End(0, "the revision ended before the event was answered")
		return
	}
	if e.stream != nil {
		for over := false; !over; { // nobody wants it
			var piece []byte
			if piece, over = e.take(); piece == nil && !over {
				<-e.stream.more
			}
		}
	}
	switch {
	case e.err != nil:
		span.End(e.status, e.err.Error())
	case e.failed:
		span.End(e.status, "the handler failed")
	default:
		span.End(e.status, "")
	}
	if e.err != nil || e.failed {
		s.logger.Warn("the event of a cron trigger failed", "trigger", from.trigger.Name, "error", e.err, "status", e.status)
	}
}
