package api

import (
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/internal/fault"
)

// DefaultVersion is the MLRun version that client-spec reports. Clients compare
// it with their own and warn when the two are far apart; it says nothing about
// this program.
const DefaultVersion = "1.10.0"

// Options are what a Server is made of.
type Options struct {
	// Store keeps projects, functions, runs, artifacts and background tasks. Required.
	Store Store
	// Controller starts, aborts and deletes. Nil makes a server that only keeps
	// records: submitting, aborting, deleting and building are refused.
	Controller Controller
	// Logs keeps the output of runs. Required.
	Logs Logs
	// Secrets are those of projects. Nil makes a server without.
	Secrets Secrets
	// Masks masks secrets in what runs send by themselves. Nil masks nothing.
	Masks Masks
	// Content gives access to the bytes of artifacts. Nil refuses them.
	Content Content
	// Bundles keeps code that clients upload. Nil refuses them.
	Bundles Bundles
	// Environments are the virtual environments of this machine. Nil refuses them.
	Environments Environments
	// Deployments serve real-time functions. Nil refuses them.
	Deployments Deployments
	// Version is the MLRun version to report; "" means DefaultVersion.
	Version string
	// ArtifactPath is the default artifact path told to clients, absolute or a
	// URL; it may contain {{project}} and {{run.uid}}. Required: clients refuse to
	// work with a server that has none.
	ArtifactPath string
	// URL is the address at which processes that this server starts reach it. ""
	// tells each client the address that it used itself.
	URL string
	// Namespace is what client-spec reports; "" means "millrace". See the package comment.
	Namespace string
	// Token is the secret that requests must carry; "" leaves the server open.
	Token string
	// MaxRequests bounds the requests in progress; more are answered 503 at once.
	// 0 means 1024.
	MaxRequests int
	// MaxBody bounds a request's body in bytes; 0 means 64 MiB. Logs are streamed
	// and not bounded by it.
	MaxBody int64
	// Logger receives requests at debug level and internal errors. Nil discards.
	Logger *slog.Logger
}

// Server is the API as an http.Handler. Create it with New.
type Server struct {
	opts     Options
	mux      *http.ServeMux
	table    []*route
	document func() []byte // the OpenAPI document, made when it is asked for
	log      *slog.Logger
	origin   *http.CrossOriginProtection
	prefix   string // of generated request ids

	requests atomic.Int64 // in progress
	serial   atomic.Uint64
	draining atomic.Bool
	drained  chan struct{} // closed by Drain
}

// New builds the API from opts.
func New(opts Options) *Server {
	if opts.Version == "" {
		opts.Version = DefaultVersion
	}
	if opts.Namespace == "" {
		opts.Namespace = "millrace"
	}
	if opts.MaxRequests == 0 {
		opts.MaxRequests = 1024
	}
	if opts.MaxBody == 0 {
		opts.MaxBody = 64 << 20
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	var random [4]byte
	_, _ = rand.Read(random[:])
	s := &Server{
		opts: opts, mux: http.NewServeMux(), log: opts.Logger.With("component", "api"),
		origin: http.NewCrossOriginProtection(), prefix: hex.EncodeToString(random[:]) + "-",
		drained: make(chan struct{}),
	}
	s.table = routes()
	for _, rt := range s.table {
		for _, version := range rt.versions {
			s.mux.Handle(rt.method+" /"+version+rt.path, s.serve(rt))
		}
	}
	s.noRedirects()
	s.mux.HandleFunc("/", s.unknown)
	s.document = sync.OnceValue(func() []byte { return openAPI(s.table, opts.Version) })
	return s
}

// noRedirects keeps the mux from sending requests for the path above a wildcard
// that has the rest of a path to that path with a slash, which leads back here.
func (s *Server) noRedirects() {
	done := map[string]bool{}
	for _, rt := range s.table {
		above, _, ok := strings.Cut(rt.path, "/{key...}")
		for _, version := range rt.versions {
			if pattern := "/" + version + above; ok && !done[pattern] {
				done[pattern] = true
				s.mux.HandleFunc(pattern, s.unknown)
			}
		}
	}
}

// Drain makes the server answer 503 from now on and ends the logs that are being
// followed, so that http.Server.Shutdown finishes. Requests in progress go on.
// A second call does nothing.
func (s *Server) Drain() {
	if s.draining.CompareAndSwap(false, true) {
		close(s.drained)
	}
}

// abortResponse breaks off an answer that has already begun; net/http knows it.
var abortResponse = http.ErrAbortHandler

// ServeHTTP answers one request: it admits it, brings its path to the form that
// the routes are registered under, and hands it to its route.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recover(w, r)
	w.Header().Set("X-Mlrun-Be-Version", s.opts.Version)
	defer s.requests.Add(-1)
	if s.requests.Add(1) > int64(s.opts.MaxRequests) {
		s.refuse(w, fault.Unavailable("the server is busy with %d requests; try again in a second", s.opts.MaxRequests))
		return
	}
	if s.draining.Load() {
		s.refuse(w, fault.Unavailable("the server is shutting down; try again when it is back"))
		return
	}
	if err := s.checkOrigin(r); err != nil {
		s.refuse(w, err)
		return
	}
	path, ok := canonicalPath(r.URL.EscapedPath())
	if !ok {
		s.unknown(w, r)
		return
	}
	if decoded, err := url.PathUnescape(path); err == nil {
		inner := new(http.Request)
		*inner = *r
		inner.URL = new(url.URL)
		*inner.URL = *r.URL
		inner.URL.Path, inner.URL.RawPath = decoded, path
		inner.Pattern = ""
		s.mux.ServeHTTP(w, inner)
		return
	}
	s.unknown(w, r)
}

