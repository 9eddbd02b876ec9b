// Package deployment brings real-time functions from "should serve" to serving and
// keeps them there: what the store says should be, what the processors say is, and
// the next step between the two.
//
// # Lives
//
// Deploy writes the intent (a new revision of the deployment and which share of the
// events it gets) before it is acknowledged, so a killed server loses nothing. One
// keeper a deployment then makes its revisions ready, hands them to the deployment's
// processor, starts that when it does not live, and writes what it says into the
// store and into the function's document.
//
// A processor outlives the server: a keeper of the next one finds it by its lock
// and goes on. It holds all revisions that have a share, so a redeploy is a matter
// inside one process and no request is lost to it.
//
// # Several servers
//
// Servers that share a database each have an id and a lease. A deployment is kept by
// one of them, on whose machine its processor is; when that has not renewed its lease,
// another takes its deployments over and starts processors of its own. A server that
// cannot renew stops keeping before its lease is over, and one that finds its
// deployments taken ends the processors it still has of them.
//
// # When a revision fails
//
// The routes that were last found to serve are kept (Stable). A revision that
// cannot be built or does not become ready gets no events: the stable routes stay,
// and the deployment is in error until the next deploy or rollback.
package deployment

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/store"
)

// Key names a deployment.
type Key struct{ Project, Name string }

// String is PROJECT/NAME.
func (k Key) String() string { return k.Project + "/" + k.Name }

// Host is where processors live. Its operations may be repeated.
type Host interface {
	// Placed reports whether a revision is there, whole.
	Placed(key Key, number int) bool
	// Place puts a revision with its files there, once for ever.
	Place(key Key, revision realtime.Revision, files map[string][]byte) error
	// Discard deletes the revisions that are not among keep.
	Discard(key Key, keep []int) error
	// Alive reports whether the processor lives.
	Alive(key Key) bool
	// Start brings the processor to life with what it should serve. It does nothing
	// when it lives.
	Start(key Key, desired realtime.Desired) error
	// LastWords are what a processor that ended said last, "" for nothing.
	LastWords(key Key) string
	// Desire tells a living processor what it should serve.
	Desire(ctx context.Context, key Key, desired realtime.Desired) error
	// Status asks a living processor.
	Status(ctx context.Context, key Key) (realtime.Status, error)
	// Metrics are its metrics in Prometheus's text format.
	Metrics(ctx context.Context, key Key) ([]byte, error)
	// Stop lets a processor finish what it has begun, for at most the time that ctx
	// gives, and ends it.
	Stop(ctx context.Context, key Key) error
	// Kept are the deployments of which something is there.
	Kept() ([]Key, error)
	// Remove deletes all that is kept of a deployment.
	Remove(key Key) error
	// Say adds a line to the deployment's own log.
	Say(key Key, line string)
	// Said returns the lines said after a time in milliseconds, and the time of the
	// last of them.
	Said(key Key, after int64) (text string, last int64)
	// FreePort returns a port that nothing listens on and that is not taken.
	FreePort(taken map[int]bool) (int, error)
}

// Preparer makes ready what a revision needs: interpreter, environment, code.
type Preparer interface {
	// Revision returns the revision that f becomes under a number, and its files.
	// progress may be called from other goroutines until it returns. Errors are those
	// of the revision.
	Revision(ctx context.Context, key Key, number int, f *function.Function, progress func(string)) (realtime.Revision, map[string][]byte, error)
	// Auth returns who may send events to a function; nil lets everybody.
	Auth(ctx context.Context, key Key, front kind.Front) (*realtime.Auth, error)
}

// Options configure Deployments; fields without a comment are required.
type Options struct {
	Store    *store.Store
	Host     Host
	Preparer Preparer
	Logger   *slog.Logger
	Listen   string        // host that functions listen on; "" means 127.0.0.1
	URL      string        // where the server is reached, for the addresses below it; "" for none
	Server   string        // names this server among those that share the database; "" for none of them
	Lease    time.Duration // how long others wait when nothing is heard of this server; 0 means 15 s
	Now      func() time.Time
}

// How often a keeper looks: while something is under way, and when nothing is. A
// processor that has died is noticed by the lock, which is looked at more often
// than it is asked.
const (
	lookBusy   = 50 * time.Millisecond
	lookAlive  = 250 * time.Millisecond
	lookStatus = 2 * time.Second
	listEvery  = 2 * time.Second
)

// Deployments owns the keepers. Create it with New; Start and Stop it once.
type Deployments struct {
	Options
	wake chan struct{}
	stop context.CancelFunc
	work sync.WaitGroup

	ports sync.Mutex // held while a port is chosen

	mu      sync.Mutex
	keepers map[Key]*keeper // guarded by mu
	changed chan struct{}   // guarded by mu; closed whenever a deployment has changed

	held  time.Time // until when this server surely has its lease; of loop's goroutine
	swept bool      // what is left here of deployments that are gone has been looked for; of loop's goroutine
}

