package store

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
)

// ArtifactGet returns the one artifact that the filter names: by key
// (filter.Name) and any of tag, iteration, tree and uid. The tag latest beside a
// uid does not select. When iteration 0 is asked for and there is none, it is the
// best iteration. Of several, the best iteration comes first, then the newest.
// metadata.tag is the tag asked for, if the artifact has it, and absent when none
// was. fault.CodeNotFound when nothing matches.
func (s *Store) ArtifactGet(ctx context.Context, filter ArtifactFilter) (document.Object, error) {
	return s.read.artifactGet(ctx, filter)
}

// ArtifactGet is Store.ArtifactGet in a transaction.
func (tx *Tx) ArtifactGet(_ context.Context, filter ArtifactFilter) (document.Object, error) {
	return tx.artifactGet(tx.ctx, filter)
}

func (v view) artifactGet(ctx context.Context, filter ArtifactFilter) (document.Object, error) {
	tag := filter.Tag
	if tag == "*" || tag == latest && filter.UID != "" {
		filter.Tag = ""
	}
	doc, id, err := v.artifact(ctx, filter)
	if err == nil && doc == nil && filter.Iter != nil && *filter.Iter == 0 {
		filter.Iter, filter.BestOnly = nil, true
		doc, id, err = v.artifact(ctx, filter)
	}
	if err != nil {
		return nil, err
	}
	if doc == nil {
		return nil, fault.NotFound("Artifact not found: %s", artifactName(filter, tag))
	}
	if tag != "" && tag != "*" {
		var one int
		tagged, err := v.row(ctx, []any{&one}, `SELECT 1 FROM artifact_tags WHERE artifact_id = ? AND tag = ?`, id, tag)
		if err != nil {
			return nil, wrap(err, "read tags")
		}
		if tagged {
			document.Set(doc, tag, "metadata", "tag")
		}
	}
	return doc, nil
}

// artifactName is how a filter reads in a message.
func artifactName(f ArtifactFilter, tag string) string {
	text := clip(f.Project) + "/" + clip(f.Name.Value)
	if tag != "" {
		text += ":" + clip(tag)
	}
	if f.Tree != "" {
		text += "@" + clip(f.Tree)
	}
	if f.UID != "" {
		text += ", uid " + clip(f.UID)
	}
	return text
}

// artifact returns nil when nothing matches.
func (v view) artifact(ctx context.Context, filter ArtifactFilter) (document.Object, int64, error) {
	c, err := artifactConditions(v.dialect, filter)
	if err != nil {
		return nil, 0, err
	}
	var (
		id   int64
		text []byte
		has  bool
	)
	found, err := v.row(ctx, []any{&id, &text, &has}, `SELECT a.id, a.doc, `+hasChildren+` FROM artifacts a`+tagJoin(filter)+c.where()+` ORDER BY a.best DESC, a.updated DESC, a.id DESC LIMIT 1`, c.args...)
	if err != nil || !found {
		return nil, 0, wrap(err, "read artifact %s", artifactName(filter, filter.Tag))
	}
	doc, err := decode(text)
	if err == nil {
		setHasChildren(doc, has)
	}
	return doc, id, err
}

// tagJoin joins the tags when a filter selects by one.
func tagJoin(filter ArtifactFilter) string {
	if !filter.tagged() {
		return ""
	}
	return ` JOIN artifact_tags t ON t.artifact_id = a.id`
}

