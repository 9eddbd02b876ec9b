// Package application serves a revision that is a program of its own: anything that
// speaks HTTP on the port that it finds in $PORT.
//
// Each replica is one process with a port of its own. Requests go to the one with
// the fewest in progress; bodies stream both ways and upgraded connections
// (WebSocket) pass. Replicas that end are started again, at once at first and then
// after pauses; their number follows the load, down to none.
package application

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httputil"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/limits"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/metrics"
)

// ErrDraining says that the application takes no more requests. The request it
// answers has not been touched.
var ErrDraining = errors.New("the revision takes no more requests")

// Options say what to serve; fields without a comment are required.
type Options struct {
	Revision realtime.Revision // with its defaults; the first http trigger is what counts
	Dir      string            // where the program runs
	Env      []string          // the whole environment of the program but PORT
	Log      *os.File          // what the program writes
	Group    *limits.Group     // that bounds all replicas together, nil for none
	Logger   *slog.Logger
	Changed  func() // called after the state has changed, from any goroutine
}

// App is an application at work.
//
// Goroutines: one keeps the number of replicas, and one for each replica; Close
// waits for them.
type App struct {
	Options
	trigger  realtime.Trigger
	proxy    *httputil.ReverseProxy
	counters metrics.Counters
	began    time.Time
	ctx      context.Context // of the replicas' lives
	cancel   context.CancelFunc
	lives    sync.WaitGroup

	mu       sync.Mutex
	replicas []*replica
	moved    chan struct{} // closed when something below or in a replica changes
	waiting  int           // requests without a replica
	served   bool          // a replica has been ready
	late     bool          // none was within ReadyTimeout
	trouble  error         // why the last replica that ended did; nil once one is ready
	draining bool
	turn     int       // where the choice between equals begins
	used     time.Time // when the last request ended
}

// Start begins to start the replicas and returns at once.
func Start(options Options) *App {
	a := &App{Options: options, began: time.Now(), used: time.Now(), moved: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.proxy = newProxy(a)
	for _, t := range options.Revision.Triggers {
		if t.Kind == realtime.TriggerHTTP {
			a.trigger = t
		}
	}
	a.mu.Lock()
	a.resize(max(options.Revision.Replicas.Min, 1)) // one shows whether the program works
	a.mu.Unlock()
	a.lives.Go(a.keep)
	return a
}

// change tells everybody who waits; a.mu is held.
func (a *App) change() {
	close(a.moved)
	a.moved = make(chan struct{})
}

// State says what the application is doing, and why it cannot serve if it cannot.
func (a *App) State() (realtime.State, string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ready := a.ready()
	switch {
	case a.draining:
		return realtime.StateDraining, ""
	case ready > 0:
		return realtime.StateReady, ""
	case a.trouble != nil:
		return realtime.StateError, a.trouble.Error()
	case a.late:
		return realtime.StateError, "the program did not answer on its port within " + a.Revision.ReadyTimeout.String()
	case a.served && len(a.replicas) == 0:
		return realtime.StateScaledToZero, ""
	case a.served:
		return realtime.StateReady, "" // it comes back, and requests wait for it
	}
	return realtime.StateStarting, ""
}

// ready is how many replicas take requests; a.mu is held.
func (a *App) ready() int {
	n := 0
	for _, r := range a.replicas {
		if r.ready && !r.leaving {
			n++
		}
	}
	return n
}

// Sample is what metrics tell.
func (a *App) Sample() metrics.Sample {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := metrics.Sample{
		Project: a.Revision.Project, Function: a.Revision.Name, Revision: a.Revision.Number, Kind: a.trigger.Kind, Trigger: a.trigger.Name,
		Counters: &a.counters, Workers: a.ready(), Waiting: a.waiting,
	}
	for _, r := range a.replicas {
		out.Open += r.open
		if r.open > 0 {
			out.Busy++
		}
	}
	return out
}

// Close takes no more requests, lets those in progress finish until ctx ends, and
// ends the program. Requests that come late get ErrDraining.
func (a *App) Close(ctx context.Context) {
	a.mu.Lock()
	a.draining = true
	a.change()
	for _, r := range a.replicas {
		r.leave(ctx)
	}
	a.mu.Unlock()
	a.Changed()
	defer a.lives.Wait()
	defer a.cancel()
	for {
		a.mu.Lock()
		moved, left := a.moved, len(a.replicas)
		a.mu.Unlock()
		if left == 0 {
			return
		}
		<-moved // each replica has its time from ctx
	}
}

// resize makes the replicas n by starting or ending some; a.mu is held.
func (a *App) resize(n int) {
	staying := 0
	for _, r := range a.replicas {
		if !r.leaving {
			staying++
		}
	}
	for ; staying < n; staying++ {
		r := &replica{app: a, left: make(chan struct{})}
		a.replicas = append(a.replicas, r)
		a.lives.Go(r.live)
	}
	for ; staying > n; staying-- {
		r := a.replicas[a.idlest()]
		ctx, cancel := context.WithTimeout(a.ctx, a.Revision.Grace)
		r.leave(ctx)
		a.lives.Go(func() {
			defer cancel()
			select {
			case <-ctx.Done():
			case <-r.left:
			}
		})
	}
	a.change()
}

// idlest is the index of the replica that is missed least; a.mu is held.
func (a *App) idlest() int {
	best := -1
	for i, r := range a.replicas {
		if r.leaving {
			continue
		}
		if best < 0 || !r.ready && a.replicas[best].ready || r.ready == a.replicas[best].ready && r.open <= a.replicas[best].open {
			best = i
		}
	}
	return best
}

// gone takes a replica that has ended off the list.
func (a *App) gone(r *replica) {
	a.mu.Lock()
	a.replicas = slices.DeleteFunc(a.replicas, func(other *replica) bool { return other == r })
	a.change()
	a.mu.Unlock()
	close(r.left)
	a.Changed()
}
