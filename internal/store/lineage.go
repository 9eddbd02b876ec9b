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
	"github.com/millrace/millrace/internal/run"
)

// LineageWalk answers a question about lineage from one state of the store.
func (s *Store) LineageWalk(ctx context.Context, q lineage.Question) (answer *lineage.Graph, err error) {
	err = s.engine.snapshot(ctx, func(v view) error {
		if v.dialect.postgres {
			// Each statement goes along indexes whatever it asks for; PostgreSQL would plan some
			// anew each time, which takes longer than they do.
			if _, err := v.q.ExecContext(ctx, `SET LOCAL plan_cache_mode = force_generic_plan`); err != nil {
				return wrap(err, "begin a lineage")
			}
		}
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
}

// runFacts is what the edges of a run depend on; the zero value means that it is not stored.
type runFacts struct {
	there    bool
	labels   string // "" when none of them is about a workflow
	children bool
}

// artifactFacts is what the edges of an artifact depend on.
type artifactFacts struct {
	there          bool
	tree, producer string
	iter           int
	used, read     bool // by its address, at its place
}

func newGraph(v view) graph {
	return graph{view: v, runs: map[string]runFacts{}, artifacts: map[string]artifactFacts{}}
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
	}, `SELECT k.n, r.start_time, r.name, r.state, `+workflowLabels+`, r.iter = 0 AND EXISTS (SELECT 1 FROM runs c WHERE c.project = r.project AND c.uid = r.uid AND c.iter > 0) FROM {keys} CROSS JOIN runs r WHERE r.project = k.a AND r.uid = k.b AND r.iter = CAST(k.c AS INTEGER)`)
	const address = `'artifact:' || k.a || '/' || k.b || '@' || k.c`
	if err == nil {
		err = g.lookup(ctx, artifacts, func(rows *sql.Rows) error {
			var i int
			var at sql.NullInt64
			var kind string
			row := artifactFacts{there: true}
			if err := rows.Scan(&i, &at, &kind, &row.tree, &row.iter, &row.producer, &row.used, &row.read); err != nil {
				return err
			}
			n := &nodes[i]
			n.Gone, n.Time, n.Type = false, moment(at), kind
			g.artifacts[n.ID] = row
			return nil
		}, `SELECT k.n, a.created, a.kind, a.tree, a.iter, a.producer_uri, EXISTS (SELECT 1 FROM run_uses u WHERE u.used = `+address+` AND u.role <> 'output'), EXISTS (SELECT 1 FROM run_uses u WHERE u.artifact = `+address+` AND u.artifact <> '') FROM {keys} CROSS JOIN artifacts a WHERE a.project = k.a AND a.key = k.b AND a.uid = k.c`)
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
		err = errors.Join(err, q.users(ctx, byID, used))
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
		run              int64
		role, name, used string
		made             string // of an input: the artifact that was at its place
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
		if err := rows.Scan(&s.of, &s.run, &s.role, &s.name, &s.used, &s.made); err != nil {
			return err
		}
		if s.role == lineage.RoleContent {
			contents[[2]string{q.ids[s.of], s.name}] = s.used
		}
		sources = append(sources, s)
		return nil
	}, `SELECT k.n, u.run_id, u.role, u.name, u.used, u.artifact FROM {keys} CROSS JOIN runs r CROSS JOIN run_uses u WHERE r.project = k.a AND r.uid = k.b AND r.iter = 0 AND u.run_id = r.id AND u.role <> 'output' ORDER BY k.n, u.role, u.name`)
	if err != nil {
		return err
	}
	known := map[[2]string]bool{} // inputs that have an address
	var unplaced keySet           // inputs that no artifact is known for by their address
	for i, s := range sources {
		if s.role != lineage.RoleInput {
			continue
		}
		at := [2]string{q.ids[s.of], s.name}
		known[at] = true
		if digest := contents[at]; s.made == "" && digest != "" && !strings.HasPrefix(s.used, "artifact:") {
			unplaced.add(i, digest, strconv.FormatInt(s.run, 10))
		}
	}
	equal, err := q.makersOf(ctx, unplaced)
	if err != nil {
		return err
	}
	for i, s := range sources {
		switch {
		case s.role == lineage.RoleContent && known[[2]string{q.ids[s.of], s.name}]:
			continue
		case s.made != "":
			s.used = s.made
		case equal[i] != "":
			s.used, s.role = equal[i], lineage.RoleContent
		}
		q.lists[s.of].add(lineage.Edge{From: s.used, To: q.ids[s.of], Role: s.role, Name: s.name})
	}
	return nil
}

