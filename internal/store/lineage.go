package store

import (
	"context"
	"database/sql"
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
		answer, err = lineage.Walk(ctx, graph{v}, q)
		return err
	})
	return answer, err
}

// graph answers from the tables; it implements lineage.Source. Edges come from
// three places: run_uses, the producer of an artifact, the uid of an iteration.
type graph struct{ view }

// short is how much of a hash or uid is shown.
const short = 12

func cutTo(s string, n int) string { return s[:min(n, len(s))] }

// Node implements lineage.Source.
func (g graph) Node(ctx context.Context, id string) (lineage.Node, error) {
	ref, err := lineage.ParseID(id)
	if err != nil {
		return lineage.Node{}, err
	}
	node := lineage.Node{ID: id, Kind: ref.Kind, Title: ref.Name}
	var at sql.NullInt64
	var found bool
	switch ref.Kind {
	case lineage.Run:
		node.Version, node.URI = cutTo(ref.Name, short), ref.Name
		found, err = g.row(ctx, []any{&node.Title, &node.State, &at}, `SELECT name, state, start_time FROM runs WHERE project = ? AND uid = ? AND iter = ?`, ref.Project, ref.Name, ref.Iter)
	case lineage.Artifact:
		var tree string
		var iter int
		found, err = g.row(ctx, []any{&node.Type, &at, &tree, &iter}, `SELECT kind, created, tree, iter FROM artifacts WHERE project = ? AND key = ? AND uid = ?`, ref.Project, ref.Name, ref.Version)
		node.Version = cutTo(ref.Version, short)
		node.URI = artifact.URI{Prefix: artifact.Prefix(node.Type), Project: ref.Project, Key: ref.Name, Tree: tree, Iter: iter, HasIter: iter > 0}.String()
	case lineage.Function:
		node.Version, node.URI = cutTo(ref.Version, short), strings.TrimPrefix(id, "function:")
		if ref.Version != "" {
			found, err = g.row(ctx, []any{&node.Type, &at}, `SELECT kind, updated FROM functions WHERE project = ? AND name = ? AND uid = ?`, ref.Project, ref.Name, ref.Version)
			break
		}
		tag := ref.Tag
		if tag == "" {
			tag = latest
		}
		node.Version = tag
		found, err = g.row(ctx, []any{&node.Type, &at}, `SELECT f.kind, f.updated FROM function_tags t JOIN functions f ON f.id = t.function_id WHERE t.project = ? AND t.name = ? AND t.tag = ?`, ref.Project, ref.Name, tag)
	default:
		node.URI, found = ref.Name, true
	}
	node.Gone, node.Time = !found, moment(at)
	return node, wrap(err, "read %s", clip(id))
}

// Neighbours implements lineage.Source.
func (g graph) Neighbours(ctx context.Context, id string, to lineage.Direction, limit int) ([]lineage.Edge, bool, error) {
	ref, err := lineage.ParseID(id)
	if err != nil {
		return nil, false, err
	}
	b := &edgeList{limit: limit + 1}
	up := to == lineage.Up
	switch {
	case ref.Kind == lineage.Run && up:
		err = g.sourcesOfRun(ctx, ref, id, b)
	case ref.Kind == lineage.Run:
		err = g.madeByRun(ctx, ref, id, b)
	case ref.Kind == lineage.Artifact && up:
		err = g.producer(ctx, ref, id, b)
	case ref.Kind == lineage.Artifact:
		if err = g.usersOf(ctx, id, id, b); err == nil && b.room() > 0 {
			var target, tree string
			var iter int
			var found bool
			found, err = g.row(ctx, []any{&target, &tree, &iter}, `SELECT target, tree, iter FROM artifacts WHERE project = ? AND key = ? AND uid = ?`, ref.Project, ref.Name, ref.Version)
			if err == nil && found && target != "" {
				err = g.usersOf(ctx, lineage.DataID(target), id, b)
			}
			if err == nil && found {
				err = g.usersByContent(ctx, ref, tree, iter, id, b)
			}
		}
	case ref.Kind == lineage.Content && up:
		err = g.madeContent(ctx, id, id, b)
	case up: // functions come from outside, data without a known run too
	default:
		err = g.usersOf(ctx, id, id, b)
	}
	edges := b.edges
	more := len(edges) > limit
	return edges[:min(limit, len(edges))], more, wrap(err, "read what is around %s", clip(id))
}

// edgeList gathers edges up to a limit, each pair and role once.
type edgeList struct {
	edges []lineage.Edge
	limit int
}

func (b *edgeList) room() int { return b.limit - len(b.edges) }

