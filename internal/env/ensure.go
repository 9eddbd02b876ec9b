package env

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Request asks for an environment.
type Request struct {
	Interpreter  Interpreter
	Requirements Requirements
	// Refresh resolves the requirements again although a lock is known, so that
	// newer releases are found. The new lock replaces the old one.
	Refresh bool
}

// key names the request: the interpreter and what is asked for, in any spelling.
func (r Request) key() string {
	parts := append([]string{"request 1", r.Interpreter.Identity()}, r.Requirements.Lines()...)
	for _, c := range r.Requirements.constraints {
		parts = append(parts, "-c "+c.String())
	}
	for _, f := range r.Requirements.files {
		parts = append(parts, "file "+f)
	}
	return digest(parts)
}

// Phase is a stage of building an environment.
type Phase string

// The phases, in order. Waiting means that another process builds the same.
const (
	PhaseWaiting  Phase = "waiting"
	PhaseResolve  Phase = "resolving"
	PhaseDownload Phase = "downloading"
	PhaseInstall  Phase = "installing"
)

// Progress is how far a build is. Total is 0 while it is not known.
type Progress struct {
	Phase   Phase
	Package string // the one at hand, if any
	Done    int
	Total   int
	LogPath string
}

// Config says where environments are kept.
type Config struct {
	// Dir holds the environments, CacheDir whatever can be made again. Both are
	// made when needed. Several processes may share them.
	Dir, CacheDir string
	// Logger nil discards.
	Logger *slog.Logger
}

// Manager makes environments. It is safe for concurrent use.
type Manager struct {
	dir    string
	cache  string
	logger *slog.Logger
	finder pipFinder

	mu      sync.Mutex
	closed  bool              // guarded by mu
	builds  map[string]*build // by request key, guarded by mu
	running sync.WaitGroup    // Add only under mu with closed false
}

// New returns a manager; it does no work.
func New(cfg Config) (*Manager, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the environments' folder: %w", err)
	}
	cache, err := filepath.Abs(cfg.CacheDir)
	if err != nil {
		return nil, fmt.Errorf("find the cache folder: %w", err)
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Manager{
		dir: dir, cache: cache, logger: logger.With("component", "env"),
		finder: pipFinder{cacheDir: cache, getenv: os.Getenv},
		builds: map[string]*build{},
	}, nil
}

// errClosed: Ensure after Close.
var errClosed = errors.New("environments: the manager is closed")

// errAbandoned is the cause of a build's end when nobody waits for it.
var errAbandoned = errors.New("environment build cancelled: nobody waits for it any more")

// Close cancels what is being built and waits for it to end. It may be called twice.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	for _, b := range m.builds {
		b.cancel(errClosed)
	}
	m.mu.Unlock()
	m.running.Wait()
	return nil
}

// LogPath returns where a build for r writes its log; the file is there once a
// build began.
func (m *Manager) LogPath(r Request) string { return m.logPath(r.key()) }

func (m *Manager) logPath(key string) string  { return filepath.Join(m.dir, "logs", key+".log") }
func (m *Manager) lockPath(key string) string { return filepath.Join(m.dir, "locks", key+".json") }
func (m *Manager) folder(name string) string  { return filepath.Join(m.dir, name) }

// Known returns the environment of r if it is there already. It starts no
// process and does not wait. A request without packages is always known.
func (m *Manager) Known(r Request) (Environment, bool) {
	if r.Requirements.Empty() {
		return Environment{Python: r.Interpreter.Executable, Interpreter: r.Interpreter}, true
	}
	return m.known(r.key())
}

func (m *Manager) known(key string) (Environment, bool) {
	lock, err := readLock(m.lockPath(key))
	if err != nil || lock == nil {
		return Environment{}, false
	}
	env, _, ok := openEnvironment(m.folder(lock.digest()))
	if !ok || touch(env.Path) != nil {
		return Environment{}, false
	}
	return env, true
}

// Lock returns the lines that install exactly what r was resolved to, among the options
// that r has for pip; nil when it was not resolved on this machine.
func (m *Manager) Lock(r Request) ([]string, error) {
	lock, err := readLock(m.lockPath(r.key()))
	if err != nil || lock == nil {
		return nil, err
	}
	var lines []string
	for _, line := range r.Requirements.Lines() {
		if strings.HasPrefix(line, "--") {
			lines = append(lines, line)
		}
	}
	return append(lines, lock.lines()...), nil
}

