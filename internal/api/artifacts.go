package api

import (
	"fmt"
	"maps"
	"slices"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

// artifactPut stores one artifact under the key in the path.
func artifactPut(c *call) error {
	put := store.ArtifactPut{Project: c.path("project"), Key: c.path("key"), Tag: c.str("tag"), Tree: c.str("tree"), UID: c.str("object-uid")}
	var err error
	if put.Iter, err = c.iter(); err != nil {
		return err
	}
	put.HasIter = c.raw("iter") != ""
	if put.Doc, err = c.object(); err != nil {
		return err
	}
	if err := checkArtifact(put.Project, put.Doc); err != nil {
		return err
	}
	c.measure(put.Doc)
	c.maskArtifact(put.Doc)
	stored, err := c.s.opts.Store.ArtifactPut(c.ctx(), put)
	if err != nil {
		return err
	}
	return c.json(200, stored)
}

// measure adds the size of the content when the client left it open and the file
// is one of this server.
func (c *call) measure(doc document.Object) {
	target := document.String(doc, "spec", "target_path")
	if c.s.opts.Content == nil || target == "" || document.Get(doc, "spec", "size") != nil {
		return
	}
	if size, err := c.s.opts.Content.Size(target); err == nil {
		document.Set(doc, size, "spec", "size")
	}
}

// artifactCreate stores an artifact that must not exist yet.
func artifactCreate(c *call) error {
	doc, err := c.object()
	if err != nil {
		return err
	}
	put := store.ArtifactPut{Project: c.path("project"), CreateOnly: true, Doc: doc}
	if err := checkArtifact(put.Project, doc); err != nil {
		return err
	}
	if put.Key = document.String(doc, "spec", "db_key"); put.Key == "" {
		put.Key = document.String(doc, "metadata", "key")
	}
	if put.Key == "" {
		return fault.Invalid("metadata.key must be given: the name of the artifact")
	}
	c.measure(doc)
	c.maskArtifact(doc)
	put.Tag, put.Tree = document.String(doc, "metadata", "tag"), document.String(doc, "metadata", "tree")
	stored, err := c.s.opts.Store.ArtifactPut(c.ctx(), put)
	if err != nil {
		return err
	}
	return c.json(201, stored)
}

// maxInline bounds what an artifact may carry in its document instead of a file.
const maxInline = 16 << 20

// checkArtifact checks the shape of an artifact; nulls are dropped, as a client
// means nothing by them.
func checkArtifact(project string, doc document.Object) error {
	parts := []document.Object{doc}
	for _, part := range []string{"metadata", "spec", "status"} {
		object, err := document.Want[document.Object](doc, part)
		if err != nil {
			return err
		}
		parts = append(parts, object)
	}
	for _, object := range parts {
		maps.DeleteFunc(object, func(_ string, value any) bool { return value == nil })
	}
	for _, path := range [][]string{{"kind"}, {"metadata", "key"}, {"metadata", "project"}, {"metadata", "tree"}, {"metadata", "tag"}} {
		if _, err := document.Want[string](doc, path...); err != nil {
			return err
		}
	}
	if inside := document.String(doc, "metadata", "project"); inside != "" && inside != project {
		return fault.Invalid("metadata.project %q differs from project %q in the path; make them equal", clip(inside), clip(project))
	}
	if inline := document.String(doc, "spec", "inline"); len(inline) > maxInline {
		return fault.Invalid("spec.inline has %d bytes, more than %d; store the content as a file and give spec.target_path", len(inline), maxInline)
	}
	return nil
}

func artifactGet(c *call) error {
	format, err := c.enum("format", "full")
	if err != nil {
		return err
	}
	filter := store.ArtifactFilter{
		Project: c.path("project"), Name: store.NameFilter{Value: c.path("key")}, Tag: c.str("tag"), Tree: c.str("tree"), UID: c.uid(),
	}
	if c.raw("iter") != "" {
		iter, err := c.iter()
		if err != nil {
			return err
		}
		filter.Iter = &iter
	}
	doc, err := c.s.opts.Store.ArtifactGet(c.ctx(), filter)
	if err != nil {
		return err
	}
	if format == "minimal" {
		doc = artifact.Minimal(doc)
	}
	return c.json(200, doc)
}

// uid is an artifact's uid under either of its names.
func (c *call) uid() string {
	if uid := c.str("object-uid"); uid != "" || c.route.param("uid") == nil {
		return uid
	}
	return c.str("uid")
}

func artifactList(c *call) error {
	p, err := c.page()
	if err != nil {
		return err
	}
	format, err := c.enum("format", "full")
	if err != nil {
		return err
	}
	filter, err := c.artifactFilter()
	if err != nil {
		return err
	}
	if slices.Contains(c.route.versions, "v1") && filter.Tag != "" && filter.Tag != "*" && filter.Tree == "" { // see artifactlegacy.go
		probe := filter
		probe.Page = store.Page{Size: 1}
		if docs, _, err := c.s.opts.Store.ArtifactList(c.ctx(), probe); err != nil {
			return err
		} else if len(docs) == 0 {
			filter.Tree, filter.Tag = filter.Tag, ""
		}
	}
	return c.writePage("artifacts", p, func(window store.Page) ([]document.Object, bool, error) {
		filter.Page = window
		docs, more, err := c.s.opts.Store.ArtifactList(c.ctx(), filter)
		if format == "minimal" {
			for i, doc := range docs {
				docs[i] = artifact.Minimal(doc)
			}
		}
		return list(docs), more, err
	})
}

// artifactFilter reads what a list of artifacts selects.
func (c *call) artifactFilter() (filter store.ArtifactFilter, err error) {
	filter = store.ArtifactFilter{
		Project: c.path("project"), Name: parseName(c.str("name")), Tag: c.str("tag"), Kinds: c.strs("kind"),
		Tree: c.str("tree"), ProducerURI: c.str("producer_uri"),
	}
	if filter.Category, err = c.enum("category", ""); err != nil {
		return filter, err
	}
	if len(filter.Kinds) > 0 && filter.Category != "" {
		return filter, fault.Invalid("parameters kind and category exclude each other; give one")
	}
	if filter.Labels, err = parseLabels(c.strs("label")); err != nil {
		return filter, err
	}
	if filter.BestOnly, err = c.bool("best-iteration", false); err != nil {
		return filter, err
	}
	if c.raw("iter") != "" {
		iter, err := c.iter()
		if err != nil {
			return filter, err
		}
		if filter.BestOnly {
			return filter, fault.Invalid("parameters iter and best-iteration exclude each other; give one")
		}
		filter.Iter = &iter
	}
	if text := c.str("parent"); text != "" {
		parent, err := artifact.ParseParent(text)
		if err != nil {
			return filter, fmt.Errorf("parameter parent: %w", err)
		}
		filter.Parent = &parent
	}
	limit, err := c.int("limit", 0)
	if err != nil {
		return filter, err
	}
	filter.Limit = int(min(limit, maxPageNumber))
	if filter.Since, err = c.time("since"); err != nil {
		return filter, err
	}
	if filter.Until, err = c.time("until"); err != nil {
		return filter, err
	}
	partition, err := c.partition()
	if partition != nil {
		if partition.Max > 0 {
			return filter, fault.Invalid("parameter max-partitions is for lists of runs; leave it out, or give limit")
		}
		filter.Partition = &store.ArtifactPartition{SortByCreated: !partition.SortByUpdated, Ascending: partition.Ascending, Rows: partition.Rows}
	}
	return filter, err
}
