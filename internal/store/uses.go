package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/lineage"
	"github.com/millrace/millrace/internal/run"
)

// use is a row of run_uses: what a run's document wants under a name, and which
// node of the graph that is.
type use struct {
	role, name string
	wanted     string // as the document says
	used       string // a lineage.ID; "" until it is looked up
	digest     string // of an input, when it was recorded
	artifact   string // of an input: the lineage.ID of what was at the URL
}

// usesOf lists what the document of a run says about where it comes from. An
// iteration says what its run says, so of it only inputs of its own count.
func usesOf(doc document.Object, key run.Key) []use {
	var uses []use
	if uri := document.String(doc, "spec", "function"); uri != "" && key.Iter == 0 {
		u := function.ParseURI(uri)
		if u.Project == "" {
			u.Project = key.Project
		}
		uses = append(uses, use{role: lineage.RoleFunction, wanted: uri, used: lineage.FunctionID(u.Project, u.Name, u.Hash, u.Tag)})
	}
	if key.Iter > 0 {
		return uses
	}
	for name, value := range document.Map(doc, "spec", "inputs") {
		url, _ := value.(string)
		if url == "" {
			continue
		}
		name, _, _ = strings.Cut(name, ":") // what follows is a type
		name = strings.TrimSpace(name)
		if !slices.ContainsFunc(uses, func(u use) bool { return u.role == lineage.RoleInput && u.name == name }) {
			uses = append(uses, use{role: lineage.RoleInput, name: name, wanted: url, digest: document.String(doc, "status", "provenance", "inputs", name, "digest")})
		}
	}
	provenance := document.Map(doc, "status", "provenance")
	if len(provenance) == 0 {
		return uses
	}
	for part, role := range map[string]string{"inputs": lineage.RoleContent, "outputs": lineage.RoleOutput} {
		for name := range document.Map(provenance, part) {
			if digest := document.String(provenance, part, name, "digest"); digest != "" {
				uses = append(uses, use{role: role, name: name, wanted: digest, used: lineage.ContentID(digest)})
			}
		}
	}
	for field, role := range map[string]string{"rerun_of": lineage.RoleRerun, "cached_from": lineage.RoleCache} {
		if of := document.String(provenance, field); of != "" {
			project, uid, ok := strings.Cut(of, "/")
			if !ok {
				project, uid = key.Project, of
			}
			uses = append(uses, use{role: role, wanted: of, used: lineage.RunID(project, uid, 0)})
		}
	}
	return uses
}

// runUses brings the rows of a run from what old says to what doc says. A row
// whose wish is the same stays: a tag that moved later changes no history. What was
// read at a path is known better once its digest is.
func (tx *Tx) runUses(key run.Key, id int64, old, doc document.Object) error {
	if old != nil && sameSources(old, doc) {
		return nil // as in most updates
	}
	var before map[[2]string]use
	if old != nil {
		uses := usesOf(old, key)
		before = make(map[[2]string]use, len(uses))
		for _, u := range uses {
			before[[2]string{u.role, u.name}] = u
		}
	}
	var rows []any
	for _, u := range usesOf(doc, key) {
		at := [2]string{u.role, u.name}
		had, ok := before[at]
		delete(before, at)
		same := ok && had.wanted == u.wanted
		if same && (had.digest == u.digest || u.role == lineage.RoleInput && strings.HasPrefix(u.wanted, "store://")) {
			continue
		}
		if u.used == "" {
			if err := tx.resolveInput(tx.ctx, key, &u, math.MaxInt64); err != nil {
				return err
			}
		}
		rows = append(rows, id, u.role, u.name, u.wanted, u.used, u.artifact)
	}
	for len(rows) > 0 {
		n := min(len(rows)/6, maxUseRows)
		if _, err := tx.exec(`INSERT INTO run_uses (run_id, role, name, wanted, used, artifact) VALUES `+strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, ?, ?), ", n), ", ")+` ON CONFLICT (run_id, role, name) DO UPDATE SET wanted = excluded.wanted, used = excluded.used, artifact = excluded.artifact`, rows[:6*n]...); err != nil {
			return wrap(err, "note what run %s uses", key)
		}
		rows = rows[6*n:]
	}
	for at := range before {
		if _, err := tx.exec(`DELETE FROM run_uses WHERE run_id = ? AND role = ? AND name = ?`, id, at[0], at[1]); err != nil {
			return wrap(err, "note what run %s uses", key)
		}
	}
	return nil
}

// maxUseRows bounds the rows of one statement, and so how many different ones
// there are.
const maxUseRows = 16

// sameSources reports, quickly, whether two documents of a run certainly say the
// same about where it comes from.
func sameSources(a, b document.Object) bool {
	if document.String(a, "spec", "function") != document.String(b, "spec", "function") {
		return false
	}
	left, right := document.Map(a, "spec", "inputs"), document.Map(b, "spec", "inputs")
	if len(left) != len(right) || len(document.Map(a, "status", "provenance")) != len(document.Map(b, "status", "provenance")) {
		return false
	}
	for name, value := range left {
		text, ok := value.(string)
		other, ok2 := right[name].(string)
		if !ok || !ok2 || text != other {
			return false
		}
	}
	if len(document.Map(a, "status", "provenance")) == 0 {
		return true
	}
	return string(document.Canonical(document.Map(a, "status", "provenance"))) == string(document.Canonical(document.Map(b, "status", "provenance")))
}

