// Package template owns the templates of one process: interpreters that have
// imported what functions need and fork workers on demand (docs/protocol.md,
// "Templates").
//
// A Pool knows templates by what they are made of, its Spec. It starts one when it
// is first asked for, keeps a bounded number within a bounded amount of memory,
// and lets those go that nobody asks for. Asking never waits (Socket) unless the
// caller wants to (Ready); whoever gets no template starts a fresh process and has
// the reason for its log.
//
//	starting ──► ready ──► retiring ──► gone
//	    └──► failed: not tried again for a while
//
// Each template has one goroutine, which starts its process, and waits for it. A
// template whose standard input ends takes no more requests and exits with its
// last worker; so those of a killed owner go by themselves.
package template

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Spec says what a template is made of. Two equal specs are one template.
type Spec struct {
	Interpreter string   // path of the interpreter, that of the environment if there is one
	RuntimeDir  string   // what worker.Unpack returned
	Env         []string // the whole environment of the imports, KEY=VALUE
	Modules     []string // what to import, in this order; those that are not there are left out
}

// Options configure a Pool.
type Options struct {
	Dir       string        // folder of the sockets; made 0700, and its content is this pool's alone
	Max       int           // templates alive at once; 0 means 8
	Idle      time.Duration // a template that nobody asked for this long goes; 0 means 10 minutes
	MaxMemory int64         // bytes of all templates together, as proportional set size; 0 means 1 GiB
	Logger    *slog.Logger  // nil discards
}

const (
	defaultMax    = 8
	defaultIdle   = 10 * time.Minute
	defaultMemory = 1 << 30

	startTimeout = time.Minute      // for the imports
	settled      = 15 * time.Second // a template that was asked for within this time makes no room for others
	firstPause   = time.Second      // before a template that died is started again; doubles
	lastPause    = 10 * time.Minute
)

// Pool is the templates of this process. Its methods may be called from any
// goroutine. Close it.
type Pool struct {
	options Options
	made    bool // Dir is a folder that was made because Options.Dir has too long a path

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	alive  sync.WaitGroup
	asking sync.WaitGroup // of Listen
	turn   chan struct{}  // one template imports at a time

	mu      sync.Mutex
	entries map[string]*entry
	number  int
}

type state int

const (
	starting state = iota
	ready
	failed
)

// entry is one template. All but the constants are guarded by the pool's mutex.
type entry struct {
	key    string
	spec   Spec
	socket string
	known  chan struct{} // closed when state is no longer starting
	retire chan struct{} // closed to let it go

	state    state
	reason   string    // of failed
	until    time.Time // when failed is over
	failures int       // in a row
	used     time.Time
	since    time.Time // ready since
	pid      int
	memory   int64
	leaving  bool
}

// Info describes a template.
type Info struct {
	Interpreter string
	Modules     int
	PID         int       // 0 unless it is ready
	Memory      int64     // bytes, proportional set size when it became ready
	Used        time.Time // when it was last asked for
	Reason      string    // why there is none; "" if there is one, or soon will be
}

