// Package storetest is the suite that every database behind store.Store passes,
// and what is needed to run it: a real PostgreSQL server.
//
// Lists are checked against a model: the same filters written down once more as
// plain loops over everything that was stored.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

// Fresh returns options that name an empty database of the test's own, which is
// gone after the test. They may be opened several times.
type Fresh func(t testing.TB) store.Options

// Run runs the suite.
func Run(t *testing.T, fresh Fresh) {
	for _, area := range []struct {
		name string
		run  func(*testing.T, Fresh)
	}{
		{"open", testOpen},
		{"transactions", testTransactions},
		{"projects", testProjects},
		{"functions", testFunctions},
		{"runs", testRuns},
		{"run lists", testRunLists},
		{"latest runs", testLatest},
		{"artifacts", testArtifacts},
		{"artifact lists", testArtifactLists},
		{"tags", testTags},
		{"lineage", testLineage},
		{"content of artifacts", testArtifactContent},
		{"secrets", testSecrets},
		{"cache", testCache},
		{"deployments", testDeployments},
		{"bundles of code", testBundles},
		{"tasks", testTasks},
		{"executions", testExecutions},
		{"concurrency", testConcurrency},
		{"strange input", testStrangeInput},
	} {
		t.Run(area.name, func(t *testing.T) {
			t.Parallel()
			area.run(t, fresh)
		})
	}
}

// Require ends the test when something it needs is missing: it skips, or fails
// when MILLRACE_TEST_REQUIRE=1 says that nothing may be missing.
func Require(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrNoPostgres) && os.Getenv("MILLRACE_TEST_REQUIRE") != "1":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// Clock is a clock that moves one millisecond each time it is looked at.
type Clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

// NewClock returns a clock that begins on 1 March 2024.
func NewClock() *Clock { return &Clock{now: time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)} }

// Now returns the time and moves on.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Millisecond)
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bundle is a store for one test.
type bundle struct {
	*testing.T
	*store.Store
	ctx   context.Context
	clock *Clock
	opts  store.Options
}

func setup(t *testing.T, fresh Fresh) *bundle {
	t.Helper()
	t.Parallel()
	b := &bundle{T: t, ctx: t.Context(), clock: NewClock(), opts: fresh(t)}
	b.opts.Clock = b.clock.Now
	b.Store = b.open()
	return b
}

// open opens the database of the test once more.
func (b *bundle) open() *store.Store {
	b.Helper()
	s, err := store.Open(b.ctx, b.opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Errorf("close: %v", err)
		}
	})
	return s
}

// must fails the test on an error.
func (b *bundle) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// doc is must for calls that return a document.
func (b *bundle) doc(doc document.Object, err error) document.Object {
	b.Helper()
	b.must(err)
	return doc
}

// refuses fails the test unless err carries code and says text.
func (b *bundle) refuses(err error, code fault.Code, text string) {
	b.Helper()
	if !fault.Is(err, code) || !strings.Contains(err.Error(), text) {
		b.Fatalf("got error %v (%s), want %s with %q", err, fault.CodeOf(err), code, text)
	}
}

// same fails the test unless got and want are equal as JSON.
func (b *bundle) same(got, want any) {
	b.Helper()
	if diff := cmp.Diff(plain(b.T, want), plain(b.T, got)); diff != "" {
		b.Fatalf("-want +got\n%s", diff)
	}
}

func plain(t *testing.T, value any) (out any) {
	t.Helper()
	text, ok := value.(string)
	if !ok {
		text = string(document.Encode(value))
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

// object reads a JSON object that a test wrote.
func object(format string, args ...any) document.Object {
	doc, err := document.DecodeObject(fmt.Appendf(nil, format, args...))
	if err != nil {
		panic(err)
	}
	return doc
}

// pick lists the value at path of each document, in order.
func pick(docs []document.Object, path ...string) []any {
	out := make([]any, len(docs))
	for i, doc := range docs {
		out[i] = document.Get(doc, path...)
	}
	return out
}

// cmpDiff describes how got differs from want.
func cmpDiff(got, want any) string { return cmp.Diff(want, got) }
