package app

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/submit"
)

// enrich completes a request to run a function from the store: the function, when
// it is only named, and the defaults of its project.
func (a *App) enrich(ctx context.Context, s api.Submission) (functionDoc, runDoc document.Object, err error) {
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
	}
	return submit.Enrich(submit.Input{
		Task: s.Task, Function: functionDoc, Project: stored, ProjectName: project, ArtifactPath: a.options.ArtifactPath,
		NewUID:     func() string { return strings.ReplaceAll(uuid.NewString(), "-", "") },
		AllowLocal: s.AllowLocal, ClientVersion: s.ClientVersion, PythonVersion: s.PythonVersion, RemoteUser: s.RemoteUser,
	})
}