func artifactConditions(d *dialect, f ArtifactFilter) (conditions, error) {
	c := conditions{dialect: d}
	if f.BestOnly && f.Iter != nil {
		return c, fault.Invalid("best-iteration and iter can not be combined; give one of them")
	}
	if f.Category != "" && len(f.Kinds) > 0 {
		return c, fault.Invalid("kind and category can not be combined; give one of them")
	}
	switch {
	case f.Project == "*":
	case f.Parent != nil: // so that no index of the project is taken in place of that of the parent
		c.add("a.project || '' = ?", f.Project)
	default:
		c.add("a.project = ?", f.Project)
	}
	c.name("a.key", f.Name)
	if f.tagged() {
		c.add("t.tag = ?", f.Tag)
		if f.Project != "*" {
			c.add("t.project = ?", f.Project)
		}
		if !f.Name.Contains {
			c.name("t.key", f.Name)
		}
	}
	c.in("a.kind", f.Kinds)
	switch f.Category {
	case "":
	case artifact.CategoryOther:
		c.add("a.kind NOT IN ('model', 'dataset', 'document', 'llm-prompt')")
	default:
		if !slices.Contains(artifact.Categories, f.Category) {
			return c, fault.Invalid("category %q is unknown; it has to be one of %s", clip(f.Category), strings.Join(artifact.Categories, ", "))
		}
		c.add("a.kind = ?", f.Category)
	}
	if f.Iter != nil {
		c.add("a.iter = ?", *f.Iter)
	}
	if f.BestOnly {
		c.add("a.best = 1")
	}
	c.equal("a.tree", f.Tree)
	c.equal("a.uid", f.UID)
	if f.ProducerURI != "" {
		// Artifacts that nobody is known to have produced pass.
		if d.postgres {
			c.add(`(a.producer_uri = '' OR position(? in a.producer_uri) > 0)`, f.ProducerURI)
		} else {
			c.add("(a.producer_uri = '' OR instr(a.producer_uri, ?) > 0)", f.ProducerURI)
		}
	}
	if f.Parent != nil {
		c.parent(f.Project, *f.Parent)
	}
	c.between("a.updated", f.Since, f.Until)
	c.labels("a", f.Labels)
	return c, nil
}

// ArtifactsOfRun returns what a run produced, one element for each tag: for a run
// the artifacts that are the best of their iterations, for an iteration its own.
// The artifacts of a step of a workflow belong to the workflow; they are found by
// the addresses in the run. A run that does not exist has none.
func (s *Store) ArtifactsOfRun(ctx context.Context, key run.Key) ([]document.Object, error) {
	return s.read.artifactsOfRun(ctx, key)
}

// ArtifactsOfRun is Store.ArtifactsOfRun in a transaction.
func (tx *Tx) ArtifactsOfRun(_ context.Context, key run.Key) ([]document.Object, error) {
	return tx.artifactsOfRun(tx.ctx, key)
}

func (v view) artifactsOfRun(ctx context.Context, key run.Key) ([]document.Object, error) {
	row, err := v.run(ctx, key, "")
	if err != nil || row.doc == nil {
		return nil, err
	}
	if document.String(row.doc, "metadata", "labels", "workflow") != "" {
		return v.artifactsByURI(ctx, key.Project, document.Strings(row.doc, "status", "artifact_uris"))
	}
	filter := ArtifactFilter{Project: key.Project, Tree: key.UID, BestOnly: true}
	if key.Iter > 0 {
		filter.BestOnly, filter.Iter = false, &key.Iter
	}
	list, _, err := v.artifactList(ctx, filter)
	return list, err
}

func (v view) artifactsByURI(ctx context.Context, project string, uris map[string]string) ([]document.Object, error) {
	var out []document.Object
	for _, text := range uris {
		uri, err := artifact.ParseURI(text)
		if err != nil {
			continue // written by a client; it addresses nothing here
		}
		if uri.Project == "" {
			uri.Project = project
		}
		filter := ArtifactFilter{Project: uri.Project, Name: NameFilter{Value: uri.Key}, Tree: uri.Tree, Tag: uri.Tag, UID: uri.UID}
		if uri.HasIter {
			filter.Iter = &uri.Iter
		}
		list, _, err := v.artifactList(ctx, filter)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	slices.SortStableFunc(out, func(a, b document.Object) int {
		return cmp.Compare(artifact.Key(a), artifact.Key(b))
	})
	return out, nil
}
