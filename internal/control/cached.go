package control

import (
	"context"
	"maps"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/digest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/provenance"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
)

// verifyLimit bounds what is read of one artifact to see that it is unchanged.
const verifyLimit = 1 << 30

// Kept finds the earlier run whose outputs stand for those of a launch, nil when
// there is none: the launch asks for it, a completed run has the same key, its
// results are as they were, and the content of each artifact is on this machine
// and unchanged.
func (c *Control) Kept(ctx context.Context, project string, launch spool.Launch) (document.Object, error) {
	record, err := recordOf(launch)
	if err != nil || document.String(record, "cache", "key") == "" || document.Bool(record, "cache", "refresh") {
		return nil, err
	}
	key := document.String(record, "cache", "key")
	uid, err := c.Store.CacheGet(ctx, project, key)
	if err != nil || uid == "" || uid == launch.UID {
		return nil, err
	}
	earlier, err := c.Store.RunGet(ctx, run.Key{Project: project, UID: uid})
	if fault.Is(err, fault.CodeNotFound) {
		return nil, nil
	}
	if err != nil || provenance.Keepable(earlier) != key {
		return nil, err
	}
	if provenance.ResultsDigest(earlier) != document.String(earlier, "status", "provenance", "results") {
		return nil, nil
	}
	whole, err := c.unchanged(ctx, earlier)
	if err != nil || !whole {
		return nil, err
	}
	return earlier, nil
}

func recordOf(launch spool.Launch) (document.Object, error) {
	if launch.Provenance == nil {
		return nil, nil
	}
	return document.DecodeObject(launch.Provenance)
}

// unchanged reports whether all that the run made is there as it was made.
func (c *Control) unchanged(ctx context.Context, earlier document.Object) (bool, error) {
	artifacts, err := c.Store.ArtifactsOfRun(ctx, runOf(earlier))
	if err != nil {
		return false, err
	}
	found := map[string]bool{}
	for _, doc := range artifacts {
		key := artifact.Key(doc)
		sum := document.String(earlier, "status", "provenance", "outputs", key, "digest")
		if sum == "" {
			return false, nil
		}
		found[key] = true
		if inline, ok := document.Get(doc, "spec", "inline").(string); ok {
			if digest.Of([]byte(inline)) != sum {
				return false, nil
			}
			continue
		}
		path, local := provenance.LocalPath("", "", document.String(doc, "spec", "target_path"))
		if !local {
			return false, nil
		}
		now, _, err := digest.Path(ctx, path, verifyLimit)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil || now != sum {
			return false, nil //nolint:nilerr // content that cannot be read is not used
		}
	}
	for key := range document.Map(earlier, "status", "provenance", "outputs") {
		if !found[key] {
			return false, nil
		}
	}
	return true, nil
}

func runOf(doc document.Object) run.Key {
	return run.Key{Project: document.String(doc, "metadata", "project"), UID: document.String(doc, "metadata", "uid")}
}

// Adopt ends an execution that was not started: the outputs of earlier become those
// of its run, artifacts as records of their own that point at the same content.
func (c *Control) Adopt(ctx context.Context, id string, launch spool.Launch, earlier document.Object) error {
	artifacts, err := c.Store.ArtifactsOfRun(ctx, runOf(earlier))
	if err != nil {
		return err
	}
	return c.finishAfter(ctx, id, spool.Outcome{State: string(run.Completed)}, func(tx *store.Tx) error {
		record, err := recordOf(launch) // anew: this function may run more than once
		if err != nil {
			return err
		}
		key := run.Key{Project: launch.Project, UID: launch.UID}
		for _, doc := range artifacts {
			if err := adoptArtifact(ctx, tx, key, document.Clone(doc), launch.UID); err != nil {
				return err
			}
		}
		_, err = tx.RunMutate(ctx, key, func(doc document.Object) (document.Object, error) {
			provenance.Merge(doc, record)
			provenance.Adopt(doc, earlier)
			return doc, nil
		})
		return err
	})
}

func adoptArtifact(ctx context.Context, tx *store.Tx, key run.Key, doc document.Object, uid string) error {
	metadata := document.Ensure(doc, "metadata")
	tag := document.String(metadata, "tag")
	for _, field := range []string{"uid", "created", "updated", "tag"} {
		delete(metadata, field)
	}
	metadata["tree"] = uid
	if producer := document.Map(doc, "spec", "producer"); producer != nil {
		producer = maps.Clone(producer)
		producer["uri"] = key.Project + "/" + uid
		document.Set(doc, producer, "spec", "producer")
	}
	iter, _ := artifact.Iter(doc)
	_, err := tx.ArtifactPut(ctx, store.ArtifactPut{
		Project: key.Project, Key: artifact.DBKey(doc), Tag: tag, Tree: uid, Iter: iter, HasIter: true, Doc: doc,
	})
	return err
}
