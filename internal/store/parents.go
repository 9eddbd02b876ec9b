package store

import (
	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// artifactColumns are the columns of a list of artifacts a with their tags t.
const artifactColumns = `a.doc, t.tag, ` + hasChildren

const hasChildren = `EXISTS (SELECT 1 FROM artifacts c WHERE c.parent_id = a.id)`

// maxAncestors bounds the way up from an artifact.
const maxAncestors = 1000

// setHasChildren says in doc whether other artifacts name it as their parent. One
// that has none says so only where the client has the field.
func setHasChildren(doc document.Object, has bool) {
	if has || document.Get(doc, "spec", "has_children") != nil {
		document.Set(doc, has, "spec", "has_children")
	}
}

// parent selects the artifacts whose parent is what uri names.
func (c *conditions) parent(project string, uri artifact.URI) {
	p := conditions{dialect: c.dialect}
	if uri.Project == "" {
		uri.Project = project
	}
	p.add("p.project = ?", uri.Project)
	p.add("p.key = ?", uri.Key)
	p.equal("p.tree", uri.Tree)
	p.equal("p.uid", uri.UID)
	if uri.HasIter && uri.Iter == 0 {
		p.add("(p.iter = 0 OR p.best = 1)") // as when it is read
	} else if uri.HasIter {
		p.add("p.iter = ?", uri.Iter)
	}
	if uri.Tag != "" && uri.Tag != "*" && uri.UID == "" { // tags move on, a uid does not
		p.add("EXISTS (SELECT 1 FROM artifact_tags q WHERE q.artifact_id = p.id AND q.tag = ?)", uri.Tag)
	}
	c.add("a.parent_id IN (SELECT p.id FROM artifacts p"+p.where()+")", p.args...)
}

// artifactParent notes the parent that doc names. One that is not here is noted when
// doc is stored again. fault.CodeInvalid for an address that is none, one in another
// project, and an artifact that would be its own ancestor.
func (tx *Tx) artifactParent(project string, id int64, doc document.Object) error {
	text := document.String(doc, "spec", "parent_uri")
	if text == "" {
		return nil // the uid holds for the parent, too: it had none before
	}
	uri, err := artifact.ParseURI(text)
	if err != nil {
		return fault.Invalid("spec.parent_uri: %w", err)
	}
	if uri.Project != "" && uri.Project != project {
		return fault.Invalid("spec.parent_uri %q is in another project than its artifact, which is in %q", clip(text), clip(project))
	}
	filter := ArtifactFilter{Project: project, Name: NameFilter{Value: uri.Key}, Tag: uri.Tag, Tree: uri.Tree, UID: uri.UID}
	if uri.HasIter {
		filter.Iter = &uri.Iter
	}
	if filter.UID != "" || filter.Tag == "*" {
		filter.Tag = ""
	}
	found, parent, err := tx.artifact(tx.ctx, filter)
	if err == nil && found == nil && uri.HasIter && uri.Iter == 0 {
		filter.Iter, filter.BestOnly = nil, true
		found, parent, err = tx.artifact(tx.ctx, filter)
	}
	if err != nil || found == nil {
		return err
	}
	for at, n := parent, 0; ; n++ {
		if at == id {
			return fault.Invalid("spec.parent_uri %q leads back to the artifact itself; name another parent", clip(text))
		}
		if n == maxAncestors {
			return fault.Invalid("spec.parent_uri %q has %d artifacts above it, which is the most there may be", clip(text), maxAncestors)
		}
		var above *int64
		if _, err := tx.row(tx.ctx, []any{&above}, `SELECT parent_id FROM artifacts WHERE id = ?`, at); err != nil {
			return wrap(err, "read the parents of an artifact of project %s", clip(project))
		}
		if above == nil {
			break
		}
		at = *above
	}
	_, err = tx.exec(`UPDATE artifacts SET parent_id = ? WHERE id = ?`, parent, id)
	return wrap(err, "note the parent of an artifact of project %s", clip(project))
}
