package app

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

const (
	removalBatch   = 100 // files that go in one step
	removalWorkers = 8   // requests to a store at a time
)

// finishRemovals goes on with the removals of content that an earlier process has begun,
// with the credentials of the projects: those that a request brought along are gone.
func (a *App) finishRemovals(ctx context.Context) {
	removals, err := a.store.Removals(ctx)
	if err != nil {
		a.options.Logger.ErrorContext(ctx, "list removals of content", "error", err)
	}
	for _, removal := range removals {
		project, key := document.String(removal.Doc, "metadata", "project"), artifact.Key(removal.Doc)
		failed := a.content.Remove(ctx, project, removal, nil)
		if failed != nil && ctx.Err() == nil {
			a.options.Logger.WarnContext(ctx, "content of a deleted artifact stays", "project", project, "key", key, "record_stays", removal.Force, "reason", failed)
		}
		if !removal.Force {
			failed = nil
		}
		if err := a.store.RemovalEnd(ctx, removal, failed); err != nil && failed == nil && ctx.Err() == nil {
			a.options.Logger.ErrorContext(ctx, "end a removal of content", "project", project, "key", key, "error", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// clearing is the removal of one artifact's content.
type clearing struct {
	ctx     context.Context
	content *content
	removal store.Removal
	stores  *datastore.Stores
}

// Remove implements api.Content.
func (c *content) Remove(ctx context.Context, project string, removal store.Removal, secrets map[string]string) error {
	options := datastore.Options{Schemes: handedOut, Confined: true, Dir: "/"}
	if len(secrets) > 0 {
		options.Lookup = func(name string) string { return secrets[name] }
		options.Permit = func(scheme string) error { return ofTheMachine(project, scheme, secrets) }
	} else {
		options.Lookup, options.Permit = c.credentials(project)
	}
	x := clearing{ctx: ctx, content: c, removal: removal, stores: datastore.New(options)}
	what := artifact.ContentOf(removal.Doc)
	if what.Folder != "" && c.holdsOthers(project, what.Folder) {
		return fault.NotSupported("%q is a folder that the artifacts of several records are put in; use deletion_strategy=metadata-only and delete the files yourself", what.Folder)
	}
	if remote(what.Folder + strings.Join(what.Files, "")) {
		return x.objects(what)
	}
	return x.files(what)
}

// holdsOthers reports whether a folder is, or is around, the one that artifacts of the
// project are put in by default.
func (c *content) holdsOthers(project, folder string) bool {
	within := func(inner string) bool {
		inner = strings.TrimPrefix(inner, "file://")
		return inner != "" && strings.HasPrefix(strings.TrimRight(inner, "/")+"/", strings.TrimRight(strings.TrimPrefix(folder, "file://"), "/")+"/")
	}
	return within(c.Folder(project)) || slices.ContainsFunc(c.app.artifactRoots(), within)
}

// remote reports whether a target is an object of a store that content is deleted in.
func remote(target string) bool {
	scheme, _, _ := strings.Cut(target, "://")
	return slices.Contains(handedOut, scheme)
}

// step deletes those of targets that no other record names.
func (x clearing) step(targets []string, remove func(targets []string) error) error {
	if err := context.Cause(x.ctx); err != nil {
		return err
	}
	return x.content.app.store.RemovalStep(x.ctx, x.removal, targets, remove)
}

// objects deletes in a remote store. What went before an error is gone; the rest is
// found when it is asked for again.
func (x clearing) objects(what artifact.Content) error {
	for batch := range slices.Chunk(what.Files, removalBatch) {
		if err := x.step(batch, x.removeObjects); err != nil {
			return err
		}
	}
	if what.Folder == "" {
		return nil
	}
	if _, rest, _ := strings.Cut(what.Folder, "://"); strings.Trim(rest, "/") == "" || !strings.Contains(strings.Trim(rest, "/"), "/") {
		return fault.NotSupported("%q is a whole bucket, which is not deleted with an artifact; use deletion_strategy=metadata-only", what.Folder)
	}
	var batch []string
	err := x.stores.Walk(x.ctx, what.Folder, true, func(entry datastore.Entry) error {
		if entry.Dir {
			return nil
		}
		if batch = append(batch, what.Folder+entry.Name); len(batch) < removalBatch {
			return nil
		}
		full := batch
		batch = nil
		return x.step(full, x.removeObjects)
	})
	if err != nil && !fault.Is(err, fault.CodeNotFound) {
		return err
	}
	if len(batch) == 0 {
		return nil
	}
	return x.step(batch, x.removeObjects)
}

// removeObjects deletes a batch with several requests at a time.
func (x clearing) removeObjects(targets []string) error {
	var (
		workers sync.WaitGroup
		queue   = make(chan string, len(targets))
		failed  = make(chan error, len(targets))
	)
	for _, target := range targets {
		queue <- target
	}
	close(queue)
	for range min(removalWorkers, len(targets)) {
		workers.Go(func() {
			for target := range queue {
				if err := x.stores.Delete(x.ctx, target, false); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(failed)
	return <-failed
}

// files deletes below the artifact folder of this server.
func (x clearing) files(what artifact.Content) error {
	for batch := range slices.Chunk(what.Files, removalBatch) {
		err := x.step(batch, func(targets []string) error {
			for _, target := range targets {
				if err := x.content.removeFile(target, what.Folder != ""); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if what.Folder == "" {
		return nil
	}
	root, name, err := x.content.open(strings.TrimRight(what.Folder, "/"))
	if err != nil {
		return err
	}
	defer root.Close()
	switch info, err := root.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return undeleted(what.Folder, err)
	case !info.IsDir() && len(what.Files) == 0:
		return fault.NotSupported("%q is not a folder; use deletion_strategy=metadata-only", what.Folder)
	case !info.IsDir():
		return nil // a file that another record names
	}
	return x.folder(root, name, what.Folder)
}

// folder deletes what is below a folder, and the folder if nothing stays in it. Links
// are deleted and not followed.
func (x clearing) folder(root *os.Root, name, target string) error {
	in, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return undeleted(target, err)
	}
	defer in.Close()
	for {
		entries, err := in.ReadDir(removalBatch)
		var files []string
		for _, entry := range entries {
			if entry.IsDir() {
				if err := x.folder(root, path.Join(name, entry.Name()), target+entry.Name()+"/"); err != nil {
					return err
				}
				continue
			}
			files = append(files, target+entry.Name())
		}
		if len(files) > 0 {
			err := x.step(files, func(targets []string) error {
				for _, file := range targets {
					if err := root.Remove(path.Join(name, path.Base(file))); err != nil && !errors.Is(err, fs.ErrNotExist) {
						return undeleted(file, err)
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return undeleted(target, err)
		}
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return undeleted(target, err)
	}
	return nil
}

func undeleted(target string, err error) error {
	return fault.Precondition("%q cannot be deleted: %w", target, err)
}

// removeFile deletes a file; one that is not there is no error, and a folder is none
// when the artifact may be one.
func (a artifactFiles) removeFile(target string, orFolder bool) error {
	root, name, err := a.open(target)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && orFolder && info.IsDir() {
		return nil
	}
	if err != nil {
		return undeleted(target, err)
	}
	if !info.Mode().IsRegular() {
		return fault.NotSupported("%q is not a plain file, and nothing else is deleted with an artifact; use deletion_strategy=metadata-only", target)
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return undeleted(target, err)
	}
	return nil
}
