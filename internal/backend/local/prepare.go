package local

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/submit"
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

// Preparer makes executions ready for this machine. All fields are required.
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
	ArtifactPath func(ctx context.Context, project string) (template string, err error) // where artifacts go that are put nowhere else
	Bundles      func(source string) (path string, err error)                           // where the code of a plan's Bundle is
	GoBuild      func(ctx context.Context, plan *kind.Plan, progress func(control.Step)) (executable string, err error)
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
	run := document.Map(e.Plan, "run")
	plan, err := kind.Make(f, run)
	if err != nil {
		return spool.Launch{}, nil, err
	}
	launch, err := p.Launch(ctx, e, plan, run, func(step control.Step) {
		p.say(e.ID, step)
		progress(step)
	})
	return launch, plan.Files, err
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
	if err := p.addressing(ctx, &launch); err != nil {
		return launch, err
	}
	if err := p.secrets(ctx, &launch, plan.Secrets); err != nil {
		return launch, err
	}
	if e.Attempt > 1 {
		document.Set(run, e.Attempt-1, "status", "retry_count")
	}
	if err := seed(&launch, plan, run); err != nil {
		return launch, err
	}
	var environment env.Environment
	defer func() {
		if err == nil {
			err = p.record(ctx, &launch, plan, run, environment)
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

// HashPaths is the variable that makes the content of artifacts go to a path made
// of its own hash.
const HashPaths = "MLRUN_ARTIFACTS__GENERATE_TARGET_PATH_FROM_ARTIFACT_HASH"

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
		launch.Env = append([]string{HashPaths + "=true"}, launch.Env...)
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