// New returns Deployments that do nothing until Start; intents are taken at once.
func New(options Options) *Deployments {
	if options.Listen == "" {
		options.Listen = "127.0.0.1"
	}
	if options.Lease == 0 {
		options.Lease = 15 * time.Second
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Deployments{Options: options, wake: make(chan struct{}, 1), keepers: map[Key]*keeper{}, changed: make(chan struct{})}
}

// Start keeps deployments in the background until Stop.
func (d *Deployments) Start(ctx context.Context) {
	ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	d.work.Go(func() { d.loop(ctx) })
}

// Stop ends the keepers and waits for them. Processors go on serving; the next
// Start adopts them.
func (d *Deployments) Stop() {
	if d.stop != nil {
		d.stop()
	}
	d.work.Wait()
}

func (d *Deployments) loop(ctx context.Context) {
	for ctx.Err() == nil {
		keeping, release := context.WithCancel(ctx)
		d.keepAll(ctx, keeping)
		release()
	}
}

// keepAll gives deployments keepers until ctx ends, or this server can not renew its
// lease; the keepers end with keeping.
func (d *Deployments) keepAll(ctx, keeping context.Context) {
	ticker := time.NewTicker(min(listEvery, d.Lease/6))
	defer ticker.Stop()
	d.swept = false // while nobody looked, others may have deleted some
	for {
		err := d.runOnce(ctx, keeping)
		if err != nil && ctx.Err() == nil {
			d.Logger.ErrorContext(ctx, "list deployments", "error", err)
		}
		if err != nil && d.Store.Shared() && !d.held.IsZero() && !time.Now().Before(d.held) {
			d.Logger.WarnContext(ctx, "the lease of this server runs out: its deployments are left to others")
			d.held = time.Time{} // there is nothing to lose until it has a lease again
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-d.wake:
		}
	}
}

// runOnce gives every deployment of this server a keeper, for as long as keeping lasts.
func (d *Deployments) runOnce(ctx, keeping context.Context) error {
	asked := time.Now()
	claiming, cancel := context.WithTimeout(ctx, d.Lease/3)
	defer cancel()
	all, err := d.Store.DeploymentClaim(claiming, d.Server, d.URL, d.Lease)
	if err != nil {
		return err
	}
	d.held = asked.Add(d.Lease / 3) // the next try has another third
	known := map[Key]bool{}
	for _, one := range all {
		key := Key{one.Project, one.Name}
		known[key] = true
		if d.foreign(one) && !d.Host.Alive(key) {
			continue
		}
		d.employ(keeping, key)
	}
	if d.swept {
		return nil
	}
	kept, err := d.Host.Kept()
	if err != nil {
		return err
	}
	d.swept = true
	for _, key := range kept {
		if !known[key] {
			d.employ(keeping, key) // it finds out, and clears up
		}
	}
	return nil
}

// employ gives a deployment a keeper for as long as keeping lasts, if it has none.
func (d *Deployments) employ(keeping context.Context, key Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keepers[key] != nil {
		return
	}
	k := newKeeper(d, key)
	d.keepers[key] = k
	d.work.Go(func() {
		k.keep(keeping)
		d.mu.Lock()
		delete(d.keepers, key)
		d.mu.Unlock()
		d.announce()
	})
}

// foreign reports whether another server keeps a deployment.
func (d *Deployments) foreign(one store.Deployment) bool {
	return d.Server != "" && one.Keeper != d.Server && d.Store.Shared()
}

// ElsewhereError says that a deployment is served by another server.
type ElsewhereError struct {
	Key Key
	URL string // of the server; "" when it is not alive
}

func (e *ElsewhereError) Error() string {
	if e.URL == "" {
		return "the server that keeps the function " + e.Key.String() + " is not alive; another takes it over in a moment"
	}
	return "the function " + e.Key.String() + " is kept by the server at " + e.URL + "; ask there"
}

// Here returns an error when a deployment is not there, or served by another server.
func (d *Deployments) Here(ctx context.Context, key Key) error {
	one, err := d.Store.DeploymentGet(ctx, key.Project, key.Name)
	if err == nil && d.foreign(one) {
		return fault.Unavailable("%w", &ElsewhereError{key, one.KeeperURL})
	}
	return err
}

// nudge makes the keeper of a deployment look now.
func (d *Deployments) nudge(key Key) {
	d.mu.Lock()
	k := d.keepers[key]
	d.mu.Unlock()
	target := d.wake
	if k != nil {
		target = k.wake
	}
	select {
	case target <- struct{}{}:
	default:
	}
}

// announce wakes those who wait for a change.
func (d *Deployments) announce() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *Deployments) changes() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// await calls look until it is done, again whenever a deployment has changed.
func (d *Deployments) await(ctx context.Context, look func() (done bool, err error)) error {
	ticker := time.NewTicker(lookAlive) // what another server changes is not announced
	defer ticker.Stop()
	for {
		changed := d.changes()
		if done, err := look(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-ticker.C:
		}
	}
}

// Ready waits until a deployment serves; it is what holds the first events for a
// function that is starting. fault.CodeNotFound when there is none,
// fault.CodeUnavailable when it will not serve.
func (d *Deployments) Ready(ctx context.Context, key Key) error {
	err := d.await(ctx, func() (bool, error) {
		one, err := d.Store.DeploymentGet(ctx, key.Project, key.Name)
		switch {
		case err != nil:
			return false, err
		case one.Removed:
			return false, fault.NotFound("the function %s is being deleted", key)
		case d.foreign(one) && one.KeeperURL != "":
			return false, &ElsewhereError{key, one.KeeperURL}
		case len(one.Stable) > 0 && !d.foreign(one) && d.Host.Alive(key):
			return true, nil
		case one.State == stateError || one.State == stateUnhealthy:
			return false, fault.Unavailable("the function %s does not serve: %s", key, one.Message)
		}
		return false, nil
	})
	if ctx.Err() != nil && err != nil {
		return fault.Unavailable("the function %s did not start in time; ask again in a moment", key)
	}
	return err
}
