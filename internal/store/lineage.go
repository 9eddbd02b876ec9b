package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/lineage"
)

// LineageWalk answers a question about lineage from one state of the store.
func (s *Store) LineageWalk(ctx context.Context, q lineage.Question) (answer *lineage.Graph, err error) {
	err = s.engine.snapshot(ctx, func(v view) error {
		answer, err = lineage.Walk(ctx, newGraph(v), q)
		return err
	})
	return answer, err
}

// graph answers from the tables; it implements lineage.Source. Edges come from
// three places: run_uses, the producer of an artifact, the uid of an iteration.
//
// Each question is one statement for all nodes that it is about. Where a node may
// have any number of neighbours, the statement first finds by index how far to read.
type graph struct {
	view
	// What was read already, by the ids of nodes.
	runs      map[string]runFacts
	artifacts map[string]artifactFacts
	made      map[string]string // content: digest to artifact, or to ""
}

// runFacts is what the edges of a run depend on; the zero value means that it is not stored.
type runFacts struct {
	there    bool
	labels   string // "" when none of them is about a workflow
	children bool
}

// artifactFacts is what the edges of an artifact depend on.
type artifactFacts struct {
	there                  bool
	tree, producer, target string
	iter                   int
}

func newGraph(v view) graph {
	return graph{view: v, runs: map[string]runFacts{}, artifacts: map[string]artifactFacts{}, made: map[string]string{}}
}

// short is how much of a hash or uid is shown.
const short = 12

func cutTo(s string, n int) string { return s[:min(n, len(s))] }

// keySet is what a statement looks up: of node n the values a, b and c.
type keySet [][4]any

func (k *keySet) add(n int, values ...any) {
	key := [4]any{n}
	copy(key[1:], values)
	*k = append(*k, key)
}

// keySizes are how many keys a statement has, so that there are few different
// statements and each is prepared once.
var keySizes = []int{1, 4, 16, 64}

