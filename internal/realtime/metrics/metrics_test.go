package metrics_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime/metrics"
)

func page(samples ...metrics.Sample) []byte {
	var out bytes.Buffer
	metrics.Write(&out, samples, metrics.Usage{Processes: 3, CPU: 1500 * time.Millisecond, Memory: 5 << 20})
	return out.Bytes()
}

func TestWrite(t *testing.T) {
	t.Parallel()
	var c metrics.Counters
	c.Succeeded.Add(2)
	c.Failed.Add(1)
	c.Refused.Add(1)
	c.Answered(204)
	c.Answered(503)
	c.Took(700 * time.Microsecond)
	c.Took(time.Minute)
	c.Immediate.Add(5)
	c.NoWorker.Add(1)
	c.Waited(1500 * time.Millisecond)
	got := string(page(metrics.Sample{Project: "p", Function: `a "b"`, Revision: 2, Kind: "http", Trigger: "t", Counters: &c, Workers: 4, Busy: 1, Waiting: 7, Open: 9}))
	labels := `{project="p",function="a \"b\"",revision="2",trigger_kind="http",trigger_id="t"`
	for _, want := range []string{
		"# TYPE nuclio_processor_handled_events_total counter\nnuclio_processor_handled_events_total" + labels + `,result="success"} 2` + "\n",
		"nuclio_processor_handled_events_total" + labels + `,result="failure"} 2` + "\n",
		"millrace_events_refused_total" + labels + "} 1\n",
		"millrace_http_responses_total" + labels + `,code="2xx"} 1` + "\n",
		"millrace_http_responses_total" + labels + `,code="5xx"} 1` + "\n",
		"millrace_event_duration_seconds_bucket" + labels + `,le="0.0005"} 0` + "\n",
		"millrace_event_duration_seconds_bucket" + labels + `,le="0.001"} 1` + "\n",
		"millrace_event_duration_seconds_bucket" + labels + `,le="30"} 1` + "\n",
		"millrace_event_duration_seconds_bucket" + labels + `,le="+Inf"} 2` + "\n",
		"millrace_event_duration_seconds_sum" + labels + "} 60.0007\n",
		"nuclio_processor_worker_allocation_total" + labels + `,result="success_immediate"} 5` + "\n",
		"nuclio_processor_worker_allocation_total" + labels + `,result="success_after_wait"} 1` + "\n",
		"nuclio_processor_worker_allocation_total" + labels + `,result="error_timeout"} 1` + "\n",
		"nuclio_processor_worker_allocation_count" + labels + "} 7\n",
		"nuclio_processor_worker_allocation_wait_duration_milliseconds_sum" + labels + "} 1500\n",
		"nuclio_processor_handled_events_duration_milliseconds_sum" + labels + "} 60000\n",
		"nuclio_processor_handled_events_duration_milliseconds_count" + labels + "} 2\n",
		"millrace_workers" + labels + "} 4\n", "millrace_events_waiting" + labels + "} 7\n", "millrace_events_in_progress" + labels + "} 9\n",
		"millrace_cpu_seconds_total 1.5\n", "millrace_memory_bytes 5242880\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
}

// TestSave: who goes on counting after a process has ended tells the same, and so does
// who tells meanwhile.
func TestSave(t *testing.T) {
	t.Parallel()
	var c metrics.Counters
	c.Succeeded.Add(3)
	c.Failed.Add(2)
	c.Refused.Add(1)
	c.Restarts.Add(5)
	c.Answered(204)
	c.Answered(503)
	c.Took(700 * time.Microsecond)
	c.Took(time.Minute)
	samples := []metrics.Sample{{Project: "p", Function: "f", Revision: 2, Kind: "http", Trigger: "t", Counters: &c}}
	path := filepath.Join(t.TempDir(), "metrics.json")
	if _, err := metrics.Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing was saved: %v", err)
	}
	if err := metrics.Save(path, samples, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	saved, err := metrics.Load(path)
	if err != nil || saved.CPU != 3*time.Second {
		t.Fatalf("%+v %v", saved, err)
	}
	if got, want := string(page(saved.Samples()...)), string(page(samples...)); got != want {
		t.Errorf("saved:\n%s\nwas:\n%s", got, want)
	}
	if saved.Counters(2, "other") != nil || saved.Counters(1, "t") != nil || saved.Counters(2, "t").Restarts.Load() != 5 {
		t.Error("counters of the wrong trigger")
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	var one, two metrics.Counters
	samples := []metrics.Sample{
		{Kind: "http", Trigger: "a", Revision: 1, Counters: &one, Workers: 2, Busy: 1, Waiting: 3},
		{Kind: "cron", Trigger: "b", Revision: 2, Counters: &two, Workers: 1},
	}
	before := metrics.Read(page(samples...))
	for i := range 200 {
		one.Succeeded.Add(1)
		one.Took(2 * time.Millisecond)
		if i%10 == 0 {
			two.Failed.Add(1)
			two.Took(200 * time.Millisecond)
		}
	}
	after := metrics.Read(page(samples...))
	if after.Events != 220 || after.Errors != 20 || after.Workers != 3 || after.Busy != 1 || after.Waiting != 3 || after.Memory != 5<<20 || after.Processes != 3 {
		t.Errorf("%+v", after)
	}
	rates := after.Since(before, 2*time.Second)
	if rates.Events != 110 || rates.Errors != 10 || rates.CPU != 0 {
		t.Errorf("%+v", rates)
	}
	if rates.P50 < time.Millisecond || rates.P50 > 2500*time.Microsecond || rates.P99 < 100*time.Millisecond || rates.P99 > 250*time.Millisecond {
		t.Errorf("p50 %v, p99 %v", rates.P50, rates.P99)
	}
	if idle := after.Since(after, time.Second); idle != (metrics.Rates{}) {
		t.Errorf("idle %+v", idle)
	}
	if anew := before.Since(after, time.Second); anew.Events != 0 || anew.Errors != 0 {
		t.Errorf("started anew: %+v", anew)
	}
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	before := metrics.Measure(os.Getpid())
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	after := metrics.Measure(os.Getpid())
	if before.Processes < 1 || after.Processes != before.Processes+1 || after.Memory < 1<<20 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