// resolveInput finds the node that an input's URL means now: the version of an
// artifact for a store:// address that is there, else the URL itself, and the artifact
// that was there, of those that were made until a time.
func (v view) resolveInput(ctx context.Context, key run.Key, u *use, until int64) (err error) {
	u.used = lineage.DataID(u.wanted)
	if !strings.HasPrefix(u.wanted, "store://") {
		u.artifact, err = v.artifactRead(ctx, key, u.wanted, u.digest, until)
		return err
	}
	uri, err := artifact.ParseURI(u.wanted)
	if err != nil {
		return nil //nolint:nilerr // what is no address is a name like any other
	}
	if uri.Project == "" {
		uri.Project = key.Project
	}
	uid, err := v.artifactVersion(ctx, uri)
	if uid != "" {
		u.used = lineage.ArtifactID(uri.Project, uri.Key, uid)
	}
	return err
}

// artifactVersion returns the uid of the artifact that an address means, "" when
// there is none.
func (v view) artifactVersion(ctx context.Context, uri artifact.URI) (uid string, err error) {
	query, args := `SELECT a.uid FROM artifacts a WHERE a.project = ? AND a.key = ?`, []any{uri.Project, uri.Key}
	if uri.Tree != "" {
		query, args = query+` AND a.tree = ?`, append(args, uri.Tree)
	}
	if uri.UID != "" {
		query, args = query+` AND a.uid = ?`, append(args, uri.UID)
	}
	if uri.HasIter {
		query, args = query+` AND a.iter = ?`, append(args, uri.Iter)
	}
	if uri.UID == "" && (uri.Tag != "" || uri.Tree == "") || uri.UID != "" && uri.Tag != "" && uri.Tag != latest {
		tag := uri.Tag
		if tag == "" {
			tag = latest
		}
		query = strings.Replace(query, `artifacts a WHERE`, `artifact_tags t JOIN artifacts a ON a.id = t.artifact_id WHERE t.project = ? AND t.key = ? AND t.tag = ? AND`, 1)
		args = append([]any{uri.Project, uri.Key, tag}, args...)
	}
	_, err = v.row(ctx, []any{&uid}, query+` ORDER BY a.best DESC, a.updated DESC, a.id DESC LIMIT 1`, args...)
	return uid, wrap(err, "look up artifact %s", clip(uri.String()))
}

// fillUses notes, when the table is new, what the runs that are there use; else, which
// artifacts they read by path or URL.
func fillUses(ctx context.Context, q querier, d *dialect) error {
	tx := &Tx{view: view{q: q, dialect: d}, ctx: ctx}
	var one int
	filled, err := tx.row(ctx, []any{&one}, `SELECT 1 FROM run_uses LIMIT 1`)
	if err != nil {
		return err
	}
	those := ` WHERE id > ?`
	if filled {
		those += ` AND EXISTS (SELECT 1 FROM run_uses u WHERE u.run_id = runs.id AND u.role = 'input' AND u.used LIKE 'data:%')`
	}
	const group = 1000
	for last := int64(0); ; {
		type row struct {
			id, start int64
			key       run.Key
			doc       document.Object
		}
		var rows []row
		err := tx.each(ctx, func(r *sql.Rows) error {
			var next row
			var text []byte
			if err := r.Scan(&next.id, &next.start, &next.key.Project, &next.key.UID, &next.key.Iter, &text); err != nil {
				return err
			}
			doc, err := decode(text)
			if err != nil {
				return fmt.Errorf("run %s: %w", next.key, err)
			}
			next.doc = doc
			rows = append(rows, next)
			return nil
		}, `SELECT id, start_time, project, uid, iter, doc FROM runs`+those+` ORDER BY id LIMIT `+strconv.Itoa(group), last)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if !filled {
				if err := tx.runUses(r.key, r.id, nil, r.doc); err != nil {
					return err
				}
			}
			last = r.id
			if err := tx.fillRead(r.key, r.id, r.start, r.doc); err != nil {
				return err
			}
		}
		if len(rows) < group {
			return nil
		}
	}
}

// fillRead notes which artifacts a run that began then read by path or URL.
func (tx *Tx) fillRead(key run.Key, id, began int64, doc document.Object) error {
	for _, u := range usesOf(doc, key) {
		if u.role != lineage.RoleInput || strings.HasPrefix(u.wanted, "store://") {
			continue
		}
		if err := tx.resolveInput(tx.ctx, key, &u, began); err != nil {
			return err
		}
		if _, err := tx.exec(`UPDATE run_uses SET used = ?, artifact = ? WHERE run_id = ? AND role = 'input' AND name = ?`, u.used, u.artifact, id, u.name); err != nil {
			return err
		}
	}
	return nil
}
