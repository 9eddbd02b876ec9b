package processor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/filelock"
	"github.com/millrace/millrace/internal/limits"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/activator"
	"github.com/millrace/millrace/internal/realtime/edge"
	"github.com/millrace/millrace/internal/template"
)

// Options configure a processor.
type Options struct {
	Logger *slog.Logger
	// Tag is the environment variable by which processes of this function are known;
	// those that an earlier processor left are ended. "" ends none.
	Tag string
	// Templates finds what workers are forked from; nil starts fresh processes.
	Templates Templates
	// Stores are what the code of a revision, which runs in dir, reaches through its
	// data channel; nil opens none.
	Stores func(dir string, r realtime.Revision) *datastore.Stores
	// Imports is where it is noted what the code of a function imports.
	Imports template.Imports
	// Activator takes the function over when it has been without workers and connections for
	// ParkAfter; nil, or no ParkAfter, keeps the process.
	Activator Activator
	ParkAfter time.Duration
	// Inherited is what the activator has left to this process; nil when it begins anew.
	Inherited *activator.Inherited
}

// Templates are interpreters that have imported what functions need; see package
// template.
type Templates interface {
	// Socket returns the socket of the template for spec, or "" and why there is none.
	Socket(ctx context.Context, spec template.Spec) (socket, reason string)
}

// processor serves one function.
//
// Everything that changes what is served is done by the goroutine of run, to which
// others send: orders by the control socket, and the news that a revision's state
// has changed. Requests read the table, which is replaced as a whole.
type processor struct {
	dir     realtime.Dir
	options Options
	logger  *slog.Logger
	started time.Time
	table   atomic.Pointer[table]
	edge    *edge.Edge // before the events of all addresses
	front   *front

	news   chan struct{}
	orders chan order
	drain  chan struct{}
	once   sync.Once // of drain

	lock    *filelock.Lock
	control *edge.Server   // of control.sock
	socket  *edge.Server   // of http.sock
	retired sync.WaitGroup // revisions that drain
	quiet   quiet
	before  before
	cpu     time.Duration // of the processes before this one

	mu        sync.Mutex // guards the rest, which run writes
	desired   realtime.Desired
	revisions map[int]*serving
	failures  map[int]string // revisions that cannot be opened
	leaving   []*serving
	own       *ownAddress
	message   string
	draining  bool
	moved     chan struct{} // closed when the table is replaced or something failed
}

type order struct {
	desired realtime.Desired
	done    chan error
}

// table says who gets the events. It is never changed.
type table struct {
	routes  []realtime.Route
	main    []*serving
	upto    []int // cumulated weights of main
	shadows []*serving
	shares  []int
}

// pick returns whose turn it is.
func (t *table) pick() (*serving, []*serving) {
	main := t.main[0]
	if len(t.main) > 1 {
		ball := rand.IntN(t.upto[len(t.upto)-1])
		main = t.main[slices.IndexFunc(t.upto, func(upto int) bool { return ball < upto })]
	}
	if len(t.shadows) == 0 {
		return main, nil
	}
	var shadows []*serving
	for i, s := range t.shadows {
		if t.shares[i] == 100 || rand.IntN(100) < t.shares[i] {
			shadows = append(shadows, s)
		}
	}
	return main, shadows
}

// leader is the revision whose times of cron count, so that each comes about once:
// that with most of the traffic, the newest of those that have as much. nil without one.
func (t *table) leader() *serving {
	if t == nil {
		return nil
	}
	var leader *serving
	below, most := 0, 0
	for i, s := range t.main {
		weight := t.upto[i] - below
		below = t.upto[i]
		if leader == nil || weight > most || weight == most && s.spec.Number > leader.spec.Number {
			leader, most = s, weight
		}
	}
	return leader
}

// Run serves the function of dir until ctx ends or it is told to drain. It returns
// when every event is answered and every process is gone; fault.CodeConflict if
// the folder has a processor already.
func Run(ctx context.Context, dir realtime.Dir, options Options) error {
	if err := dir.Create(); err != nil {
		return err
	}
	lock, err := own(dir, options.Inherited)
	if err != nil {
		return err
	}
	var left io.Closer // of a function that is parked
	defer func() {
		if left == nil {
			lock.Release()
			return
		}
		lock.Leave()
		left.Close()
	}()
	if err := limits.Adopt(); err != nil {
		return err
	}
	// One that was parked has left nothing.
	if value := os.Getenv(options.Tag); options.Tag != "" && value != "" && options.Inherited == nil {
		if _, err := limits.KillTagged(ctx, options.Tag, value); err != nil {
			return fmt.Errorf("end what an earlier process of the function left: %w", err)
		}
	}
	desired, err := dir.Desired()
	if err != nil {
		return err
	}
	p := &processor{
		dir: dir, options: options, logger: options.Logger, started: time.Now(), news: make(chan struct{}, 1), orders: make(chan order), drain: make(chan struct{}),
		revisions: map[int]*serving{}, failures: map[int]string{}, moved: make(chan struct{}), lock: lock, before: remember(dir),
	}
	p.cpu = p.before.saved.CPU
	left, err = p.run(ctx, desired)
	return err
}

