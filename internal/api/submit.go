package api

import (
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/submit"
	"github.com/millrace/millrace/internal/tune"
)

// submitJob resolves the function of a task and hands both to the controller.
func submitJob(c *call) error {
	control, err := c.controller()
	if err != nil {
		return err
	}
	var names []string
	request, err := c.objectSeen(func(raw []byte) { names = tune.KeyOrder(raw, "task", "spec", "hyperparams") })
	if err != nil {
		return err
	}
	submission, err := c.submission(request, names)
	if err != nil {
		return runtimeError(err)
	}
	doc, err := control.Submit(c.ctx(), submission)
	if err != nil {
		return runtimeError(err)
	}
	return c.json(200, document.Object{"data": doc})
}

// runtimeError gives what the caller did wrong the shape and the prefix that
// clients know from this route; other errors stay as they are.
func runtimeError(err error) error {
	if fault.Is(err, fault.CodeInvalid) {
		return withReason(fault.Invalid("Runtime error: %w", err))
	}
	return err
}

// submission reads a submit request. names are its hyperparameters as they are
// written there, unless it says itself in which order they are meant.
func (c *call) submission(request document.Object, names []string) (Submission, error) {
	task, err := document.Want[document.Object](request, "task")
	if err != nil {
		return Submission{}, err
	}
	inline, err := document.Want[document.Object](request, "function")
	if err != nil {
		return Submission{}, err
	}
	uri, err := document.Want[string](request, "functionUrl")
	if err != nil {
		return Submission{}, err
	}
	if uri == "" {
		if uri, err = document.Want[string](task, "spec", "function"); err != nil {
			return Submission{}, err
		}
	}
	if task == nil || uri == "" && inline == nil {
		return Submission{}, fault.Invalid("bad JSON, need to include function/url and task objects")
	}
	if schedule := request["schedule"]; schedule != nil && schedule != "" {
		return Submission{}, fault.Invalid("schedules are not supported by this server; submit without schedule to run now")
	}
	project, err := document.Want[string](task, "metadata", "project")
	if err != nil {
		return Submission{}, err
	}
	// Our own extension: the command line asks for kinds that the MLRun SDK runs
	// where it is itself.
	allowLocal, err := document.Want[bool](request, "millrace", "allow_local")
	if err != nil {
		return Submission{}, err
	}
	// So does it for the order of hyperparameters, which its documents do not keep.
	given, err := document.Want[[]any](request, "millrace", "hyperparam_names")
	if err != nil {
		return Submission{}, err
	}
	for i, item := range given {
		name, ok := item.(string)
		if !ok {
			return Submission{}, fault.Invalid("millrace.hyperparam_names[%d] must be a string, got %s", i, document.TypeName(item))
		}
		if i == 0 {
			names = nil
		}
		names = append(names, name)
	}
	out := Submission{
		Project: project, Task: task, AllowLocal: allowLocal, Names: names,
		ClientVersion: c.r.Header.Get("X-Mlrun-Client-Version"),
		PythonVersion: c.r.Header.Get("X-Mlrun-Client-Python-Version"),
		RemoteUser:    c.r.Header.Get("X-Remote-User"),
	}
	return out, c.resolve(&out, uri, inline)
}

// resolve finds the function of a submission and the project that both belong to.
func (c *call) resolve(out *Submission, uri string, inline document.Object) error {
	if uri == "" {
		if out.Project == "" {
			out.Project = document.String(inline, "metadata", "project")
		}
		if out.Project == "" {
			out.Project = defaultProject
		}
		out.Function = inline
		return c.projectExists(out.Project)
	}
	if scheme, _, ok := strings.Cut(uri, "://"); ok && scheme != "db" {
		return fault.Invalid("function %q: importing from %s:// is not supported by this server; import the function and save it first", clip(uri), clip(scheme))
	}
	name := function.ParseURI(uri)
	if err := name.Check(); err != nil {
		return err
	}
	if name.Project == "" {
		name.Project = out.Project
	}
	if name.Project == "" {
		name.Project = defaultProject
	}
	if out.Project == "" {
		out.Project = name.Project
	}
	if err := c.projectExists(out.Project); err != nil {
		return err
	}
	stored, err := c.loadFunction(name.Project, name.Name, name.Tag, name.Hash)
	if err != nil {
		return err
	}
	if inline != nil {
		if stored, err = submit.Overlay(stored, inline); err != nil {
			return err
		}
	}
	out.Function, out.FunctionURI = stored, uri
	return nil
}

// projectExists is checked before anything else, so that a missing project is
// what the caller is told about.
func (c *call) projectExists(project string) error {
	_, err := c.s.opts.Store.ProjectGet(c.ctx(), project)
	return err
}
