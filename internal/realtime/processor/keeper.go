package processor

import (
	"math"
	"time"
)

const (
	lookEvery = time.Second      // at how busy workers are
	calmFor   = 30 * time.Second // before workers become fewer
)

// scale says how many workers a pool has.
type scale struct {
	least, most int     // multiples of the trigger's workers; least may be 0
	utilisation float64 // share of the workers that shall be busy, in (0, 1]
	idle        time.Duration
}

// elastic says whether the number of workers follows the load.
func (s scale) elastic() bool { return s.least < s.most }

// run keeps the pool's times and its size until the pool is closed. It is the
// keeper, of which there is one.
func (p *pool) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	looked := time.Now()
	calm := looked
	for {
		now := time.Now()
		again := p.keep(now)
		if p.scale.elastic() {
			p.wakeUp()
			if now.Sub(looked) >= lookEvery {
				calm = p.follow(now, looked, calm)
				looked = now
			}
		}
		if tick := p.tick(); tick > 0 && (again == 0 || tick < again) {
			again = tick
		}
		if again == 0 {
			again = time.Hour
		}
		timer.Reset(again)
		select {
		case <-p.ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// tick is how often there is something to look at though nobody says so: events
// are handed to idle workers without a word to the keeper. 0 is never.
func (p *pool) tick() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.members) == 0 {
		return 0 // an event wakes it
	}
	tick := time.Duration(0)
	if p.scale.elastic() {
		tick = lookEvery
	}
	if p.timeout > 0 {
		each := min(max(p.timeout/8, 2*time.Millisecond), lookEvery)
		if tick == 0 || each < tick {
			tick = each
		}
	}
	return tick
}

// wakeUp starts workers for the first event after none.
func (p *pool) wakeUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.members) == 0 && !p.queue.empty() && !p.closed {
		p.resize(p.trigger.Workers)
	}
}

// follow makes the number of workers fit the load of the time that has passed since
// it looked. More come at once; fewer, when that has been enough for calmFor. It
// returns since when it would have been.
func (p *pool) follow(now, looked, calm time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	open, alive, threads := 0, 0, 1
	for _, m := range p.members {
		if m.retiring {
			continue
		}
		alive++
		threads = max(threads, m.threads)
		if len(m.open) > 0 {
			open++
			p.busyTime += m.atWork(now)
		}
	}
	busy := float64(p.busyTime) / float64(now.Sub(looked))
	p.busyTime, p.looked = 0, now
	if p.scale.least == 0 && open == 0 && p.queue.empty() && now.Sub(p.lastBusy) >= p.scale.idle && !p.fresh {
		p.resize(0)
		return now
	}
	if alive == 0 {
		return now
	}
	if p.ready() >= alive || p.trouble != nil { // else they are still loading the code, and would go before they have served
		p.fresh = false
	}
	wanted := int(math.Ceil(busy / p.scale.utilisation))
	if !p.queue.empty() {
		wanted = max(wanted, open+min((p.queue.len()+threads-1)/threads, alive))
	}
	each := p.trigger.Workers
	wanted = (wanted + each - 1) / each * each // whole replicas
	wanted = min(max(wanted, each*max(p.scale.least, 1)), each*p.scale.most)
	switch {
	case wanted > alive:
		p.resize(wanted)
	case wanted == alive:
	case now.Sub(calm) >= calmFor:
		p.resize(wanted)
	default:
		return calm
	}
	return now
}

// atWork is for how long m, or the share of its threads that have events, has had what
// is not answered yet, since the keeper looked.
func (m *member) atWork(now time.Time) time.Duration {
	if m.threads <= 1 {
		return now.Sub(later(m.since, m.pool.looked))
	}
	total := time.Duration(0)
	for e := range m.open {
		total += now.Sub(later(e.sent, m.pool.looked))
	}
	return total / time.Duration(m.threads)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// begin the pool's life with its first workers, or at zero.
func (p *pool) start(zero bool) {
	p.mu.Lock()
	if !zero {
		p.fresh = true
		p.resize(p.trigger.Workers * max(p.scale.least, 1))
	}
	p.mu.Unlock()
	p.lives.Go(p.run)
}
