package activator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/metrics"
)

// controlHandler serves the control sockets of parked functions.
func (a *activator) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		f := functionOf(r)
		status, err := f.dir.Status()
		switch {
		case f.over():
			f.relay(w, r)
		case err != nil:
			problem(w, fault.Unavailable("the status of the parked function cannot be read: %w", err))
		default:
			answer(w, status)
		}
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		f := functionOf(r)
		saved, err := metrics.Load(f.dir.Metrics())
		switch {
		case f.over():
			f.relay(w, r)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			problem(w, fault.Unavailable("the metrics of the parked function cannot be read: %w", err))
		default:
			w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
			metrics.Write(w, saved.Samples(), metrics.Usage{CPU: saved.CPU})
		}
	})
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		f := functionOf(r)
		if f.release() == gone {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		f.pass(w, r)
	})
	mux.HandleFunc("PUT /desired", putDesired)
	return mux
}

// putDesired has a processor started that brings it about, unless that is so.
func putDesired(w http.ResponseWriter, r *http.Request) {
	f := functionOf(r)
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	if err != nil {
		problem(w, fault.Invalid("desired cannot be read: %s", err))
		return
	}
	var desired realtime.Desired
	if json.Unmarshal(raw, &desired) == nil {
		digest, err := desired.Digest()
		status, statusErr := f.dir.Status()
		if err == nil && statusErr == nil && status.Parked && status.Desired == digest {
			answer(w, status)
			return
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	f.rouse()
	f.pass(w, r)
}

func answer(w http.ResponseWriter, status realtime.Status) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(status) // the client may have left
}

func functionOf(r *http.Request) *function { return r.Context().Value(functionKey{}).(*function) }

// over reports whether a processor serves it, or nobody.
func (f *function) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state == served || f.state == gone
}

// pass waits until a processor serves and gives it the request.
func (f *function) pass(w http.ResponseWriter, r *http.Request) {
	select {
	case <-f.done:
		f.relay(w, r)
	case <-r.Context().Done():
	}
}

// relay gives the request to the processor that serves the function now.
func (f *function) relay(w http.ResponseWriter, r *http.Request) {
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(&url.URL{Scheme: "http", Host: "processor"}) },
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return f.dir.DialControl(ctx)
		}},
		ErrorLog: f.activator.control.ErrorLog,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			problem(w, fault.Unavailable("the processor that was started for the function does not answer: %w", err))
		},
	}
	proxy.ServeHTTP(w, r)
}

func problem(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(realtime.Problem{Error: fault.Message(err), Code: fault.CodeOf(err)})
}
