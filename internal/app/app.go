// Package app wires the parts into the system: store, control loop, local
// backend, API. It knows no flags, no signals and no global state, so a test can
// start the whole product on port 0 with a temporary folder.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/backend/local"
	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/filelock"
	"github.com/millrace/millrace/internal/gpu"
	"github.com/millrace/millrace/internal/logs"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/worker"
)

// Options configure the system; the zero value of each field has a meaning.
type Options struct {
	DataDir      string       // required
	DatabaseURL  string       // "" means SQLite in the data directory
	Listen       string       // address to serve on; "" means 127.0.0.1:8080
	MaxRuns      int          // executions alive at once; 0 means twice the number of cores
	Templates    int          // warm interpreters kept by a server; 0 means 8, negative none
	Python       string       // default interpreter; "" means the first python3 found
	ArtifactPath string       // default artifact path; "" means artifacts/{{project}} in the data directory
	Token        string       // asked of every client; "" means none, allowed on loopback only
	Insecure     bool         // allow to serve beyond loopback without a token
	LogLimit     int64        // bytes of log per run; 0 means 8 GiB, negative none
	Version      string       // of this binary
	SecretKey    string       // keys of secrets, the current one first; "" means those of SecretKeyFile
	SecretFile   string       // file with them; "" means secret.key in the data directory, made when it is needed
	Logger       *slog.Logger // nil discards
	Executable   string       // the millrace binary; "" means the running one

	url    string // where this server is reached; "" without one
	server string // its id, where several share a database
}

const defaultLogLimit = 8 << 30

// App is the opened system. Close it.
type App struct {
	options  Options
	dir      string
	store    *store.Store
	logs     *logs.Logs
	control  *control.Control
	backend  *local.Backend
	preparer *local.Preparer
	devices  *gpu.Allocator
	builds   *builds
	secrets  *secret.Vault
	envs     *env.Manager
	content  *content
	deployed *deployments // nil until the API is needed
	api      func() *api.Server
	teardown []func() error
}

// Open brings the system up without a listener and without the control loop:
// what a command needs that works on the data directory itself.
func Open(ctx context.Context, options Options) (_ *App, err error) {
	a := &App{options: options}
	defer func() {
		if err != nil {
			_ = a.Close()
		}
	}()
	if a.options.Logger == nil {
		a.options.Logger = slog.New(slog.DiscardHandler)
	}
	if a.options.MaxRuns <= 0 {
		a.options.MaxRuns = 2 * runtime.NumCPU()
	}
	if a.options.LogLimit == 0 {
		a.options.LogLimit = defaultLogLimit
	}
	if a.options.Executable == "" {
		if a.options.Executable, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find own binary: %w", err)
		}
	}
	if a.dir, err = dataDir(options.DataDir); err != nil {
		return nil, err
	}
	if a.options.ArtifactPath == "" {
		a.options.ArtifactPath = filepath.Join(a.dir, "artifacts", "{{project}}")
	}
	a.store, err = store.Open(ctx, store.Options{Path: filepath.Join(a.dir, "millrace.db"), DatabaseURL: options.DatabaseURL, Logger: a.options.Logger})
	if err != nil {
		return nil, err
	}
	a.teardown = append(a.teardown, a.store.Close)
	a.logs = logs.New(a.dir, a.store)
	a.secrets = secret.NewVault(a.store, secret.Keys{
		Text: a.options.SecretKey, File: cmp.Or(a.options.SecretFile, filepath.Join(a.dir, "secret.key")), Create: a.options.SecretFile == "",
	})
	interpreters := env.NewInterpreters(env.InterpreterConfig{Default: options.Python, CacheDir: filepath.Join(a.dir, "cache"), Logger: a.options.Logger})
	envs, err := env.New(env.Config{Dir: filepath.Join(a.dir, "envs"), CacheDir: filepath.Join(a.dir, "cache"), Logger: a.options.Logger})
	if err != nil {
		return nil, err
	}
	a.envs = envs
	a.teardown = append(a.teardown, envs.Close)
	runtimeDir, err := worker.Unpack(filepath.Join(a.dir, "runtime"))
	if err != nil {
		return nil, err
	}
	a.devices = gpu.New(gpu.Find(ctx))
	a.builds = newBuilds(interpreters, envs)
	a.teardown = append(a.teardown, a.builds.close)
	a.backend = local.New(a.dir, a.options.Executable, a.logs.Prelude, a.options.Logger.With("component", "local"))
	a.preparer = &local.Preparer{
		Functions: a.store, Interpreters: interpreters, Environments: envs, Runtime: runtimeDir, LogLimit: max(a.options.LogLimit, 0), Version: options.Version, Prelude: a.logs.Prelude,
		ArtifactPath: a.artifactPath, Secrets: a.secrets,
		Bundles: a.bundles().Resolve, Resolver: resolve(a.find).in,
		Iterations: a.store.RunChildrenEach, ParameterFile: a.backend.ParameterFile,
		GoBuild: local.GoBuilder(filepath.Join(a.dir, "cache", "go")),
	}
	a.control = control.New(control.Options{
		Name: "local", Store: a.store, Backend: a.backend, Preparer: a.preparer, Devices: a.devices, Logs: a.logs,
		Logger: a.options.Logger.With("component", "control"), MaxRuns: a.options.MaxRuns, Prelude: a.logs.Prelude,
	})
	a.content = a.newContent()
	a.api = sync.OnceValue(a.newAPI)
	return a, nil
}