// makersOf finds, of contents and the runs that read them (keys n, content, id of the
// run), an artifact with these bytes that is older than the run: of the newest run before
// it that made them. What read them first, or copied them, has not made them.
func (g graph) makersOf(ctx context.Context, keys keySet) (map[int]string, error) {
	type output struct{ project, uid, name string }
	outputs := map[int]output{}
	var made keySet
	err := g.lookup(ctx, keys, func(rows *sql.Rows) error {
		var n int
		var o output
		var labels string
		if err := rows.Scan(&n, &o.name, &o.project, &o.uid, &labels); err != nil {
			return err
		}
		trees, err := treesOf(o.uid, labels)
		outputs[n] = o
		for _, tree := range trees {
			made.add(n, o.project, tree, o.project+"/"+o.uid)
		}
		return err
	}, `SELECT k.n, u.name, r.project, r.uid, `+workflowLabels+` FROM {keys} CROSS JOIN run_uses u CROSS JOIN runs r WHERE u.used = k.a AND u.role = 'output' AND u.run_id = (SELECT MAX(x.run_id) FROM run_uses x WHERE x.used = k.a AND x.role = 'output' AND x.run_id < CAST(k.b AS BIGINT)) AND r.id = u.run_id`)
	found := map[int]string{}
	if err == nil {
		err = g.lookup(ctx, made, func(rows *sql.Rows) error {
			var n int
			var key, uid string
			err := rows.Scan(&n, &key, &uid)
			if slices.Contains(outputNames(key), outputs[n].name) {
				found[n] = lineage.ArtifactID(outputs[n].project, key, uid)
			}
			return err
		}, `SELECT k.n, a.key, a.uid FROM {keys} CROSS JOIN artifacts a WHERE a.project = k.a AND a.tree = k.b AND a.iter = 0 AND (a.tree = substr(k.c, length(k.a) + 2) OR a.producer_uri = k.c) ORDER BY a.id`)
	}
	return found, err
}

// workflowLabels is an expression: the labels of run r, "" when none of them is about a
// workflow.
const workflowLabels = `CASE WHEN r.iter = 0 AND r.labels LIKE '%"workflow"%' THEN r.labels ELSE '' END`

// treesOf are the trees of what a run makes: its uid, and of a run of a workflow the workflow's.
func treesOf(uid, labels string) ([]string, error) {
	if labels == "" {
		return []string{uid}, nil
	}
	all, err := decode([]byte(labels))
	if workflow := document.String(all, "workflow"); workflow != "" {
		return []string{uid, workflow}, err
	}
	return []string{uid}, err
}

// outputNames are the names of outputs that an artifact with that key can be: a key may
// be the name of the output after that of the run.
func outputNames(key string) []string {
	var names []string
	for ok := true; ok; _, key, ok = strings.Cut(key, "_") {
		names = append(names, key)
	}
	return names
}

// placed is an artifact with what tells its content.
type placed struct {
	id      string
	created int64
	project string
	maker   string // uid of the run that made it
	name    string
	iter    int
}

// artifactsAt lists the artifacts whose content is at a path or URL, the newest first.
func (v view) artifactsAt(ctx context.Context, url string, limit int) ([]placed, error) {
	if url == "" || strings.HasPrefix(url, "store://") {
		return nil, nil
	}
	var parts []string
	var args []any
	for _, place := range places(url) {
		parts = append(parts, `SELECT * FROM (SELECT id, project, key, uid, tree, iter, producer_uri, created FROM artifacts WHERE `+v.dialect.target()+` ORDER BY id DESC LIMIT ?) p`)
		args = append(args, place, place, limit)
	}
	var found []placed
	err := v.each(ctx, func(rows *sql.Rows) error {
		var id int64
		var p placed
		var uid, tree, producer string
		err := rows.Scan(&id, &p.project, &p.name, &uid, &tree, &p.iter, &producer, &p.created)
		p.id = lineage.ArtifactID(p.project, p.name, uid)
		_, p.maker = maker(p.project, tree, producer, p.iter)
		found = append(found, p)
		return err
	}, strings.Join(parts, " UNION ALL ")+` ORDER BY id DESC`, args...)
	return found[:min(limit, len(found))], wrap(err, "look up the artifacts at %s", clip(url))
}