// Admit reports whether a request that is not for the API may be served at the
// server's address: the same rules hold as for the API.
func (s *Server) Admit(r *http.Request) error {
	if s.draining.Load() {
		return fault.Unavailable("the server is shutting down; try again when it is back")
	}
	if err := s.checkOrigin(r); err != nil {
		return err
	}
	return s.authenticate(r)
}

// canonicalPath maps /api/…, /api/v1/… and /api/v2/… to /v1/… and /v2/…, with
// repeated and final slashes removed. False for every other path and for paths
// with "." or ".." in them.
func canonicalPath(escaped string) (string, bool) {
	out := make([]byte, 0, len(escaped)+4)
	segments := 0
	for segment := range strings.SplitSeq(escaped, "/") {
		switch segment {
		case "":
			continue
		case ".", "..":
			return "", false
		}
		segments++
		switch {
		case segments == 1 && segment != "api":
			return "", false
		case segments == 1:
			continue
		case segments == 2 && segment != "v1" && segment != "v2":
			out = append(out, "/v1"...)
		}
		out = append(append(out, '/'), segment...)
	}
	return string(out), segments >= 2
}

// serve wraps a route: who may call, the handler, the error, the access log.
func (s *Server) serve(rt *route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{s: s, r: r, route: rt}
		c.w = &c.writer
		c.writer.ResponseWriter = w
		err := error(nil)
		if !rt.open {
			err = s.authenticate(r)
		}
		if err == nil {
			err = rt.handle(c)
		}
		if err != nil {
			c.fail(err)
		}
		if s.log.Enabled(r.Context(), slog.LevelDebug) {
			s.log.DebugContext(r.Context(), "request", "request", c.requestID(), "method", r.Method,
				"route", rt.path, "path", r.URL.Path, "status", c.writer.status, "bytes", c.writer.bytes)
		}
	})
}

// unknown answers for paths and methods that no route has.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); strings.Contains(pattern, " ") { // it names a method
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		writeJSON(w, http.StatusMethodNotAllowed, []byte(`{"detail":"Method Not Allowed"}`))
		return
	}
	writeJSON(w, http.StatusNotFound, []byte(`{"detail":"Not Found"}`))
}

// refuse answers a request that is not let in.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	status, body := renderError(err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, body)
}

// recover turns a panic into a logged 500; the caller sees nothing of it.
func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	value := recover()
	if value == nil {
		return
	}
	if value == abortResponse {
		panic(value)
	}
	s.log.ErrorContext(r.Context(), "panic while serving a request", "method", r.Method, "path", r.URL.Path,
		"panic", value, "stack", string(debug.Stack()))
	status, body := renderError(errPanic)
	writeJSON(w, status, body)
}

// errPanic is what a caller is told about a panic: an internal error.
var errPanic = errorString("panic")

type errorString string

func (e errorString) Error() string { return string(e) }

// writeJSON writes a whole JSON answer.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
