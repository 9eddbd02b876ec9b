package deployment_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/deployment"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/store/storetest"
)

// cluster is several servers on one PostgreSQL, each with a machine of its own.
type cluster struct {
	*testing.T
	url string
}

var databases atomic.Int64

func newCluster(t *testing.T) *cluster {
	t.Helper()
	server, err := storetest.StartPostgres(t.Context())
	storetest.Require(t, err)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	url, _, err := server.Database(t.Context(), fmt.Sprintf("millrace_keepers_%d_%d", os.Getpid(), databases.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{T: t, url: url}
}

// join makes a server on the machine h, which may have been one's before.
func (c *cluster) join(name string, h *host) *world {
	c.Helper()
	s, err := store.Open(c.Context(), store.Options{DatabaseURL: c.url})
	if err != nil {
		c.Fatal(err)
	}
	w := &world{T: c.T, host: h, store: s}
	w.Deployments = deployment.New(deployment.Options{
		Store: s, Host: h, Preparer: builds{}, Logger: slog.New(slog.DiscardHandler), URL: "http://" + name, Server: name, Lease: 2 * time.Second,
	})
	w.Start(c.Context())
	c.Cleanup(func() { w.leave() })
	return w
}

// leave is the end of a server: it says nothing to the others, and its processors live on.
func (w *world) leave() {
	w.Stop()
	_ = w.store.Close()
}

func (h *host) runs() bool { defer h.locked()(); return h.alive }

func (c *cluster) until(what string, holds func() bool) {
	c.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("never: %s", what)
		}
	}
}

func TestOneKeeper(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	onA, onB := newHost(), newHost()
	a, b := c.join("a", onA), c.join("b", onB)
	a.deploy("one", nil)
	b.await("ready", in("ready", 1))
	// Who took the request keeps it; the other one says where it is.
	if onB.runs() {
		t.Fatal("both servers have a processor")
	}
	var elsewhere *deployment.ElsewhereError
	if err := b.Ready(t.Context(), key); !errors.As(err, &elsewhere) || elsewhere.URL != "http://a" {
		t.Errorf("b says %v", err)
	}
	if err := a.Ready(t.Context(), key); err != nil {
		t.Errorf("a says %v", err)
	}
	// A deploy that another server takes is the keeper's work too.
	b.deploy("two", nil)
	b.await("ready", in("ready", 2))
	if a.serves("[{2 100 false}]"); onB.runs() {
		t.Fatal("the other server has started a processor")
	}
	// While a is away for less than its lease, it stays its.
	a.leave()
	a = c.join("a", onA)
	a.deploy("three", nil)
	b.await("ready", in("ready", 3))
	if onB.runs() {
		t.Fatal("a restart was taken for a death")
	}
	// When a is gone, b takes over; a's processor serves on until a is back.
	a.leave()
	c.until("b has taken over", onB.runs)
	if !onA.runs() {
		t.Fatal("a's processor has ended with its server")
	}
	c.until("b is ready", func() bool { return b.Ready(t.Context(), key) == nil })
	a = c.join("a", onA)
	c.until("what a has left has ended", func() bool { return !onA.runs() })
	if err := a.Ready(t.Context(), key); !errors.As(err, &elsewhere) || elsewhere.URL != "http://b" {
		t.Errorf("a says %v", err)
	}
	a.deploy("four", nil)
	a.await("ready", in("ready", 4))
	if onA.runs() || !onB.runs() {
		t.Errorf("a has a processor: %v, b has one: %v", onA.runs(), onB.runs())
	}
	// Whoever is asked to delete it has the keeper do so.
	if err := a.Remove(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if onB.runs() {
		t.Error("it is deleted and runs")
	}
}

// What a server finds on its machine of deployments that are in the store no more ends and
// goes, whoever deleted them while it was away; what is in the store stays.
func TestWhatIsGoneEnds(t *testing.T) {
	t.Parallel()
	h := newHost()
	h.alive, h.left = true, []deployment.Key{{Project: "p", Name: "deleted"}}
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "millrace.db")})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, host: h, store: s}
	w.Deployments = deployment.New(deployment.Options{Store: s, Host: h, Preparer: builds{}, Logger: slog.New(slog.DiscardHandler)})
	w.Start(t.Context())
	t.Cleanup(w.leave)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		done := h.locked()
		alive, removed := h.alive, h.removed
		done()
		if !alive && removed {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("alive %v, removed %v", alive, removed)
		}
	}
}

// A command without a server leaves the end of a deployment to the server that keeps it.
func TestRemoveLeavesItToTheKeeper(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	onA := newHost()
	a := c.join("a", onA)
	a.deploy("one", nil)
	a.await("ready", in("ready", 1))
	command := deployment.New(deployment.Options{Store: a.store, Host: newHost(), Preparer: builds{}, Logger: slog.New(slog.DiscardHandler)})
	if err := command.Remove(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if onA.runs() {
		t.Error("it is deleted and runs")
	}
}

// Of many servers that come at once, one keeps each deployment.
func TestManyServersAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first := newHost()
	a := c.join("first", first)
	a.deploy("one", nil)
	a.await("ready", in("ready", 1))
	a.leave()
	var hosts []*host
	for i := range 5 {
		h := newHost()
		hosts = append(hosts, h)
		c.join(fmt.Sprintf("s%d", i), h)
	}
	running := func() (n int) {
		for _, h := range hosts {
			if h.runs() {
				n++
			}
		}
		return n
	}
	c.until("one has taken over", func() bool { return running() > 0 })
	for range 100 {
		if n := running(); n != 1 {
			t.Fatalf("%d servers have a processor", n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A server that cannot reach the database any more stops keeping, so that nothing is
// done twice once another has taken over.
func TestServerWithoutDatabase(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	onA, onB := newHost(), newHost()
	a := c.join("a", onA)
	a.deploy("one", nil)
	a.await("ready", in("ready", 1))
	b := c.join("b", onB)
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	c.until("b has taken over", onB.runs)
	starts := onA.count()
	onA.kill() // which a keeper would notice at once
	b.await("ready", in("ready", 1))
	time.Sleep(time.Second)
	if n := onA.count(); n != starts {
		t.Errorf("started %d times after the lease was over", n-starts)
	}
}

func (h *host) count() int { defer h.locked()(); return h.starts }

func (h *host) kill() { defer h.locked()(); h.alive = false }
