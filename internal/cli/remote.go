package cli

import (
	"maps"
	"time"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/tune"
)

// runRemote submits the request to a server and follows the run there.
func (e *env) runRemote(server string, request *RunRequest, observer Observer) (RunResult, error) {
	connection, err := e.dial(server)
	if err != nil {
		return RunResult{}, err
	}
	defer connection.Client.Close()
	c := connection.Client
	// A function that is stored in the run's project says that the project exists.
	if request.Reference == "" || function.ParseURI(request.Reference).Project != request.Project() {
		if err := c.EnsureProject(e.soft, request.Project()); err != nil {
			return RunResult{}, err
		}
	}
	if err := e.upload(c, request.DataDir, request.Function); err != nil {
		return RunResult{}, err
	}
	submission := client.Submission{Task: request.Task, Function: request.Function, AllowLocal: true, Names: request.Names}
	if request.Reference != "" {
		document.Set(submission.Task, request.Reference, "spec", "function")
		submission.Function = request.Overrides
	}
	doc, err := c.Submit(e.soft, submission)
	if err != nil {
		return RunResult{}, err
	}
	observer.Created(doc)
	if request.Detach {
		return RunResult{Run: doc, Detached: true}, nil
	}
	follower := &follower{env: e, client: c, observer: observer, key: run.Key{Project: request.Project(), UID: request.UID()}}
	return follower.follow(request.Abort)
}

// follower tells an observer about a run that executes on a server.
type follower struct {
	env      *env
	client   *client.Client
	observer Observer
	key      run.Key

	header  run.State // as the log said last
	state   run.State // as the observer was told last
	text    string    // the last status_text told
	attempt int
	results document.Object
	looked  time.Time
	offset  int64 // of the log, where following begins
}

// lookEvery is how often the run itself is read while its state stays the same:
// results and the reason for waiting change without it.
const lookEvery = 400 * time.Millisecond

// follow returns when the run is over. When abort is closed it asks for the run's
// end and goes on following.
func (f *follower) follow(abort <-chan struct{}) (RunResult, error) {
	ctx := f.env.hard
	over := make(chan struct{})
	aborted := make(chan error, 1)
	go func() {
		select {
		case <-abort:
			f.env.say("millrace: aborting the run; interrupt again to leave it")
			aborted <- f.client.Abort(ctx, f.key.Project, f.key.UID, "aborted by an interrupt of the command line")
		case <-over:
			aborted <- nil
		}
	}()
	_, err := f.client.Follow(ctx, client.LogQuery{Project: f.key.Project, UID: f.key.UID, Offset: f.offset}, client.Follower{
		Log:   func(data []byte) error { f.observer.Log(data); return nil },
		State: f.look,
		Lost: func(err error, since time.Time) {
			f.observer.Progress(Progress{Text: "the server does not answer, waiting for it"})
		},
	})
	close(over)
	abortErr := <-aborted
	if err != nil {
		return RunResult{}, err
	}
	doc, err := f.client.Run(ctx, f.key)
	if err != nil {
		return RunResult{}, err
	}
	if err := f.search(doc); err != nil {
		return RunResult{}, err
	}
	f.tell(doc)
	if abortErr != nil && !run.State(document.String(doc, "status", "state")).Terminal() {
		return RunResult{}, abortErr
	}
	return RunResult{Run: doc}, nil
}

// look reads the run when its state has changed or it was not read for a while.
func (f *follower) look(state run.State) error {
	if state == f.header && time.Since(f.looked) < lookEvery {
		return nil
	}
	doc, err := f.client.Run(f.env.hard, f.key)
	if err != nil {
		if fault.Is(err, fault.CodeUnavailable) {
			return nil // Follow waits for the server
		}
		return err
	}
	f.header, f.looked = state, time.Now()
	if err := f.search(doc); err != nil {
		return err
	}
	f.tell(doc)
	return nil
}

// search passes on how far an iterative task is.
func (f *follower) search(doc document.Object) error {
	if !tune.Iterative(doc) {
		return nil
	}
	progress, err := f.client.Search(f.env.hard, f.key)
	switch {
	case fault.Is(err, fault.CodeUnavailable), fault.Is(err, fault.CodeConflict):
		return nil // the former is waited for; an older server may execute it in another way
	case err != nil:
		return err
	}
	if progress.Total > 0 {
		f.observer.Search(progress)
	}
	return nil
}

// phases says which phase a state is seen as.
var phases = map[run.State]Phase{
	run.Created: PhaseQueued, run.Pending: PhasePreparing, run.PendingRetry: PhaseQueued, run.Running: PhaseRunning,
	run.Aborting: PhaseAborting, run.Completed: PhaseFinished, run.Error: PhaseFinished, run.Aborted: PhaseFinished, run.Skipped: PhaseFinished,
}

// tell passes on what has changed in the run's document.
func (f *follower) tell(doc document.Object) {
	results := document.Map(doc, "status", "results")
	fresh := document.Object{}
	for key, value := range results {
		if before, ok := f.results[key]; !ok || string(document.Encode(before)) != string(document.Encode(value)) {
			fresh[key] = value
		}
	}
	if len(fresh) > 0 {
		f.results = maps.Clone(results)
		f.observer.Results(0, fresh)
	}
	state := run.State(document.String(doc, "status", "state"))
	text := document.String(doc, "status", "status_text")
	if phase, ok := phases[state]; ok && (f.attempt == 0 || state != f.state || text != f.text) {
		attempt, _ := document.Int(doc, "status", "retry_count")
		f.attempt = int(attempt) + 1
		f.observer.Phase(PhaseChange{Phase: phase, Attempt: f.attempt, Text: text})
		f.state, f.text = state, text
	}
}