// places are the ways in which an artifact's target may name a path or URL.
func places(url string) []string {
	url = strings.TrimPrefix(url, "file://")
	ways := []string{url}
	if bare := strings.TrimSuffix(url, "/"); bare != url && bare != "" {
		ways = append(ways, bare)
	} else {
		ways = append(ways, url+"/") // a folder
	}
	if strings.HasPrefix(url, "/") {
		ways = append(ways, "file://"+ways[0], "file://"+ways[1])
	}
	return ways
}

// artifactRead returns the artifact that a run read at a path or URL: of those there with
// the digest of what it read the newest, and when none is known to have it the newest
// there, unless that is known to be other bytes. "" for none. Only artifacts made
// by others until a time count.
func (v view) artifactRead(ctx context.Context, key run.Key, url, digest string, until int64) (string, error) {
	found, err := v.artifactsAt(ctx, url, maxVersions)
	found = slices.DeleteFunc(found, func(p placed) bool {
		return p.created > until || p.project == key.Project && p.maker == key.UID
	})
	if err != nil || len(found) == 0 {
		return "", err
	}
	if digest == "" {
		return found[0].id, nil
	}
	var outputs keySet
	for i, p := range found {
		if p.iter == 0 {
			for _, name := range outputNames(p.name) {
				outputs.add(i, p.project, p.maker, name)
			}
		}
	}
	digests := map[int]string{}
	err = newGraph(v).contentsOf(ctx, outputs, func(i int, _ int64, content string) { digests[i] = content })
	if err != nil {
		return "", err
	}
	for i, p := range found {
		if digests[i] == lineage.ContentID(digest) {
			return p.id, nil
		}
	}
	if digests[0] != "" {
		return "", nil
	}
	return found[0].id, nil
}

// maxVersions bounds how many artifacts that were at one place are looked through.
const maxVersions = 100

// contentsOf looks up the contents of outputs (keys n, project, uid of the run, name),
// with the id of the run.
func (g graph) contentsOf(ctx context.Context, outputs keySet, found func(n int, run int64, content string)) error {
	return g.lookup(ctx, outputs, func(rows *sql.Rows) error {
		var n int
		var run int64
		var content string
		err := rows.Scan(&n, &run, &content)
		found(n, run, content)
		return err
	}, `SELECT k.n, u.run_id, u.used FROM {keys} CROSS JOIN runs r CROSS JOIN run_uses u WHERE r.project = k.a AND r.uid = k.b AND r.iter = 0 AND u.run_id = r.id AND u.role = 'output' AND u.name = k.c`)
}

