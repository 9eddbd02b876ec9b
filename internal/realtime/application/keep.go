package application

import (
	"math"
	"time"
)

const (
	lookEvery = time.Second      // at how busy the replicas are
	calmFor   = 30 * time.Second // before they become fewer

	// defaultLoad is how many requests in progress a replica is meant for where the
	// trigger does not say: most servers take several at a time.
	defaultLoad = 10
)

// keep makes the number of replicas follow the load until the application closes.
func (a *App) keep() {
	replicas := a.Revision.Replicas
	late := time.NewTimer(a.Revision.ReadyTimeout)
	defer late.Stop()
	var look <-chan time.Time
	if replicas.Min < max(replicas.Max, 1) {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		look = ticker.C
	}
	calm := time.Now()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-late.C:
			a.mu.Lock()
			a.late = !a.served
			a.mu.Unlock()
			a.Changed()
		case now := <-look:
			calm = a.follow(now, calm)
		}
	}
}

// follow starts replicas at once when those there are have too much to do, and ends
// some when fewer would have done since calm for long enough. It returns since when
// they would.
func (a *App) follow(now, calm time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining || !a.served {
		return now
	}
	open, staying := a.waiting, 0
	for _, r := range a.replicas {
		open += r.open
		if !r.leaving {
			staying++
		}
	}
	least := a.Revision.Replicas.Min
	if open > 0 {
		a.used = now
	}
	if least == 0 && now.Sub(a.used) >= a.Revision.IdleToZero {
		if staying > 0 {
			a.resize(0) // each says when it is gone
		}
		return now
	}
	if staying == 0 {
		return now // a request wakes it
	}
	load := float64(defaultLoad)
	if a.trigger.Workers > 1 {
		load = float64(a.trigger.Workers)
	}
	wanted := int(math.Ceil(float64(open) / (load * a.Revision.TargetUtilisation)))
	wanted = min(max(wanted, least, 1), max(a.Revision.Replicas.Max, 1))
	switch {
	case wanted > staying:
		a.resize(wanted)
	case wanted < staying && now.Sub(calm) >= calmFor:
		a.resize(wanted)
	case wanted < staying:
		return calm
	}
	return now
}
