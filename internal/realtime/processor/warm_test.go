package processor_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/processor"
	"github.com/millrace/millrace/internal/template"
)

// TestWorkersAreForkedFromTemplates: a function that has scaled to zero comes back
// from a template of what its code imports.
func TestWorkersAreForkedFromTemplates(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "templates")
	pool, err := template.New(template.Options{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil || ctx.Err() != nil {
			t.Errorf("Close = %v, %v", err, ctx.Err())
		}
	})
	if err := pool.Listen(); err != nil {
		t.Fatal(err)
	}
	const code = `import os, logging, http.client
def handler(context, event):
    return "template" if b"\0template\0" in open("/proc/%d/cmdline" % os.getppid(), "rb").read() else "fresh"
`
	f := prepare(t, code, func(r *realtime.Revision) {
		r.Replicas = realtime.Replicas{Min: 0, Max: 1}
		r.IdleToZero = 200 * time.Millisecond
	})
	f.options = processor.Options{Templates: template.Client{Dir: folder}, Imports: template.Imports{Dir: t.TempDir()}}
	f.run()
	zero := func(s *realtime.Status) bool {
		return len(s.Revisions) == 1 && s.Revisions[0].State == realtime.StateScaledToZero
	}
	f.await(func(s *realtime.Status) bool { return s.State == realtime.StateReady || zero(s) })
	for i, want := range []string{"", "template"} {
		if a := f.get("/"); a.err != nil || a.status != 200 || want != "" && a.body != want {
			t.Fatalf("event %d: %d %s %v, want %s", i, a.status, a.body, a.err, want)
		}
		f.await(zero)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			list := pool.List()
			if len(list) > 0 && list[len(list)-1].Modules > 0 && list[len(list)-1].PID != 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no template of what the code imports: %+v", list)
			}
		}
	}
}
