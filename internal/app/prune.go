package app

import (
	"context"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/env"
)

// How long environments that nobody uses are kept, and how large all may be.
const (
	pruneEvery = time.Hour
	pruneAge   = 30 * 24 * time.Hour
	pruneBytes = 50 << 30
	bundleAge  = 24 * time.Hour
	importsAge = 30 * 24 * time.Hour
)

// prune removes environments that nobody has used for long, bundles of code that no
// function names and what was not written to its end, until ctx ends.
func (a *App) prune(ctx context.Context) {
	a.sweep(ctx) // at the start too: not every server lives for an hour
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if _, err := a.envs.Prune(ctx, env.PrunePolicy{MaxAge: pruneAge, MaxBytes: pruneBytes}); err != nil && ctx.Err() == nil {
				a.options.Logger.ErrorContext(ctx, "prune environments", "error", err)
			}
			if _, err := a.pruneBundles(ctx, bundleAge); err != nil && ctx.Err() == nil {
				a.options.Logger.ErrorContext(ctx, "prune bundles of code", "error", err)
			}
			a.sweep(ctx)
			if err := a.imports().Prune(time.Now().Add(-importsAge)); err != nil {
				a.options.Logger.ErrorContext(ctx, "prune what code imports", "error", err)
			}
		}
	}
}

// sweep removes uploads that their senders have given up and what writers that were
// killed have left where artifacts are.
func (a *App) sweep(ctx context.Context) {
	if err := a.content.Inbox().Sweep(uploadAge); err != nil {
		a.options.Logger.ErrorContext(ctx, "remove unfinished uploads", "error", err)
	}
	for _, root := range a.artifactRoots() {
		removed, err := datastore.Sweep(ctx, root, uploadAge)
		if err != nil && ctx.Err() == nil {
			a.options.Logger.ErrorContext(ctx, "remove what killed writers have left", "error", err)
		}
		if removed > 0 {
			a.options.Logger.InfoContext(ctx, "removed what killed writers have left", "files", removed, "below", root)
		}
	}
}

// pruneBundles removes the bundles that no stored function names, when nobody has
// asked for them since age.
func (a *App) pruneBundles(ctx context.Context, age time.Duration) (int, error) {
	return a.bundles().prune(ctx, age)
}
