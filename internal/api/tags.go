package api

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

func artifactTags(c *call) error {
	category, err := c.enum("category", "")
	if err != nil {
		return err
	}
	project := c.path("project")
	tags, err := c.s.opts.Store.ArtifactTags(c.ctx(), project, category)
	if err != nil {
		return err
	}
	if tags == nil {
		tags = []string{}
	}
	return c.json(200, document.Object{"project": project, "tags": tags})
}

func tagAppend(c *call) error  { return c.tagWith(c.s.opts.Store.TagAppend) }
func tagReplace(c *call) error { return c.tagWith(c.s.opts.Store.TagReplace) }

// tagger changes the tags of the artifacts named.
type tagger func(ctx context.Context, project, tag string, ids []store.ArtifactIdentifier) (int, error)

func (c *call) tagWith(change tagger) error {
	if err := c.tag(change); err != nil {
		return err
	}
	return c.json(200, document.Object{"project": c.path("project"), "name": c.path("tag")})
}

func tagDelete(c *call) error {
	if err := c.tag(c.s.opts.Store.TagDelete); err != nil {
		return err
	}
	return c.silent(204)
}

func (c *call) tag(change tagger) error {
	request, err := c.object()
	if err != nil {
		return err
	}
	kind, err := document.Want[string](request, "kind")
	if err != nil {
		return err
	}
	if kind != "artifact" {
		return fault.NotFound("objects of kind %q are not tagged here; the kind must be artifact", clip(kind))
	}
	items, err := document.Want[[]any](request, "identifiers")
	if err != nil {
		return err
	}
	ids := make([]store.ArtifactIdentifier, len(items))
	for i, item := range items {
		if ids[i], err = identifier(item); err != nil {
			return fmt.Errorf("identifiers[%d]: %w", i, err)
		}
	}
	_, err = change(c.ctx(), c.path("project"), c.path("tag"), ids)
	return err
}

// identifier reads which artifacts are meant; null and absent match any.
func identifier(item any) (store.ArtifactIdentifier, error) {
	var id store.ArtifactIdentifier
	doc, ok := item.(document.Object)
	if !ok {
		return id, fault.Invalid("must be an object, got %s", document.TypeName(item))
	}
	for key, into := range map[string]*string{"key": &id.Key, "kind": &id.Kind, "uid": &id.UID, "producer_id": &id.Tree} {
		var err error
		if *into, err = document.Want[string](doc, key); err != nil {
			return id, err
		}
	}
	if value := doc["iter"]; value != nil {
		n, ok := document.ToInt(value)
		if !ok || n < 0 || n > maxPageNumber {
			return id, fault.Invalid("iter must be an integer from 0, got %s", document.TypeName(value))
		}
		iter := int(n)
		id.Iter = &iter
	}
	return id, nil
}
