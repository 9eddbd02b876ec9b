// Package limits bounds what the processes of one execution may use, and ends
// every one of them.
//
// The means are the best that the machine offers to this user: a control group
// of version 2, control groups of version 1, else resource limits of the
// process (rlimits). A control group counts all processes of the execution
// together, tells when one was killed for memory, and keeps daemons and fork
// bombs within reach; so an execution gets one even when nothing is limited.
// Rlimits count each process by itself: RLIMIT_DATA stands for memory (not
// RLIMIT_AS, because runtimes reserve address space they never use), and
// RLIMIT_NPROC, which counts all processes of the user, for their number; CPU
// time cannot be shared out with them. Applied says what is in force.
//
// A group is made below the control group that this process is in, so limits
// that somebody else set on us still hold. Its Path can be stored and opened by
// another process later. A group has no goroutine.
package limits

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Limits are bounds of all processes of an execution together. Zero is no limit.
type Limits struct {
	CPU    float64 // cores
	Memory int64   // bytes
	Pids   int     // processes and threads
}

// The mechanisms.
const (
	MechanismV2     = "cgroup v2"
	MechanismV1     = "cgroup v1"
	MechanismRlimit = "rlimit"
)

// Applied says what is in force.
type Applied struct {
	// Mechanism is one of the Mechanism constants, several joined with " + ", or
	// "none" when nothing was asked for and no group could be made.
	Mechanism string
	Limits
	// Unenforced names what was asked for and cannot be had here: "cpu",
	// "memory", "pids".
	Unenforced []string
}

const (
	leastMemory = 4 << 20 // no process starts within less
	leastCPU    = 0.01    // the kernel shares out no less; a smaller limit becomes this
)

// Check refuses negative limits and a memory that no process could start within.
func (l Limits) Check() error {
	switch {
	case l.CPU < 0 || l.Memory < 0 || l.Pids < 0:
		return fault.Invalid("limits cannot be negative: cpu %v, memory %d, pids %d", l.CPU, l.Memory, l.Pids)
	case l.Memory > 0 && l.Memory < leastMemory:
		return fault.Invalid("the memory limit of %d bytes is too small for any process: ask for at least %d (4Mi)", l.Memory, leastMemory)
	}
	return nil
}

// Group is the processes of one execution. Its methods may be called from
// several goroutines. A nil *Group limits nothing and does nothing.
type Group struct {
	cgroup  *cgroup // nil: there is none
	rlimits Limits  // what has to be done by rlimits
	applied Applied

	mu     sync.Mutex
	pids   []int // added, when there is no control group; guarded by mu
	oom    bool  // seen before the group was removed; guarded by mu
	closed bool  // guarded by mu
}

// groupPrefix begins the folder name of every control group of ours; no other
// folder is ever emptied or removed.
const groupPrefix = "millrace-"