// newAPI makes the API, which most commands on a data directory do not need.
func (a *App) newAPI() *api.Server {
	if a.deployed == nil {
		a.deployed = a.newDeployments()
	}
	return api.New(api.Options{
		Store: a.store, Controller: controller{a}, Logs: a.logs, ArtifactPath: a.options.ArtifactPath, URL: a.options.url,
		Secrets: a.secrets, Content: a.content, Masks: a.logs, Bundles: a.bundles(), Environments: environments{a.envs, a.builds.interpreters},
		Deployments: a.deployed, Token: a.options.Token, Logger: a.options.Logger,
	})
}

// Close stops the control loop and closes the store. Living executions go on.
func (a *App) Close() error {
	if a.control != nil {
		a.control.Stop()
	}
	if a.backend != nil {
		a.backend.Close()
	}
	var errs []error
	for i := len(a.teardown) - 1; i >= 0; i-- {
		errs = append(errs, a.teardown[i]())
	}
	a.teardown = nil
	return errors.Join(errs...)
}

// leave is Close for a process that exits now. Its commits are durable; closing an
// embedded database moves them from its log into its file, which takes as long as
// a short run, and is done only once the log has grown enough to slow down the
// next start.
func (a *App) leave() {
	if info, err := os.Stat(filepath.Join(a.dir, "millrace.db-wal")); err != nil || info.Size() > leaveWAL {
		if err := a.Close(); err != nil {
			a.options.Logger.Error("close", "error", err)
		}
		return
	}
	a.control.Stop()
	a.backend.Close()
}

const leaveWAL = 512 << 10

// Handler is the API of this system, for clients in the same process.
func (a *App) Handler() http.Handler { return a.api() }

// Recover applies what runners have reported while no server was running, and
// ends the executions whose runner is gone.
func (a *App) Recover(ctx context.Context) error { return a.control.Recover(ctx) }

// Serve runs the server until ctx ends: it answers the API on the address asked
// for and runs the control loop. ready, if not nil, is called with the base URL
// once requests are answered.
func Serve(ctx context.Context, options Options, ready func(url string)) (err error) {
	if options.Listen == "" {
		options.Listen = "127.0.0.1:8080"
	}
	if err := api.CheckExposure(options.Listen, options.Token, options.Insecure); err != nil {
		return err
	}
	dir, err := dataDir(options.DataDir)
	if err != nil {
		return err
	}
	lock, err := lockServer(dir)
	if errors.Is(err, filelock.ErrHeld) {
		return fault.Conflict("a server runs on the data directory %s already, at %s; use another --data-dir", dir, Running(dir))
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	listener, err := net.Listen("tcp", options.Listen)
	if err != nil {
		return fault.Invalid("cannot listen on %s: %w; choose another --listen address", options.Listen, err)
	}
	defer listener.Close()
	url := "http://" + reachable(listener.Addr())
	options.url = url
	a, err := Open(ctx, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	a.preparer.ServerURL, a.preparer.Token = url, options.Token
	if err := a.warm(); err != nil {
		return err
	}
	if err := announce(dir, address{URL: url, PID: os.Getpid(), Embedded: options.DatabaseURL == ""}); err != nil {
		return err
	}
	if a.store.Shared() {
		if a.options.server, err = serverID(dir); err != nil {
			return err
		}
	}
	a.deployed = a.newDeployments()
	a.teardown = append(a.teardown, a.deployed.close)
	a.control.Start(ctx)
	a.deployed.start(ctx)
	var chores sync.WaitGroup
	defer chores.Wait()
	choresCtx, endChores := context.WithCancel(ctx)
	defer endChores()
	chores.Go(func() { a.prune(choresCtx) })
	chores.Go(func() { a.finishRemovals(choresCtx) })
	server := &http.Server{
		Handler: a.deployed.handler(a.api()), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 1 << 20,
		ErrorLog:    slog.NewLogLogger(a.options.Logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	failed := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- server.Serve(listener) })
	if ready != nil {
		ready(url)
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	a.api().Drain()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if shutdown := server.Shutdown(stop); shutdown != nil {
		_ = server.Close() // clients that follow a log are cut; they ask again
	}
	serving.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// reachable is the address by which processes on this machine reach the listener.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
