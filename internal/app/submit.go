package app

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/submit"
)

// enrich completes a request to run a function from the store: the function, when
// it is only named, and the defaults of its project. overrides are changes of a
// named function for this run; nil for none.
func (a *App) enrich(ctx context.Context, s api.Submission, overrides document.Object) (functionDoc, runDoc document.Object, err error) {
	uri := function.ParseURI(function.TrimScheme(s.FunctionURI))
	project := s.Project
	for _, name := range []string{document.String(s.Task, "metadata", "project"), uri.Project, "default"} {
		if project == "" {
			project = name
		}
	}
	stored, err := a.store.ProjectGet(ctx, project)
	if fault.Is(err, fault.CodeNotFound) {
		return nil, nil, fault.NotFound("Project %s does not exist; create it first", project)
	}
	if err != nil {
		return nil, nil, err
	}
	functionDoc = s.Function
	if functionDoc == nil {
		if uri.Project == "" {
			uri.Project = project
		}
		if functionDoc, err = a.store.FunctionGet(ctx, uri.Project, uri.Name, uri.Tag, uri.Hash); err != nil {
			return nil, nil, err
		}
		if overrides != nil {
			if functionDoc, err = submit.Overlay(functionDoc, overrides); err != nil {
				return nil, nil, err
			}
		}
	}
	functionDoc, runDoc, err = submit.Enrich(submit.Input{
		Task: s.Task, Function: functionDoc, Project: stored, ProjectName: project, ArtifactPath: a.options.ArtifactPath,
		NewUID:     func() string { return strings.ReplaceAll(uuid.NewString(), "-", "") },
		AllowLocal: s.AllowLocal, ClientVersion: s.ClientVersion, PythonVersion: s.PythonVersion, RemoteUser: s.RemoteUser,
	})
	if err == nil {
		// Refused now rather than when the run is about to begin.
		_, err = a.bundles().Resolve(document.String(functionDoc, "spec", "build", "source"))
	}
	if err == nil {
		err = a.checkParameterFile(ctx, runDoc, s.Names)
	}
	if err == nil && document.String(runDoc, "metadata", "labels", "owner") == "" {
		document.Set(runDoc, owner(), "metadata", "labels", "owner")
	}
	if err != nil {
		return nil, nil, err
	}
	if s.FunctionURI != "" { // what was asked for decides whether a tag may move
		document.Set(runDoc, s.FunctionURI, "spec", "function")
	}
	return functionDoc, runDoc, a.takeSecrets(ctx, runDoc)
}

// takeSecrets moves the values that a task brings along into the store of secrets,
// and leaves their names in the run: nobody reads a value in a run's document.
func (a *App) takeSecrets(ctx context.Context, runDoc document.Object) error {
	for i, item := range document.List(runDoc, "spec", "secret_sources") {
		source, ok := item.(document.Object)
		if !ok {
			return fault.Invalid("task: spec.secret_sources[%d] must be an object {kind, source}, got %s", i, document.TypeName(item))
		}
		if document.String(source, "kind") != "inline" {
			continue
		}
		given, ok := source["source"].(document.Object)
		if text, literal := source["source"].(string); literal {
			decoded, err := document.DecodeObject([]byte(text))
			given, ok = decoded, err == nil
		}
		if !ok {
			return fault.Invalid("task: spec.secret_sources[%d] is inline, so its source must be an object of names and values", i)
		}
		values, names := make(map[string]string, len(given)), make([]any, 0, len(given))
		for _, name := range slices.Sorted(maps.Keys(given)) {
			text, isText := given[name].(string)
			if !isText {
				text = string(document.Encode(given[name]))
			}
			values[name], names = text, append(names, name)
		}
		if err := a.secrets.SetOfRun(ctx, document.String(runDoc, "metadata", "project"), document.String(runDoc, "metadata", "uid"), values); err != nil {
			return fmt.Errorf("task: spec.secret_sources[%d]: %w", i, err)
		}
		source["kind"], source["source"] = "kubernetes", names
	}
	return nil
}

// artifactPath is where the artifacts of a run go when it names no place: the
// template of its project, else that of the server.
func (a *App) artifactPath(ctx context.Context, project string) (string, error) {
	doc, err := a.store.ProjectGet(ctx, project)
	if err != nil && !fault.Is(err, fault.CodeNotFound) {
		return "", err
	}
	return cmp.Or(document.String(doc, "spec", "artifact_path"), a.options.ArtifactPath), nil
}

// owner is who a run belongs to when its request does not say: the user of this
// process.
func owner() string {
	for _, name := range []string{"V3IO_USERNAME", "LOGNAME", "USER"} {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	if current, err := user.Current(); err == nil {
		return current.Username
	}
	return "unknown"
}