// own is the lock of the folder.
func own(dir realtime.Dir, inherited *activator.Inherited) (*filelock.Lock, error) {
	if inherited != nil {
		return inherited.Lock, nil
	}
	lock, err := filelock.Acquire(dir.Lock())
	switch {
	case !errors.Is(err, filelock.ErrHeld):
		return lock, err
	case dir.Parked():
		return nil, fault.Conflict("the activator holds the sockets of %s", dir.Path)
	}
	return nil, fault.Conflict("process %d serves %s already", dir.PID(), dir.Path)
}

// run serves; what it returns is to be closed last if it is not nil.
func (p *processor) run(ctx context.Context, desired realtime.Desired) (left io.Closer, err error) {
	p.front = &front{routes: p.route, slow: func() time.Duration { return p.edge.Limits().Slow }}
	p.edge = edge.New(edge.Config{}, p.front)
	control, listener, err := p.sockets()
	if err != nil {
		return nil, err
	}
	if p.control, err = edge.Serve(control, edge.New(edge.Config{}, p.controlHandler()), nil, p.logger); err != nil {
		return nil, err
	}
	defer p.control.Shutdown(context.Background())
	p.goOn(desired)
	if err := p.apply(desired); err != nil {
		listener.Close()
		return nil, err
	}
	p.before = before{} // revisions that come later begin anew
	if p.socket, err = edge.Serve(listener, p.edge, nil, p.logger); err != nil {
		return nil, err
	}
	if p.options.Inherited != nil {
		p.options.Inherited.Serves()
	}
	tidy := time.NewTicker(time.Second)
	defer tidy.Stop()
	look := time.NewTicker(min(lookQuiet, max(p.options.ParkAfter/4, time.Millisecond)))
	defer look.Stop()
	if p.options.Activator == nil || p.options.ParkAfter <= 0 {
		look.Stop()
	}
	for over := false; !over; {
		select {
		case <-ctx.Done():
			over = true
		case <-p.drain:
			over = true
		case o := <-p.orders:
			o.done <- p.apply(o.desired)
		case <-p.news:
		case now := <-look.C:
			if left := p.park(ctx, now); left != nil {
				p.leave()
				return left, nil
			}
			continue
		case <-tidy.C:
			if _, err := os.Stat(p.dir.Path); errors.Is(err, fs.ErrNotExist) {
				p.logger.Warn("the function's folder has been deleted: the process ends", "folder", p.dir.Path)
				over = true
				break
			}
			if err := errors.Join(trim(p.dir.Log(), p.logLimit()), trim(filepath.Join(p.dir.Path, realtime.ProcessorLog), ownLogLimit)); err != nil {
				p.logger.Error("shorten the log", "error", err)
			}
			if !p.listenAgain() {
				continue
			}
		}
		p.settle()
	}
	p.end()
	return nil, nil
}

// sockets are those in the folder, inherited or made.
func (p *processor) sockets() (control, events net.Listener, err error) {
	if in := p.options.Inherited; in != nil {
		return in.Control, in.HTTP, nil
	}
	if control, err = p.dir.Listen(realtime.ControlSocket); err != nil {
		return nil, nil, err
	}
	if events, err = p.dir.Listen(realtime.HTTPSocket); err != nil {
		control.Close()
		return nil, nil, err
	}
	return control, events, nil
}

// end finishes what has begun.
func (p *processor) end() {
	p.mu.Lock()
	p.draining = true
	grace := realtime.DefaultGrace
	for _, s := range p.revisions {
		grace = max(grace, s.spec.Grace)
	}
	own := p.own
	p.mu.Unlock()
	p.writeStatus()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	var stopping sync.WaitGroup
	stopping.Go(func() { p.socket.Shutdown(ctx) })
	stopping.Go(func() { own.stop(ctx) })
	stopping.Wait()
	for _, s := range p.all() {
		p.retired.Go(func() { s.close(ctx) })
	}
	p.retired.Wait()
	p.writeStatus()
}

func (p *processor) all() []*serving {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*serving
	for _, s := range p.revisions {
		out = append(out, s)
	}
	return out
}

