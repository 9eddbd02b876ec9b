// Package kind turns a function and a run into a plan: what has to be ready, what
// is executed, with which files, environment and limits. It is pure; a backend
// realises plans.
package kind

import (
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/provenance"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/tune"
)

// Plan says how a run of a function is executed by one worker.
type Plan struct {
	Mode          spool.Mode
	File          string            // code file: relative to the spool when in Files, else a path on this machine
	Files         map[string][]byte // files to put into the spool
	Bundle        string            // folder of code: path of a tar.gz, or a source of function.SchemeBundle
	Folder        string            // folder on this machine that holds the code
	Handler       string
	Command       []string // argv of a program, or the arguments of a Python file
	Go            bool     // the code is a Go main package, to be built first
	Path          []string // appended to sys.path
	Env           []string
	Secrets       []Secret // those that the function or the task names
	Workdir       string
	PythonVersion string   // "" for any
	Requirements  []string // to be installed, as pip takes them
	Commands      []string // build commands; not run on the local machine
	Limits        spool.Limits
	GPUs          int
	Grace         time.Duration
	Thresholds    map[string]time.Duration // state → longest time in it; absent or 0: for ever
	Code          function.Code            // what is executed, for its digest
	Cache         provenance.CacheMode     // whether an earlier result may stand for this run
	Variable      bool                     // the environment has values that come from elsewhere
	Retries       int
	RetryDelay    time.Duration
	Search        *Search // of an iterative task
}

// Search is what makes a run an iterative task.
type Search struct {
	Options tune.Options
	Names   []string // of the parameters, in the order in which they were written
}

// Secret is a secret that an execution gets in its environment.
type Secret struct {
	Variable string
	Name     string
	Required bool // the execution can not begin without it
}

// defaultGrace is the time between asking a process to end and killing it.
const defaultGrace = 10 * time.Second

// Runnable reports whether this server executes runs of a kind; the error says
// what to do when it does not.
func Runnable(k function.Kind) error {
	switch k {
	case function.KindJob, function.KindLocal, function.KindHandler, function.KindDefault:
		return nil
	case function.KindNuclio, function.KindRemote, function.KindServing, function.KindApplication:
		return fault.Invalid("functions of kind %s are deployed, not run; deploy it (fn.deploy(), millrace deploy), or use kind job for a run", k)
	}
	if function.KnownKind(k) {
		return fault.Invalid("this server keeps functions of kind %s but cannot run them yet; use kind job", k)
	}
	return fault.Invalid("unknown function kind %q; this server runs the kinds job, local and handler", k)
}

// Make plans the run of a function. Errors carry fault.CodeInvalid and say which
// field is wrong.
func Make(f *function.Function, run document.Object) (*Plan, error) {
	if err := Runnable(f.Kind()); err != nil {
		return nil, err
	}
	spec, err := f.Spec()
	if err != nil {
		return nil, err
	}
	if err := spec.Check(); err != nil {
		return nil, err
	}
	p := &Plan{
		Handler: document.String(run, "spec", "handler"), Workdir: spec.Workdir, PythonVersion: spec.PythonVersion,
		Requirements: spec.Requirements, Commands: spec.Commands, Files: map[string][]byte{}, Grace: defaultGrace,
		Thresholds: map[string]time.Duration{}, Path: split(spec.PythonPath),
	}
	if p.Handler == "" {
		p.Handler = spec.DefaultHandler
	}
	if spec.Mode != "" && spec.Mode != "pass" {
		return nil, fault.Invalid("spec.mode %q is not known; leave it empty, or use pass to run a command as it is", spec.Mode)
	}
	if spec.Mode == "pass" && p.Handler != "" {
		return nil, fault.Invalid("spec.mode pass runs a command as it is and calls no handler; remove the mode or the handler %q", p.Handler)
	}
	if p.Cache, err = provenance.CacheModeOf(f.Doc, run); err != nil {
		return nil, err
	}
	p.Variable = len(document.List(f.Doc, "spec", "env")) > len(spec.Env)
	if p.Code, err = function.CodeOf(f.Doc); err != nil {
		return nil, err
	}
	for _, env := range spec.Env {
		p.Env = append(p.Env, env.Name+"="+env.Value)
	}
	p.Secrets = secrets(spec, run)
	if document.Bool(run, "spec", "verbose") || document.Bool(f.Doc, "verbose") {
		p.Env = append(p.Env, "MLRUN_LOG_LEVEL=DEBUG")
	}
	if err := p.code(spec, run); err != nil {
		return nil, err
	}
	if err := p.resources(spec); err != nil {
		return nil, err
	}
	if err := p.search(run); err != nil {
		return nil, err
	}
	return p, p.times(f, spec, run)
}

