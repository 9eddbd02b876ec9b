package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/backend/local"
	"github.com/millrace/millrace/internal/cli"
	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/activator"
	"github.com/millrace/millrace/internal/realtime/processor"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/runner"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/template"
	"github.com/millrace/millrace/internal/tune"
)

// System returns the product as the command line sees it. version names the
// binary; it is asked late.
func System(version func() string) cli.System { return &system{version: version, stderr: os.Stderr} }

type system struct {
	version func() string
	stderr  io.Writer // where the log of a server or runner goes
}

// Running implements cli.System.
func (s *system) Running(dataDir string) string { return Running(dataDir) }

// Connect implements cli.System.
func (s *system) Connect(ctx context.Context, options cli.ConnectOptions) (*cli.Connection, error) {
	if url := Running(options.DataDir); url != "" {
		connected, err := client.New(client.Options{URL: url, Token: options.Token})
		if err != nil {
			return nil, err
		}
		return &cli.Connection{Client: connected, Server: url, Owner: owns(options.DataDir)}, nil
	}
	a, err := s.open(ctx, options)
	if err != nil {
		return nil, err
	}
	if err := a.Recover(ctx); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	connected, err := client.New(client.Options{URL: "http://millrace.invalid", Transport: client.HandlerTransport(a.Handler())})
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return &cli.Connection{Client: connected, InProcess: true, Close: a.Close}, nil
}

func (s *system) open(ctx context.Context, options cli.ConnectOptions) (*App, error) {
	return Open(ctx, Options{
		DataDir: options.DataDir, DatabaseURL: options.DatabaseURL, Python: options.Python, Version: s.version(),
		SecretKey: options.SecretKey, SecretFile: options.SecretKeyFile,
	})
}

// Serve implements cli.System.
func (s *system) Serve(ctx context.Context, options cli.ServeOptions, ready func(string)) error {
	if options.Backend != "" && options.Backend != "local" {
		return fault.Invalid("--backend %q: this version runs functions on the local machine only; leave the flag away", options.Backend)
	}
	var level slog.Level
	if options.LogLevel != "" {
		if err := level.UnmarshalText([]byte(options.LogLevel)); err != nil {
			return fault.Invalid("--log-level %q is none of debug, info, warn, error", options.LogLevel)
		}
	}
	var handler slog.Handler = slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: level})
	if options.LogJSON {
		handler = slog.NewJSONHandler(s.stderr, &slog.HandlerOptions{Level: level})
	}
	return Serve(ctx, Options{
		DataDir: options.DataDir, DatabaseURL: options.DatabaseURL, Listen: options.Listen, MaxRuns: options.MaxRuns, Templates: cmp.Or(options.Templates, -1),
		Python: options.Python, ArtifactPath: options.ArtifactPath, Token: options.Token, Insecure: options.Insecure,
		Version: s.version(), Logger: slog.New(handler), SecretKey: options.SecretKey, SecretFile: options.SecretKeyFile,
	}, ready)
}

// Exec implements cli.System: it is the runner of a spool. A runner that finds
// another one at work, or that the execution has begun before, leaves it alone.
func (s *system) Exec(ctx context.Context, path string) int {
	dir := spool.Dir{Path: path}
	level := slog.LevelInfo
	if dir.Noted("debug") != "" {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGHUP)
	artifacts := &artifacts{dataDir: filepath.Dir(filepath.Dir(path))}
	defer artifacts.close(logger)
	outcome, err := runner.Run(ctx, dir, runner.Options{Logger: logger, Sync: true, Resolver: artifacts.ofRun})
	switch {
	case errors.Is(err, spool.ErrHeld) || fault.Is(err, fault.CodeConflict):
		logger.Info("nothing to do", "spool", path, "reason", err)
		return 0
	case err != nil:
		logger.Error("runner failed", "spool", path, "error", err)
		return 1
	}
	launch, err := dir.Launch()
	if err == nil && launch.Standalone {
		err = s.settle(context.WithoutCancel(ctx), filepath.Dir(filepath.Dir(path)), launch)
	}
	if err != nil {
		logger.Error("the end of the run is not in the store yet; the next command brings it there", "spool", path, "error", err)
		return 1
	}
	logger.Info("execution ended", "spool", path, "state", outcome.State)
	return 0
}

// Processor implements cli.System.
func (s *system) Processor(ctx context.Context, path, inherit string) int {
	level := slog.LevelInfo
	if os.Getenv(local.DebugVariable) != "" {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGHUP)
	data := path
	for range 3 { // functions/<project>/<name>
		data = filepath.Dir(data)
	}
	artifacts := &artifacts{dataDir: data}
	defer artifacts.close(logger)
	options := processor.Options{
		Logger: logger, Tag: local.DeploymentVariable, Stores: artifacts.stores, Templates: template.Client{Dir: templatesDir(data)}, Imports: importsIn(data),
	}
	err := parking(&options, data, path, inherit)
	if err == nil {
		err = processor.Run(ctx, realtime.Dir{Path: path}, options)
	}
	switch {
	case fault.Is(err, fault.CodeConflict):
		logger.Info("nothing to do", "folder", path, "reason", err)
	case err != nil:
		logger.Error("the function cannot be served", "folder", path, "error", err)
		return 1
	}
	return 0
}

