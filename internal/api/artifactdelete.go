package api

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

// What becomes of the content of deleted artifacts.
const (
	metadataOnly = "metadata-only" // it stays
	dataOptional = "data-optional" // it goes if it can be deleted
	dataForce    = "data-force"    // it goes, or the record stays
)

// artifactDelete deletes records, with their content when that is asked for.
func artifactDelete(c *call) error {
	if err := c.oneProject(); err != nil {
		return err
	}
	strategy, err := c.enum("deletion_strategy", metadataOnly)
	if err != nil {
		return err
	}
	secrets, err := c.deletionSecrets()
	if err != nil {
		return err
	}
	filter := store.ArtifactFilter{
		Project: c.path("project"), Name: store.NameFilter{Value: c.path("key")}, Tag: c.str("tag"), Tree: c.str("tree"), UID: c.uid(),
	}
	if filter.Tag != "" && filter.UID != "" {
		return fault.Invalid("parameters tag and object-uid exclude each other; give one")
	}
	if c.raw("iter") != "" {
		iter, err := c.iter()
		if err != nil {
			return err
		}
		filter.Iter = &iter
	}
	if strategy == metadataOnly {
		_, err = c.s.opts.Store.ArtifactDelete(c.ctx(), filter)
	} else {
		_, err = c.s.opts.Store.ArtifactDeleteData(c.ctx(), filter, strategy == dataForce, c.release(secrets))
	}
	if err != nil && !fault.Is(err, fault.CodeNotFound) {
		return err
	}
	return c.silent(204)
}

// release deletes the content of an artifact whose record is being deleted.
func (c *call) release(secrets map[string]string) func(store.Removal) error {
	return func(removal store.Removal) error {
		err := c.removeContent(removal, secrets)
		if err != nil && !removal.Force && c.ctx().Err() == nil {
			c.s.log.InfoContext(c.ctx(), "content of a deleted artifact stays", "project", c.path("project"), "key", artifact.Key(removal.Doc), "reason", err)
			return nil
		}
		return err
	}
}

func (c *call) removeContent(removal store.Removal, secrets map[string]string) error {
	if what := artifact.ContentOf(removal.Doc); len(what.Files) == 0 && what.Folder == "" {
		return nil // it was in the record, or nowhere
	}
	if c.s.opts.Content == nil {
		return fault.NotSupported("this server deletes records of artifacts, not their files; use deletion_strategy=%s", metadataOnly)
	}
	if err := c.s.opts.Content.Remove(c.ctx(), c.path("project"), removal, secrets); err != nil {
		name := document.String(removal.Doc, "metadata", "project") + "/" + artifact.Key(removal.Doc)
		return fmt.Errorf("delete the content of artifact %s: %w", clip(name), err)
	}
	return nil
}

// deletionSecrets reads the body of a deletion: credentials for the store where the
// content is. The server's own are not named by clients.
func (c *call) deletionSecrets() (map[string]string, error) {
	value, err := c.body()
	if err != nil {
		return nil, err
	}
	doc, ok := value.(document.Object)
	if !ok && value != nil {
		return nil, fault.Invalid("the body must be null or an object of secrets, got %s", document.TypeName(value))
	}
	secrets := map[string]string{}
	for key := range doc {
		if strings.HasPrefix(key, "mlrun.") {
			return nil, fault.Forbidden("the secret key %q belongs to the server; leave it out", clip(key))
		}
		secrets[key] = document.String(doc, key)
	}
	return secrets, nil
}

func artifactDeleteMany(c *call) error {
	if err := c.deleteArtifacts(); err != nil {
		return err
	}
	return c.silent(204)
}

// oneProject refuses to delete in all projects at once.
func (c *call) oneProject() error {
	if c.path("project") == "*" {
		return fault.Invalid("artifacts are deleted in one project; name it in place of *")
	}
	return nil
}

func (c *call) deleteArtifacts() error {
	if err := c.oneProject(); err != nil {
		return err
	}
	filter := store.ArtifactFilter{Project: c.path("project"), Name: parseName(c.str("name")), Tag: c.str("tag"), Tree: c.str("tree")}
	var err error
	if filter.Labels, err = parseLabels(c.strs("label")); err != nil {
		return err
	}
	limit, err := c.int("limit", 0)
	if err != nil {
		return err
	}
	filter.Limit = int(min(limit, maxPageNumber))
	c.discard()
	_, err = c.s.opts.Store.ArtifactDelete(c.ctx(), filter)
	return err
}
