package processor

import (
	"context"
	"io"
	"os"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/activator"
	"github.com/millrace/millrace/internal/realtime/edge"
	"github.com/millrace/millrace/internal/realtime/metrics"
	"github.com/millrace/millrace/internal/template"
)

// Activator holds the sockets of functions that nobody calls; see package activator.
type Activator interface {
	// Park hands the function over. With an error it has not been; else the processor ends,
	// and closes what it has got last of all.
	Park(ctx context.Context, p activator.Parking) (io.Closer, error)
}

// DefaultParkAfter is how long a function at zero has to have no connection before its
// process ends.
const DefaultParkAfter = time.Minute

const (
	lookQuiet  = time.Second // whether the function can be parked
	parkSoon   = 10 * time.Second
	parkAgain  = time.Minute // after it was not possible; doubles
	parkRarely = time.Hour
	leaveTime  = 5 * time.Second // for what ends at once: events wait meanwhile
)

// quiet is since when nobody has wanted anything of the function. It is that of the
// goroutine of run.
type quiet struct {
	since    time.Time // zero while somebody does
	accepted uint64    // connections, when it was looked at last
	not      time.Time // it is not parked before
	pause    time.Duration
}

// park hands the function over when it has been quiet for long enough; nil while it has
// not.
func (p *processor) park(ctx context.Context, now time.Time) io.Closer {
	servers := p.servers()
	open, accepted := 0, uint64(0)
	for _, s := range servers {
		n, all := s.Connections()
		open += n
		accepted += all
	}
	if open > 0 || accepted != p.quiet.accepted || !p.asleep() {
		p.quiet.since, p.quiet.accepted = time.Time{}, accepted
		return nil
	}
	if p.quiet.since.IsZero() {
		p.quiet.since = now
	}
	after := p.options.ParkAfter
	if accepted == 0 {
		after = min(after, parkSoon) // it was started, perhaps with many others, and nobody needed it
	}
	if now.Sub(p.quiet.since) < after || now.Before(p.quiet.not) {
		return nil
	}
	// From here on connections wait, for whoever accepts next.
	resume := func() {
		for _, s := range servers {
			s.Resume()
		}
		p.control.Resume()
	}
	open = p.control.Pause() // an order, or somebody who asks
	for _, s := range servers {
		open += s.Pause()
	}
	if open > 0 || !p.asleep() || p.told() {
		resume()
		return nil
	}
	left, err := p.handOver(ctx)
	if err != nil {
		p.logger.Warn("the function keeps its process", "reason", err)
		if err := p.lock.Sign(); err != nil {
			p.logger.Error("sign the lock", "error", err)
		}
		p.quiet.pause = min(max(2*p.quiet.pause, parkAgain), parkRarely)
		p.quiet.not = now.Add(p.quiet.pause)
		resume()
		p.writeStatus()
		return nil
	}
	p.logger.Info("parked")
	return left
}

// servers are those that take events.
func (p *processor) servers() []*edge.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	servers := []*edge.Server{p.socket}
	if p.own != nil {
		servers = append(servers, p.own.server)
	}
	return servers
}

// told reports whether the processor has been told to drain.
func (p *processor) told() bool {
	select {
	case <-p.drain:
		return true
	default:
		return false
	}
}

// asleep reports whether everything that should serve does, and has no worker and nothing
// to do: then the function can be without a process.
func (p *processor) asleep() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining || p.message != "" || len(p.leaving) > 0 || p.table.Load() == nil || p.next() != nil {
		return false
	}
	if (p.own == nil) != (p.desired.Listen == "") {
		return false
	}
	for _, route := range p.desired.Routes {
		if p.revisions[route.Revision] == nil {
			return false
		}
	}
	for _, s := range p.revisions {
		if !s.asleep() {
			return false
		}
	}
	return true
}

// asleep reports whether the revision has no worker, no event, and none to expect that
// does not come by a connection.
func (s *serving) asleep() bool {
	if state, _ := s.state(); state != realtime.StateScaledToZero || s.app != nil {
		return false
	}
	for _, trigger := range s.spec.Triggers {
		if trigger.Kind != realtime.TriggerHTTP {
			return false
		}
	}
	for _, p := range s.pools {
		p.mu.Lock()
		nothing := len(p.members) == 0 && p.queue.empty()
		p.mu.Unlock()
		if !nothing {
			return false
		}
	}
	return true
}

// handOver leaves in the folder what the activator tells of the function and what the next
// processor goes on from, and hands over the sockets.
func (p *processor) handOver(ctx context.Context) (io.Closer, error) {
	if err := metrics.Save(p.dir.Metrics(), p.samples(), metrics.Measure(os.Getpid()).CPU+p.cpu); err != nil {
		return nil, err
	}
	status := p.status()
	status.PID, status.Parked = 0, true
	var err error
	p.mu.Lock()
	status.Desired, err = p.desired.Digest()
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := p.dir.WriteStatus(status); err != nil {
		return nil, err
	}
	parking := activator.Parking{Dir: p.dir, Lock: p.lock, Control: p.control.Listener(), HTTP: p.socket.Listener()}
	p.mu.Lock()
	if p.own != nil {
		parking.Own, parking.Listen = p.own.server.Listener(), p.own.wanted
	}
	for _, s := range p.revisions {
		if s.spec.VirtualEnv != "" && !slices.Contains(parking.VirtualEnvs, s.spec.VirtualEnv) {
			parking.VirtualEnvs = append(parking.VirtualEnvs, s.spec.VirtualEnv)
		}
		if spec, ok := s.warm.wanted(); ok {
			parking.Templates = append(parking.Templates, spec)
		}
	}
	p.mu.Unlock()
	return p.options.Activator.Park(ctx, parking)
}

// wanted is the template that workers are forked from; false without one.
func (w *warm) wanted() (template.Spec, bool) {
	if w == nil {
		return template.Spec{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.spec, true
}

// leave ends what the processor has after it has handed the function over: there is
// nothing to finish, and the folder's status is that of the parked function.
func (p *processor) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	for _, s := range append(p.servers(), p.control) {
		s.Shutdown(ctx)
	}
	for _, s := range p.all() {
		p.retired.Go(func() { s.close(ctx) })
	}
	p.retired.Wait()
}

// before is what the processor before this one has left: what was served when it was
// parked, and what it had counted.
type before struct {
	status realtime.Status
	saved  metrics.Saved
}

// remember reads it. There may be nothing, and what cannot be read is not worth a failure.
func remember(dir realtime.Dir) before {
	var b before
	if status, err := dir.Status(); err == nil {
		b.status = status
	}
	if saved, err := metrics.Load(dir.Metrics()); err == nil {
		b.saved = saved
	}
	return b
}

// atZero reports whether a revision had no worker, and none has to be started before
// somebody asks.
func (b *before) atZero(spec *realtime.Revision) bool {
	r, ok := b.status.Revision(spec.Number)
	return ok && r.State == realtime.StateScaledToZero && spec.Replicas.Min == 0 && spec.Mode != realtime.ModeCommand
}

// goOn serves what the processor before served when it was parked. What should be is
// applied to that, so that it takes the traffic when it is ready.
func (p *processor) goOn(desired realtime.Desired) {
	if p.options.Inherited == nil || !p.before.status.Parked {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.desired = desired
	p.desired.Routes = p.before.status.Routes
	for _, route := range p.desired.Routes {
		p.open(route.Revision)
	}
	if t := p.next(); t != nil {
		p.table.Store(t)
	}
}
