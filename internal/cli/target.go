package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// codeSuffixes are endings that only files have, so that a file that is missing is
// called a missing file and not a missing function.
var codeSuffixes = []string{".py", ".ipynb", ".yaml", ".yml", ".json", ".sh", ".bash", ".go"}

// isPath tells a path from the name of a stored function: what exists is a path,
// and what can only be one.
func (e *env) isPath(target string) bool {
	if strings.HasPrefix(target, function.SchemeDB) {
		return false
	}
	if _, err := os.Stat(e.path(target)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	for _, prefix := range []string{"./", "../", "/", "~"} {
		if strings.HasPrefix(target, prefix) {
			return true
		}
	}
	return slices.Contains(codeSuffixes, strings.ToLower(filepath.Ext(target)))
}

// target fills in which function the request runs.
func (e *env) target(o runOptions, request *RunRequest) error {
	project, named := e.project()
	if !e.isPath(o.target) {
		uri := function.ParseURI(o.target)
		if err := uri.Check(); err != nil {
			return err
		}
		if uri.Project == "" {
			uri.Project = project
		}
		if !named {
			project = uri.Project
		}
		document.Set(request.Task, project, "metadata", "project")
		// A name with both a tag and a hash is the hash: String prefers it.
		request.Reference = uri.String()
		return e.overrides(o, request)
	}
	requirements, err := e.readRequirements(o)
	if err != nil {
		return err
	}
	options := code.Options{Kind: function.Kind(o.kind), Image: o.image, Requirements: requirements}
	if isFolder(e.path(o.target)) {
		options.Handler = o.handler // says which module of the folder is meant
	}
	f, err := e.load(o.target, request.DataDir, options)
	if err != nil {
		return err
	}
	if own := f.Project(); own != "" && !named {
		project = own
	}
	if err := function.ValidateProjectName("--project", project); err != nil {
		return err
	}
	f.SetProject(project)
	document.Set(request.Task, project, "metadata", "project")
	request.Function = f.Doc
	return e.changeFunction(o, request, f)
}

// load makes a function of a path. Relative paths are seen from the process's
// working directory.
func (e *env) load(target, dataDir string, options code.Options) (*function.Function, error) {
	if options.Kind != function.KindDefault && !options.Kind.Known() {
		return nil, fault.Invalid("--kind %q is not a kind; use job, local or handler", options.Kind)
	}
	options.BundleDir = filepath.Join(dataDir, "bundles")
	options.Getenv = e.Getenv
	path := target
	if wd, err := os.Getwd(); err != nil || wd != e.Dir {
		path = e.path(target)
	}
	f, _, err := code.Load(e.soft, path, options)
	return f, err
}

// changeFunction applies the flags that change a loaded function.
func (e *env) changeFunction(o runOptions, request *RunRequest, f *function.Function) error {
	variables, err := e.parseEnv(o.env)
	if err != nil {
		return err
	}
	for _, item := range variables {
		entry := item.(document.Object)
		f.SetEnv(document.String(entry, "name"), document.String(entry, "value"))
	}
	limits, err := parseStrings("limit", o.limits)
	if err != nil {
		return err
	}
	for name, value := range limits {
		f.SetSpec(value, "resources", "limits", name)
	}
	if o.workdir != "" {
		f.SetSpec(e.path(o.workdir), "workdir")
	}
	if len(o.args) > 0 {
		args := make([]any, len(o.args))
		for i, arg := range o.args {
			args[i] = escapeArgument(arg)
		}
		f.SetSpec(args, "args")
	}
	switch {
	case o.python == "":
	case isInterpreter(o.python):
		request.Python = o.python
		if strings.Contains(o.python, "/") {
			request.Python = e.path(o.python)
		}
	default:
		f.SetSpec(o.python, "python_version")
	}
	return f.Validate()
}

// escapeArgument keeps braces of an argument from being read as placeholders for
// parameters.
func escapeArgument(arg string) string {
	return strings.NewReplacer("{", "{{", "}", "}}").Replace(arg)
}

// isInterpreter tells a path or name of an interpreter from a version.
func isInterpreter(text string) bool {
	return strings.Trim(text, "0123456789.") != ""
}

// overrides turns the flags that a stored function can be run with into a partial
// function, and refuses those that would make another function of it.
func (e *env) overrides(o runOptions, request *RunRequest) error {
	for _, flag := range []struct {
		name  string
		given bool
	}{
		{"kind", o.kind != ""}, {"requirement", len(o.requirements) > 0}, {"requirements-file", len(o.requirementsFiles) > 0},
		{"python", o.python != ""}, {"workdir", o.workdir != ""},
	} {
		if flag.given {
			return fault.Invalid("--%s would change the stored function %s; export it ('millrace export'), change the file and run that", flag.name, request.Reference)
		}
	}
	if len(o.args) > 0 {
		return fault.Invalid("arguments after -- would change the stored function %s; pass --param, or run the file", request.Reference)
	}
	spec := document.Object{}
	variables, err := e.parseEnv(o.env)
	if err != nil {
		return err
	}
	if len(variables) > 0 {
		spec["env"] = variables
	}
	if o.image != "" {
		spec["image"] = o.image
	}
	limits, err := parseStrings("limit", o.limits)
	if err != nil {
		return err
	}
	if len(limits) > 0 {
		spec["resources"] = document.Object{"limits": limits}
	}
	if len(spec) > 0 {
		request.Overrides = document.Object{"metadata": document.Object{}, "spec": spec}
	}
	return nil
}
