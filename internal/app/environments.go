package app

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/env"
)

// environments is the API's view of the virtual environments.
type environments struct{ manager *env.Manager }

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
