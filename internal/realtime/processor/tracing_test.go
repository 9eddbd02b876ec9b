package processor_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// A request's trace goes on in the handler and in the program, and its span to the
// collector that the function's environment names.
func TestTracing(t *testing.T) {
	t.Parallel()
	got := make(chan string, 16)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got <- string(raw)
	}))
	t.Cleanup(collector.Close)
	const trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	observed := func(r *realtime.Revision) { r.Env = append(r.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL) }
	for name, f := range map[string]*function{
		"handler": deploy(t, "def handler(context, event):\n    return event.headers['Traceparent']\n", observed),
		"program": deploy(t, strings.ReplaceAll(web(1), `self.path[1:], "1"`, `"none", self.headers["traceparent"]`), program(observed)),
	} {
		a := f.send("GET", "/", nil, "Traceparent", "00-"+trace+"-"+caller+"-01")
		parts := strings.Split(a.body, "-")
		if a.status != 200 || len(parts) != 4 || parts[1] != trace || parts[2] == caller {
			t.Fatalf("%s: %d %q %v", name, a.status, a.body, a.err)
		}
		select {
		case spans := <-got:
			for _, want := range []string{`"traceId":"` + trace + `"`, `"spanId":"` + parts[2] + `"`, `"parentSpanId":"` + caller + `"`, `{"stringValue":"tested"}`, `{"intValue":"200"}`} {
				if !strings.Contains(spans, want) {
					t.Errorf("%s: the spans lack %s: %s", name, want, spans)
				}
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s: no span came", name)
		}
	}
}

// Each event of a cron trigger begins a trace that its handler may continue; a failure
// is one in its span.
func TestTracingOfCron(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/": `"status":{}`, "/fail": `"status":{"code":2,"message":"the handler failed"}`} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 256)
			collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				got <- string(raw)
			}))
			t.Cleanup(collector.Close)
			file := filepath.Join(t.TempDir(), "seen")
			deploy(t, `
def handler(context, event):
    open(`+strconv.Quote(file)+`, "a").write(event.headers["Traceparent"] + "\n")
    if event.path == "/fail":
        raise ValueError("asked to fail")
`, func(r *realtime.Revision) {
				r.Env = append(r.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL)
				r.Triggers = []realtime.Trigger{{Name: "tick", Kind: realtime.TriggerCron, Cron: &realtime.Cron{Interval: 100 * time.Millisecond, Path: path}}}
			})
			for deadline := time.After(time.Minute); ; {
				var spans string
				select {
				case spans = <-got:
				case <-deadline:
					t.Fatal("the first event has no span")
				}
				raw, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				first, _, _ := strings.Cut(string(raw), "\n")
				parts := strings.Split(first, "-")
				if len(parts) != 4 {
					t.Fatalf("the handler saw %q", first)
				}
				if !strings.Contains(spans, `"traceId":"`+parts[1]+`","spanId":"`+parts[2]+`","name":"tick tested","kind":1,`) {
					continue // those of later ones
				}
				if !strings.Contains(spans, `{"key":"faas.trigger","value":{"stringValue":"timer"}}`) || !strings.Contains(spans, want) {
					t.Errorf("%s lacks %s", spans, want)
				}
				return
			}
		})
	}
}