func (b *edgeList) add(e lineage.Edge) {
	for _, had := range b.edges {
		if had.From == e.From && had.To == e.To && (had.Role == e.Role || e.Role == lineage.RoleContent) {
			return
		}
	}
	if b.room() > 0 {
		b.edges = append(b.edges, e)
	}
}

// sourcesOfRun are the function, inputs and earlier runs that a run comes from.
func (g graph) sourcesOfRun(ctx context.Context, ref lineage.Ref, id string, b *edgeList) error {
	if ref.Iter > 0 {
		b.add(lineage.Edge{From: lineage.RunID(ref.Project, ref.Name, 0), To: id, Role: lineage.RoleChild})
		return nil
	}
	type source struct{ role, name, used string }
	var sources []source
	err := g.each(ctx, func(rows *sql.Rows) error {
		var s source
		err := rows.Scan(&s.role, &s.name, &s.used)
		sources = append(sources, s)
		return err
	}, `SELECT u.role, u.name, u.used FROM runs r JOIN run_uses u ON u.run_id = r.id WHERE r.project = ? AND r.uid = ? AND r.iter = 0 AND u.role <> 'output' ORDER BY u.role, u.name`, ref.Project, ref.Name)
	if err != nil {
		return err
	}
	known := map[string]bool{} // inputs whose maker is known by address
	contents := map[string]string{}
	for _, s := range sources {
		if s.role == lineage.RoleContent {
			contents[s.name] = s.used
		}
	}
	for _, s := range sources {
		if s.role == lineage.RoleContent {
			continue
		}
		if s.role == lineage.RoleInput {
			if made, err := g.artifactAt(ctx, s.used); err != nil {
				return err
			} else if made != "" {
				s.used = made
			} else if digest := contents[s.name]; digest != "" && !strings.HasPrefix(s.used, "artifact:") {
				found := &edgeList{limit: 1}
				if err := g.madeContent(ctx, digest, digest, found); err != nil {
					return err
				}
				if len(found.edges) > 0 {
					s.used, s.role = found.edges[0].From, lineage.RoleContent
				}
			}
			known[s.name] = true
		}
		b.add(lineage.Edge{From: s.used, To: id, Role: s.role, Name: s.name})
	}
	for name, digest := range contents {
		if !known[name] {
			b.add(lineage.Edge{From: digest, To: id, Role: lineage.RoleContent, Name: name})
		}
	}
	return nil
}

// artifactAt returns the newest artifact whose file the data node is, "" for none.
func (g graph) artifactAt(ctx context.Context, id string) (string, error) {
	url, ok := strings.CutPrefix(id, "data:")
	if !ok {
		return "", nil
	}
	if strings.HasPrefix(url, "store://") {
		return "", nil
	}
	var project, key, uid string
	found, err := g.row(ctx, []any{&project, &key, &uid}, `SELECT project, key, uid FROM artifacts WHERE target = ? AND target <> '' ORDER BY id DESC LIMIT 1`, url)
	if err != nil || !found {
		return "", err
	}
	return lineage.ArtifactID(project, key, uid), nil
}

// madeByRun are a run's artifacts, its iterations, and what repeats it.
func (g graph) madeByRun(ctx context.Context, ref lineage.Ref, id string, b *edgeList) error {
	scan := func(rows *sql.Rows) error {
		var key, uid, name string
		if err := rows.Scan(&key, &uid, &name); err != nil {
			return err
		}
		b.add(lineage.Edge{From: id, To: lineage.ArtifactID(ref.Project, key, uid), Role: lineage.RoleOutput, Name: key})
		return nil
	}
	if err := g.each(ctx, scan, `SELECT key, uid, kind FROM artifacts WHERE project = ? AND tree = ? AND iter = ? ORDER BY id LIMIT ?`, ref.Project, ref.Name, ref.Iter, b.room()); err != nil {
		return err
	}
	if ref.Iter > 0 {
		return nil
	}
	// What a run of a workflow made stands under the workflow's id.
	var labels string
	var children bool
	found, err := g.row(ctx, []any{&labels, &children}, `SELECT r.labels, EXISTS (SELECT 1 FROM runs c WHERE c.project = r.project AND c.uid = r.uid AND c.iter > 0) FROM runs r WHERE r.project = ? AND r.uid = ? AND r.iter = 0`, ref.Project, ref.Name)
	if err != nil || !found {
		return err
	}
	if strings.Contains(labels, `"workflow"`) {
		all, err := decode([]byte(labels))
		if err != nil {
			return err
		}
		if err := g.each(ctx, scan, `SELECT key, uid, kind FROM artifacts WHERE project = ? AND tree = ? AND producer_uri = ? ORDER BY id LIMIT ?`, ref.Project, document.String(all, "workflow"), ref.Project+"/"+ref.Name, b.room()); err != nil {
			return err
		}
	}
	if err := g.usersOf(ctx, id, id, b); err != nil || !children {
		return err
	}
	return g.each(ctx, func(rows *sql.Rows) error {
		var iter int
		err := rows.Scan(&iter)
		b.add(lineage.Edge{From: id, To: lineage.RunID(ref.Project, ref.Name, iter), Role: lineage.RoleChild})
		return err
	}, `SELECT iter FROM runs WHERE project = ? AND uid = ? AND iter > 0 ORDER BY iter LIMIT ?`, ref.Project, ref.Name, b.room())
}

