package local

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/runner"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/submit"
	"github.com/millrace/millrace/internal/tune"
)

// Functions reads function versions.
type Functions interface {
	FunctionGet(ctx context.Context, project, name, tag, hash string) (document.Object, error)
}

// Interpreters finds Python interpreters.
type Interpreters interface {
	// Select returns an interpreter for a requested version; "" means the default.
	Select(ctx context.Context, request string) (env.Interpreter, error)
}

// Environments makes virtual environments.
type Environments interface {
	Ensure(ctx context.Context, request env.Request, progress func(env.Progress)) (env.Environment, error)
	// Locked returns the lines of a lock that was installed on this machine.
	Locked(digest string) ([]string, error)
}

// Secrets are the secrets of projects.
type Secrets interface {
	// ResolveForRun returns the values of those of the names that there are.
	ResolveForRun(ctx context.Context, project, uid string, names []string) (map[string]string, error)
}

// Preparer makes executions ready for this machine. All fields but Warm are required.
type Preparer struct {
	Functions    Functions
	Interpreters Interpreters
	Environments Environments
	Runtime      string // folder of the unpacked Python runtime
	ServerURL    string // what executions see as MLRUN_DBPATH; "" without a server
	Token        string // credentials for calls back to the server; "" for none
	Secrets      Secrets
	LogLimit     int64  // bytes; 0 for no limit
	Version      string // of this program, for the record of what made a run
	Prelude      func(execution string) string
	Resolver     func(project string) datastore.Resolver                                // finds the artifacts that inputs name; nil refuses them
	ArtifactPath func(ctx context.Context, project string) (template string, err error) // where artifacts go that are put nowhere else
	Bundles      func(source string) (path string, err error)                           // where the code of a plan's Bundle is
	Warm         *Warm                                                                  // nil: every worker is a fresh process
	// Iterations are those of a run, by their numbers.
	Iterations func(ctx context.Context, key run.Key, yield func(iter int, doc document.Object) error) error
	// ParameterFile is what an earlier execution of a task kept of its parameter file.
	ParameterFile func(execution string) ([]byte, error)
	GoBuild       func(ctx context.Context, plan *kind.Plan, progress func(control.Step)) (executable string, err error)
}

// Prepare implements control.Preparer.
func (p *Preparer) Prepare(ctx context.Context, e store.Execution, progress func(control.Step)) (spool.Launch, map[string][]byte, error) {
	uri := function.ParseURI(document.String(e.Plan, "function"))
	doc, err := p.Functions.FunctionGet(ctx, e.Project, uri.Name, "", uri.Hash)
	if err != nil {
		return spool.Launch{}, nil, err
	}
	f, err := function.Parse(doc)
	if err != nil {
		return spool.Launch{}, nil, err
	}
	doc = document.Map(e.Plan, "run")
	plan, err := kind.Make(f, doc)
	if err != nil {
		return spool.Launch{}, nil, err
	}
	if plan.Search != nil {
		plan.Search.Names = texts(document.List(e.Plan, "search", "names"))
		if file := control.SteerFile(e.Plan); file != nil {
			plan.Files[spool.SteerFile] = file
		}
	}
	launch, err := p.Launch(ctx, e, plan, doc, func(step control.Step) {
		p.say(e.ID, step)
		progress(step)
	})
	if err == nil && launch.Search != nil && e.Attempt > 1 {
		err = p.goOn(ctx, e, launch.Search, plan.Files)
	}
	return launch, plan.Files, err
}

// goOn gives a later attempt at an iterative task what there is of it: the state of
// the search, the iterations that have ended, and the parameter file as it was.
func (p *Preparer) goOn(ctx context.Context, e store.Execution, search *spool.Search, files map[string][]byte) error {
	for attempt := e.Attempt - 1; attempt > 0 && files[spool.ParameterFile] == nil; attempt-- {
		content, err := p.ParameterFile(fmt.Sprintf("%s-%d", e.UID, attempt))
		if err != nil {
			return err
		}
		if content != nil {
			search.File, files[spool.ParameterFile] = spool.ParameterFile, content
		}
	}
	kept := document.Map(e.Plan, "search_state")
	if kept == nil {
		return nil // no iteration was begun
	}
	search.State, search.Changed = &tune.State{}, document.Map(kept, "changed")
	if err := json.Unmarshal(document.Encode(kept["state"]), search.State); err != nil {
		return fmt.Errorf("read the state of the task: %w", err)
	}
	var ended []byte
	err := p.Iterations(ctx, run.Key{Project: e.Project, UID: e.UID}, func(iter int, doc document.Object) error {
		if !run.StateOf(doc).Terminal() {
			return nil
		}
		line := document.Object{
			"iter": iter, "state": document.String(doc, "status", "state"),
			"parameters": document.Map(doc, "spec", "parameters"), "results": document.Map(doc, "status", "results"),
		}
		if reports := document.List(doc, "status", "reports"); reports != nil {
			line["reports"] = reports
		}
		ended = append(document.Append(ended, line), '\n')
		return nil
	})
	search.Ended, files[endedFile] = endedFile, ended
	return err
}

// endedFile is where a spool has the iterations that ended in earlier attempts.
const endedFile = "ended"

