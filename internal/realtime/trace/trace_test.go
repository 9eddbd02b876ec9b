package trace_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime/trace"
)

// collector receives traces as a collector does.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	spans   []map[string]any
	from    map[string]string // resource
	headers http.Header
	refuse  int // requests that are answered with 503 at first
}

func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{from: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.refuse > 0 {
			c.refuse--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		raw, err := io.ReadAll(r.Body)
		var document struct {
			ResourceSpans []struct {
				Resource struct {
					Attributes []struct {
						Key   string
						Value struct{ StringValue string }
					}
				}
				ScopeSpans []struct{ Spans []map[string]any }
			}
		}
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(raw, &document) != nil {
			t.Errorf("%s %s: %s", r.Method, r.URL, raw)
		}
		c.headers = r.Header
		for _, from := range document.ResourceSpans {
			for _, a := range from.Resource.Attributes {
				c.from[a.Key] = a.Value.StringValue
			}
			for _, scope := range from.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(c.Close)
	return c
}

func tracer(t *testing.T, env ...string) *trace.Tracer {
	t.Helper()
	config, err := trace.FromEnvironment(env, "scorer", []trace.Attribute{{Key: "faas.version", Value: "3"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return trace.New(config)
}

func request(traceparent string) *http.Request {
	r := httptest.NewRequest("POST", "/score?secret=1", nil)
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
	}
	return r
}

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	caller  = "b7ad6b7169203331"
)

func TestSpan(t *testing.T) {
	t.Parallel()
	c := collect(t)
	tr := tracer(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL+"/", "OTEL_EXPORTER_OTLP_HEADERS=api-key=a%20b, x=y",
		"OTEL_RESOURCE_ATTRIBUTES=deployment.environment=test,faas.version=4")
	r := request("00-" + traceID + "-" + caller + "-01")
	before := time.Now()
	span := tr.Start(r)
	handed := r.Header.Get("Traceparent")
	time.Sleep(5 * time.Millisecond)
	span.End(503, "no worker")
	tr.Close(t.Context())
	if len(c.spans) != 1 {
		t.Fatalf("spans %v", c.spans)
	}
	got := c.spans[0]
	if want := "00-" + traceID + "-" + got["spanId"].(string) + "-01"; handed != want {
		t.Errorf("handed on %s, want %s", handed, want)
	}
	var began, ended int64
	fmt.Sscan(got["startTimeUnixNano"].(string), &began)
	fmt.Sscan(got["endTimeUnixNano"].(string), &ended)
	if began < before.UnixNano() || ended-began < int64(5*time.Millisecond) || ended > time.Now().UnixNano() {
		t.Errorf("from %d to %d", began, ended)
	}
	for _, key := range []string{"spanId", "startTimeUnixNano", "endTimeUnixNano"} {
		delete(got, key)
	}
	want := map[string]any{
		"traceId": traceID, "parentSpanId": caller, "name": "POST scorer", "kind": 2.0,
		"attributes": []any{
			map[string]any{"key": "http.request.method", "value": map[string]any{"stringValue": "POST"}},
			map[string]any{"key": "url.path", "value": map[string]any{"stringValue": "/score"}},
			map[string]any{"key": "http.response.status_code", "value": map[string]any{"intValue": "503"}},
		},
		"status": map[string]any{"code": 2.0, "message": "no worker"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"service.name": "scorer", "faas.version": "4", "deployment.environment": "test"}, c.from); diff != "" {
		t.Error(diff)
	}
	if c.headers.Get("Api-Key") != "a b" || c.headers.Get("X") != "y" {
		t.Errorf("headers %v", c.headers)
	}
}

func TestContexts(t *testing.T) {
	t.Parallel()
	c := collect(t)
	tr := tracer(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL)
	defer tr.Close(t.Context())
	for header, want := range map[string]string{ // trace that is gone on with, "new", or "none"
		"":                                     "new",
		"00-" + traceID + "-" + caller + "-01": traceID,
		"00-" + traceID + "-" + caller + "-03": traceID,
		"cc-" + traceID + "-" + caller + "-01-more":             traceID,
		"00-" + traceID + "-" + caller + "-00":                  "none",
		"00-" + traceID + "-" + caller + "-01-more":             "new",
		"ff-" + traceID + "-" + caller + "-01":                  "new",
		"00-" + strings.ToUpper(traceID) + "-" + caller + "-01": "new",
		"00-" + strings.Repeat("0", 32) + "-" + caller + "-01":  "new",
		"00-" + traceID + "-" + strings.Repeat("0", 16) + "-01": "new",
		"00-" + traceID[:31] + "g-" + caller + "-01":            "new",
		"00_" + traceID + "-" + caller + "-01":                  "new",
		"garbage":                                               "new",
	} {
		r := request(header)
		span := tr.Start(r)
		span.End(200, "")
		parts := strings.Split(r.Header.Get("Traceparent"), "-")
		switch {
		case want == "none":
			if span != nil || r.Header.Get("Traceparent") != header {
				t.Errorf("%q became %q", header, r.Header.Get("Traceparent"))
			}
		case len(parts) != 4 || len(parts[1]) != 32 || parts[2] == caller:
			t.Errorf("%q became %q", header, parts)
		case (want == "new") == (parts[1] == traceID):
			t.Errorf("%q became the trace %s, want %s", header, parts[1], want)
		}
	}
}

func TestOff(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{nil, {"OTEL_EXPORTER_OTLP_ENDPOINT=http://x", "OTEL_SDK_DISABLED=true"}, {"OTEL_EXPORTER_OTLP_ENDPOINT=http://x", "OTEL_TRACES_EXPORTER=none"}} {
		tr := tracer(t, env...)
		r := request("")
		tr.Start(r).End(200, "")
		if tr != nil || r.Header.Get("Traceparent") != "" {
			t.Errorf("%v: traced", env)
		}
		tr.Close(t.Context())
	}
	for _, env := range []string{"ENDPOINT=collector:4317", "PROTOCOL=grpc"} {
		if _, err := trace.FromEnvironment([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x", "OTEL_EXPORTER_OTLP_" + env}, "s", nil, nil); fault.CodeOf(err) != fault.CodeInvalid {
			t.Errorf("%s: %v", env, err)
		}
	}
}

// All who see a trace decide alike, and about as many as asked for are recorded.
func TestRatio(t *testing.T) {
	t.Parallel()
	c := collect(t)
	tr := tracer(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.25")
	defer tr.Close(t.Context())
	recorded := 0
	for range 4000 {
		if tr.Start(request("")) != nil {
			recorded++
		}
	}
	if recorded < 800 || recorded > 1200 {
		t.Errorf("%d of 4000 recorded", recorded)
	}
	if tr.Start(request("00-"+traceID+"-"+caller+"-01")) == nil {
		t.Error("the caller's decision was not followed")
	}
}

// A collector that is away for a moment gets everything; requests do not wait.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	c := collect(t)
	c.refuse = 1
	tr := tracer(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+c.URL+"/v1/traces")
	for range 600 {
		tr.Start(request("")).End(200, "")
	}
	tr.Close(t.Context())
	if len(c.spans) != 600 || tr.Dropped() != 0 {
		t.Errorf("%d spans, %d dropped", len(c.spans), tr.Dropped())
	}
}

func TestNoCollector(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	config, err := trace.FromEnvironment([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"}, "s", nil, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	tr := trace.New(config)
	began := time.Now()
	for range 5000 {
		tr.Start(request("")).End(200, "")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("requests waited: %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	tr.Close(ctx)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closing took %v", took)
	}
	if tr.Dropped() != 5000 || strings.Count(log.String(), "traces cannot be sent") != 1 {
		t.Errorf("%d dropped, log %s", tr.Dropped(), log.String())
	}
}

func BenchmarkOff(b *testing.B) {
	var tr *trace.Tracer
	r := request("")
	b.ReportAllocs()
	for b.Loop() {
		tr.Start(r).End(200, "")
	}
}
