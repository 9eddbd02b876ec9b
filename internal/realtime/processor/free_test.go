//go:build freethreaded

package processor_test

import (
	"net/http"
	"os"
	"testing"

	"github.com/millrace/millrace/internal/realtime"
)

// TestFreeThreads: four events are in progress in one process that has no global lock,
// also after they have computed. MILLRACE_TEST_PYTHON names the interpreter.
func TestFreeThreads(t *testing.T) {
	f := deploy(t, `
import os, sys, threading

barrier = threading.Barrier(4, timeout=20)

def handler(context, event):
    barrier.wait()
    total = sum(i * i for i in range(100_000))
    barrier.wait()
    return {"pid": os.getpid(), "locked": sys._is_gil_enabled(), "total": total}
`, func(r *realtime.Revision) {
		r.Python = os.Getenv("MILLRACE_TEST_PYTHON")
		workers(1, threads(4))(r)
	})
	answers := f.at("/", "/", "/", "/")
	first := answers[0].value(t)["pid"]
	for _, a := range answers {
		if got := a.value(t); a.status != http.StatusOK || got["locked"] != false || got["pid"] != first || got["total"] != 333328333350000.0 {
			t.Errorf("%d %v", a.status, got)
		}
	}
}
