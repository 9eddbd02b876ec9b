package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

func testOpen(t *testing.T, fresh Fresh) {
	t.Run("a new database has the project default, once deleted it stays so", func(t *testing.T) {
		b := setup(t, fresh)
		b.doc(b.ProjectGet(b.ctx, "default"))
		b.must(b.ProjectDelete(b.ctx, "default"))
		again := b.open()
		_, err := again.ProjectGet(b.ctx, "default")
		b.refuses(err, fault.CodeNotFound, "Project not found: default")
	})
	t.Run("many open the same new database at once", func(t *testing.T) {
		t.Parallel()
		opts := fresh(t)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() {
				s, err := store.Open(t.Context(), opts)
				if err == nil {
					_, err = s.ProjectGet(t.Context(), "default")
					err = errors.Join(err, s.Close())
				}
				errs[i] = err
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	})
	t.Run("after close", func(t *testing.T) {
		b := setup(t, fresh)
		b.must(b.Close())
		b.must(b.Close())
		_, err := b.ProjectPut(b.ctx, "p", object(`{}`))
		b.refuses(err, fault.CodeUnavailable, "closed")
		if _, err := b.ProjectGet(b.ctx, "default"); err == nil {
			b.Error("a closed store answers")
		}
	})
}

func testTransactions(t *testing.T, fresh Fresh) {
	key := run.Key{Project: "default", UID: "u1"}
	body := object(`{"metadata":{"name":"n","labels":{"a":"b"}}}`)
	t.Run("all or nothing", func(t *testing.T) {
		b := setup(t, fresh)
		broken := errors.New("broken")
		err := b.Tx(b.ctx, func(tx *store.Tx) error {
			if _, err := tx.FunctionPut(b.ctx, store.FunctionPut{Project: "default", Name: "f", Versioned: true, Doc: object(`{"kind":"job"}`)}); err != nil {
				return err
			}
			if _, err := tx.RunPut(b.ctx, key, body); err != nil {
				return err
			}
			if _, err := tx.RunGet(b.ctx, key); err != nil {
				return fmt.Errorf("a transaction does not see its own write: %w", err)
			}
			return broken
		})
		if !errors.Is(err, broken) {
			b.Fatal(err)
		}
		_, err = b.RunGet(b.ctx, key)
		b.refuses(err, fault.CodeNotFound, "Run not found")
		_, err = b.FunctionGet(b.ctx, "default", "f", "", "")
		b.refuses(err, fault.CodeNotFound, "Function tag not found default/f:latest")
	})
	t.Run("one that fails does not hurt those beside it", func(t *testing.T) {
		b := setup(t, fresh)
		var wg sync.WaitGroup
		errs := make([]error, 60)
		for i := range errs {
			wg.Go(func() {
				defer func() {
					if r := recover(); r != nil { // in this goroutine, not in the store's
						errs[i] = fmt.Errorf("panic: %v", r)
					}
				}()
				errs[i] = b.Tx(b.ctx, func(tx *store.Tx) error {
					if _, err := tx.RunPut(b.ctx, run.Key{Project: "default", UID: fmt.Sprintf("u%d", i)}, body); err != nil {
						return err
					}
					switch i % 3 {
					case 1: // the database refuses it: no such phase
						return tx.ExecutionCreate(b.ctx, store.Execution{ID: fmt.Sprint(i), Project: "default", UID: "x", Attempt: i, Phase: "no such phase"})
					case 2:
						panic("no")
					}
					return nil
				})
			})
		}
		wg.Wait()
		for i, err := range errs {
			if (err == nil) != (i%3 == 0) {
				b.Errorf("transaction %d: %v", i, err)
			}
			if _, err := b.RunGet(b.ctx, run.Key{Project: "default", UID: fmt.Sprintf("u%d", i)}); (err == nil) != (i%3 == 0) {
				b.Errorf("run %d: %v", i, err)
			}
		}
	})
	t.Run("a cancelled caller", func(t *testing.T) {
		b := setup(t, fresh)
		ctx, cancel := context.WithCancelCause(b.ctx)
		cause := errors.New("had enough")
		cancel(cause)
		called := false
		err := b.Tx(ctx, func(*store.Tx) error { called = true; return nil })
		if err == nil || called {
			b.Errorf("got %v, called %t", err, called)
		}
	})
	t.Run("time is the clock's, one for a transaction", func(t *testing.T) {
		b := setup(t, fresh)
		b.must(b.Tx(b.ctx, func(tx *store.Tx) error {
			for _, uid := range []string{"a", "b"} {
				if _, err := tx.RunPut(b.ctx, run.Key{Project: "default", UID: uid}, body); err != nil {
					return err
				}
			}
			return nil
		}))
		first := b.doc(b.RunGet(b.ctx, run.Key{Project: "default", UID: "a"}))
		second := b.doc(b.RunGet(b.ctx, run.Key{Project: "default", UID: "b"}))
		b.same(document.Map(first, "status"), document.Map(second, "status"))
		if at := run.Time(first, "status", "last_update"); at.Year() != 2024 {
			b.Error(at)
		}
	})
}

func testConcurrency(t *testing.T, fresh Fresh) {
	t.Run("64 goroutines on two stores count together", func(t *testing.T) {
		b := setup(t, fresh)
		other := b.open()
		key := run.Key{Project: "default", UID: "counter"}
		b.doc(b.RunPut(b.ctx, key, object(`{"metadata":{"name":"n"},"status":{"results":{"n":0}}}`)))
		const each = 5
		var wg sync.WaitGroup
		for i := range 64 {
			s := []*store.Store{b.Store, other}[i%2]
			wg.Go(func() {
				for range each {
					_, err := s.RunMutate(b.ctx, key, func(doc document.Object) (document.Object, error) {
						n, _ := document.Int(doc, "status", "results", "n")
						document.Set(doc, n+1, "status", "results", "n")
						return doc, nil
					})
					if err != nil {
						b.Errorf("worker %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		n, _ := document.Int(b.doc(b.RunGet(b.ctx, key)), "status", "results", "n")
		if n != 64*each {
			b.Errorf("counted %d, want %d", n, 64*each)
		}
	})
	t.Run("the same new things at once", func(t *testing.T) {
		b := setup(t, fresh)
		other := b.open()
		var wg sync.WaitGroup
		var mu sync.Mutex
		created := 0
		for i := range 32 {
			s := []*store.Store{b.Store, other}[i%2]
			wg.Go(func() {
				if _, err := s.FunctionPut(b.ctx, store.FunctionPut{Project: "default", Name: "f", Versioned: true, Doc: object(`{"kind":"job","spec":{"n":%d}}`, i%4)}); err != nil {
					b.Errorf("function: %v", err)
				}
				if _, err := s.RunPut(b.ctx, run.Key{Project: "default", UID: "same"}, object(`{"metadata":{"name":"n","labels":{"by":"%d"}}}`, i)); err != nil {
					b.Errorf("run: %v", err)
				}
				if _, err := s.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: "k", Tree: fmt.Sprint("t", i%4), Doc: object(`{"kind":"","metadata":{"key":"k"}}`)}); err != nil {
					b.Errorf("artifact: %v", err)
				}
				switch _, err := s.ProjectCreate(b.ctx, object(`{"metadata":{"name":"new"}}`)); {
				case err == nil:
					mu.Lock()
					created++
					mu.Unlock()
				case !fault.Is(err, fault.CodeConflict):
					b.Errorf("project: %v", err)
				}
			})
		}
		wg.Wait()
		if created != 1 {
			b.Errorf("%d callers created the project", created)
		}
		functions, _, err := b.FunctionList(b.ctx, store.FunctionFilter{Project: "default"})
		b.must(err)
		if len(functions) != 4 {
			b.Errorf("%d functions, want 4 versions", len(functions))
		}
		tagged, _, err := b.ArtifactList(b.ctx, store.ArtifactFilter{Project: "default"})
		b.must(err)
		latest := 0
		for _, doc := range tagged {
			if document.String(doc, "metadata", "tag") == "latest" {
				latest++
			}
		}
		if len(tagged) != 4 || latest != 1 {
			b.Errorf("%d artifacts, %d of them latest; want 4 and 1", len(tagged), latest)
		}
		final := b.doc(b.RunGet(b.ctx, run.Key{Project: "default", UID: "same"}))
		by := document.String(final, "metadata", "labels", "by")
		for i := range 32 {
			found, _, err := b.RunList(b.ctx, store.RunFilter{Project: "default", Labels: []store.LabelFilter{{Key: "by", Value: fmt.Sprint(i), HasValue: true}}})
			b.must(err)
			if (len(found) == 1) != (fmt.Sprint(i) == by) {
				b.Errorf("label by=%d finds %d runs, the run has by=%s", i, len(found), by)
			}
		}
	})
	t.Run("deleting a project while others write into it leaves nothing", func(t *testing.T) {
		b := setup(t, fresh)
		other := b.open()
		b.doc(b.ProjectPut(b.ctx, "doomed", object(`{}`)))
		var wg sync.WaitGroup
		begun := make(chan struct{}, 16)
		for i := range 16 {
			s := []*store.Store{b.Store, other}[i%2]
			wg.Go(func() {
				for n := 0; ; n++ {
					_, err := s.RunPut(b.ctx, run.Key{Project: "doomed", UID: fmt.Sprint(i, "-", n)}, object(`{"metadata":{"name":"n","labels":{"a":"b"}}}`))
					if n == 3 {
						begun <- struct{}{}
					}
					if fault.Is(err, fault.CodeNotFound) {
						return
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		for range 16 {
			<-begun
		}
		b.must(b.ProjectDelete(b.ctx, "doomed"))
		wg.Wait()
		kinds, err := b.ProjectContents(b.ctx, "doomed")
		b.must(err)
		if len(kinds) > 0 {
			b.Errorf("left: %v", kinds)
		}
	})
	t.Run("readers see whole transactions", func(t *testing.T) {
		b := setup(t, fresh)
		ctx, stop := context.WithTimeout(b.ctx, 20*time.Second)
		defer stop()
		var wg sync.WaitGroup
		wg.Go(func() {
			defer stop()
			for i := range 100 {
				err := b.Tx(ctx, func(tx *store.Tx) error {
					for _, uid := range []string{"a", "b"} {
						if _, err := tx.RunPut(ctx, run.Key{Project: "default", UID: uid}, object(`{"metadata":{"name":"n"},"status":{"results":{"i":%d}}}`, i)); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
		for ctx.Err() == nil {
			docs, _, err := b.RunList(b.ctx, store.RunFilter{Project: "default"})
			b.must(err)
			if got := pick(docs, "status", "results", "i"); len(got) == 1 || len(got) == 2 && fmt.Sprint(got[0]) != fmt.Sprint(got[1]) {
				b.Fatalf("half a transaction: %v", got)
			}
		}
		wg.Wait()
	})
}
