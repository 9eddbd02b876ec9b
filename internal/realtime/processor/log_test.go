package processor_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// TestLogIsBounded: a handler that prints without end costs no more of the disk than the
// revision says, and what the processor says of itself is bounded as well. The newest
// part of both is kept.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	f := prepare(t, `
import threading, time
written = 0
stop = threading.Event()

def chatter():
    global written
    while not stop.is_set():
        written += 1
        print("%09d %s" % (written, "x" * 1013), flush=True)
        time.sleep(0.0002)

thread = threading.Thread(target=chatter, daemon=True)

def handler(context, event):
    if event.path == "/start":
        thread.start()
    if event.path == "/stop":
        stop.set()
        thread.join()
        print("the end", flush=True)
    return str(written)
`, func(r *realtime.Revision) { r.LogLimit = limit })
	ownLog := filepath.Join(f.dir.Path, realtime.ProcessorLog)
	own := bytes.Repeat([]byte("it said this\n"), 5<<20/13)
	if err := os.WriteFile(ownLog, append(own, "last\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	f.run()
	f.await(func(s *realtime.Status) bool { return s.State == realtime.StateReady })
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("never: %s; the log has %d bytes, what was put aside %d", what, size(f.dir.Log()), size(f.dir.Log()+".1"))
			}
		}
	}
	if a := f.get("/start"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for range 3 { // while it prints
		grown := int64(0)
		until("it is begun anew", func() bool {
			now := size(f.dir.Log())
			less := now < grown
			grown = max(grown, now)
			return less
		})
	}
	f.get("/stop")
	until("it is within its limit", func() bool { return size(f.dir.Log()) <= limit })
	if aside := size(f.dir.Log() + ".1"); aside == 0 || aside > limit/2 {
		t.Errorf("%d bytes are put aside, want %d at most", aside, limit/2)
	}
	aside, err := os.ReadFile(f.dir.Log() + ".1")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(f.log(), "the end\n") && !bytes.HasSuffix(aside, []byte("the end\n")) {
		t.Error("the newest lines are not there")
	}
	until("the processor's own is begun anew", func() bool { return size(ownLog) == 0 })
	if kept, err := os.ReadFile(ownLog + ".1"); err != nil || len(kept) > 2<<20 || !bytes.HasSuffix(kept, []byte("last\n")) {
		t.Errorf("%d bytes of the processor's own, %v", len(kept), err)
	}
}

// TestLogLevel: records below the level of the function are not in its log, and are still
// returned to a caller who asks for them.
func TestLogLevel(t *testing.T) {
	t.Parallel()
	f := deploy(t, `
def handler(context, event):
    context.logger.info("a detail")
    context.logger.bind(of="it").info_with("another", n=1)
    context.logger.warn("a warning")
`, func(r *realtime.Revision) { r.LogLevel = "warn" })
	a := f.get("/")
	if a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	a = f.post("/", "", "X-Nuclio-Log-Level", "info")
	for _, part := range []string{"a detail", "another", "a warning"} {
		if !strings.Contains(a.header.Get("X-Nuclio-Logs"), part) {
			t.Errorf("%s is not in %q", part, a.header.Get("X-Nuclio-Logs"))
		}
	}
	if log := f.log(); strings.Count(log, "a warning") != 2 || strings.Contains(log, "a detail") || strings.Contains(log, "another") {
		t.Errorf("log: %s", log)
	}
}
