package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
)

func openWith(t *testing.T, path string, sync func(*os.File) error) *Store {
	t.Helper()
	e, err := openSQLiteWith(t.Context(), Options{Path: path, Clock: time.Now}, sync)
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{engine: e, read: e.reader(), clock: time.Now}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func putRun(ctx context.Context, s *Store, uid string) error {
	_, err := s.RunPut(ctx, run.Key{Project: "default", UID: uid}, document.Object{"metadata": document.Object{"name": "n"}})
	return err
}

// TestPowerLoss keeps, at each sync, the files as they are then: that is what a
// machine that loses its power finds again at least. Whatever was acknowledged by
// then must be in them.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "millrace.db")
	var snapshots atomic.Int64
	s := openWith(t, path, func(wal *os.File) error {
		// Far fewer pages are written than a checkpoint waits for, so the two files
		// belong together.
		to := filepath.Join(dir, fmt.Sprint("lost", snapshots.Load()+1))
		for suffix, from := range map[string]string{"": path, "-wal": wal.Name()} {
			raw, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to+suffix, raw, 0o600)
			}
			if err != nil {
				return err
			}
		}
		snapshots.Add(1)
		return nil
	})
	type acknowledged struct {
		uid string
		by  int64 // syncs that were over when it was
	}
	var mu sync.Mutex
	var all []acknowledged
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := range 12 {
				uid := fmt.Sprintf("%d-%d", w, n)
				if err := putRun(t.Context(), s, uid); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, acknowledged{uid, snapshots.Load()})
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	for n := int64(1); n <= snapshots.Load(); n++ {
		lost, err := Open(t.Context(), Options{Path: filepath.Join(dir, fmt.Sprint("lost", n))})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			if a.by > n {
				continue
			}
			if _, err := lost.RunGet(t.Context(), run.Key{Project: "default", UID: a.uid}); err != nil {
				t.Errorf("acknowledged after sync %d, lost by a power failure after sync %d: %v", a.by, n, err)
			}
		}
		if err := lost.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestExecutedDuringSync holds the disk back: the next transaction is executed
// meanwhile, and neither is acknowledged.
func TestExecutedDuringSync(t *testing.T) {
	t.Parallel()
	release, began := make(chan struct{}), make(chan struct{}, 8)
	s := openWith(t, filepath.Join(t.TempDir(), "millrace.db"), func(*os.File) error {
		began <- struct{}{}
		<-release
		return nil
	})
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- putRun(t.Context(), s, "first") }()
	<-began
	executed := make(chan struct{})
	go func() {
		second <- s.Tx(t.Context(), func(tx *Tx) error {
			defer close(executed)
			_, err := tx.RunPut(t.Context(), run.Key{Project: "default", UID: "second"}, document.Object{"metadata": document.Object{"name": "n"}})
			return err
		})
	}()
	<-executed
	select {
	case err := <-first:
		t.Fatalf("acknowledged before the disk answered: %v", err)
	case err := <-second:
		t.Fatalf("acknowledged before the disk answered: %v", err)
	default:
	}
	close(release)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Fatal(err)
	}
}

// TestSyncFails: a write whose sync fails is not acknowledged, and none after it.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "millrace.db")
	var full atomic.Bool
	s := openWith(t, path, func(f *os.File) error {
		if full.Load() {
			return errors.New("no space")
		}
		return f.Sync()
	})
	if err := putRun(t.Context(), s, "good"); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if err := putRun(t.Context(), s, "bad"); !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("a write that is not on the disk: %v", err)
	}
	full.Store(false)
	if err := putRun(t.Context(), s, "later"); !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("a write after one that was lost: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openWith(t, path, dataSync)
	if err := putRun(t.Context(), again, "again"); err != nil {
		t.Error(err)
	}
	if _, err := again.RunGet(t.Context(), run.Key{Project: "default", UID: "good"}); err != nil {
		t.Error(err)
	}
}
