package app

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/runner"
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
	filter := store.ArtifactFilter{Project: uri.Project, Name: store.NameFilter{Value: uri.Key}, Tag: uri.Tag, Tree: uri.Tree, UID: uri.UID}
	if uri.HasIter {
		filter.Iter = &uri.Iter
	}
	return from.ArtifactGet(ctx, filter)
}

// resolver finds artifacts for an execution in this process.
func (r *inline) resolver(launch spool.Launch) datastore.Resolver {
	return resolve(r.find).in(launch.Project)
}

// artifacts finds artifacts for a runner or processor, which are processes of their
// own: through the server that the code knows, else the one of the data directory,
// else in the data directory's store, which is opened when it is first needed. A
// processor outlives servers, so that each question may have another answer.
type artifacts struct {
	dataDir string
	mu      sync.Mutex
	store   *store.Store
	clients map[string]*client.Client // by URL
}

// serverOf is where code with the given environment finds the server.
func serverOf(environ []string) (url, token string) {
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, "MLRUN_DBPATH="); ok {
			url = value
		}
		if value, ok := strings.CutPrefix(entry, "MLRUN_HTTPDB__TOKEN="); ok {
			token = value
		}
	}
	return url, token
}

// recorder records artifacts for a deployed function: with the server that it knows,
// else with the one that runs now.
type recorder struct {
	*artifacts
	url, token string
}

// Record implements datastore.Recorder.
func (r *recorder) Record(ctx context.Context, record datastore.Record) error {
	return r.tell("the artifact "+record.Key, func(c *client.Client) error {
		return c.RecordArtifact(ctx, record.Project, record.Key, record.Iter, record.Doc)
	})
}

// RecordResults implements datastore.Recorder.
func (r *recorder) RecordResults(ctx context.Context, results datastore.Results) error {
	updates := document.Object{"status.results": results.Results}
	if len(results.Artifacts) > 0 {
		updates["status.artifact_uris"] = results.Artifacts
	}
	err := r.tell("the run "+results.UID, func(c *client.Client) error {
		return c.UpdateRun(ctx, run.Key{Project: results.Project, UID: results.UID, Iter: results.Iter}, updates)
	})
	if fault.Is(err, fault.CodeNotFound) {
		return nil // it was sent by somebody who keeps no runs
	}
	return err
}

// tell says something to the server.
func (r *recorder) tell(what string, say func(*client.Client) error) error {
	err := error(fault.Unavailable("%s is not recorded: no server runs", what))
	for _, url := range slices.Compact([]string{r.url, Running(r.dataDir)}) {
		if url == "" {
			continue
		}
		c, made := r.client(url, r.token)
		if made != nil {
			return made
		}
		if err = say(c); !fault.Is(err, fault.CodeUnavailable) {
			return err
		}
	}
	return err
}

// resolver finds artifacts for code with the given environment.
func (a *artifacts) resolver(project string, environ []string) datastore.Resolver {
	url, token := serverOf(environ)
	return resolve(func(ctx context.Context, uri artifact.URI) (document.Object, error) {
		doc, err := a.ask(ctx, uri, url, token)
		if here := Running(a.dataDir); here != url && (err == nil && doc == nil || fault.Is(err, fault.CodeUnavailable)) && here != "" {
			doc, err = a.ask(ctx, uri, here, token)
		}
		if err != nil && !(fault.Is(err, fault.CodeUnavailable) && announced(a.dataDir).Embedded) || doc != nil {
			return doc, err
		}
		from, err := a.open(ctx)
		if err != nil {
			return nil, err
		}
		return findIn(ctx, from, uri)
	}).in(project)
}

// ofRun finds artifacts for an execution.
func (a *artifacts) ofRun(launch spool.Launch) datastore.Resolver {
	return a.resolver(launch.Project, launch.Env)
}

// stores are those that the environment of a deployed function gives access to;
// relative paths are in dir.
func (a *artifacts) stores(dir string, r realtime.Revision) *datastore.Stores {
	environ := runner.Variables(slices.Concat(os.Environ(), r.Env, r.Secrets))
	url, token := serverOf(r.Env)
	return datastore.New(datastore.Options{
		Lookup: runner.Lookup(environ), Dir: dir, Resolver: a.resolver(r.Project, r.Env), Recorder: &recorder{artifacts: a, url: url, token: token},
	})
}

// ask asks the server at url; nothing without one.
func (a *artifacts) ask(ctx context.Context, uri artifact.URI, url, token string) (document.Object, error) {
	if url == "" {
		return nil, nil
	}
	c, err := a.client(url, token)
	if err != nil {
		return nil, err
	}
	query := client.Artifact{Key: uri.Key, Tag: uri.Tag, Tree: uri.Tree, UID: uri.UID, Iter: -1}
	if uri.HasIter {
		query.Iter = uri.Iter
	}
	return c.Artifact(ctx, uri.Project, query)
}

func (a *artifacts) client(url, token string) (*client.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.clients[url]; c != nil {
		return c, nil
	}
	c, err := client.New(client.Options{URL: url, Token: token})
	if err != nil {
		return nil, err
	}
	if a.clients == nil {
		a.clients = map[string]*client.Client{}
	}
	a.clients[url] = c
	return c, nil
}

func (a *artifacts) open(ctx context.Context) (from *store.Store, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.store != nil {
		return a.store, nil
	}
	path := filepath.Join(a.dataDir, "millrace.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Precondition("artifacts cannot be looked up: there is neither a server (MLRUN_DBPATH) nor a database in %s", a.dataDir)
	}
	a.store, err = store.Open(context.WithoutCancel(ctx), store.Options{Path: path})
	return a.store, err
}

func (a *artifacts) close(logger *slog.Logger) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.clients {
		c.Close()
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			logger.Error("close store", "error", err)
		}
	}
}
