package app

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// environments is the API's view of the virtual environments.
type environments struct {
	manager      *env.Manager
	interpreters *env.Interpreters
}

// EnvironmentList implements api.Environments.
func (e environments) EnvironmentList(ctx context.Context) ([]document.Object, error) {
	stored, err := e.manager.List(ctx)
	if err != nil {
		return nil, err
	}
	slices.Reverse(stored)
	docs := make([]document.Object, len(stored))
	for i, s := range stored {
		packages := make([]any, len(s.Lock))
		for n, line := range s.Lock {
			packages[n] = line
		}
		docs[i] = document.Object{
			"kind":     "environment",
			"metadata": document.Object{"name": filepath.Base(s.Path)},
			"spec":     document.Object{"python": s.Interpreter.Version.String(), "interpreter": s.Interpreter.Executable, "lock": packages, "lock_digest": s.LockDigest},
			"status": document.Object{
				"path": s.Path, "size": s.Bytes, "built": s.Built.UTC().Format(time.RFC3339), "last_used": s.LastUsed.UTC().Format(time.RFC3339),
			},
		}
	}
	return docs, nil
}

// EnvironmentDelete implements api.Environments.
func (e environments) EnvironmentDelete(ctx context.Context, name string) error {
	return e.manager.Delete(ctx, name)
}

// EnvironmentLock implements api.Environments.
func (e environments) EnvironmentLock(ctx context.Context, doc document.Object) (document.Object, error) {
	f, err := function.Parse(doc)
	if err != nil {
		return nil, err
	}
	spec, err := f.Spec()
	if err != nil {
		return nil, err
	}
	var request env.Request
	if request.Requirements, err = env.ParseRequirements(spec.Requirements, ""); err != nil {
		return nil, err
	}
	if request.Requirements.Empty() {
		return nil, fault.Invalid("the function %s has no requirements, so there is nothing to lock; export it as it is", f.Name())
	}
	if request.Interpreter, err = e.interpreters.Select(ctx, spec.PythonVersion); err != nil {
		return nil, err
	}
	lines, err := e.manager.Lock(request)
	if err != nil {
		return nil, err
	}
	if lines == nil {
		return nil, fault.Precondition("the requirements of the function %s have not been resolved for Python %s here, so there is no lock yet; run the function once and export it then", f.Name(), request.Interpreter.Version)
	}
	locked := make([]any, len(lines))
	for i, line := range lines {
		if name, where, direct := strings.Cut(line, " @ "); direct && strings.HasPrefix(where, "file:") {
			return nil, fault.Precondition("the package %s of the function %s was installed from a file of this machine, which a lock cannot take elsewhere; put it into a package index", name, f.Name())
		}
		locked[i] = line
	}
	return document.Object{"python": request.Interpreter.Version.String(), "requirements": locked}, nil
}
