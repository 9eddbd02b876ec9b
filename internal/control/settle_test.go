package control

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
)

// journal is a backend of one execution whose runner has told all and is gone;
// read runs each time the journal is about to be read.
type journal struct {
	Backend
	records []spool.Record
	state   func() State
	read    func()
}

func (j *journal) State(string) State { return j.state() }
func (j *journal) Clean(string)       {}
func (j *journal) Journal(_ string, offset int64) ([]spool.Record, int64, error) {
	records := j.records[offset:]
	if j.read != nil {
		j.read()
	}
	return records, int64(len(j.records)), nil
}

type noDevices struct{ Devices }

func (noDevices) Free(string) {}

// TestSettleAfterAnotherProcessApplied: another process that looked while the
// runner still held its lock has applied the journal, but not finished the
// execution; settling it here must do that.
func TestSettleAfterAnotherProcessApplied(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	key := run.Key{Project: "default", UID: "u1"}
	e := store.Execution{ID: "u1-1", Project: key.Project, UID: key.UID, Attempt: 1, Phase: "starting", Backend: "test", Plan: document.Object{}, Created: time.Now()}
	err = s.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.ExecutionCreate(ctx, e); err != nil {
			return err
		}
		_, err := tx.RunPut(ctx, key, document.Object{"metadata": document.Object{"uid": "u1", "name": "r", "project": "default"}, "status": document.Object{"state": "running"}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	records := []spool.Record{
		{Type: "started", Time: time.Now(), Body: document.Object{}},
		{Type: "end", Time: time.Now(), Body: document.Object{"state": "completed"}},
	}
	control := func(b Backend) *Control {
		return New(Options{Name: "test", Store: s, Backend: b, Devices: noDevices{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), MaxRuns: 1})
	}
	other := control(&journal{records: records, state: func() State { return Alive }})
	var once sync.Once
	own := control(&journal{records: records, state: func() State { return Gone }, read: func() {
		once.Do(func() {
			if over, err := other.Settle(context.WithoutCancel(ctx), e.ID); err != nil || over {
				t.Errorf("the other process: over %v, %v", over, err)
			}
		})
	}})
	if over, err := own.Settle(ctx, e.ID); err != nil || !over {
		t.Errorf("Settle = %v, %v", over, err)
	}
	doc, err := s.RunGet(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if state := document.String(doc, "status", "state"); state != "completed" {
		t.Errorf("the run is %q, want completed", state)
	}
}
