// Package trace makes a span of each request, by the W3C trace context that comes
// with it, hands the context on, and sends spans to a collector by OTLP over HTTP
// with JSON.
//
// It is configured as OpenTelemetry's SDKs are, by the variables OTEL_… of the
// function or of the server. It is not made of OpenTelemetry's own packages because
// they cost every command's start 1.4 to 2.2 ms (docs/architecture.md).
package trace

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"time"
)

// Span is one request's, or one event's. A nil Span, of what is not recorded, does
// nothing.
type Span struct {
	tracer     *Tracer
	trace      [16]byte
	id, parent [8]byte
	began      time.Time
	ended      time.Time
	method     string
	path       string
	trigger    string // whose time brought the event; "" for a request
	status     int
	failure    string
}

// Start begins the span of a request and puts its context into the request's
// headers, for whoever handles it. It returns nil for requests that are not recorded,
// whose headers stay as they are. A nil Tracer records nothing.
func (t *Tracer) Start(r *http.Request) *Span {
	if t == nil {
		return nil
	}
	s := &Span{tracer: t, began: time.Now(), method: r.Method, path: r.URL.Path}
	sampled, ok := s.follow(r.Header.Get("Traceparent"))
	if !ok {
		random(s.trace[:])
		sampled = t.samples(s.trace)
	}
	if !sampled {
		return nil
	}
	random(s.id[:])
	r.Header["Traceparent"] = []string{s.context()}
	return s
}

// Fire begins the span of an event that comes from the time of a trigger, and a trace
// with it. It returns the context for whoever handles it; both are empty for events
// that are not recorded.
func (t *Tracer) Fire(trigger string) (s *Span, traceparent string) {
	if t == nil {
		return nil, ""
	}
	s = &Span{tracer: t, began: time.Now(), trigger: trigger}
	if random(s.trace[:]); !t.samples(s.trace) {
		return nil, ""
	}
	random(s.id[:])
	return s, s.context()
}

func random(into []byte) { _, _ = rand.Read(into) } // it never fails

// follow takes over the context of the caller; ok is false if there is none that
// can be understood.
func (s *Span) follow(header string) (sampled, ok bool) {
	const size = len("00-00000000000000000000000000000000-0000000000000000-00")
	if len(header) < size || header[2] != '-' || header[35] != '-' || header[52] != '-' || header[:2] == "ff" {
		return false, false
	}
	if len(header) > size && (header[:2] == "00" || header[size] != '-') {
		return false, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		into []byte
		text string
	}{{version[:], header[:2]}, {s.trace[:], header[3:35]}, {s.parent[:], header[36:52]}, {flags[:], header[53:55]}} {
		for _, c := range []byte(part.text) {
			if c >= 'A' && c <= 'F' { // which hex would take
				return false, s.forget()
			}
		}
		if _, err := hex.Decode(part.into, []byte(part.text)); err != nil {
			return false, s.forget()
		}
	}
	if s.trace == [16]byte{} || s.parent == [8]byte{} {
		return false, s.forget()
	}
	return flags[0]&1 == 1, true
}

// forget drops a context that is none.
func (s *Span) forget() bool {
	s.trace, s.parent = [16]byte{}, [8]byte{}
	return false
}

// context is the value of traceparent for what the request causes.
func (s *Span) context() string {
	out := make([]byte, 0, 55)
	out = append(out, "00-"...)
	out = hex.AppendEncode(out, s.trace[:])
	out = append(out, '-')
	out = hex.AppendEncode(out, s.id[:])
	return string(append(out, "-01"...))
}

// End ends the span with the status of the answer, 0 if there was none, and why it
// failed, "" if it did not or nothing is known.
func (s *Span) End(status int, failure string) {
	if s == nil {
		return
	}
	s.ended, s.status, s.failure = time.Now(), status, failure
	select {
	case s.tracer.queue <- s:
	default:
		s.tracer.dropped.Add(1)
	}
}

// samples decides about a trace that begins here, for all who follow it the same.
func (t *Tracer) samples(trace [16]byte) bool {
	return t.ratio >= 1 || float64(binary.BigEndian.Uint64(trace[8:])>>1)/(1<<63) < t.ratio
}
