package edge

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/millrace/millrace/internal/realtime"
)

// HealthPath begins the paths that are answered with 200 whoever asks.
const HealthPath = "/__internal/health"

// Config is what an Edge enforces. Its parts are not changed afterwards.
type Config struct {
	Realm  string // what credentials are for: the function's name
	Auth   *realtime.Auth
	CORS   *realtime.CORS
	Limits realtime.Limits
}

// Edge lets requests through to a handler. Create it with New.
type Edge struct {
	next   http.Handler
	direct Direct // next, if it is one
	rules  atomic.Pointer[rules]
}

// rules are a Config made ready. They are never changed.
type rules struct {
	limits realtime.Limits
	gate   *gate // nil lets everybody in
	cors   *cors // nil says nothing to web pages
}

// New returns the edge before next.
func New(config Config, next http.Handler) *Edge {
	e := &Edge{next: next}
	e.direct, _ = next.(Direct)
	e.Set(config)
	return e
}

// Set changes what holds for requests that arrive from now on; those in progress
// end under the rules they began with.
func (e *Edge) Set(config Config) {
	r := &rules{limits: config.Limits.WithDefaults(), gate: newGate(config.Realm, config.Auth), cors: newCORS(config.CORS)}
	e.rules.Store(r)
}

// Limits returns the limits that hold now, none of them zero.
func (e *Edge) Limits() *realtime.Limits { return &e.rules.Load().limits }

func (e *Edge) isDirect() bool { return e.direct != nil && e.direct.Direct() }

func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, HealthPath) {
		w.WriteHeader(http.StatusOK)
		return
	}
	rules := e.rules.Load()
	if rules.cors != nil && !rules.cors.admit(w, r) {
		return
	}
	if rules.gate != nil && !rules.gate.admit(r) {
		rules.gate.refuse(w)
		return
	}
	if r.ContentLength == 0 { // no body, not even a chunked one
		e.next.ServeHTTP(w, r)
		return
	}
	if r.ContentLength > rules.limits.Body {
		refuseLarge(w, rules.limits.Body)
		Discard(w, r, r.Body)
		return
	}
	if all, ok := r.Body.(*body); ok && all.here() {
		e.next.ServeHTTP(w, r)
		return
	}
	body := newGuard(w, r.Body, rules)
	r.Body = body
	e.next.ServeHTTP(w, r)
	body.leave()
	if body.large.Load() {
		Discard(w, r, body.body)
	}
}

// Problem answers with a status and one sentence.
func Problem(w http.ResponseWriter, status int, text string) {
	body, _ := json.Marshal(realtime.Problem{Error: text}) // strings
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