// artifactAt returns the newest artifact whose file the data node is, "" for none.
func (g graph) artifactAt(ctx context.Context, id string) (string, error) {
	url, _ := strings.CutPrefix(id, "data:")
	found, err := g.artifactsAt(ctx, url, 1)
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[0].id, nil
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
	if err := q.users(ctx, byID, used); err != nil {
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

// The ways in which runs used something.
const (
	byID      = "used"     // or by content
	fromPlace = "artifact" // they read the artifact where it was
)

// users are the runs that used what has the ids used (keys n, id, and if need be the id
// of a run that is older than they are), the newest first.
func (q *question) users(ctx context.Context, way string, used keySet) error {
	type user struct {
		of                       int
		id                       int64
		role, name, project, uid string
	}
	those := func(row string) string {
		if way == fromPlace {
			return row + `.artifact = k.a AND ` + row + `.artifact <> ''`
		}
		return row + `.used = k.a AND ` + row + `.role <> 'output'`
	}
	var users []user
	// The + keeps SQLite from going along the index by that bound, which is far back.
	err := q.lookup(ctx, used, func(rows *sql.Rows) error {
		var u user
		err := rows.Scan(&u.of, &u.id, &u.role, &u.name, &u.project, &u.uid)
		users = append(users, u)
		return err
	}, `SELECT k.n, u.run_id, u.role, u.name, r.project, r.uid FROM {keys} CROSS JOIN run_uses u CROSS JOIN runs r WHERE `+those("u")+` AND +u.run_id > COALESCE(CAST(k.b AS BIGINT), 0) AND r.id = u.run_id AND u.run_id >= COALESCE((SELECT DISTINCT x.run_id FROM run_uses x WHERE `+those("x")+` ORDER BY x.run_id DESC LIMIT 1 OFFSET CAST(? AS INTEGER)), 0)`, q.limit-1)
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
		project, uid := maker(ref.Project, row.tree, row.producer, row.iter)
		if uid != "" {
			q.lists[i].add(lineage.Edge{From: lineage.RunID(project, uid, row.iter), To: q.ids[i], Role: lineage.RoleOutput, Name: ref.Name})
		}
	}
}

// maker names the run that made an artifact.
func maker(project, tree, producer string, iter int) (ofProject, uid string) {
	ofProject, uid, ok := strings.Cut(producer, "/")
	if !ok {
		ofProject, uid = project, producer
	}
	if iter > 0 {
		uid = strings.TrimSuffix(uid, "-"+strconv.Itoa(iter))
	}
	if uid == "" {
		uid = tree
	}
	return ofProject, uid
}

// usersOfArtifacts are the runs that used artifacts: by name, at their place, or bytes
// that are the same.
func (q *question) usersOfArtifacts(ctx context.Context, artifacts []int) error {
	var used, read, outputs, contents keySet
	for _, i := range artifacts {
		ref, row := q.refs[i], q.artifacts[q.ids[i]]
		if row.used || !row.there {
			used.add(i, q.ids[i])
		}
		if row.read || !row.there {
			read.add(i, q.ids[i])
		}
		project, uid := maker(ref.Project, row.tree, row.producer, row.iter)
		if row.iter > 0 || uid == "" {
			continue
		}
		for _, name := range outputNames(ref.Name) {
			outputs.add(i, project, uid, name)
		}
	}
	if err := errors.Join(q.users(ctx, byID, used), q.users(ctx, fromPlace, read)); err != nil {
		return err
	}
	err := q.contentsOf(ctx, outputs, func(i int, run int64, content string) {
		contents.add(i, content, strconv.FormatInt(run, 10))
	})
	if err != nil {
		return err
	}
	return q.users(ctx, byID, contents)
}

// madeContent are the artifacts with a digest, the newest first.
func (g graph) madeContent(ctx context.Context, digest, as string, b *edgeList) error {
	type output struct{ project, uid, name, labels string }
	var outputs []output
	err := g.each(ctx, func(rows *sql.Rows) error {
		var o output
		err := rows.Scan(&o.name, &o.project, &o.uid, &o.labels)
		outputs = append(outputs, o)
		return err
	}, `SELECT u.name, r.project, r.uid, `+workflowLabels+` FROM run_uses u JOIN runs r ON r.id = u.run_id WHERE u.used = ? AND u.role = 'output' ORDER BY u.run_id DESC LIMIT ?`, digest, b.room())
	if err != nil {
		return err
	}
	for _, o := range outputs {
		trees, err := treesOf(o.uid, o.labels)
		if err != nil {
			return err
		}
		err = g.each(ctx, func(rows *sql.Rows) error {
			var key, uid string
			err := rows.Scan(&key, &uid)
			if slices.Contains(outputNames(key), o.name) {
				b.add(lineage.Edge{From: lineage.ArtifactID(o.project, key, uid), To: as, Role: lineage.RoleContent, Name: o.name})
			}
			return err
		}, `SELECT key, uid FROM artifacts WHERE project = ? AND tree IN (?, ?) AND iter = 0 AND (tree = ? OR producer_uri = ?) ORDER BY id LIMIT ?`, o.project, trees[0], trees[len(trees)-1], o.uid, o.project+"/"+o.uid, maxOutputs)
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
		if ref.Kind == lineage.Data {
			name = lineage.DataID(ref.Name)
		}
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
