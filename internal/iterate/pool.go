package iterate

import (
	"context"
	"slices"
	"sync"
)

// pool is the processes of a task. Its goroutines start and end processes.
type pool struct {
	loop   *loop
	places []*place
	work   sync.WaitGroup
}

// place is where one process works. A process that died is replaced in its place.
type place struct {
	pool     *pool
	process  Process // nil while there is none
	starting bool
	retired  bool      // gets no more iterations
	queue    []*flight // in the order in which the process executes them
}

// open reports whether a place takes iterations.
func (p *place) open() bool {
	return p.process != nil && !p.retired && (len(p.queue) == 0 || !p.process.Single())
}

// depth is how many iterations the place may have at once, depth at most.
func (p *place) depth(depth int) int {
	if p.process.Single() {
		return 1
	}
	return depth
}

// lost takes note of the death of the place's process.
func (p *place) lost() {
	if process := p.process; process != nil {
		p.process = nil
		l := p.pool.loop
		p.pool.work.Go(func() {
			ctx, cancel := context.WithTimeout(l.ctx, l.Grace)
			defer cancel()
			process.Close(ctx)
		})
	}
}

// opened counts the places that take iterations.
func (p *pool) opened() int {
	n := 0
	for _, place := range p.places {
		if place.open() {
			n++
		}
	}
	return n
}

// least returns the open place with the fewest iterations, nil when there is none.
func (p *pool) least() *place {
	var best *place
	for _, place := range p.places {
		if place.open() && (best == nil || len(place.queue) < len(best.queue)) {
			best = place
		}
	}
	return best
}

// resize makes it n places that work: new ones are started, those too many get no
// more iterations and end when they have none. Places without a process get one.
func (p *pool) resize(n int) {
	if len(p.places) > n { // those that have nothing are the ones too many
		slices.SortStableFunc(p.places, func(a, b *place) int { return min(len(b.queue), 1) - min(len(a.queue), 1) })
	}
	kept := p.places[:0]
	live := 0
	for _, place := range p.places {
		live++
		place.retired = live > n
		if !place.retired || len(place.queue) > 0 || place.starting {
			kept = append(kept, place)
			continue
		}
		place.lost()
	}
	clear(p.places[len(kept):])
	p.places = kept
	for live < n {
		for _, place := range p.places {
			for _, f := range place.queue {
				f.shared = true
			}
		}
		p.places = append(p.places, &place{pool: p})
		live++
	}
	for _, place := range p.places {
		if place.process == nil && !place.starting && !place.retired {
			p.start(place)
		}
	}
}

func (p *pool) start(place *place) {
	place.starting = true
	l := p.loop
	p.work.Go(func() {
		process, err := l.Host.Start(l.ctx)
		l.mu.Lock()
		l.ready = append(l.ready, started{place: place, process: process, err: err})
		l.mu.Unlock()
		l.signal()
	})
}

// close ends all processes in order, or kills them when ctx ends, and waits.
func (p *pool) close(ctx context.Context) {
	var closing sync.WaitGroup
	shut := func(process Process) { closing.Go(func() { process.Close(ctx) }) }
	for _, place := range p.places {
		if place.process != nil {
			shut(place.process)
		}
	}
	closing.Wait()
	p.work.Wait() // starts end by ctx or are quick
	for _, s := range p.loop.ready {
		if s.process != nil {
			shut(s.process)
		}
	}
	closing.Wait()
}
