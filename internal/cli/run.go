package cli

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/lazyregexp"
	"github.com/millrace/millrace/internal/secret"
)

// runOptions are the flags of `run`.
type runOptions struct {
	target string // what is run
	args   []string

	handler, kind, name    string
	params, inputs, labels []string
	requirements           []string
	requirementsFiles      []string
	env, limits            []string
	image, python, workdir string
	artifactPath           string
	timeout, retryDelay    string
	retries                int
	secrets                []string
	seed                   int64
	cache                  string
	searchOptions
	detach, quiet, verbose bool
	output                 string
}

const runHelp = `Run a function once and follow it: a Python file, a notebook, a function.yaml, a folder, a
script, an executable, a Go main package, or a function that is stored.

FUNCTION is a path, or [PROJECT/]NAME[:TAG][@HASH] of a stored function; what exists as a
file is the file. A handler is a function in the code, NAME or MODULE.NAME; without one the
code runs from top to bottom. Words after -- are arguments of a program.

What the function prints goes to standard output, everything about the run to standard
error. With -o json or yaml the final run document is all there is on standard output.

Parameters: --param NAME=VALUE.
` + valueRule + `

` + domainRule + `

The first Ctrl-C aborts the run and waits for its end, the second kills it.

Exit status: 0 the run completed (with --detach: it was accepted), 1 it failed, 130 it was
aborted; others as in 'millrace --help'.`