// New returns a pool without templates.
func New(options Options) (*Pool, error) {
	options.Max = cmp.Or(options.Max, defaultMax)
	options.Idle = cmp.Or(options.Idle, defaultIdle)
	options.MaxMemory = cmp.Or(options.MaxMemory, defaultMemory)
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pool{options: options, entries: map[string]*entry{}, turn: make(chan struct{}, 1)}
	if err := p.folder(); err != nil {
		return nil, fmt.Errorf("make the folder of templates: %w", err)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// maxFolder is how long the path of the sockets' folder may be: the kernel limits
// that of a socket to 107 bytes on Linux.
const maxFolder = 80

func (p *Pool) folder() error {
	named := p.options.Dir
	if err := empty(named); err != nil {
		return err
	}
	if len(named) > maxFolder {
		temp := os.TempDir()
		if len(temp) > maxFolder/2 {
			temp = "/tmp"
		}
		dir, err := os.MkdirTemp(temp, "millrace-")
		if err != nil {
			return err
		}
		p.options.Dir, p.made = dir, true
		return os.Symlink(dir, filepath.Join(named, movedTo))
	}
	return nil
}

// empty makes the folder, and removes what an owner that was killed has left there.
func empty(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	stale, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if moved, err := os.Readlink(filepath.Join(dir, movedTo)); err == nil && strings.HasPrefix(filepath.Base(moved), "millrace-") {
		if err := os.RemoveAll(moved); err != nil {
			return err
		}
	}
	for _, one := range stale {
		if err := os.Remove(filepath.Join(dir, one.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Socket returns the socket of a ready template for spec, or of one that has
// imported a part of its modules; otherwise "" and the reason. It does not wait: a
// template that is not there is started for those who come later.
func (p *Pool) Socket(spec Spec) (socket, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.want(spec)
	if e.state == ready {
		return e.socket, ""
	}
	if near := p.near(spec); near != nil {
		near.used = time.Now()
		return near.socket, ""
	}
	if e.state == failed {
		return "", e.reason
	}
	return "", "its template is being started"
}

// Ready returns the socket of the template for spec once it is ready. The error
// says why there is none: Error() is the reason, or it is ctx's cause.
func (p *Pool) Ready(ctx context.Context, spec Spec) (string, error) {
	p.mu.Lock()
	e := p.want(spec)
	p.mu.Unlock()
	select {
	case <-e.known:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.state != ready {
		return "", errors.New(e.reason)
	}
	return e.socket, nil
}

// want returns the entry of spec, and starts its template if that is to be tried.
// p.mu is held.
func (p *Pool) want(spec Spec) *entry {
	key := keyOf(spec)
	e := p.entries[key]
	if e != nil && e.state == ready {
		if _, err := os.Lstat(e.socket); err != nil {
			p.release(e, "it takes no more requests") // it noticed that it is outdated, and has workers still
			e = nil
		}
	}
	if e != nil && (e.state != failed || time.Now().Before(e.until)) {
		e.used = time.Now()
		return e
	}
	next := &entry{key: key, spec: spec, known: make(chan struct{}), retire: make(chan struct{}), used: time.Now()}
	if e != nil {
		next.failures = e.failures
	}
	if reason := p.room(); reason != "" {
		next.state, next.reason = failed, reason
		close(next.known)
		return next // not kept: it is asked again
	}
	p.number++
	next.socket = filepath.Join(p.options.Dir, fmt.Sprintf("%s-%d.sock", key[:8], p.number))
	p.entries[key] = next
	p.alive.Go(func() { p.keep(next) })
	return next
}

// room makes room for one more template, or says why there is none. p.mu is held.
func (p *Pool) room() string {
	if p.ctx.Err() != nil {
		return "no more templates are started"
	}
	alive := 0
	for key, e := range p.entries {
		if e.state != failed {
			alive++
		} else if time.Now().After(e.until.Add(lastPause)) {
			delete(p.entries, key)
		}
	}
	if alive < p.options.Max {
		return ""
	}
	if oldest := p.oldest(nil); oldest != nil && time.Since(oldest.used) > settled {
		p.release(oldest, "room for another one")
		return ""
	}
	return fmt.Sprintf("all of the %d templates are in use", p.options.Max)
}

// oldest is the ready template, other than except, that was not asked for longest.
func (p *Pool) oldest(except *entry) *entry {
	var found *entry
	for _, e := range p.entries {
		if e.state == ready && e != except && (found == nil || e.used.Before(found.used)) {
			found = e
		}
	}
	return found
}

// release lets a template go: it is asked for no more. p.mu is held.
func (p *Pool) release(e *entry, why string) {
	if e.leaving {
		return
	}
	e.leaving = true
	if p.entries[e.key] == e {
		delete(p.entries, e.key)
	}
	p.options.Logger.Debug("template released", "pid", e.pid, "interpreter", e.spec.Interpreter, "reason", why)
	close(e.retire)
}

// near returns the ready template that has imported most of spec's modules and
// nothing else, nil if there is none. p.mu is held.
func (p *Pool) near(spec Spec) *entry {
	var found *entry
	wanted := map[string]bool{}
	for _, name := range spec.Modules {
		wanted[name] = true
	}
	for _, e := range p.entries {
		if e.state != ready || e.spec.Interpreter != spec.Interpreter || e.spec.RuntimeDir != spec.RuntimeDir || !slices.Equal(e.spec.Env, spec.Env) {
			continue
		}
		if found != nil && len(e.spec.Modules) <= len(found.spec.Modules) {
			continue
		}
		if !slices.ContainsFunc(e.spec.Modules, func(name string) bool { return !wanted[name] }) {
			found = e
		}
	}
	return found
}

// List describes the templates that there are, and those that could not be.
func (p *Pool) List() []Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Info, 0, len(p.entries))
	for _, e := range p.entries {
		out = append(out, Info{
			Interpreter: e.spec.Interpreter, Modules: len(e.spec.Modules), PID: e.pid, Memory: e.memory, Used: e.used, Reason: e.reason,
		})
	}
	slices.SortFunc(out, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Interpreter, b.Interpreter), cmp.Compare(a.Modules, b.Modules), cmp.Compare(a.PID, b.PID))
	})
	return out
}

// Close lets all templates go and waits for them until ctx ends. One with workers
// that are to outlive this process goes with the last of them.
func (p *Pool) Close(ctx context.Context) error {
	p.cancel()
	p.asking.Wait()
	gone := make(chan struct{})
	go func() { // ends with the last template
		p.alive.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
	}
	if p.made {
		return os.RemoveAll(p.options.Dir)
	}
	return nil
}

func keyOf(spec Spec) string {
	hash := sha256.New()
	for _, list := range [][]string{{spec.Interpreter, spec.RuntimeDir}, spec.Env, spec.Modules} {
		fmt.Fprintf(hash, "%d\n", len(list))
		for _, item := range list {
			fmt.Fprintf(hash, "%d %s\n", len(item), item)
		}
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}
