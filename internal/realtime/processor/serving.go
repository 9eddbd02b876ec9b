package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/datachannel"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/limits"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/application"
	"github.com/millrace/millrace/internal/realtime/metrics"
	"github.com/millrace/millrace/internal/realtime/trace"
)

// serving is one revision at work: a pool of workers for each trigger.
//
// Goroutines: those of its pools, one that watches them, and one for each cron
// trigger; close waits for all of them.
type serving struct {
	spec    realtime.Revision
	folder  string
	home    string // of the function
	mark    string // value of revisionVariable
	logger  *slog.Logger
	log     *os.File
	group   *limits.Group
	lease   *env.Lease
	sources []*source
	pools   []*pool
	tracer  *trace.Tracer
	http    *source          // nil without a trigger of kind http
	app     *application.App // instead of pools, for a program of its own
	changed func()
	warm    *warm                // nil without templates
	data    *datachannel.Channel // nil without one

	forked  atomic.Bool // a worker was a template's child
	active  atomic.Bool // it has traffic, so that its times of cron count
	stop    context.CancelFunc
	working sync.WaitGroup

	mu       sync.Mutex
	ready    bool // it has been
	late     bool // it was not within ReadyTimeout
	draining bool
}

// open begins to serve a revision; changed is called whenever its state may have
// changed, from any goroutine. An error says that it can never serve.
// b is what was before this process.
func open(d realtime.Dir, spec realtime.Revision, options Options, b *before, changed func()) (s *serving, err error) {
	s = &serving{
		spec: spec.WithDefaults(), folder: d.RevisionDir(spec.Number), home: d.Path, changed: changed,
		mark:   fmt.Sprintf("%d/%s", spec.Number, eventID()),
		logger: options.Logger.With("revision", spec.Number),
	}
	defer func() {
		if err != nil {
			over, cancel := context.WithCancel(context.Background())
			cancel()
			s.close(over)
		}
	}()
	if err := s.unpack(); err != nil {
		return s, err
	}
	if s.lease, err = env.Use(s.spec.VirtualEnv); err != nil { // until then nobody prunes it
		return s, err
	}
	if s.log, err = openLog(d); err != nil {
		return s, err
	}
	if err := s.confine(); err != nil {
		return s, err
	}
	s.tracer = s.tracing()
	if s.spec.Mode == realtime.ModeCommand {
		return s, s.launch()
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.warm = newWarm(s.spec, options, s.logger)
	if err := s.openData(options); err != nil {
		return s, err
	}
	s.ready = b.atZero(&s.spec) // it has been
	s.connect(ctx, b)
	for _, p := range s.pools {
		p.start(s.ready)
	}
	for _, from := range s.sources {
		if from.trigger.Kind != realtime.TriggerCron {
			continue
		}
		times, err := from.trigger.Cron.Timetable()
		if err != nil {
			return s, err
		}
		s.working.Go(func() { s.fire(ctx, from, times) })
	}
	s.working.Go(func() { s.watch(ctx) })
	if s.warm != nil && s.spec.Replicas.Min == 0 {
		s.working.Go(func() { s.warm.hold(ctx) })
	}
	return s, nil
}

// openData opens the channel through which handlers in Python reach data.
func (s *serving) openData(options Options) (err error) {
	if options.Stores == nil || s.spec.Mode != realtime.ModeHandler {
		return nil
	}
	s.data, err = datachannel.Listen(s.folder, func() *datastore.Stores { return options.Stores(s.spec.WorkDir(s.folder), s.spec) }, s.logger)
	return err
}

// unpack extracts the bundle of a folder's code, once.
func (s *serving) unpack() error {
	if s.spec.Bundle == "" {
		return nil
	}
	s.spec.Folder = filepath.Join(s.folder, "code")
	if _, err := os.Stat(s.spec.Folder); err == nil {
		return nil
	}
	return code.Extract(s.spec.Bundle, s.spec.Folder)
}

// watch finds out when the revision becomes ready, or has not in time, and says
// whenever the workers change.
func (s *serving) watch(ctx context.Context) {
	late := time.NewTimer(s.spec.ReadyTimeout)
	defer late.Stop()
	var each sync.WaitGroup
	defer each.Wait()
	turns := make(chan struct{}, 1)
	for _, p := range s.pools {
		each.Go(func() {
			for {
				p.mu.Lock()
				changed := p.changed
				p.mu.Unlock()
				select {
				case turns <- struct{}{}:
				default:
				}
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-late.C:
			s.mu.Lock()
			s.late = !s.ready
			s.mu.Unlock()
		case <-turns:
			s.mu.Lock()
			s.ready = s.ready || s.complete()
			s.mu.Unlock()
		}
		s.changed()
	}
}

// complete says whether every pool has the workers it begins with.
func (s *serving) complete() bool {
	for _, p := range s.pools {
		p.mu.Lock()
		enough := p.ready() >= p.trigger.Workers*max(p.scale.least, 1)
		p.mu.Unlock()
		if !enough {
			return false
		}
	}
	return true
}

// state is what the revision is doing, and why it cannot if it cannot.
func (s *serving) state() (realtime.State, string) {
	s.mu.Lock()
	ready, late, draining := s.ready, s.late, s.draining
	s.mu.Unlock()
	if draining {
		return realtime.StateDraining, ""
	}
	if s.app != nil {
		return s.app.State()
	}
	asleep, message, able := len(s.pools) > 0, "", true
	for _, p := range s.pools {
		p.mu.Lock()
		alive, trouble := p.ready(), p.trouble
		asleep = asleep && len(p.members) == 0
		p.mu.Unlock()
		if alive == 0 && trouble != nil || !ready && trouble != nil {
			able, message = false, trouble.Error()
		}
	}
	if !ready && !late && s.spec.Patient {
		return realtime.StateStarting, message
	}
	switch {
	case !able:
		return realtime.StateError, message
	case !ready && late:
		return realtime.StateError, fmt.Sprintf("the workers were not ready within %s", s.spec.ReadyTimeout)
	case !ready:
		return realtime.StateStarting, ""
	case asleep:
		return realtime.StateScaledToZero, ""
	}
	return realtime.StateReady, ""
}

// status is the revision's part of the processor's.
func (s *serving) status() realtime.RevisionStatus {
	state, message := s.state()
	out := realtime.RevisionStatus{Number: s.spec.Number, State: state, Message: message}
	for _, p := range s.pools {
		p.mu.Lock()
		out.Handler = p.handler
		p.mu.Unlock()
	}
	for _, sample := range s.samples() {
		c := sample.Counters
		out.Triggers = append(out.Triggers, realtime.TriggerStatus{
			Name: sample.Trigger, Kind: sample.Kind, Workers: sample.Workers, Busy: sample.Busy, Waiting: sample.Waiting,
			Handled: c.Succeeded.Load(), Failed: c.Failed.Load() + c.Refused.Load(), Restarts: c.Restarts.Load(),
		})
	}
	return out
}

// samples are what metrics tell of each trigger.
func (s *serving) samples() []metrics.Sample {
	if s.app != nil {
		return []metrics.Sample{s.app.Sample()}
	}
	var out []metrics.Sample
	for _, from := range s.sources {
		out = append(out, s.sample(from))
	}
	return out
}

func (s *serving) sample(from *source) metrics.Sample {
	p := from.pool
	out := metrics.Sample{
		Project: s.spec.Project, Function: s.spec.Name, Revision: s.spec.Number, Kind: from.trigger.Kind, Trigger: from.trigger.Name, Counters: from.stats,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !from.leads {
		return out // or they would be counted twice
	}
	out.Workers, out.Waiting = p.ready(), p.queue.len()
	for _, m := range p.members {
		out.Open += len(m.open)
		if len(m.open) > 0 {
			out.Busy++
		}
	}
	return out
}

// close takes no more events, finishes those there are until ctx ends, and frees
// what the revision has. Events that come late get errDraining.
func (s *serving) close(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.active.Store(false)
	var all sync.WaitGroup
	if s.app != nil {
		all.Go(func() { s.app.Close(ctx) })
	}
	for _, p := range s.pools {
		all.Go(func() { p.close(ctx) })
	}
	all.Wait()
	s.tracer.Close(ctx)
	s.release()
}

func (s *serving) release() {
	if s.stop != nil {
		s.stop()
	}
	s.working.Wait()
	err := s.sweep()
	if s.data != nil {
		err = errors.Join(err, s.data.Close())
	}
	if s.lease != nil {
		err = errors.Join(err, s.lease.Close())
	}
	if s.log != nil {
		err = errors.Join(err, s.log.Close())
	}
	if err != nil {
		s.logger.Error("end the revision", "error", err)
	}
}
