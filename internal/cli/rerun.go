package cli

import (
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/provenance"
	"github.com/millrace/millrace/internal/tune"
)

// rerunOptions are the flags of `rerun`.
type rerunOptions struct {
	params       []string
	allowChanges bool
	output       string
}

const rerunHelp = `Repeat a run from what was recorded about it, as a new run, and say in one sentence whether
the outputs are equal and, if not, the first cause that is found.

The new run has the same version of the function, parameters, inputs, seeds, interpreter
version and packages, to the resolved version. Compared are the state, the results and the
content of the artifacts. Causes are looked for in this order: parameters that were changed,
code, environment, interpreter, content of the inputs, randomness without a seed, dependence
on the time, anything else that is not deterministic.

What the function prints goes to standard error, the verdict to standard output. Exit status:
0 the outputs are equal, 1 they are not or it cannot be told, 130 the new run was aborted.

` + runReferenceHelp

func newRerun(e *env) *cobra.Command {
	var o rerunOptions
	cmd := &cobra.Command{
		Use:   "rerun RUN",
		Short: "Repeat a run and compare the outputs",
		Long:  rerunHelp,
		Example: `  millrace rerun 3f2a9c
  millrace rerun trainer-train -o json
  millrace rerun 3f2a9c --param lr=0.2 --allow-changes`,
		Args:              arguments(1, 1, "one RUN"),
		RunE:              func(_ *cobra.Command, args []string) error { return runRerun(e, o, args[0]) },
		ValidArgsFunction: e.completeRuns,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.StringArrayVarP(&o.params, "param", "p", nil, "other value of a parameter NAME=VALUE; needs --allow-changes (may be repeated)")
	flags.BoolVar(&o.allowChanges, "allow-changes", false, "accept --param")
	flags.StringVarP(&o.output, "output", "o", "", "print the verdict: json or yaml")
	registerWords(cmd, "output", "json", "yaml")
	return cmd
}

func runRerun(e *env, o rerunOptions, ref string) error {
	if o.output != "" && o.output != "json" && o.output != "yaml" {
		return usagef("-o %q must be json or yaml", o.output)
	}
	params, err := parseParams(o.params)
	if err != nil {
		return err
	}
	connect, err := e.connectOptions()
	if err != nil {
		return err
	}
	var original document.Object
	var names []string
	if err := e.with(func(connection *Connection) error {
		found, err := e.findRun(connection.Client, ref)
		if err != nil {
			return err
		}
		if original, err = connection.Client.Run(e.soft, keyOf(found)); err != nil {
			return err
		}
		if tune.Iterative(original) {
			names, err = e.hyperparameters(connection.Client, keyOf(found))
		}
		return err
	}); err != nil {
		return err
	}
	task, reference, err := provenance.Repeat(original, newUID(), provenance.Changes{Parameters: params, Allow: o.allowChanges})
	if err != nil {
		return err
	}
	request := &RunRequest{ConnectOptions: connect, Task: task, Names: names, Reference: reference, Abort: e.soft.Done()}
	view := newRunView(e, runOptions{output: "json"})
	result, err := e.start(request, view)
	view.close()
	if fault.Is(err, fault.CodeNotFound) {
		return fault.NotFound("the run %s cannot be repeated, its function %s is not stored any more: %w", document.String(original, "metadata", "uid"), reference, err)
	}
	if err != nil {
		return err
	}
	return e.tellVerdict(o, original, result.Run)
}

// start runs the request on the server at hand, or in this process.
func (e *env) start(request *RunRequest, view *runView) (RunResult, error) {
	server := e.server()
	if server == "" {
		server = e.system.Running(request.DataDir)
	}
	if server != "" {
		return e.runRemote(server, request, view)
	}
	return e.system.Run(e.hard, *request, view)
}

// tellVerdict prints the verdict and turns it into an exit status.
func (e *env) tellVerdict(o rerunOptions, original, repeated document.Object) error {
	if state := document.String(repeated, "status", "state"); state == "aborted" || state == "aborting" {
		return exitError(ExitAborted)
	}
	verdict := provenance.Compare(original, repeated)
	if o.output != "" {
		if err := e.printDocument(o.output, verdict.Document()); err != nil {
			return err
		}
	} else if err := e.printf("%s\n", verdict.Sentence); err != nil {
		return err
	}
	if !verdict.Equal {
		return exitError(ExitFailed)
	}
	return nil
}
