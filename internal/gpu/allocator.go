package gpu

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/fault"
)

// Allocator hands out whole GPUs. It is safe for concurrent use.
type Allocator struct {
	inventory Inventory

	mu   sync.Mutex
	held map[string][]string // by execution, guarded by mu
}

// New returns an allocator of the inventory with everything free.
func New(inventory Inventory) *Allocator {
	return &Allocator{
		inventory: Inventory{IDs: slices.Clone(inventory.IDs), Source: inventory.Source},
		held:      map[string][]string{},
	}
}

// Total is how many GPUs there are, free or not.
func (a *Allocator) Total() int { return len(a.inventory.IDs) }

// Check refuses to wait for what can never be had: more GPUs than there are. The
// fault is for whoever submits; n zero is always fine.
func (a *Allocator) Check(n int) error {
	switch total := a.Total(); {
	case n < 0:
		return fault.Invalid("%d is no number of GPUs", n)
	case n > total && total == 0:
		return fault.Invalid("the function asks for %s, but this machine has none (%s): lower spec.resources.limits or run it elsewhere", count(n), a.inventory.Source)
	case n > total:
		return fault.Invalid("the function asks for %s, but this machine has %d: lower spec.resources.limits or run it elsewhere", count(n), total)
	}
	return nil
}

func count(n int) string {
	if n == 1 {
		return "1 GPU"
	}
	return fmt.Sprintf("%d GPUs", n)
}

// Take gives n GPUs to the execution, in the inventory's order, or those that it
// has already when they are as many. ok is false, and nothing is taken, while
// too few are free.
func (a *Allocator) Take(execution string, n int) (ids []string, ok bool) {
	if n < 0 {
		return nil, false
	}
	if n == 0 {
		return nil, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if has := a.held[execution]; len(has) == n {
		return slices.Clone(has), true
	}
	free := a.free(execution)
	if len(free) < n {
		return nil, false
	}
	a.held[execution] = free[:n:n]
	return slices.Clone(free[:n]), true
}

// free lists what nobody but the execution holds.
func (a *Allocator) free(execution string) []string {
	taken := map[string]bool{}
	for holder, ids := range a.held {
		if holder == execution {
			continue
		}
		for _, id := range ids {
			taken[id] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(a.inventory.IDs), func(id string) bool { return taken[id] })
}

// Hold notes what a live execution was given before this allocator was made. An
// id that is not in the inventory any more is kept for Free and otherwise
// ignored; one that another execution holds is refused with fault.CodeConflict,
// and nothing is noted.
func (a *Allocator) Hold(execution string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for holder, others := range a.held {
		if holder == execution {
			continue
		}
		for _, id := range ids {
			if slices.Contains(others, id) {
				return fault.Conflict("GPU %s of execution %s is held by execution %s", id, execution, holder)
			}
		}
	}
	a.held[execution] = slices.Clone(ids)
	return nil
}

// Free takes back what the execution has; it may have nothing.
func (a *Allocator) Free(execution string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.held, execution)
}

// String says how many are free, for people.
func (a *Allocator) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	free := a.free("")
	return fmt.Sprintf("%d of %d free (%s)", len(free), len(a.inventory.IDs), strings.Join(free, ", "))
}