// usersOf are the runs that used what has the id used; as is the node that they
// are seen from.
func (g graph) usersOf(ctx context.Context, used, as string, b *edgeList) error {
	return g.each(ctx, func(rows *sql.Rows) error {
		var role, name, project, uid string
		if err := rows.Scan(&role, &name, &project, &uid); err != nil {
			return err
		}
		b.add(lineage.Edge{From: as, To: lineage.RunID(project, uid, 0), Role: role, Name: name})
		return nil
	}, `SELECT u.role, u.name, r.project, r.uid FROM run_uses u JOIN runs r ON r.id = u.run_id WHERE u.used = ? AND u.role <> 'output' ORDER BY u.run_id DESC LIMIT ?`, used, b.room())
}

// producer is the run that made an artifact: the one that its producer says, else
// the one whose uid is its tree.
func (g graph) producer(ctx context.Context, ref lineage.Ref, id string, b *edgeList) error {
	var tree, producer string
	var iter int
	found, err := g.row(ctx, []any{&tree, &iter, &producer}, `SELECT tree, iter, producer_uri FROM artifacts WHERE project = ? AND key = ? AND uid = ?`, ref.Project, ref.Name, ref.Version)
	if err != nil || !found {
		return err
	}
	project, uid, ok := strings.Cut(producer, "/")
	if !ok {
		project, uid = ref.Project, producer
	}
	if iter > 0 {
		uid = strings.TrimSuffix(uid, "-"+strconv.Itoa(iter))
	}
	if uid == "" {
		uid = tree
	}
	if uid == "" {
		return nil
	}
	b.add(lineage.Edge{From: lineage.RunID(project, uid, iter), To: id, Role: lineage.RoleOutput, Name: ref.Name})
	return nil
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

// usersByContent are the runs whose input had the digest of an artifact.
func (g graph) usersByContent(ctx context.Context, ref lineage.Ref, tree string, iter int, id string, b *edgeList) error {
	if iter > 0 || tree == "" {
		return nil
	}
	var contents []string
	err := g.each(ctx, func(rows *sql.Rows) error {
		var name, digest string
		err := rows.Scan(&name, &digest)
		if name == ref.Name || strings.HasSuffix(ref.Name, "_"+name) {
			contents = append(contents, digest)
		}
		return err
	}, `SELECT u.name, u.used FROM runs r JOIN run_uses u ON u.run_id = r.id WHERE r.project = ? AND r.uid = ? AND r.iter = 0 AND u.role = 'output' LIMIT ?`, ref.Project, tree, maxOutputs)
	if err != nil {
		return err
	}
	for _, digest := range contents {
		if err := g.usersOf(ctx, digest, id, b); err != nil {
			return err
		}
	}
	return nil
}

// LineageFind returns the id of the node that somebody named: an id, the address
// of an artifact, a URL, the uid of a run, [project/]name[:tag][@hash] of a function
// or key[:tag] of an artifact. fault.CodeNotFound when nothing is called that.
func (s *Store) LineageFind(ctx context.Context, project, name string) (string, error) {
	g := graph{s.read}
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
			users := &edgeList{limit: 1}
			if err := g.usersOf(ctx, id, id, users); err != nil || len(users.edges) == 0 {
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
	node, err := g.Node(ctx, id)
	if err != nil {
		return "", err
	}
	if !node.Gone && ref.Kind != lineage.Data && ref.Kind != lineage.Content {
		return id, nil
	}
	for _, way := range []lineage.Direction{lineage.Up, lineage.Down} {
		if edges, _, err := g.Neighbours(ctx, id, way, 1); err != nil || len(edges) > 0 {
			return id, err
		}
	}
	return "", fault.NotFound("nothing is known of %s", clip(ref.Name))
}