var groupID = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,200}$`)

// folderName is the name of a group's folder. An id that cannot be a part of one
// is replaced by its digest.
func folderName(id string) string {
	if groupID.MatchString(id) {
		return groupPrefix + id
	}
	sum := sha256.Sum256([]byte(id))
	return groupPrefix + "sha256-" + hex.EncodeToString(sum[:])
}

// Create makes the group of the execution id, which is unique on the machine. A
// group of that id that is there already is taken over. Limits that the machine
// cannot enforce are no error: Applied names them.
func Create(id string, l Limits) (*Group, error) {
	if err := l.Check(); err != nil {
		return nil, err
	}
	if l.CPU > 0 {
		l.CPU = max(l.CPU, leastCPU)
	}
	c, held, err := createCgroup(folderName(id), l)
	if err != nil {
		return nil, fmt.Errorf("limit execution %s: %w", id, err)
	}
	g := &Group{cgroup: c, rlimits: rlimitsFor(l, held)}
	g.applied = describe(c, l, held, g.rlimits)
	return g, nil
}

// rlimitsFor returns what is left to do for the rlimits of this system.
func rlimitsFor(want, held Limits) Limits {
	var rest Limits
	if rlimitMemory && held.Memory == 0 {
		rest.Memory = want.Memory
	}
	if rlimitPids && held.Pids == 0 {
		rest.Pids = want.Pids
	}
	return rest
}

func describe(c *cgroup, want, held, rest Limits) Applied {
	a := Applied{Limits: Limits{CPU: held.CPU, Memory: max(held.Memory, rest.Memory), Pids: max(held.Pids, rest.Pids)}}
	var means []string
	if c != nil {
		means = append(means, c.mechanism())
	}
	if rest != (Limits{}) {
		means = append(means, MechanismRlimit)
	}
	if a.Mechanism = strings.Join(means, " + "); a.Mechanism == "" {
		a.Mechanism = "none"
	}
	if want.CPU > 0 && a.CPU == 0 {
		a.Unenforced = append(a.Unenforced, "cpu")
	}
	if want.Memory > 0 && a.Memory == 0 {
		a.Unenforced = append(a.Unenforced, "memory")
	}
	if want.Pids > 0 && a.Pids == 0 {
		a.Unenforced = append(a.Unenforced, "pids")
	}
	return a
}

// Mechanism returns what a group with all limits would get on this machine. It
// makes a group and removes it.
func Mechanism() (Applied, error) {
	g, err := Create(fmt.Sprintf("probe-%d", selfPID()), Limits{CPU: 1, Memory: 1 << 30, Pids: 1 << 10})
	if err != nil {
		return Applied{}, err
	}
	return g.Applied(), g.Close()
}

// Open returns the group that Path named, in this or another process. It fails
// with fault.CodeNotFound when the group is not there any more. Only Kill, OOM
// and Close are of use then.
func Open(path string) (*Group, error) {
	c, err := openCgroup(path)
	if err != nil {
		return nil, err
	}
	return &Group{cgroup: c, applied: Applied{Mechanism: c.mechanism()}}, nil
}

// Path returns what Open takes; empty when there is nothing to open, because
// rlimits need no group.
func (g *Group) Path() string {
	if g == nil || g.cgroup == nil {
		return ""
	}
	return g.cgroup.String()
}

// Applied returns what is in force.
func (g *Group) Applied() Applied {
	if g == nil {
		return Applied{Mechanism: "none"}
	}
	return g.applied
}

// Add puts a running process into the group, with all that it starts from now
// on. A process that has ended already is no error.
func (g *Group) Add(pid int) error {
	if g == nil {
		return nil
	}
	if pid <= 1 {
		return fmt.Errorf("limit process %d: no such process can be limited", pid)
	}
	if g.cgroup != nil {
		if err := g.cgroup.add(pid); err != nil {
			return err
		}
	} else {
		g.mu.Lock()
		g.pids = append(g.pids, pid)
		g.mu.Unlock()
	}
	return setRlimits(pid, g.rlimits)
}

// Wrap returns a command line that joins the group and then becomes argv, so
// that nothing of it runs outside. It needs /bin/sh. A command that is not found
// makes it end with status 127, a group that cannot be joined with 125.
func (g *Group) Wrap(argv []string) []string {
	if g == nil || len(argv) == 0 {
		return argv
	}
	var script strings.Builder
	var folders []string
	if g.cgroup != nil {
		folders = g.cgroup.folders()
		fmt.Fprintf(&script, "n=%d\n", len(folders))
		script.WriteString("while [ \"$n\" -gt 0 ]; do\n" +
			"echo $$ > \"$1/cgroup.procs\" || exit 125\nshift\nn=$((n-1))\ndone\n")
	}
	if m := g.rlimits.Memory; m > 0 {
		fmt.Fprintf(&script, "ulimit -d %d || exit 125\n", (m+1023)/1024)
	}
	if p := g.rlimits.Pids; p > 0 {
		n := userTasks() + p
		fmt.Fprintf(&script, "ulimit -u %d 2>/dev/null || ulimit -p %d || exit 125\n", n, n)
	}
	if script.Len() == 0 {
		return argv
	}
	script.WriteString(`exec "$@"`)
	return append(append([]string{"/bin/sh", "-c", script.String(), "sh"}, folders...), argv...)
}

// OOM reports whether a process of the group was killed because the group used
// more than its memory limit. It remembers the answer when the group is closed.
// With rlimits there is no such killing: allocations fail instead.
func (g *Group) OOM() bool {
	if g == nil || g.cgroup == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.oom && !g.closed {
		g.oom = g.cgroup.oomKilled()
	}
	return g.oom
}

// Members returns the processes in the group; without a control group, those
// that were added.
func (g *Group) Members() ([]int, error) {
	if g == nil {
		return nil, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cgroup == nil || g.closed {
		return append([]int(nil), g.pids...), nil
	}
	return g.cgroup.members()
}

// Kill ends every process of the group and returns when there is none left, or
// with ctx's cause. Processes that fork meanwhile are ended too. Without a
// control group it ends the process groups of what was added; daemons that left
// them have to be found by KillTagged.
func (g *Group) Kill(ctx context.Context) error {
	if g == nil {
		return nil
	}
	g.OOM() // while it can be asked
	g.mu.Lock()
	closed, pids := g.closed, append([]int(nil), g.pids...)
	g.mu.Unlock()
	if closed {
		return nil
	}
	if g.cgroup != nil {
		return g.cgroup.kill(ctx)
	}
	var failed error
	for _, pid := range pids {
		failed = errors.Join(failed, killProcessGroup(pid))
	}
	return failed
}

// Close removes the group, whose processes have to be gone (see Kill). A second
// call does nothing.
func (g *Group) Close() error {
	if g == nil {
		return nil
	}
	g.OOM()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	if g.cgroup != nil {
		if err := g.cgroup.remove(); err != nil {
			return err
		}
	}
	g.closed = true
	g.pids = nil
	return nil
}