// search checks an iterative task as far as it can be without its parameter file.
func (p *Plan) search(run document.Object) error {
	options, err := tune.ParseOptions(run)
	if err != nil {
		return err
	}
	if !tune.Iterative(run) {
		return nil
	}
	if p.Mode == spool.ModeCommand {
		return fault.Invalid("an iterative task calls a Python function with each set of parameters, and this function is a program; give it a handler, or run it once for each set")
	}
	if options.DaskClusterURI != "" {
		return fault.Invalid("hyper_param_options.dask_cluster_uri: this server executes iterations in processes of its own; leave it out, parallel_runs says how many at once")
	}
	p.Search = &Search{Options: options}
	if _, err := tune.CompileStop(options.StopCondition); err != nil {
		return err
	}
	values, err := tune.ValuesOf(run, options, nil, nil)
	if err != nil || options.ParamFile != "" {
		return err
	}
	_, err = tune.New(options, values, 0)
	return err
}

// secrets are those that the function's environment and the task's sources name.
func secrets(spec function.Spec, run document.Object) []Secret {
	var out []Secret
	for _, entry := range spec.EnvSecrets {
		name := entry.Key
		if entry.Secret != "" && !strings.HasPrefix(entry.Secret, ProjectSecrets) {
			name = entry.Secret + "." + name
		}
		out = append(out, Secret{Variable: entry.Name, Name: name, Required: !entry.Optional})
	}
	for _, item := range document.List(run, "spec", "secret_sources") {
		source, _ := item.(document.Object)
		if document.String(source, "kind") != "kubernetes" {
			continue
		}
		for _, item := range document.List(source, "source") {
			if name, ok := item.(string); ok {
				out = append(out, Secret{Variable: secret.Variable(name), Name: name})
			}
		}
	}
	return out
}

// ProjectSecrets begins the name by which clients mean the secrets of a project;
// any other name is a group of secrets, called <group>.<key>.
const ProjectSecrets = "mlrun-project-secrets"

func split(list string) []string {
	return slices.DeleteFunc(strings.Split(list, ":"), func(s string) bool { return s == "" })
}

// code decides what is executed: a handler of a module, a Python file as main, or
// a program.
func (p *Plan) code(spec function.Spec, run document.Object) error {
	parameters := document.Map(run, "spec", "parameters")
	command, err := function.FormatCommand(spec.Command, parameters)
	if err != nil {
		return err
	}
	var args []string
	for _, arg := range spec.Args {
		formatted, err := function.FormatArgument(arg, parameters)
		if err != nil {
			return err
		}
		args = append(args, formatted)
	}
	if err := p.source(spec.Source); err != nil {
		return err
	}
	if spec.Language == "go" {
		p.Mode, p.Go, p.Command = spool.ModeCommand, true, args
		if spec.Code != nil {
			p.File = "code/main.go"
			p.Files[p.File] = spec.Code
		}
		return nil
	}
	if spec.Code != nil {
		return p.embedded(spec, command, args)
	}
	switch {
	case p.Handler != "" && len(command) == 0:
		p.Mode = spool.ModeHandler
		if !strings.Contains(p.Handler, ".") && !strings.Contains(p.Handler, "::") {
			return fault.Invalid("the function has no code and its handler %q names no module; give it code, or a handler such as package.module.function", p.Handler)
		}
	case len(command) == 0:
		return fault.Invalid("the function has neither code nor a command; set spec.build.functionSourceCode or spec.command")
	case strings.HasSuffix(command[0], ".py") && spec.Mode != "pass":
		p.File = command[0]
		if !filepath.IsAbs(p.File) && p.Folder == "" && p.Bundle == "" && p.Workdir != "" {
			p.File = filepath.Join(p.Workdir, p.File)
		}
		p.python(append(command[1:], args...))
	default:
		p.Mode, p.Command = spool.ModeCommand, append(command, args...)
	}
	return nil
}

// python makes it a call of the handler, or without one a run as main.
func (p *Plan) python(args []string) {
	p.Mode = spool.ModeHandler
	if p.Handler == "" {
		p.Mode, p.Command = spool.ModeMain, args
	}
}

