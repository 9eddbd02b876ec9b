package app

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/cli"
	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/filelock"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/runner"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/tune"
)

// Run implements cli.System: a run in this process, without a server. The Python
// worker starts at once, while the store opens and the run is validated; the run
// is in the store before any user code is touched.
func (s *system) Run(ctx context.Context, request cli.RunRequest, observer cli.Observer) (cli.RunResult, error) {
	starting := make(chan *ahead, 1)
	go func() { starting <- startAhead(ctx, request) }()
	// On a new data directory the interpreter is asked who it is while the database is
	// made.
	ahead := sync.OnceValue(func() *ahead { return <-starting })
	defer func() { ahead().discard() }()
	a, err := s.open(ctx, request.ConnectOptions)
	if err != nil {
		return cli.RunResult{}, err
	}
	defer a.leave()
	if err := a.ensureProject(ctx, request); err != nil {
		return cli.RunResult{}, err
	}
	functionDoc, runDoc, err := a.enrich(ctx, api.Submission{
		Project: request.Project(), Task: request.Task, Function: request.Function, FunctionURI: request.Reference, AllowLocal: true,
		Names: request.Names,
	}, request.Overrides)
	if err != nil {
		return cli.RunResult{}, err
	}
	accepted, err := a.control.Accept(functionDoc, runDoc, request.Names)
	if err != nil {
		return cli.RunResult{}, err
	}
	r := &inline{
		App: a, key: run.Key{Project: accepted.Execution.Project, UID: accepted.Execution.UID}, observer: observer,
		abort: request.Abort, kill: ctx.Done(), ahead: ahead(), standalone: true,
	}
	if err := r.first(ctx, accepted, request.Detach); err != nil {
		return cli.RunResult{}, err
	}
	doc, err := a.result(context.WithoutCancel(ctx), r.key)
	return cli.RunResult{Run: doc, Detached: request.Detach}, err
}

// ensureProject creates the project of a run of new code. One whose function is
// stored in the same project exists, or the function is what is missing.
func (a *App) ensureProject(ctx context.Context, request cli.RunRequest) error {
	if request.Reference != "" && function.ParseURI(request.Reference).Project == request.Project() {
		return nil
	}
	_, err := a.store.ProjectGet(ctx, request.Project())
	if !fault.Is(err, fault.CodeNotFound) {
		return err
	}
	here, err := client.New(client.Options{URL: "http://millrace.invalid", Transport: client.HandlerTransport(a.Handler())})
	if err != nil {
		return err
	}
	return here.EnsureProject(ctx, request.Project())
}

// result is the run with its artifacts.
func (a *App) result(ctx context.Context, key run.Key) (document.Object, error) {
	doc, err := a.store.RunGet(ctx, key)
	if err != nil {
		return nil, err
	}
	artifacts, err := a.store.ArtifactsOfRun(ctx, key)
	if err != nil {
		return nil, err
	}
	if len(artifacts) > 0 {
		list := make([]any, len(artifacts))
		for i, artifact := range artifacts {
			list[i] = artifact
		}
		document.Set(doc, list, "status", "artifacts")
	}
	return doc, nil
}

// inline executes the attempts of one run in this process.
type inline struct {
	*App
	key        run.Key
	observer   cli.Observer
	abort      <-chan struct{}
	kill       <-chan struct{} // nil: never
	ahead      *ahead
	standalone bool
	search     searchView
}

// first makes the first attempt ready, writes the run, and executes it or leaves
// it to a detached runner.
func (r *inline) first(ctx context.Context, accepted *control.Accepted, detach bool) error {
	e := accepted.Execution
	e.Plan["run"] = accepted.Run
	ctx, stop := r.abortable(ctx)
	defer stop()
	if err := r.detachable(accepted.Plan, detach); err != nil {
		return err
	}
	launch, err := r.launch(ctx, e, accepted.Plan, accepted.Run)
	if err != nil {
		return r.unprepared(ctx, accepted, err)
	}
	if earlier, err := r.control.Kept(ctx, e.Project, launch); err != nil || earlier != nil {
		if err != nil {
			return err
		}
		return r.adopt(ctx, accepted, launch, earlier)
	}
	dir, lock, err := r.spool(launch, accepted.Plan.Files, !detach)
	if err != nil {
		return err
	}
	if lock != nil {
		defer lock.Release()
	}
	accepted.Execution.Phase, accepted.Execution.Started = "starting", time.Now()
	stored, err := r.control.Create(ctx, accepted)
	if err != nil {
		return errors.Join(err, dir.Remove())
	}
	r.observer.Created(stored)
	if detach {
		return r.backend.Detach(launch.Execution)
	}
	r.observer.Phase(cli.PhaseChange{Phase: cli.PhaseRunning, Attempt: 1})
	if err := r.execute(ctx, dir, launch); err != nil {
		return err
	}
	lock.Release()
	return r.follow(ctx, e.ID)
}