func texts(list []any) []string {
	out := make([]string, 0, len(list))
	for _, item := range list {
		if text, ok := item.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// say adds a line to the log that stands before the execution's own.
func (p *Preparer) say(execution string, step control.Step) {
	file, err := os.OpenFile(p.Prelude(execution), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return // the log loses a line of progress, nothing else
	}
	defer file.Close()
	fmt.Fprintf(file, "> %s\n", step)
}

// Launch completes a plan with what it needs of this machine.
func (p *Preparer) Launch(ctx context.Context, e store.Execution, plan *kind.Plan, run document.Object, progress func(control.Step)) (launch spool.Launch, err error) {
	if plan.Bundle != "" {
		path, err := p.Bundles(plan.Bundle)
		if err != nil {
			return spool.Launch{}, err
		}
		here := *plan
		here.Bundle, plan = path, &here
	}
	launch = spool.Launch{
		Execution: e.ID, Project: e.Project, UID: e.UID, Name: document.String(run, "metadata", "name"), Attempt: e.Attempt,
		Mode: plan.Mode, Runtime: p.Runtime, File: plan.File, Folder: plan.Folder, Bundle: plan.Bundle, Handler: plan.Handler,
		Command: plan.Command, Env: p.callback(plan.Env), Path: plan.Path, Workdir: plan.Workdir, Run: run, Limits: plan.Limits,
		GPUs: make([]string, plan.GPUs), Grace: plan.Grace, LogLimit: p.LogLimit,
		Timeout: plan.Thresholds["executing"],
	}
	if plan.Search != nil {
		launch.Search = &spool.Search{Names: plan.Search.Names, Seed: uint64(HashSeed(e.UID))}
	}
	if err := p.addressing(ctx, &launch); err != nil {
		return launch, err
	}
	if err := p.secrets(ctx, &launch, plan.Secrets); err != nil {
		return launch, err
	}
	if e.Attempt > 1 {
		document.Set(run, e.Attempt-1, "status", "retry_count")
	}
	usual := HashSeed(launch.UID)
	if p.Warm != nil {
		usual = p.Warm.HashSeed
	}
	if err := seed(&launch, plan, run, usual); err != nil {
		return launch, err
	}
	var environment env.Environment
	defer func() {
		if err == nil {
			err = p.record(ctx, &launch, plan, run, environment)
		}
		if err == nil && p.Warm != nil {
			p.Warm.attach(&launch)
		}
	}()
	if plan.Go {
		executable, err := p.GoBuild(ctx, plan, progress)
		if err != nil {
			return launch, err
		}
		launch.Command = append([]string{executable}, plan.Command...)
		return launch, nil
	}
	if plan.Mode == spool.ModeCommand && len(plan.Requirements) == 0 {
		return launch, nil
	}
	interpreter, err := p.interpreter(ctx, plan, run)
	if err != nil {
		return launch, err
	}
	launch.Python, environment.Interpreter = interpreter.Executable, interpreter
	if len(plan.Requirements) == 0 {
		return launch, nil
	}
	if environment, err = p.environment(ctx, plan, run, interpreter, progress); err != nil {
		return launch, err
	}
	launch.Python, launch.VirtualEnv = environment.Python, environment.Path
	launch.Env = append(slices.Clip(launch.Env), "VIRTUAL_ENV="+environment.Path, "PATH="+environment.Path+"/bin:"+path(launch.Env))
	return launch, nil
}

// describe says how far the build of an environment is.
func describe(step env.Progress) control.Step {
	text := "environment: " + string(step.Phase)
	if step.Package != "" {
		text += " " + step.Package
	}
	return control.Step{Text: text, Done: step.Done, Total: step.Total}
}

// path is the PATH that an execution would have.
func path(env []string) string {
	for _, entry := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			return value
		}
	}
	return os.Getenv("PATH")
}

// callback puts what the MLRun SDK in an execution needs to reach the server in
// front of the function's own environment.
func (p *Preparer) callback(own []string) []string {
	var out []string
	if p.ServerURL != "" {
		out = append(out, "MLRUN_DBPATH="+p.ServerURL)
	}
	if p.Token != "" {
		out = append(out, "MLRUN_HTTPDB__TOKEN="+p.Token)
	}
	return append(out, own...)
}

// addressing has artifacts below the default path addressed by their content, so
// that no later run overwrites them. Below a path that was named for the run they
// have readable names.
func (p *Preparer) addressing(ctx context.Context, launch *spool.Launch) error {
	template, err := p.ArtifactPath(ctx, launch.Project)
	if err != nil {
		return err
	}
	def := submit.ArtifactPath(template, launch.Project, launch.UID, document.String(launch.Run, "metadata", "labels", "owner"))
	if strings.TrimRight(document.String(launch.Run, "spec", "output_path"), "/") == strings.TrimRight(def, "/") {
		launch.Env = append([]string{runner.HashPaths + "=true"}, launch.Env...)
	}
	return nil
}

// secrets gives the execution the secrets that it names.
func (p *Preparer) secrets(ctx context.Context, launch *spool.Launch, wanted []kind.Secret) error {
	if len(wanted) == 0 {
		return nil
	}
	names := make([]string, len(wanted))
	for i, one := range wanted {
		names[i] = one.Name
	}
	values, err := p.Secrets.ResolveForRun(ctx, launch.Project, launch.UID, names)
	if err != nil {
		return err
	}
	for _, one := range wanted {
		value, ok := values[one.Name]
		if !ok && one.Required {
			return fault.Precondition("the function takes its variable %s from the secret %s, which project %s does not have; run: millrace secret set %s --project %s", one.Variable, one.Name, launch.Project, one.Name, launch.Project)
		}
		if ok {
			launch.Secrets = append(launch.Secrets, one.Variable+"="+value)
		}
	}
	return nil
}