// lookup reads the rows that query finds for keys, which it has as the table
// "k" (n, a, b, c), written {keys}; a, b and c are text.
func (g graph) lookup(ctx context.Context, keys keySet, scan func(*sql.Rows) error, query string, args ...any) error {
	for len(keys) > 0 {
		size := keySizes[len(keySizes)-1]
		for _, s := range keySizes {
			if s >= len(keys) {
				size = s
				break
			}
		}
		part := keys[:min(size, len(keys))]
		keys = keys[len(part):]
		all := make([]any, 0, 4*size+len(args))
		for _, key := range part {
			all = append(all, key[:]...)
		}
		for len(all) < 4*size {
			all = append(all, nil) // which equals nothing
		}
		if err := g.each(ctx, scan, strings.Replace(query, "{keys}", g.dialect.keys(size), 1), append(all, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// Nodes implements lineage.Source.
func (g graph) Nodes(ctx context.Context, ids []string) ([]lineage.Node, error) {
	nodes := make([]lineage.Node, len(ids))
	var runs, artifacts, functions, tagged keySet
	for i, id := range ids {
		ref, err := lineage.ParseID(id)
		if err != nil {
			return nil, err
		}
		n := lineage.Node{ID: id, Kind: ref.Kind, Title: ref.Name, Gone: true}
		switch ref.Kind {
		case lineage.Run:
			n.Version, n.URI = cutTo(ref.Name, short), ref.Name
			runs.add(i, ref.Project, ref.Name, strconv.Itoa(ref.Iter))
			g.runs[id] = runFacts{}
		case lineage.Artifact:
			n.Version = cutTo(ref.Version, short)
			n.URI = artifact.URI{Prefix: artifact.Prefix(""), Project: ref.Project, Key: ref.Name}.String()
			artifacts.add(i, ref.Project, ref.Name, ref.Version)
			g.artifacts[id] = artifactFacts{}
		case lineage.Function:
			n.Version, n.URI = cutTo(ref.Version, short), strings.TrimPrefix(id, "function:")
			if ref.Version != "" {
				functions.add(i, ref.Project, ref.Name, ref.Version)
				break
			}
			n.Version = ref.Tag
			if n.Version == "" {
				n.Version = latest
			}
			tagged.add(i, ref.Project, ref.Name, n.Version)
		default:
			n.URI, n.Gone = ref.Name, false
		}
		nodes[i] = n
	}
	err := g.lookup(ctx, runs, func(rows *sql.Rows) error {
		var i int
		var at sql.NullInt64
		var name, state string
		row := runFacts{there: true}
		if err := rows.Scan(&i, &at, &name, &state, &row.labels, &row.children); err != nil {
			return err
		}
		n := &nodes[i]
		n.Gone, n.Time, n.Title, n.State = false, moment(at), name, state
		g.runs[n.ID] = row
		return nil
	}, `SELECT k.n, r.start_time, r.name, r.state, CASE WHEN r.iter = 0 AND r.labels LIKE '%"workflow"%' THEN r.labels ELSE '' END, r.iter = 0 AND EXISTS (SELECT 1 FROM runs c WHERE c.project = r.project AND c.uid = r.uid AND c.iter > 0) FROM {keys} CROSS JOIN runs r WHERE r.project = k.a AND r.uid = k.b AND r.iter = CAST(k.c AS INTEGER)`)
	if err == nil {
		err = g.lookup(ctx, artifacts, func(rows *sql.Rows) error {
			var i int
			var at sql.NullInt64
			var kind string
			row := artifactFacts{there: true}
			if err := rows.Scan(&i, &at, &kind, &row.tree, &row.iter, &row.producer, &row.target); err != nil {
				return err
			}
			n := &nodes[i]
			n.Gone, n.Time, n.Type = false, moment(at), kind
			g.artifacts[n.ID] = row
			return nil
		}, `SELECT k.n, a.created, a.kind, a.tree, a.iter, a.producer_uri, a.target FROM {keys} CROSS JOIN artifacts a WHERE a.project = k.a AND a.key = k.b AND a.uid = k.c`)
	}
	for _, key := range artifacts {
		n := &nodes[key[0].(int)]
		row := g.artifacts[n.ID]
		n.URI = artifact.URI{Prefix: artifact.Prefix(n.Type), Project: key[1].(string), Key: n.Title, Tree: row.tree, Iter: row.iter, HasIter: row.iter > 0}.String()
	}
	function := func(rows *sql.Rows) error {
		var i int
		var at sql.NullInt64
		var kind string
		err := rows.Scan(&i, &at, &kind)
		if err != nil {
			return err
		}
		nodes[i].Gone, nodes[i].Time, nodes[i].Type = false, moment(at), kind
		return nil
	}
	if err == nil {
		err = g.lookup(ctx, functions, function, `SELECT k.n, f.updated, f.kind FROM {keys} CROSS JOIN functions f WHERE f.project = k.a AND f.name = k.b AND f.uid = k.c`)
	}
	if err == nil {
		err = g.lookup(ctx, tagged, function, `SELECT k.n, f.updated, f.kind FROM {keys} CROSS JOIN function_tags t CROSS JOIN functions f WHERE t.project = k.a AND t.name = k.b AND t.tag = k.c AND f.id = t.function_id`)
	}
	return nodes, wrap(err, "read the nodes of a lineage")
}

// Neighbours implements lineage.Source.
func (g graph) Neighbours(ctx context.Context, ids []string, to lineage.Direction, limit int) ([]lineage.Around, error) {
	q := question{graph: g, ids: ids, refs: make([]lineage.Ref, len(ids)), lists: make([]edgeList, len(ids)), limit: limit + 1}
	var runs, artifacts, contents, others []int
	var unread []string
	for i, id := range ids {
		ref, err := lineage.ParseID(id)
		if err != nil {
			return nil, err
		}
		_, isRun := g.runs[id]
		if _, isArtifact := g.artifacts[id]; !isRun && !isArtifact && (ref.Kind == lineage.Run || ref.Kind == lineage.Artifact) {
			unread = append(unread, id)
		}
		q.refs[i], q.lists[i].limit = ref, limit+1
		switch ref.Kind {
		case lineage.Run:
			runs = append(runs, i)
		case lineage.Artifact:
			artifacts = append(artifacts, i)
		case lineage.Content:
			contents = append(contents, i)
		default:
			others = append(others, i)
		}
	}
	_, err := g.Nodes(ctx, unread)
	if err != nil {
		return nil, err
	}
	if to == lineage.Up { // functions come from outside, data without a known run too
		err = q.sourcesOfRuns(ctx, runs)
		q.producers(artifacts)
		for _, i := range contents {
			err = errors.Join(err, g.madeContent(ctx, ids[i], ids[i], &q.lists[i]))
		}
	} else {
		err = errors.Join(q.madeByRuns(ctx, runs), q.usersOfArtifacts(ctx, artifacts))
		var used keySet
		for _, i := range append(contents, others...) {
			used.add(i, ids[i])
		}
		err = errors.Join(err, q.users(ctx, used))
	}
	if err != nil {
		return nil, wrap(err, "read what is around nodes of a lineage")
	}
	out := make([]lineage.Around, len(ids))
	for i := range out {
		edges := q.lists[i].edges
		out[i] = lineage.Around{Edges: edges[:min(limit, len(edges))], More: len(edges) > limit}
	}
	return out, nil
}

// edgeList gathers edges up to a limit, each pair and role once.
type edgeList struct {
	edges []lineage.Edge
	limit int
}

func (b *edgeList) room() int { return b.limit - len(b.edges) }

func (b *edgeList) add(e lineage.Edge) {
	if b.room() <= 0 {
		return
	}
	for _, had := range b.edges {
		if had.From == e.From && had.To == e.To && (had.Role == e.Role || e.Role == lineage.RoleContent) {
			return
		}
	}
	b.edges = append(b.edges, e)
}

// question is one about the neighbours of several nodes.
type question struct {
	graph
	ids   []string
	refs  []lineage.Ref
	lists []edgeList // what was found, as ids
	limit int
}

// sourcesOfRuns are the function, inputs and earlier runs that runs come from.
func (q *question) sourcesOfRuns(ctx context.Context, runs []int) error {
	type source struct {
		of               int
		role, name, used string
		maker            string // of an input: the newest artifact at its place
	}
	var keys keySet
	for _, i := range runs {
		if ref := q.refs[i]; ref.Iter > 0 {
			q.lists[i].add(lineage.Edge{From: lineage.RunID(ref.Project, ref.Name, 0), To: q.ids[i], Role: lineage.RoleChild})
		} else {
			keys.add(i, ref.Project, ref.Name)
		}
	}
	var sources []source
	contents := map[[2]string]string{} // by run and input
	err := q.lookup(ctx, keys, func(rows *sql.Rows) error {
		var s source
		var project, key, uid sql.NullString
		if err := rows.Scan(&s.of, &s.role, &s.name, &s.used, &project, &key, &uid); err != nil {
			return err
		}
		if s.role == lineage.RoleContent {
			contents[[2]string{q.ids[s.of], s.name}] = s.used
		}
		if uid.Valid {
			s.maker = lineage.ArtifactID(project.String, key.String, uid.String)
		}
		sources = append(sources, s)
		return nil
	}, `SELECT k.n, u.role, u.name, u.used, a.project, a.key, a.uid FROM {keys} CROSS JOIN runs r CROSS JOIN run_uses u LEFT JOIN artifacts a ON a.id = CASE WHEN u.role = 'input' AND u.used LIKE 'data:%' THEN `+q.newestAt("substr(u.used, 6)")+` END WHERE r.project = k.a AND r.uid = k.b AND r.iter = 0 AND u.run_id = r.id AND u.role <> 'output' ORDER BY k.n, u.role, u.name`)
	if err != nil {
		return err
	}
	known := map[[2]string]bool{} // inputs that have an address
	for _, s := range sources {
		if s.role == lineage.RoleContent {
			continue
		}
		if s.role == lineage.RoleInput {
			at := [2]string{q.ids[s.of], s.name}
			if s.maker != "" {
				s.used = s.maker
			} else if digest := contents[at]; digest != "" && !strings.HasPrefix(s.used, "artifact:") {
				made, err := q.makerOf(ctx, digest)
				if err != nil {
					return err
				}
				if made != "" {
					s.used, s.role = made, lineage.RoleContent
				}
			}
			known[at] = true
		}
		q.lists[s.of].add(lineage.Edge{From: s.used, To: q.ids[s.of], Role: s.role, Name: s.name})
	}
	for _, s := range sources {
		if s.role == lineage.RoleContent && !known[[2]string{q.ids[s.of], s.name}] {
			q.lists[s.of].add(lineage.Edge{From: s.used, To: q.ids[s.of], Role: lineage.RoleContent, Name: s.name})
		}
	}
	return nil
}

// newestAt is an expression: the id of the newest artifact at a place.
func (g graph) newestAt(place string) string {
	at := `x.target = ` + place
	if g.dialect.postgres {
		at = `md5(x.target) = md5(` + place + `) AND ` + at
	}
	return `(SELECT x.id FROM artifacts x WHERE ` + at + ` AND x.target <> '' ORDER BY x.id DESC LIMIT 1)`
}

// artifactAt returns the newest artifact whose file the data node is, "" for none.
func (g graph) artifactAt(ctx context.Context, id string) (string, error) {
	url, ok := strings.CutPrefix(id, "data:")
	if !ok || strings.HasPrefix(url, "store://") {
		return "", nil
	}
	var place keySet
	place.add(0, url)
	made := ""
	err := g.lookup(ctx, place, func(rows *sql.Rows) error {
		var project, key, uid string
		err := rows.Scan(&project, &key, &uid)
		made = lineage.ArtifactID(project, key, uid)
		return err
	}, `SELECT a.project, a.key, a.uid FROM {keys} CROSS JOIN artifacts a WHERE a.id = `+g.newestAt("k.a"))
	return made, err
}

// makerOf returns the newest artifact with that content, "" for none.
func (g graph) makerOf(ctx context.Context, digest string) (string, error) {
	if made, ok := g.made[digest]; ok {
		return made, nil
	}
	found := &edgeList{limit: 1}
	if err := g.madeContent(ctx, digest, digest, found); err != nil {
		return "", err
	}
	made := ""
	if len(found.edges) > 0 {
		made = found.edges[0].From
	}
	g.made[digest] = made
	return made, nil
}

// madeByRuns are the artifacts of runs, their iterations, and what repeats them.
func (q *question) madeByRuns(ctx context.Context, runs []int) error {
	var keys, used keySet
	for _, i := range runs {
		ref := q.refs[i]
		keys.add(i, ref.Project, ref.Name, strconv.Itoa(ref.Iter))
		if ref.Iter == 0 && q.runs[q.ids[i]].there {
			used.add(i, q.ids[i])
		}
	}
	made := func(rows *sql.Rows) error {
		var i int
		var key, uid string
		if err := rows.Scan(&i, &key, &uid); err != nil {
			return err
		}
		q.lists[i].add(lineage.Edge{From: q.ids[i], To: lineage.ArtifactID(q.refs[i].Project, key, uid), Role: lineage.RoleOutput, Name: key})
		return nil
	}
	const those = `x.project = k.a AND x.tree = k.b AND x.iter = CAST(k.c AS INTEGER)`
	if err := q.lookup(ctx, keys, made, `SELECT k.n, a.key, a.uid FROM {keys} CROSS JOIN artifacts a WHERE a.project = k.a AND a.tree = k.b AND a.iter = CAST(k.c AS INTEGER) AND a.id <= COALESCE((SELECT x.id FROM artifacts x WHERE `+those+` ORDER BY x.id LIMIT 1 OFFSET CAST(? AS INTEGER)), 9223372036854775807) ORDER BY a.id`, q.limit-1); err != nil {
		return err
	}
	for _, i := range runs { // what a run of a workflow made stands under the workflow's id
		labels := q.runs[q.ids[i]].labels
		if labels == "" || q.lists[i].room() <= 0 {
			continue
		}
		all, err := decode([]byte(labels))
		if err != nil {
			return err
		}
		ref := q.refs[i]
		if err := q.each(ctx, made, `SELECT CAST(? AS INTEGER), key, uid FROM artifacts WHERE project = ? AND tree = ? AND producer_uri = ? ORDER BY id LIMIT ?`, i, ref.Project, document.String(all, "workflow"), ref.Project+"/"+ref.Name, q.lists[i].room()); err != nil {
			return err
		}
	}
	if err := q.users(ctx, used); err != nil {
		return err
	}
	for _, i := range runs {
		ref, list := q.refs[i], &q.lists[i]
		if !q.runs[q.ids[i]].children || list.room() <= 0 {
			continue
		}
		err := q.each(ctx, func(rows *sql.Rows) error {
			var iter int
			err := rows.Scan(&iter)
			list.add(lineage.Edge{From: q.ids[i], To: lineage.RunID(ref.Project, ref.Name, iter), Role: lineage.RoleChild})
			return err
		}, `SELECT iter FROM runs WHERE project = ? AND uid = ? AND iter > 0 ORDER BY iter LIMIT ?`, ref.Project, ref.Name, list.room())
		if err != nil {
			return err
		}
	}
	return nil
}

// users are the runs that used what has the ids used, the newest first.
func (q *question) users(ctx context.Context, used keySet) error {
	type user struct {
		of                       int
		id                       int64
		role, name, project, uid string
	}
	var users []user
	err := q.lookup(ctx, used, func(rows *sql.Rows) error {
		var u user
		err := rows.Scan(&u.of, &u.id, &u.role, &u.name, &u.project, &u.uid)
		users = append(users, u)
		return err
	}, `SELECT k.n, u.run_id, u.role, u.name, r.project, r.uid FROM {keys} CROSS JOIN run_uses u CROSS JOIN runs r WHERE u.used = k.a AND u.role <> 'output' AND r.id = u.run_id AND u.run_id >= COALESCE((SELECT DISTINCT x.run_id FROM run_uses x WHERE x.used = k.a AND x.role <> 'output' ORDER BY x.run_id DESC LIMIT 1 OFFSET CAST(? AS INTEGER)), 0)`, q.limit-1)
	slices.SortStableFunc(users, func(a, b user) int {
		return cmp.Or(cmp.Compare(b.id, a.id), strings.Compare(a.role, b.role), strings.Compare(a.name, b.name))
	})
	for _, u := range users {
		q.lists[u.of].add(lineage.Edge{From: q.ids[u.of], To: lineage.RunID(u.project, u.uid, 0), Role: u.role, Name: u.name})
	}
	return err
}

// producers are the runs that made artifacts: the one that an artifact's producer
// says, else the one whose uid is its tree.
func (q *question) producers(artifacts []int) {
	for _, i := range artifacts {
		ref, row := q.refs[i], q.artifacts[q.ids[i]]
		if !row.there {
			continue
		}
		project, uid, ok := strings.Cut(row.producer, "/")
		if !ok {
			project, uid = ref.Project, row.producer
		}
		if row.iter > 0 {
			uid = strings.TrimSuffix(uid, "-"+strconv.Itoa(row.iter))
		}
		if uid == "" {
			uid = row.tree
		}
		if uid != "" {
			q.lists[i].add(lineage.Edge{From: lineage.RunID(project, uid, row.iter), To: q.ids[i], Role: lineage.RoleOutput, Name: ref.Name})
		}
	}
}

// usersOfArtifacts are the runs that used artifacts: by name, by place, or bytes that
// are the same.
func (q *question) usersOfArtifacts(ctx context.Context, artifacts []int) error {
	var used, outputs, contents keySet
	for _, i := range artifacts {
		row := q.artifacts[q.ids[i]]
		if used.add(i, q.ids[i]); row.target != "" {
			used.add(i, lineage.DataID(row.target))
		}
		if row.iter > 0 || row.tree == "" {
			continue
		}
		// A key may be an output's name after the name of the run.
		for name, ok := q.refs[i].Name, true; ok; _, name, ok = strings.Cut(name, "_") {
			outputs.add(i, q.refs[i].Project, row.tree, name)
		}
	}
	if err := q.users(ctx, used); err != nil {
		return err
	}
	err := q.lookup(ctx, outputs, func(rows *sql.Rows) error {
		var i int
		var digest string
		err := rows.Scan(&i, &digest)
		contents.add(i, digest)
		return err
	}, `SELECT k.n, u.used FROM {keys} CROSS JOIN runs r CROSS JOIN run_uses u WHERE r.project = k.a AND r.uid = k.b AND r.iter = 0 AND u.run_id = r.id AND u.role = 'output' AND u.name = k.c`)
	if err != nil {
		return err
	}
	return q.users(ctx, contents)
}

// madeContent are the artifacts with a digest, the newest first.
func (g graph) madeContent(ctx context.Context, digest, as string, b *edgeList) error {
	type output struct{ project, uid, name string }
	var outputs []output
	err := g.each(ctx, func(rows *sql.Rows) error {
		var o output
		err := rows.Scan(&o.name, &o.project, &o.uid)
		outputs = append(outputs, o)
		return err
	}, `SELECT u.name, r.project, r.uid FROM run_uses u JOIN runs r ON r.id = u.run_id WHERE u.used = ? AND u.role = 'output' ORDER BY u.run_id DESC LIMIT ?`, digest, b.room())
	if err != nil {
		return err
	}
	for _, o := range outputs {
		err := g.each(ctx, func(rows *sql.Rows) error {
			var key, uid string
			var text []byte
			if err := rows.Scan(&key, &uid, &text); err != nil {
				return err
			}
			doc, err := decode(text)
			if err != nil {
				return err
			}
			if key == o.name || artifact.Key(doc) == o.name {
				b.add(lineage.Edge{From: lineage.ArtifactID(o.project, key, uid), To: as, Role: lineage.RoleContent, Name: o.name})
			}
			return nil
		}, `SELECT key, uid, doc FROM artifacts WHERE project = ? AND tree = ? AND iter = 0 ORDER BY id LIMIT ?`, o.project, o.uid, maxOutputs)
		if err != nil {
			return err
		}
	}
	return nil
}

// maxOutputs bounds how many artifacts of a run are searched for one name.
const maxOutputs = 500

// LineageFind returns the id of the node that somebody named: an id, the address
// of an artifact, a URL, the uid of a run, [project/]name[:tag][@hash] of a function
// or key[:tag] of an artifact. fault.CodeNotFound when nothing is called that.
func (s *Store) LineageFind(ctx context.Context, project, name string) (string, error) {
	g := newGraph(s.read)
	if ref, err := lineage.ParseID(name); err == nil {
		return g.existing(ctx, name, ref)
	}
	if strings.HasPrefix(name, "store://") {
		return g.findArtifact(ctx, project, name)
	}
	if rest, ok := strings.CutPrefix(name, function.SchemeDB); ok {
		id, err := g.findFunction(ctx, project, rest)
		if err == nil && id == "" {
			err = fault.NotFound("there is no function %s", clip(name))
		}
		return id, err
	}
	if strings.Contains(name, "://") || strings.HasPrefix(name, "/") {
		id := lineage.DataID(name)
		if made, err := g.artifactAt(ctx, id); made != "" || err != nil {
			return made, err
		}
		return g.existing(ctx, id, lineage.Ref{Kind: lineage.Data, Name: name})
	}
	uid, iter, _ := strings.Cut(name, "#")
	var found string
	if ok, err := g.row(ctx, []any{&found}, `SELECT uid FROM runs WHERE project = ? AND uid = ? LIMIT 1`, project, uid); err != nil {
		return "", err
	} else if ok {
		id := lineage.RunID(project, uid, 0)
		if iter != "" && iter != "0" {
			id += "#" + iter
		}
		ref, err := lineage.ParseID(id)
		if err != nil {
			return "", err
		}
		return g.existing(ctx, id, ref)
	}
	if id, err := g.findFunction(ctx, project, name); id != "" || err != nil {
		return id, err
	}
	return g.findArtifact(ctx, project, "store://artifacts/"+project+"/"+name)
}

func (g graph) findFunction(ctx context.Context, project, name string) (string, error) {
	id := lineage.FunctionID(project, name, "", "")
	if strings.Contains(name, "/") {
		id = "function:" + name
	}
	ref, err := lineage.ParseID(id)
	if err != nil {
		return "", nil //nolint:nilerr // it is something else then
	}
	if ref.Version != "" {
		var one int
		found, err := g.row(ctx, []any{&one}, `SELECT 1 FROM functions WHERE project = ? AND name = ? AND uid = ?`, ref.Project, ref.Name, ref.Version)
		if err != nil {
			return "", err
		}
		if !found { // a run may tell of it
			around, err := g.Neighbours(ctx, []string{id}, lineage.Down, 1)
			if err != nil || len(around[0].Edges) == 0 {
				return "", err
			}
		}
		return id, nil
	}
	tag := ref.Tag
	if tag == "" {
		tag = latest
	}
	var uid string
	found, err := g.row(ctx, []any{&uid}, `SELECT f.uid FROM function_tags t JOIN functions f ON f.id = t.function_id WHERE t.project = ? AND t.name = ? AND t.tag = ?`, ref.Project, ref.Name, tag)
	if err != nil || !found {
		return "", err
	}
	return lineage.FunctionID(ref.Project, ref.Name, uid, ""), nil
}

func (g graph) findArtifact(ctx context.Context, project, address string) (string, error) {
	uri, err := artifact.ParseURI(address)
	if err != nil {
		return "", err
	}
	if uri.Project == "" {
		uri.Project = project
	}
	uid, err := g.artifactVersion(ctx, uri)
	if err != nil {
		return "", err
	}
	if uid == "" {
		id := lineage.DataID(address)
		if _, err := g.existing(ctx, id, lineage.Ref{Kind: lineage.Data, Name: address}); err == nil {
			return id, nil
		}
		return "", fault.NotFound("there is no run, function or artifact %q in project %s; name an artifact by its store:// address or key, a run by its uid, a function by [project/]name[:tag][@hash], data by its URL", clip(strings.TrimPrefix(address, "store://artifacts/"+project+"/")), clip(project))
	}
	return lineage.ArtifactID(uri.Project, uri.Key, uid), nil
}

// existing returns id when something is stored about it.
func (g graph) existing(ctx context.Context, id string, ref lineage.Ref) (string, error) {
	nodes, err := g.Nodes(ctx, []string{id})
	if err != nil {
		return "", err
	}
	if !nodes[0].Gone && ref.Kind != lineage.Data && ref.Kind != lineage.Content {
		return id, nil
	}
	for _, way := range []lineage.Direction{lineage.Up, lineage.Down} {
		if around, err := g.Neighbours(ctx, []string{id}, way, 1); err != nil || len(around[0].Edges) > 0 {
			return id, err
		}
	}
	return "", fault.NotFound("nothing is known of %s", clip(ref.Name))
}