// detachable refuses a detached run whose later attempts could not read its
// secrets: the key is never handed to the process of a run.
func (r *inline) detachable(plan *kind.Plan, detach bool) error {
	if !detach || plan.Retries == 0 || len(plan.Secrets) == 0 || (r.options.SecretKey == "" && r.options.SecretFile == "") {
		return nil
	}
	return fault.Precondition("a detached run with retries reads its secrets again for each attempt, with the key in secret.key of the data directory, but yours is given by MILLRACE_SECRET_KEY or --secret-key-file; run it without --detach, without retries, or through a server")
}

// adopt writes a run that has the outputs of an earlier one and is not executed.
func (r *inline) adopt(ctx context.Context, accepted *control.Accepted, launch spool.Launch, earlier document.Object) error {
	stored, err := r.control.Create(ctx, accepted)
	if err != nil {
		return err
	}
	r.observer.Created(stored)
	return r.control.Adopt(context.WithoutCancel(ctx), accepted.Execution.ID, launch, earlier)
}

// unprepared writes a run whose first attempt could not be made ready, and ends
// that attempt, as the loop of a server does.
func (r *inline) unprepared(ctx context.Context, accepted *control.Accepted, cause error) error {
	if ctx.Err() != nil {
		return cause // told to stop before there was a run
	}
	stored, err := r.control.Create(ctx, accepted)
	if err != nil {
		return errors.Join(err, cause)
	}
	r.observer.Created(stored)
	if err := r.control.Unprepared(ctx, accepted.Execution.ID, cause); err != nil {
		return err
	}
	return r.follow(ctx, accepted.Execution.ID)
}

// abortable derives a context that the request's abort ends.
func (r *inline) abortable(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if r.abort == nil {
		return ctx, func() { cancel(nil) }
	}
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-r.abort:
			cancel(errAborted)
		case <-done:
		}
	})
	return ctx, func() { close(done); watching.Wait(); cancel(nil) }
}

var errAborted = errors.New("aborted by its user")

func (r *inline) launch(ctx context.Context, e store.Execution, plan *kind.Plan, runDoc document.Object) (spool.Launch, error) {
	began := false
	launch, err := r.preparer.Launch(ctx, e, plan, runDoc, func(step control.Step) {
		if !began {
			began = true
			r.observer.Phase(cli.PhaseChange{Phase: cli.PhasePreparing, Attempt: e.Attempt})
		}
		r.observer.Progress(cli.Progress(step))
	})
	launch.Standalone = r.standalone
	if n := plan.GPUs; n > 0 && err == nil {
		launch.GPUs, _ = r.devices.Take(e.ID, n)
	}
	return launch, err
}

// spool creates the execution's spool, around the log of the worker that was
// started ahead when it can be used, and takes its lock if asked to.
func (r *inline) spool(launch spool.Launch, files map[string][]byte, hold bool) (spool.Dir, *filelock.Lock, error) {
	log := ""
	if r.ahead.fits(launch) && hold {
		log = r.ahead.log
	} else {
		r.ahead.discard()
	}
	dir, err := spool.CreateAround(spool.Root(r.dir), launch, files, log)
	if err != nil || !hold {
		return dir, nil, err
	}
	lock, err := dir.Acquire()
	return dir, lock, err
}

// execute is the runner, in this process, under a lock that is held.
func (r *inline) execute(ctx context.Context, dir spool.Dir, launch spool.Launch) error {
	if err := runner.Conceal(dir, launch); err != nil { // before anything of the log is shown
		return err
	}
	tail := r.tail(dir)
	output := r.ahead.file()
	options := runner.Options{Logger: r.options.Logger, Observe: r.observe, Worker: r.ahead.take(), Kill: r.kill, Resolver: r.resolver}
	if options.Worker != nil {
		options.Output = output
	}
	_, err := runner.RunHeld(ctx, dir, options)
	tail()
	if errors.Is(context.Cause(ctx), errAborted) {
		_, abortErr := r.control.Abort(context.WithoutCancel(ctx), r.key, document.Object{"status.status_text": "aborted by its user"})
		err = errors.Join(err, abortErr)
	}
	return err
}