// parkAfterVariable is the variable with how long a function at zero has to have no
// connection before its process ends; 0 keeps the process.
const parkAfterVariable = "MILLRACE_PARK_AFTER"

// parking sets the options by which a processor is parked, and takes over what is
// inherited by the names of inherit, "" for nothing.
func parking(options *processor.Options, data, path, inherit string) (err error) {
	if inherit != "" {
		if options.Inherited, err = activator.Inherit(inherit); err != nil {
			return err
		}
	}
	options.ParkAfter = processor.DefaultParkAfter
	if text := os.Getenv(parkAfterVariable); text != "" {
		if after, err := time.ParseDuration(text); err == nil {
			options.ParkAfter = after
		} else {
			options.Logger.Warn("the time after which the function is parked cannot be read", "variable", parkAfterVariable, "error", err)
		}
	}
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	options.Activator = activator.Client{
		DataDir: data, Activator: []string{executable, "activator", data}, Environ: local.Untagged(os.Environ()), Processor: []string{executable, "processor", path},
	}
	return nil
}

// Activator implements cli.System.
func (s *system) Activator(ctx context.Context, dataDir string) int {
	level := slog.LevelInfo
	if os.Getenv(local.DebugVariable) != "" {
		level = slog.LevelDebug
	}
	logger := slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	signal.Ignore(syscall.SIGHUP)
	debug.SetGCPercent(100) // it lives long, and is there to save memory
	err := activator.Run(ctx, activator.Options{DataDir: dataDir, Logger: logger, Templates: template.Client{Dir: templatesDir(dataDir)}})
	switch {
	case fault.Is(err, fault.CodeConflict):
		logger.Debug("nothing to do", "reason", err)
	case err != nil:
		logger.Error("functions cannot be parked", "data", dataDir, "error", err)
		return 1
	}
	return 0
}

// settle brings the end of a standalone execution into the store, and makes the
// further attempts that the run asks for.
func (s *system) settle(ctx context.Context, dataDir string, launch spool.Launch) error {
	if Running(dataDir) != "" { // a server came up meanwhile and follows it
		return nil
	}
	a, err := s.open(ctx, cli.ConnectOptions{DataDir: dataDir})
	if err != nil {
		return err
	}
	defer a.Close()
	r := &inline{App: a, key: run.Key{Project: launch.Project, UID: launch.UID}, observer: nothing{}, standalone: true}
	return r.follow(ctx, launch.Execution)
}

// nothing observes nothing.
type nothing struct{}

func (nothing) Created(document.Object)      {}
func (nothing) Phase(cli.PhaseChange)        {}
func (nothing) Progress(cli.Progress)        {}
func (nothing) Log([]byte)                   {}
func (nothing) Results(int, document.Object) {}
func (nothing) Search(tune.Progress)         {}

// controller is the API's view of this system.
type controller struct{ *App }

// Submit implements api.Controller.
func (c controller) Submit(ctx context.Context, submission api.Submission) (document.Object, error) {
	functionDoc, runDoc, err := c.enrich(ctx, submission, nil)
	if err != nil {
		return nil, err
	}
	doc, err := c.control.Submit(ctx, functionDoc, runDoc, submission.Names)
	if err != nil {
		c.forget(ctx, runDoc)
	}
	return doc, err
}

// forget deletes the secrets of a run that was refused. One whose uid another run
// has keeps them: they are that run's.
func (c controller) forget(ctx context.Context, runDoc document.Object) {
	key := run.Key{Project: document.String(runDoc, "metadata", "project"), UID: document.String(runDoc, "metadata", "uid")}
	if _, err := c.store.RunGet(ctx, key); !fault.Is(err, fault.CodeNotFound) {
		return
	}
	if err := c.secrets.DeleteOfRun(ctx, key.Project, key.UID); err != nil {
		c.options.Logger.ErrorContext(ctx, "delete secrets of a refused run", "run", key.UID, "error", err)
	}
}

// Abort implements api.Controller. Without a loop it tells the runner itself.
func (c controller) Abort(ctx context.Context, key run.Key, updates document.Object) (document.Object, error) {
	task, err := c.control.Abort(ctx, key, updates)
	if err != nil || c.control.Running() {
		return task, err
	}
	return task, c.control.StopRun(ctx, key)
}

// Resume implements api.Controller. Without a loop nobody would execute the attempt
// that it queues; who continues a task in its own process does so by System.
func (c controller) Resume(ctx context.Context, key run.Key) (document.Object, error) {
	if !c.control.Running() {
		return nil, fault.Unavailable("there is no server that could continue run %s", key.UID)
	}
	return c.control.Resume(ctx, key)
}

// Steer implements api.Controller.
func (c controller) Steer(ctx context.Context, key run.Key, change tune.Steering) error {
	return c.control.Steer(ctx, key, change)
}

// Search implements api.Controller.
func (c controller) Search(ctx context.Context, key run.Key) (tune.Progress, error) {
	return c.control.Search(ctx, key)
}

// DeleteRun implements api.Controller.
func (c controller) DeleteRun(ctx context.Context, project, uid string) error {
	if err := c.control.DeleteRun(ctx, project, uid); err != nil {
		return err
	}
	return c.secrets.DeleteOfRun(ctx, project, uid)
}

// DeleteProject implements api.Controller.
func (c controller) DeleteProject(ctx context.Context, name string) (document.Object, error) {
	return c.control.DeleteProject(ctx, name)
}
