package app

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
)

// resolve is a datastore.Resolver.
type resolve func(ctx context.Context, uri artifact.URI) (document.Object, error)

// in reads URIs; those without a project are in the given one.
func (r resolve) in(project string) datastore.Resolver { return &resolver{project: project, find: r} }

type resolver struct {
	project string
	find    resolve
}

// Artifact implements datastore.Resolver.
func (r *resolver) Artifact(ctx context.Context, text string) (document.Object, error) {
	uri, err := artifact.ParseURI(text)
	if err != nil {
		return nil, err
	}
	uri.Project = cmp.Or(uri.Project, r.project)
	doc, err := r.find(ctx, uri)
	if fault.Is(err, fault.CodeNotFound) {
		return nil, fault.NotFound("there is no artifact %s: %w", text, err)
	}
	return doc, err
}

// find looks an artifact up in this system's store.
func (a *App) find(ctx context.Context, uri artifact.URI) (document.Object, error) {
	return findIn(ctx, a.store, uri)
}

func findIn(ctx context.Context, from *store.Store, uri artifact.URI) (document.Object, error) {
	filter := store.ArtifactFilter{Project: uri.Project, Name: store.NameFilter{Value: uri.Key}, Tag: uri.Tag, Tree: uri.Tree}
	if uri.HasIter {
		filter.Iter = &uri.Iter
	}
	return from.ArtifactGet(ctx, filter)
}

// resolver finds artifacts for an execution in this process.
func (r *inline) resolver(launch spool.Launch) datastore.Resolver {
	return resolve(r.find).in(launch.Project)
}

// artifacts finds artifacts for a runner in a process of its own: through the
// server that the execution knows, else in the data directory's store, which is
// opened when the first artifact is asked for.
type artifacts struct {
	dataDir string
	mu      sync.Mutex
	store   *store.Store
	client  *client.Client
}

func (a *artifacts) resolver(launch spool.Launch) datastore.Resolver {
	return resolve(func(ctx context.Context, uri artifact.URI) (document.Object, error) {
		if err := a.open(ctx, launch.Env); err != nil {
			return nil, err
		}
		if a.store != nil {
			return findIn(ctx, a.store, uri)
		}
		query := client.Artifact{Key: uri.Key, Tag: uri.Tag, Tree: uri.Tree, Iter: -1}
		if uri.HasIter {
			query.Iter = uri.Iter
		}
		return a.client.Artifact(ctx, uri.Project, query)
	}).in(launch.Project)
}

// open makes one of store and client ready. Later calls find it so.
func (a *artifacts) open(ctx context.Context, environ []string) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.store != nil || a.client != nil {
		return nil
	}
	var url, token string
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, "MLRUN_DBPATH="); ok {
			url = value
		}
		if value, ok := strings.CutPrefix(entry, "MLRUN_HTTPDB__TOKEN="); ok {
			token = value
		}
	}
	if url = cmp.Or(url, Running(a.dataDir)); url != "" {
		a.client, err = client.New(client.Options{URL: url, Token: token})
		return err
	}
	path := filepath.Join(a.dataDir, "millrace.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fault.Precondition("artifacts cannot be looked up: there is neither a server (MLRUN_DBPATH) nor a database in %s", a.dataDir)
	}
	a.store, err = store.Open(context.WithoutCancel(ctx), store.Options{Path: path})
	return err
}

func (a *artifacts) close(logger *slog.Logger) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil {
		a.client.Close()
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			logger.Error("close store", "error", err)
		}
	}
}