func (r *inline) observe(t string, body document.Object) {
	results := document.Map(body, "results")
	iter, _ := document.Int(body, "iter")
	switch {
	case t == "update" && len(results) > 0:
		r.observer.Results(int(iter), results)
	case t == "child":
		r.search.child(int(iter), results)
	case t == "search":
		r.observer.Search(r.search.progress(body))
	}
}

// searchView follows an iterative task by the records of its journal. The results
// of the best iteration come in the records that are written with the one that
// calls it the best.
type searchView struct {
	best    int
	results document.Object         // of best
	latest  map[int]document.Object // results of the iterations since the last look
}

func (v *searchView) child(iter int, results document.Object) {
	if v.latest == nil {
		v.latest = map[int]document.Object{}
	}
	v.latest[iter] = results
}

func (v *searchView) progress(body document.Object) tune.Progress {
	p := tune.ProgressOf(body)
	if p.Best != v.best {
		v.best, v.results = p.Best, v.latest[p.Best]
	}
	clear(v.latest)
	p.Results = v.results
	return p
}

// follow settles an attempt that is over in this process, and makes the next ones.
func (r *inline) follow(ctx context.Context, execution string) error {
	after := context.WithoutCancel(ctx) // what happened is written, whatever else ends
	for {
		if _, err := r.control.Settle(after, execution); err != nil {
			return err
		}
		next, err := r.next(after)
		if err != nil || next == nil {
			return err
		}
		if execution, err = r.again(ctx, *next, "the attempt before failed", false); err != nil {
			return err
		}
	}
}

// next is the attempt that waits to be made, nil when there is none.
func (r *inline) next(ctx context.Context) (*store.Execution, error) {
	executions, err := r.store.ExecutionList(ctx, r.key.Project, r.key.UID)
	if err != nil {
		return nil, err
	}
	for _, e := range executions {
		if e.Phase == "queued" {
			return &e, nil
		}
	}
	return nil, nil
}

// again makes one more attempt, or leaves it to a detached runner. why is said to
// the observer.
func (r *inline) again(ctx context.Context, e store.Execution, why string, detach bool) (string, error) {
	ctx, stop := r.abortable(ctx)
	defer stop()
	r.observer.Phase(cli.PhaseChange{Phase: cli.PhaseQueued, Attempt: e.Attempt, Text: why})
	select {
	case <-time.After(time.Until(e.NotBefore)):
	case <-ctx.Done():
		after := context.WithoutCancel(ctx)
		_, err := r.control.Abort(after, r.key, document.Object{"status.status_text": "aborted by its user"})
		return e.ID, errors.Join(err, r.control.StopRun(after, r.key))
	}
	launch, files, err := r.preparer.Prepare(ctx, e, func(step control.Step) { r.observer.Progress(cli.Progress(step)) })
	if err != nil {
		return e.ID, r.control.Unprepared(context.WithoutCancel(ctx), e.ID, err)
	}
	launch.Standalone = r.standalone
	dir, lock, err := r.spool(launch, files, !detach)
	if err != nil {
		return "", err
	}
	if lock != nil {
		defer lock.Release()
	}
	if err := r.control.MarkStarting(ctx, e.ID); err != nil {
		return "", err
	}
	if detach {
		return e.ID, r.backend.Detach(launch.Execution)
	}
	r.observer.Phase(cli.PhaseChange{Phase: cli.PhaseRunning, Attempt: e.Attempt})
	return e.ID, r.execute(ctx, dir, launch)
}

// tail passes a growing log to the observer until the returned function is
// called, which passes the rest and returns.
func (r *inline) tail(dir spool.Dir) func() {
	file, err := os.Open(dir.Log())
	if err != nil {
		return func() {}
	}
	shown := r.logs.Masker(dir.Log()).Stream(func(text []byte, _ bool) error {
		r.observer.Log(text)
		return nil
	})
	done := make(chan struct{})
	var tailing sync.WaitGroup
	tailing.Go(func() {
		defer file.Close()
		buffer := make([]byte, 64<<10)
		drain := func() {
			for {
				n, err := file.Read(buffer)
				if n > 0 {
					_, _ = shown.Write(buffer[:n]) // an observer never fails
				}
				if err != nil || n == 0 {
					return
				}
			}
		}
		ticker := time.NewTicker(15 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				drain()
			case <-done:
				drain()
				_ = shown.Close()
				return
			}
		}
	})
	return func() { close(done); tailing.Wait() }
}