// embedded places the function's own code into the spool.
func (p *Plan) embedded(spec function.Spec, command, args []string) error {
	name := path.Base(filepath.ToSlash(spec.OriginFilename))
	if name == "." || name == "/" || name == "" {
		name = "main.py"
	}
	stem := strings.TrimSuffix(name, path.Ext(name))
	script := spec.Mode == "pass" || path.Ext(name) == ".sh"
	if !script {
		name = stem + ".py"
	}
	p.File = "code/" + name
	p.Files[p.File] = spec.Code
	if !script {
		if len(command) > 0 && (strings.HasSuffix(command[0], ".py") || command[0] == "*") {
			command = command[1:]
		}
		p.python(append(command, args...))
		return nil
	}
	if p.Handler != "" {
		return fault.Invalid("the code %s is a script and has no handler %q; remove the handler", name, p.Handler)
	}
	p.Mode = spool.ModeCommand
	placed := false
	for i, word := range command {
		if strings.Contains(word, "{codefile}") {
			command[i] = strings.ReplaceAll(word, "{codefile}", CodeFile)
			placed = true
		}
	}
	switch {
	case placed:
		p.Command = append(command, args...)
	case strings.HasPrefix(string(spec.Code), "#!"):
		p.Command = append(append([]string{CodeFile}, drop(command, name)...), args...)
	default:
		p.Command = append(append([]string{"bash", CodeFile}, drop(command, name)...), args...)
	}
	return nil
}

// drop removes the script's own name from the front of a command.
func drop(command []string, name string) []string {
	if len(command) > 0 && (path.Base(command[0]) == name || command[0] == "*") {
		return command[1:]
	}
	return command
}

// CodeFile stands in a command for the path of the code file, which is known once
// the spool is.
const CodeFile = "\x00codefile"

func (p *Plan) source(source string) error {
	switch {
	case source == "" || source == "." || source == "./":
	case strings.HasPrefix(source, function.SchemeBundle):
		p.Bundle = source
	case strings.Contains(source, "://"):
		return fault.Invalid("spec.build.source %q is fetched from elsewhere, which this server does not do yet; use a folder or an archive on this machine", source)
	case strings.HasSuffix(source, ".tar.gz"):
		p.Bundle = source
	case strings.HasSuffix(source, ".zip"):
		return fault.Invalid("spec.build.source %q is a zip archive; this server takes a folder or a .tar.gz on this machine", source)
	default:
		p.Folder = source
	}
	return nil
}

// resources reads the limits; a request is no limit on one machine.
func (p *Plan) resources(spec function.Spec) error {
	for _, name := range slices.Sorted(maps.Keys(spec.Limits)) {
		text := spec.Limits[name]
		quantity, err := function.ParseQuantity(text)
		if err != nil || quantity < 0 {
			return fault.Invalid("spec.resources.limits.%s: %q is not a quantity such as 500m, 2 or 1Gi", name, text)
		}
		switch {
		case name == "cpu":
			p.Limits.CPU = quantity
		case name == "memory":
			p.Limits.Memory = int64(quantity)
		case name == "pids":
			p.Limits.Pids = int(quantity)
		case strings.HasSuffix(name, "/gpu"):
			if quantity != float64(int(quantity)) {
				return fault.Invalid("spec.resources.limits.%s: %q is not a whole number of GPUs", name, text)
			}
			p.GPUs += int(quantity)
		}
	}
	return nil
}

func (p *Plan) times(f *function.Function, spec function.Spec, run document.Object) error {
	thresholds := maps.Clone(spec.Thresholds)
	if thresholds == nil {
		thresholds = map[string]string{}
	}
	for state, limit := range document.Map(run, "spec", "state_thresholds") {
		switch text, ok := limit.(string); {
		case ok:
			thresholds[state] = text
		case limit == nil:
			delete(thresholds, state)
		default:
			return fault.Invalid("spec.state_thresholds.%s must be a time such as 1h, or -1 for ever, got %s", state, document.TypeName(limit))
		}
	}
	for _, state := range slices.Sorted(maps.Keys(thresholds)) {
		limit, err := function.ParseThreshold(thresholds[state])
		if err != nil {
			return fault.Invalid("spec.state_thresholds.%s: %w", state, err)
		}
		if limit > 0 {
			p.Thresholds[state] = limit
		}
	}
	retry := spec.Retry
	if own := document.Map(run, "spec", "retry"); own != nil {
		var err error
		if retry, err = function.ParseRetry(own); err != nil {
			return err
		}
	}
	p.Retries = retry.Count
	if retry.BaseDelay != "" {
		delay, err := function.ParseDuration(retry.BaseDelay)
		if err != nil {
			return fault.Invalid("spec.retry.backoff.base_delay: %w", err)
		}
		p.RetryDelay = delay
	}
	return nil
}
