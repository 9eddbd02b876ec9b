package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/deployment"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/spool"
)

// Revisions makes revisions of deployed functions ready for this machine, with
// what a Preparer has for runs.
type Revisions struct {
	*Preparer
	DataDir string
}

// Revision implements deployment.Preparer.
func (p Revisions) Revision(ctx context.Context, key deployment.Key, number int, f *function.Function, progress func(string)) (realtime.Revision, map[string][]byte, error) {
	service, err := kind.Deploy(f)
	if err != nil {
		return realtime.Revision{}, nil, err
	}
	r := service.Revision
	r.Number, r.Project, r.Name = number, key.Project, key.Name
	r.Runtime, r.File, r.Folder, r.Path, r.Workdir = p.Runtime, service.File, service.Folder, service.Path, service.Workdir
	r.Env = p.callback(append([]string{"MLRUN_ACTIVE_PROJECT=" + key.Project, "MLRUN_DEFAULT_PROJECT=" + key.Project}, service.Env...))
	if service.Bundle != "" {
		if r.Bundle, err = p.Bundles(service.Bundle); err != nil {
			return r, nil, err
		}
		service.Bundle = r.Bundle
	}
	if err := here(r.Folder, r.Bundle, r.File); err != nil {
		return r, nil, err
	}
	launch := spool.Launch{Project: key.Project, Name: key.Name}
	if err := p.secrets(ctx, &launch, service.Secrets); err != nil {
		return r, nil, err
	}
	r.Secrets = launch.Secrets
	if _, err := p.Auth(ctx, key, service.Front); err != nil { // said now, not when it shall serve
		return r, nil, err
	}
	if err := p.program(ctx, &r, service, progress); err != nil {
		return r, nil, err
	}
	return r, service.Files, p.surround(ctx, &r, service, progress)
}

// here refuses code that is named by a path of another machine.
func here(paths ...string) error {
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			continue
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fault.Precondition("the function's code, %s, is not on the machine of this server; put it there, or deploy the folder with 'millrace deploy', which sends it", path)
		}
	}
	return nil
}

// Auth implements deployment.Preparer.
func (p Revisions) Auth(ctx context.Context, key deployment.Key, front kind.Front) (*realtime.Auth, error) {
	if front.Keys == "" && front.Basic == "" {
		return nil, nil
	}
	var names []string
	for _, name := range []string{front.Keys, front.Basic} {
		if name != "" {
			names = append(names, name)
		}
	}
	values, err := p.Secrets.ResolveForRun(ctx, key.Project, "", names)
	if err != nil {
		return nil, err
	}
	return front.Auth(values)
}

// program completes the command of an application, or of a handler that is a program.
func (p Revisions) program(ctx context.Context, r *realtime.Revision, service *kind.Service, progress func(string)) error {
	if r.Mode == realtime.ModeHandler {
		return nil
	}
	code := filepath.Join(realtime.DirOf(p.DataDir, r.Project, r.Name).RevisionDir(r.Number), r.File)
	if service.Go {
		executable, err := p.GoBuild(ctx, &service.Plan, func(step control.Step) { progress(step.String()) })
		if err != nil {
			return err
		}
		code = executable
	}
	r.Command = slices.Clone(r.Command)
	for i, word := range r.Command {
		r.Command[i] = strings.ReplaceAll(word, kind.CodeFile, code)
	}
	return nil
}

// surround gives the revision its interpreter and environment.
func (p Revisions) surround(ctx context.Context, r *realtime.Revision, service *kind.Service, progress func(string)) error {
	python := r.Mode == realtime.ModeHandler || len(r.Command) > 0 && (r.Command[0] == "python" || r.Command[0] == "python3")
	if !python && len(service.Requirements) == 0 {
		return nil
	}
	interpreter, err := p.Interpreters.Select(ctx, service.PythonVersion)
	if err != nil {
		return err
	}
	r.Python = interpreter.Executable
	if !interpreter.FreeThreaded() {
		*r = r.WithoutThreads()
	}
	if len(service.Requirements) > 0 {
		requirements, err := env.ParseRequirements(service.Requirements, service.Folder)
		if err != nil {
			return err
		}
		environment, err := p.Environments.Ensure(ctx, env.Request{Interpreter: interpreter, Requirements: requirements}, func(step env.Progress) { progress(describe(step).String()) })
		if err != nil {
			return err
		}
		r.Python, r.VirtualEnv = environment.Python, environment.Path
		r.Env = append(r.Env, "VIRTUAL_ENV="+environment.Path, "PATH="+environment.Path+"/bin:"+path(r.Env))
	}
	if python && r.Mode == realtime.ModeCommand {
		r.Command[0] = r.Python
	}
	return nil
}
