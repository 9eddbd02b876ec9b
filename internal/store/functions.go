package store

import (
	"bytes"
	"context"
	"database/sql"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// latest is the tag that readers and writers mean who name none.
const latest = "latest"

// FunctionPut stores a function and points the tag at it: as an immutable version
// under the hash of its content, or in the tag's one mutable slot. It returns the
// hash in both cases; a slot cannot be read by it. Storing the same again changes
// nothing but the time and the status. fault.CodeNotFound when the project does
// not exist.
func (s *Store) FunctionPut(ctx context.Context, put FunctionPut) (hash string, err error) {
	err = s.Tx(ctx, func(tx *Tx) error {
		hash, err = tx.FunctionPut(ctx, put)
		return err
	})
	return hash, err
}

// FunctionPut is Store.FunctionPut in a transaction.
func (tx *Tx) FunctionPut(_ context.Context, put FunctionPut) (string, error) {
	tag := put.Tag
	if tag == "" {
		tag = document.String(put.Doc, "metadata", "tag")
	}
	if tag == "" {
		tag = latest
	}
	if put.Name == "" {
		return "", fault.Invalid("metadata.name: a function needs a name to be stored under")
	}
	if err := checkIndexed("metadata.name", put.Name); err != nil {
		return "", err
	}
	if err := function.ValidateTag("metadata.tag", tag); err != nil {
		return "", err
	}
	for _, path := range [][]string{{"metadata"}, {"metadata", "labels"}, {"spec"}, {"status"}} {
		if _, err := document.Want[document.Object](put.Doc, path...); err != nil {
			return "", err
		}
	}
	for _, path := range [][]string{{"kind"}, {"metadata", "name"}, {"status", "state"}} {
		text, err := document.Want[string](put.Doc, path...)
		if err != nil {
			return "", err
		}
		if err := checkIndexed(strings.Join(path, "."), text); err != nil {
			return "", err
		}
	}
	if err := tx.requireProject(put.Project); err != nil {
		return "", err
	}
	doc, hash, err := function.Stored(put.Doc, put.Project, put.Name, tx.now)
	if err != nil {
		return "", err
	}
	uid := hash
	if !put.Versioned {
		uid = "unversioned-" + tag
	}
	var id int64
	tx.wrote = true
	_, err = tx.row(tx.ctx, []any{&id}, `INSERT INTO functions (project, name, uid, versioned, kind, state, labels, updated, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (project, name, uid) DO UPDATE SET kind = excluded.kind, state = excluded.state, labels = excluded.labels, updated = excluded.updated, doc = excluded.doc
		RETURNING id`,
		put.Project, put.Name, uid, flag(put.Versioned), document.String(doc, "kind"), document.String(doc, "status", "state"),
		labelText(document.Strings(doc, "metadata", "labels")), tx.now.UnixMicro(), encode(doc))
	if err != nil {
		return "", wrap(err, "store function %s/%s", put.Project, clip(put.Name))
	}
	if put.Versioned && put.Untagged {
		return hash, nil
	}
	_, err = tx.exec(`INSERT INTO function_tags (project, name, tag, function_id) VALUES (?, ?, ?, ?)
		ON CONFLICT (project, name, tag) DO UPDATE SET function_id = excluded.function_id`, put.Project, put.Name, tag, id)
	return hash, wrap(err, "tag function %s/%s:%s", put.Project, clip(put.Name), tag)
}

// FunctionGet returns a function by tag, or by the hash of a version when tag is
// "" and hash is not; both empty means the tag latest. metadata.tag is the tag it
// was found by. The name is looked for in its normal form and, when it has
// underscores, as it is. fault.CodeNotFound when there is no such function.
func (s *Store) FunctionGet(ctx context.Context, project, name, tag, hash string) (document.Object, error) {
	return s.read.functionGet(ctx, project, name, tag, hash)
}

// FunctionGet is Store.FunctionGet in a transaction.
func (tx *Tx) FunctionGet(_ context.Context, project, name, tag, hash string) (document.Object, error) {
	return tx.functionGet(tx.ctx, project, name, tag, hash)
}

func (v view) functionGet(ctx context.Context, project, name, tag, hash string) (document.Object, error) {
	normal := function.NormalizeName(name)
	doc, err := v.function(ctx, project, normal, tag, hash)
	if doc == nil && err == nil && normal != name && strings.Contains(name, "_") {
		doc, err = v.function(ctx, project, name, tag, hash)
	}
	if doc != nil || err != nil {
		return doc, err
	}
	if tag == "" && hash != "" {
		return nil, fault.NotFound("Function not found %s/%s@%s", clip(project), clip(normal), clip(hash))
	}
	if tag == "" {
		tag = latest
	}
	return nil, fault.NotFound("Function tag not found %s/%s:%s", clip(project), clip(normal), clip(tag))
}

// function returns nil when there is none.
func (v view) function(ctx context.Context, project, name, tag, hash string) (document.Object, error) {
	query, last := `SELECT f.doc FROM functions f WHERE f.project = ? AND f.name = ? AND f.uid = ? AND f.versioned = 1`, hash
	if tag != "" || hash == "" {
		if tag == "" {
			tag = latest
		}
		query, last = `SELECT f.doc FROM function_tags t JOIN functions f ON f.id = t.function_id WHERE t.project = ? AND t.name = ? AND t.tag = ?`, tag
	}
	var text []byte
	found, err := v.row(ctx, []any{&text}, query, project, name, last)
	if err != nil || !found {
		return nil, wrap(err, "read function %s/%s", clip(project), clip(name))
	}
	doc, err := decode(text)
	if err == nil {
		document.Set(doc, tag, "metadata", "tag")
	}
	return doc, err
}

// FunctionList returns one element for each function and tag, in the order in
// which they were first stored. Versions without a tag are elements too, with an
// empty tag and no status; slots whose tag has moved on are not. more says
// whether a page follows.
func (s *Store) FunctionList(ctx context.Context, filter FunctionFilter) (items []document.Object, more bool, err error) {
	c := conditions{dialect: s.read.dialect}
	c.equal("f.project", filter.Project)
	c.name("f.name", filter.Name)
	switch filter.Tag {
	case "":
		c.add("(t.tag IS NOT NULL OR f.versioned = 1)")
	case "*":
		c.add("t.tag IS NOT NULL")
	default:
		c.add("t.tag = ?", filter.Tag)
	}
	if filter.Hash != "" {
		c.add("f.uid = ?", filter.Hash)
		c.add("f.versioned = 1")
	}
	c.equal("f.kind", filter.Kind)
	c.in("f.state", filter.States)
	c.between("f.updated", filter.Since, filter.Until)
	c.labels("f", filter.Labels)
	limit, args := window(filter.Page, 0)
	err = s.read.each(ctx, func(rows *sql.Rows) error {
		var (
			text sql.RawBytes
			tag  sql.NullString
		)
		if err := rows.Scan(&text, &tag); err != nil {
			return err
		}
		doc, err := decode(text)
		if err != nil {
			return err
		}
		document.Set(doc, tag.String, "metadata", "tag")
		if !tag.Valid {
			doc["status"] = nil
		}
		items = append(items, doc)
		return nil
	}, `SELECT f.doc, t.tag FROM functions f LEFT JOIN function_tags t ON t.function_id = f.id`+c.where()+` ORDER BY f.id, t.tag`+limit, append(c.args, args...)...)
	items, more = cut(items, filter.Page)
	return items, more, wrap(err, "list functions")
}

// BundlesNamed returns the names of all bundles of code that a stored function, or a
// project, refers to.
func (s *Store) BundlesNamed(ctx context.Context) (map[string]bool, error) {
	named := map[string]bool{}
	look := func(rows *sql.Rows) error {
		var text sql.RawBytes
		if err := rows.Scan(&text); err != nil {
			return err
		}
		for {
			_, rest, found := bytes.Cut(text, []byte(function.SchemeBundle))
			if !found {
				return nil
			}
			end := bytes.IndexByte(rest, '"')
			named[string(rest[:max(end, 0)])] = true
			text = rest
		}
	}
	for _, table := range []string{"functions", "projects"} {
		err := s.read.each(ctx, look, `SELECT doc FROM `+table+` WHERE CAST(doc AS TEXT) LIKE ?`, "%"+function.SchemeBundle+"%")
		if err != nil {
			return nil, wrap(err, "list bundles of code")
		}
	}
	return named, nil
}

// FunctionDelete deletes every version, slot and tag of a function; a function
// that does not exist is no error.
func (s *Store) FunctionDelete(ctx context.Context, project, name string) error {
	return s.Tx(ctx, func(tx *Tx) error { return tx.FunctionDelete(ctx, project, name) })
}

// FunctionDelete is Store.FunctionDelete in a transaction.
func (tx *Tx) FunctionDelete(_ context.Context, project, name string) error {
	for _, table := range []string{"function_tags", "functions"} {
		if _, err := tx.exec(`DELETE FROM `+table+` WHERE project = ? AND name = ?`, project, name); err != nil {
			return wrap(err, "delete function %s/%s", clip(project), clip(name))
		}
	}
	return nil
}
