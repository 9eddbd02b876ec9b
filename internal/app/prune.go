package app

import (
	"context"
	"time"

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
// function names and uploads that their senders have given up, until ctx ends.
func (a *App) prune(ctx context.Context) {
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
			if err := a.content.Inbox().Sweep(uploadAge); err != nil {
				a.options.Logger.ErrorContext(ctx, "remove unfinished uploads", "error", err)
			}
			if err := a.imports().Prune(time.Now().Add(-importsAge)); err != nil {
				a.options.Logger.ErrorContext(ctx, "prune what code imports", "error", err)
			}
		}
	}
}

// pruneBundles removes the bundles that no stored function names, when nobody has
// asked for them since age.
func (a *App) pruneBundles(ctx context.Context, age time.Duration) (int, error) {
	return a.bundles().prune(ctx, age)
}
