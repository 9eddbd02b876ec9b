package storetest

import (
	"context"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

// testCache: the newest note under a key is found, keys of projects are apart, and
// a project takes its notes along.
func testCache(t *testing.T, fresh Fresh) {
	t.Run("kept", func(t *testing.T) { cacheIsKept(t, fresh) })
}

func cacheIsKept(t *testing.T, fresh Fresh) {
	b := setup(t, fresh)
	s := b.open()
	for _, name := range []string{"one", "two"} {
		_, err := s.ProjectCreate(b.ctx, document.Object{"metadata": document.Object{"name": name}})
		b.must(err)
	}
	put := func(project, key, uid string) error {
		return s.Tx(b.ctx, func(tx *store.Tx) error { return tx.CachePut(context.WithoutCancel(b.ctx), project, key, uid) })
	}
	want := func(project, key, uid string) {
		t.Helper()
		got, err := s.CacheGet(b.ctx, project, key)
		b.must(err)
		if got != uid {
			t.Errorf("%s in %s: run %q, want %q", key, project, got, uid)
		}
	}
	want("one", "k", "")
	b.must(put("one", "k", "u1"))
	b.must(put("two", "k", "u2"))
	want("one", "k", "u1")
	want("two", "k", "u2")
	b.must(put("one", "k", "u3"))
	want("one", "k", "u3")
	want("two", "k", "u2")
	want("one", "other", "")
	if err := put("none", "k", "u"); !fault.Is(err, fault.CodeNotFound) {
		t.Errorf("a project that does not exist: %v", err)
	}
	b.must(s.ProjectDelete(b.ctx, "one"))
	_, err := s.ProjectCreate(b.ctx, document.Object{"metadata": document.Object{"name": "one"}})
	b.must(err)
	want("one", "k", "")
	want("two", "k", "u2")
}