// tell says that a revision's state has changed; it never waits.
func (p *processor) tell() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// apply takes over what should be. The same again does nothing.
func (p *processor) apply(desired realtime.Desired) error {
	if err := desired.Check(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.desired, p.message = desired, ""
	p.edge.Set(edge.Config{Realm: desired.Name, Auth: desired.Auth, CORS: desired.CORS, Limits: desired.Limits})
	for _, route := range desired.Routes {
		p.open(route.Revision)
	}
	p.makeRoom()
	if err := p.listen(desired); err != nil {
		p.message = err.Error()
	}
	return nil
}

// open begins to serve a revision that is not served yet.
func (p *processor) open(number int) {
	if p.revisions[number] != nil {
		return
	}
	delete(p.failures, number)
	spec, err := p.dir.Revision(number)
	if err == nil {
		var s *serving
		if s, err = open(p.dir, spec, p.options, &p.before, p.tell); err == nil {
			p.revisions[number] = s
			if s.app != nil {
				p.front.proxies.Store(true)
			}
			return
		}
	}
	p.failures[number] = err.Error()
	p.logger.Error("a revision cannot be served", "revision", number, "error", err)
}

// settle moves the traffic to where it should go, if that is ready, and lets
// revisions go that have none.
func (p *processor) settle() {
	p.mu.Lock()
	if next := p.next(); next != nil {
		p.logger.Info("traffic", "routes", next.routes)
		p.table.Store(next)
	}
	current := p.table.Load()
	fires := current.leader()
	for number, s := range p.revisions {
		_, wanted := p.share(number)
		serves := current != nil && (slices.Contains(current.main, s) || slices.Contains(current.shadows, s))
		s.active.Store(s == fires)
		if wanted || serves {
			continue
		}
		delete(p.revisions, number)
		p.leaving = append(p.leaving, s)
		p.retired.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), s.spec.Grace)
			defer cancel()
			s.close(ctx)
			p.mu.Lock()
			p.leaving = slices.DeleteFunc(p.leaving, func(other *serving) bool { return other == s })
			p.mu.Unlock()
			p.tell()
		})
	}
	close(p.moved)
	p.moved = make(chan struct{})
	p.mu.Unlock()
	p.writeStatus()
}

func (p *processor) share(number int) (realtime.Route, bool) {
	for _, route := range p.desired.Routes {
		if route.Revision == number {
			return route, true
		}
	}
	return realtime.Route{}, false
}

// next is the table that should replace the current one; nil if that is as it
// should be, or cannot be yet. Shadows may be missing from it; of the others all
// have to be able, unless there is no table yet: then those that are will do.
func (p *processor) next() *table {
	t := &table{}
	whole := true
	for _, route := range p.desired.Routes {
		s := p.revisions[route.Revision]
		able := s != nil
		if able {
			state, _ := s.state()
			able = state == realtime.StateReady || state == realtime.StateScaledToZero
		}
		switch {
		case route.Shadow && able && route.Weight > 0:
			t.shadows, t.shares = append(t.shadows, s), append(t.shares, route.Weight)
		case route.Shadow || route.Weight == 0:
			continue
		case able:
			t.main = append(t.main, s)
			t.upto = append(t.upto, route.Weight)
			if n := len(t.upto); n > 1 {
				t.upto[n-1] += t.upto[n-2]
			}
		default:
			whole = whole && s == nil && p.failures[route.Revision] == "" // never
			continue
		}
		t.routes = append(t.routes, route)
	}
	current := p.table.Load()
	switch {
	case len(t.main) == 0:
		return nil
	case !whole && current != nil:
		return nil
	case !whole && p.pending():
		return nil
	case current != nil && slices.Equal(current.routes, t.routes) && slices.Equal(current.main, t.main) && slices.Equal(current.shadows, t.shadows):
		return nil
	}
	return t
}

// pending says whether a revision that should serve may still become ready.
func (p *processor) pending() bool {
	for _, route := range p.desired.Routes {
		if s := p.revisions[route.Revision]; s != nil && !route.Shadow {
			if state, _ := s.state(); state == realtime.StateStarting {
				return true
			}
		}
	}
	return false
}

// route finds whose turn it is; while nothing serves yet the request waits.
func (p *processor) route(r *http.Request) (*serving, []*serving, error) {
	for {
		if t := p.table.Load(); t != nil {
			main, shadows := t.pick()
			return main, shadows, nil
		}
		p.mu.Lock()
		moved := p.moved
		err := p.hopeless()
		p.mu.Unlock()
		if p.table.Load() != nil {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		select {
		case <-moved:
		case <-r.Context().Done():
			return nil, nil, errGone
		}
	}
}

// hopeless says why nothing will serve; nil if something may.
func (p *processor) hopeless() error {
	if len(p.desired.Routes) == 0 {
		return errors.New("the function serves nothing yet")
	}
	if p.pending() {
		return nil
	}
	for _, route := range p.desired.Routes {
		if text := p.failures[route.Revision]; text != "" {
			return errors.New(text)
		}
		if s := p.revisions[route.Revision]; s != nil {
			if state, text := s.state(); state == realtime.StateError {
				return errors.New(text)
			}
		}
	}
	return nil
}