// Ensure returns the environment of r, building it when it is not there. All
// callers that ask for the same share one build, in this process and in others,
// and it goes on as long as one of them waits. progress (which may be nil) is
// called from the caller's goroutine with the latest state; states in between
// may be left out.
//
// A failed build gives an error that explains itself and is not remembered.
// When ctx ends first, its cause is returned.
func (m *Manager) Ensure(ctx context.Context, r Request, progress func(Progress)) (Environment, error) {
	if err := context.Cause(ctx); err != nil {
		return Environment{}, err
	}
	if !r.Refresh || r.Requirements.Empty() {
		if env, ok := m.Known(r); ok {
			return env, m.keep(env)
		}
	}
	b, err := m.join(ctx, r)
	if err != nil {
		return Environment{}, err
	}
	defer m.leave(b)
	for {
		state, changed := b.progress()
		if progress != nil && state != (Progress{}) {
			progress(state)
		}
		select {
		case <-ctx.Done():
			return Environment{}, context.Cause(ctx)
		case <-b.done:
			if b.err != nil {
				return Environment{}, b.err
			}
			return b.env, m.keep(b.env)
		case <-changed:
		}
	}
}

// build is one build in this process, shared by its waiters.
type build struct {
	key    string
	cancel context.CancelCauseFunc
	done   chan struct{} // closed after env and err are set
	env    Environment
	err    error

	waiters int // guarded by Manager.mu

	mu      sync.Mutex
	state   Progress      // guarded by mu
	changed chan struct{} // closed and replaced at each change, guarded by mu
}

func (b *build) progress() (Progress, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state, b.changed
}

func (b *build) report(change func(*Progress)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.state
	change(&b.state)
	if b.state != before {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// join finds the running build for r or starts one. The build outlives ctx of
// the caller that happens to start it.
func (m *Manager) join(ctx context.Context, r Request) (*build, error) {
	key := r.key()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	if b := m.builds[key]; b != nil {
		b.waiters++
		return b, nil
	}
	buildCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	b := &build{key: key, cancel: cancel, waiters: 1, done: make(chan struct{}), changed: make(chan struct{})}
	m.builds[key] = b
	m.running.Go(func() {
		defer cancel(nil)
		env, err := m.build(buildCtx, r, b)
		m.mu.Lock()
		if m.builds[key] == b {
			delete(m.builds, key)
		}
		m.mu.Unlock()
		b.env, b.err = env, err
		close(b.done)
	})
	return b, nil
}

// leave counts a waiter off; the last one cancels the build, and whoever comes
// later starts another.
func (m *Manager) leave(b *build) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b.waiters--; b.waiters == 0 {
		if m.builds[b.key] == b {
			delete(m.builds, b.key)
		}
		b.cancel(errAbandoned)
	}
}

// build makes the environment of r under the locks described in the package
// comment.
func (m *Manager) build(ctx context.Context, r Request, b *build) (Environment, error) {
	logPath := m.logPath(b.key)
	b.report(func(p *Progress) { *p = Progress{LogPath: logPath, Phase: PhaseResolve} })
	waiting := func() { b.report(func(p *Progress) { p.Phase, p.Package = PhaseWaiting, "" }) }
	held, err := waitLock(ctx, filepath.Join(m.dir, "busy", "key-"+b.key+".lock"), waiting)
	if err != nil {
		return Environment{}, err
	}
	defer held.Close()
	if !r.Refresh {
		if env, ok := m.known(b.key); ok {
			return env, nil
		}
	}
	log, err := createLog(logPath)
	if err != nil {
		return Environment{}, err
	}
	defer log.Close()
	began := time.Now()
	m.logger.InfoContext(ctx, "building environment", "key", b.key, "python", r.Interpreter.Version.String(), "log", logPath)
	w := &worker{manager: m, request: r, build: b, log: log, logPath: logPath, keyLock: held, waiting: waiting}
	env, err := w.run(ctx)
	if err != nil {
		fmt.Fprintf(log, "\nfailed: %v\n", err)
		m.logger.WarnContext(ctx, "environment not built", "key", b.key, "error", err)
		return Environment{}, err
	}
	fmt.Fprintf(log, "\nready in %s: %s\n", time.Since(began).Round(time.Millisecond), env.Path)
	m.logger.InfoContext(ctx, "environment ready", "key", b.key, "path", env.Path, "packages", len(env.Lock), "took", time.Since(began))
	return env, nil
}

// createLog empties and opens a build's log. Readers that had the former one
// open keep it: the file is a new one.
func createLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("start build log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start build log: %w", err)
	}
	return f, nil
}

func logLines(w io.Writer, lines []string) {
	for _, line := range lines {
		fmt.Fprintf(w, "  %s\n", redact(strings.TrimSpace(line)))
	}
}

// Check tries what building an environment for interp needs: a virtual
// environment can be made and a usable pip is there or can be fetched. It
// returns a phrase that says which pip; its error is the one Ensure would give.
func (m *Manager) Check(ctx context.Context, interp Interpreter) (string, error) {
	log, err := createLog(m.logPath("check"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	w := &worker{manager: m, request: Request{Interpreter: interp}, log: log, logPath: m.logPath("check")}
	found, err := w.findPip(ctx)
	if err != nil {
		return "", err
	}
	if _, err := w.resolver(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("pip %s (%s)", found.version, found.origin), nil
}