func newRun(e *env) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run FUNCTION [flags] [-- ARG...]",
		Short: "Run a function and follow it",
		Long:  runHelp,
		Example: `  millrace run train.py --handler train --param lr=0.1 --requirement scikit-learn
  millrace run notebook.ipynb --handler train --input data=data.csv -o json
  millrace run demo/trainer:v2 --param epochs=20 --detach
  millrace run train.py --handler train -x depth=3,5,8 -x rate=0.01,0.1 --selector max.accuracy
  millrace run train.py --handler train -x rate=0.0001..1:log -x depth=2..12 --strategy tpe \
      --selector max.accuracy --max-iterations 100 --parallel 4 --stop-condition "accuracy > 0.99"
  millrace run train.py --handler train --param-file sets.csv --parallel 2 -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which function? name a file, a folder or a stored function")
			}
			o.target, o.args = args[0], args[1:]
			if dash := cmd.ArgsLenAtDash(); len(o.args) > 0 && dash != 1 {
				return usagef("one function at a time, got %q too; put arguments of a program after --", o.args[0])
			}
			return runRun(e, o)
		},
		ValidArgsFunction: e.completeFunctionOrFile,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.handler, "handler", "", "what to call: NAME or MODULE.NAME (default: the function's own, else the code runs as a program)")
	flags.StringVar(&o.kind, "kind", "", "how it executes: job, local or handler (default: what the code says, else job)")
	flags.StringVar(&o.name, "name", "", "name of the run (default: FUNCTION-HANDLER)")
	flags.StringArrayVarP(&o.params, "param", "p", nil, "parameter NAME=VALUE (may be repeated)")
	flags.StringArrayVarP(&o.inputs, "input", "i", nil, "input NAME=URL or NAME=PATH (may be repeated)")
	flags.StringArrayVar(&o.labels, "label", nil, "label of the run NAME=VALUE (may be repeated)")
	flags.StringArrayVarP(&o.requirements, "requirement", "r", nil, "package to install, as pip takes it (may be repeated)")
	flags.StringArrayVar(&o.requirementsFiles, "requirements-file", nil, "file with packages to install (may be repeated)")
	flags.StringVar(&o.artifactPath, "artifact-path", "", "where artifacts are written")
	flags.StringArrayVar(&o.env, "env", nil, "environment variable NAME=VALUE, or NAME to pass on (may be repeated)")
	flags.StringArrayVar(&o.secrets, "secret", nil, "secret of the project that the function may read, NAME (may be repeated)")
	flags.StringArrayVar(&o.limits, "limit", nil, "limit NAME=QUANTITY: cpu, memory, pids, nvidia.com/gpu (may be repeated)")
	flags.StringVar(&o.image, "image", "", "container image, for where runs are containers")
	flags.StringVar(&o.python, "python", "", "Python version, such as 3.11, or a path to an interpreter")
	flags.StringVar(&o.workdir, "workdir", "", "working directory of the code")
	flags.Int64Var(&o.seed, "seed", -1, "seed of the random number generators, 0 to 4294967295 (default: none)")
	flags.StringVar(&o.cache, "cache", "", "take over the outputs of an earlier run with the same code, environment, parameters and inputs: on, off, or refresh to execute and keep the new ones")
	flags.Lookup("cache").NoOptDefVal = "on"
	flags.StringVar(&o.timeout, "timeout", "", "abort the run after executing this long, such as 90s, 10m or 2h")
	flags.IntVar(&o.retries, "retries", 0, "further attempts after one that fails")
	flags.StringVar(&o.retryDelay, "retry-delay", "", "pause before the second attempt, doubled for each further one, such as 30s")
	o.declare(cmd)
	flags.BoolVarP(&o.detach, "detach", "d", false, "do not wait: print the run's uid and return")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "do not show the progress and the summary")
	flags.BoolVar(&o.verbose, "verbose", false, "let the function log at level debug")
	flags.StringVarP(&o.output, "output", "o", "", "print the final run: json, yaml or name")
	registerWords(cmd, "output", "json", "yaml", "name")
	registerWords(cmd, "cache", "on", "off", "refresh")
	registerWords(cmd, "kind", "job", "local", "handler")
	return cmd
}

// check refuses what can be refused before anything is read.
func (o *runOptions) check() error {
	switch {
	case strings.HasPrefix(o.target, "hub://"):
		return fault.NotSupported("%s: functions from a hub are not to be had in this version; download its function.yaml and run that file", o.target)
	case o.output != "" && o.output != "json" && o.output != "yaml" && o.output != "name":
		return usagef("-o %q must be json, yaml or name", o.output)
	case o.seed < -1 || o.seed > 1<<32-1:
		return usagef("--seed %d must be from 0 to 4294967295", o.seed)
	case o.cache != "" && o.cache != "on" && o.cache != "off" && o.cache != "refresh":
		return usagef("--cache=%s must be on, off or refresh", o.cache)
	case o.retries < 0:
		return usagef("--retries %d must not be negative", o.retries)
	case o.retryDelay != "" && o.retries == 0:
		return usagef("--retry-delay has a meaning only with --retries")
	}
	return o.searchOptions.check()
}

func runRun(e *env, o runOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	request, err := e.runRequest(o)
	if err != nil {
		return err
	}
	request.Abort = e.soft.Done()
	server := e.server()
	if server == "" {
		server = e.system.Running(request.DataDir)
	}
	if server != "" && isInterpreter(o.python) {
		return fault.Invalid("--python %s is an interpreter on this machine; with a server (%s) name a version such as 3.11", o.python, server)
	}
	view := newRunView(e, o)
	var result RunResult
	if server != "" {
		result, err = e.runRemote(server, request, view)
	} else {
		result, err = e.system.Run(e.hard, *request, view)
	}
	view.close()
	if fault.Is(err, fault.CodeNotFound) && request.Reference != "" {
		project := function.ParseURI(request.Reference).Project
		return fault.NotFound("%w; 'millrace get functions --project %s' lists what is stored", err, project)
	}
	if err != nil {
		return err
	}
	return e.finishRun(o, result, view)
}

// finishRun prints what there is to print and turns the final state into an exit
// status.
func (e *env) finishRun(o runOptions, result RunResult, view *runView) error {
	state := document.String(result.Run, "status", "state")
	switch o.output {
	case "json", "yaml":
		if err := e.printDocument(o.output, result.Run); err != nil {
			return err
		}
	case "name":
		if err := e.printf("%s\n", document.String(result.Run, "metadata", "uid")); err != nil {
			return err
		}
	default:
		if result.Detached {
			if err := e.printf("%s\n", document.String(result.Run, "metadata", "uid")); err != nil {
				return err
			}
		}
	}
	view.summary(result)
	if name := e.uncalled(o, result); name != "" && !view.logged.Load() && !o.quiet {
		e.say("millrace: %s ran as a program and showed nothing; '--handler %s' calls its function %s", filepath.Base(o.target), name, name)
	}
	switch {
	case result.Detached, state == "completed", state == "skipped":
		return nil
	case state == "aborted", state == "aborting":
		return exitError(ExitAborted)
	}
	return exitError(ExitFailed)
}

var definition = lazyregexp.New(`(?m)^(?:async )?def ([A-Za-z]\w*)\(`)

// uncalled returns the first function of a Python file that ran as a program and left
// nothing: its author may have meant to call it. "" for none.
func (e *env) uncalled(o runOptions, result RunResult) string {
	results, artifacts := document.Map(result.Run, "status", "results"), artifactPaths(result.Run)
	if document.String(result.Run, "spec", "handler") != "" || len(o.args) > 0 || result.Detached || document.String(result.Run, "status", "state") != "completed" || len(results)+len(artifacts) > 0 || !strings.HasSuffix(o.target, ".py") {
		return ""
	}
	source, err := os.ReadFile(e.path(o.target))
	if match := definition.FindStringSubmatch(string(source)); err == nil && match != nil {
		return match[1]
	}
	return ""
}

// runRequest turns the flags into the request.
func (e *env) runRequest(o runOptions) (*RunRequest, error) {
	connect, err := e.connectOptions()
	if err != nil {
		return nil, err
	}
	task, err := e.task(o)
	if err != nil {
		return nil, err
	}
	names, err := e.search(o, document.Map(task, "spec"))
	if err != nil {
		return nil, err
	}
	request := &RunRequest{ConnectOptions: connect, Task: task, Names: names, Detach: o.detach}
	return request, e.target(o, request)
}

// task makes the run's document of the flags.
func (e *env) task(o runOptions) (document.Object, error) {
	metadata := document.Object{"uid": newUID()}
	if o.name != "" {
		metadata["name"] = o.name
	}
	spec := document.Object{}
	task := document.Object{"kind": "run", "metadata": metadata, "spec": spec}
	labels, err := parseStrings("label", o.labels)
	if err != nil {
		return nil, err
	}
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	if o.handler != "" {
		spec["handler"] = o.handler
	}
	params, err := parseParams(o.params)
	if err != nil {
		return nil, err
	}
	if len(params) > 0 {
		spec["parameters"] = params
	}
	inputs, err := parseStrings("input", o.inputs)
	if err != nil {
		return nil, err
	}
	for name, value := range inputs {
		inputs[name] = e.inputURL(value.(string))
	}
	if len(inputs) > 0 {
		spec["inputs"] = inputs
	}
	if o.artifactPath != "" {
		spec["output_path"] = e.inputURL(o.artifactPath)
	}
	if len(o.secrets) > 0 {
		names := make([]any, len(o.secrets))
		for i, name := range o.secrets {
			if err := secret.ValidateName(name); err != nil {
				return nil, err
			}
			names[i] = name
		}
		spec["secret_sources"] = []any{document.Object{"kind": "kubernetes", "source": names}}
	}
	if o.seed >= 0 {
		spec["seed"] = o.seed
	}
	switch o.cache {
	case "on", "off":
		spec["cache"] = o.cache == "on"
	case "refresh":
		spec["cache"] = o.cache
	}
	if o.verbose {
		spec["verbose"] = true
	}
	if o.timeout != "" {
		limit, err := time.ParseDuration(o.timeout)
		if err != nil || limit < time.Second {
			return nil, usagef("--timeout %q must be a duration of at least a second, such as 90s, 10m or 2h", o.timeout)
		}
		spec["state_thresholds"] = document.Object{"executing": o.timeout}
	}
	if o.retries > 0 {
		retry := document.Object{"count": o.retries}
		if o.retryDelay != "" {
			if delay, err := time.ParseDuration(o.retryDelay); err != nil || delay < 0 {
				return nil, usagef("--retry-delay %q must be a duration such as 30s or 5m", o.retryDelay)
			}
			retry["backoff"] = document.Object{"base_delay": o.retryDelay}
		}
		spec["retry"] = retry
	}
	return task, nil
}

// newUID makes a run's uid: 32 hexadecimal digits, as all clients of the API use.
func newUID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

// readRequirements adds the packages of requirements files to those of the flags.
// A file is passed on line by line; its own includes ("-r other.txt") are refused,
// since other files are not part of the function.
func (e *env) readRequirements(o runOptions) ([]string, error) {
	out := append([]string(nil), o.requirements...)
	for _, name := range o.requirementsFiles {
		raw, err := os.ReadFile(e.path(name))
		if err != nil {
			return nil, fault.Invalid("--requirements-file: %w", err)
		}
		for number, line := range strings.Split(string(raw), "\n") {
			line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
			if at := strings.Index(line, " #"); at >= 0 {
				line = strings.TrimSpace(line[:at])
			}
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if strings.HasPrefix(line, "-r") || strings.HasPrefix(line, "--requirement") || strings.HasPrefix(line, "-c") || strings.HasPrefix(line, "--constraint") {
				return nil, fault.Invalid("%s:%d: %q refers to another file; give that file with --requirements-file too", name, number+1, line)
			}
			out = append(out, line)
		}
	}
	return out, nil
}
