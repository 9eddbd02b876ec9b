package api

import (
	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

// The first version's routes of artifacts. They know neither uids nor trees: what
// they call uid is the tree, and a tag that nothing has is tried as one.

func artifactPutLegacy(c *call) error {
	doc, err := c.object()
	if err != nil {
		return err
	}
	put := store.ArtifactPut{Project: c.path("project"), Key: c.path("key"), Tree: c.path("uid"), Tag: c.str("tag")}
	if put.Iter, err = c.iter(); err != nil {
		return err
	}
	put.HasIter = c.raw("iter") != ""
	if doc, err = artifact.FromLegacy(doc, put.Key); err != nil {
		return err
	}
	if err := checkArtifact(put.Project, doc); err != nil {
		return err
	}
	c.measure(doc)
	c.maskArtifact(doc)
	put.Doc = doc
	if _, err := c.s.opts.Store.ArtifactPut(c.ctx(), put); err != nil {
		return err
	}
	return c.done()
}

func artifactGetLegacy(c *call) error {
	format, err := c.enum("format", "full")
	if err != nil {
		return err
	}
	iter, err := c.iter()
	if err != nil {
		return err
	}
	filter := store.ArtifactFilter{Project: c.path("project"), Name: store.NameFilter{Value: c.path("key")}, Tag: c.str("tag"), Iter: &iter}
	if filter.Tag == "" {
		filter.Tag = "latest"
	}
	doc, err := c.s.opts.Store.ArtifactGet(c.ctx(), filter)
	if fault.Is(err, fault.CodeNotFound) {
		byTree := filter
		byTree.Tree, byTree.Tag = filter.Tag, ""
		if other, second := c.s.opts.Store.ArtifactGet(c.ctx(), byTree); second == nil {
			doc, err = other, nil
		}
	}
	if err != nil {
		return err
	}
	if format == "minimal" {
		doc = artifact.Minimal(doc)
	}
	return c.json(200, document.Object{"data": doc})
}

// artifactDeleteLegacy deletes what a producer stored under a key: the path has the
// producer where other routes have the key.
func artifactDeleteLegacy(c *call) error {
	c.discard()
	if err := c.oneProject(); err != nil {
		return err
	}
	key := c.str("key")
	if key == "" {
		return fault.Invalid("parameter key must be given: the artifact to delete")
	}
	filter := store.ArtifactFilter{Project: c.path("project"), Name: store.NameFilter{Value: key}, Tree: c.path("key"), Tag: c.str("tag")}
	if _, err := c.s.opts.Store.ArtifactDelete(c.ctx(), filter); err != nil {
		return err
	}
	return c.done()
}

func artifactDeleteManyLegacy(c *call) error {
	if err := c.deleteArtifacts(); err != nil {
		return err
	}
	return c.done()
}
