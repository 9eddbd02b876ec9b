package lineage

import (
	"context"
	"slices"

	"github.com/millrace/millrace/internal/fault"
)

// Source is where the graph is. It is asked about many nodes at once, so that a
// walk costs a database a few statements for each level and not for each node.
type Source interface {
	// Nodes describes nodes, in the order of ids. One that is not stored comes back
	// with Gone.
	Nodes(ctx context.Context, ids []string) ([]Node, error)
	// Neighbours returns, in the order of ids, at most limit edges of each node,
	// those to what it was made from (Up) or to what was made with it (Down), newest
	// first.
	Neighbours(ctx context.Context, ids []string, to Direction, limit int) ([]Around, error)
}

// Around is what is next to a node in one direction.
type Around struct {
	Edges []Edge
	More  bool // there are more than these
}

// maxEdges is about how many edges are asked for at once, which bounds the memory of
// a walk among nodes that all have very many.
const maxEdges = 8192

// Limits of a question, so that no graph makes an answer large or slow.
const (
	DefaultDepth = 10
	MaxDepth     = 100
	DefaultNodes = 200
	MaxNodes     = 2000
	DefaultFan   = 25 // edges of one node in one direction
	MaxFan       = 500
)

// Question is what to walk. Zero Depth, Nodes and Fan mean the defaults.
type Question struct {
	Root      string
	Direction Direction
	Depth     int // edges from the root
	Nodes     int // nodes in all
	Fan       int // neighbours of one node
}

// Validate fills in the defaults and refuses what is out of range.
func (q *Question) Validate() error {
	if q.Direction == "" {
		q.Direction = Both
	}
	if q.Direction != Up && q.Direction != Down && q.Direction != Both {
		return fault.Invalid("the direction of a lineage must be up, down or both, not %q", clip(string(q.Direction)))
	}
	for _, f := range []struct {
		name          string
		value         *int
		otherwise, is int
	}{{"depth", &q.Depth, DefaultDepth, MaxDepth}, {"nodes", &q.Nodes, DefaultNodes, MaxNodes}, {"fan", &q.Fan, DefaultFan, MaxFan}} {
		if *f.value == 0 {
			*f.value = f.otherwise
		}
		if *f.value < 1 || *f.value > f.is {
			return fault.Invalid("the %s of a lineage must be between 1 and %d, not %d", f.name, f.is, *f.value)
		}
	}
	return nil
}

// Graph is an answer. Nodes stand in the order in which they were reached, the
// root first; edges connect only nodes of the answer.
type Graph struct {
	Root      string
	Direction Direction
	Nodes     []Node
	Edges     []Edge
	// Cut are the nodes, by id, of which there are more neighbours than the answer
	// has, because of a limit.
	Cut map[string]bool
}

// Node returns the node with that id, nil when the graph has none.
func (g *Graph) Node(id string) *Node {
	for i := range g.Nodes {
		if g.Nodes[i].ID == id {
			return &g.Nodes[i]
		}
	}
	return nil
}

// Walk answers a question: upwards from the root, then downwards from it, never
// turning, so what else was made with an ancestor is no part of the answer. It
// goes breadth first; when the nodes run out, those near the root are there.
func Walk(ctx context.Context, source Source, q Question) (*Graph, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	found, err := source.Nodes(ctx, []string{q.Root})
	if err != nil {
		return nil, err
	}
	root := found[0]
	w := walk{source: source, q: q, graph: &Graph{Root: root.ID, Direction: q.Direction, Nodes: []Node{root}, Cut: map[string]bool{}}, seen: map[string]bool{root.ID: true}, edges: map[Edge]bool{}}
	budget := q.Nodes
	if q.Direction != Down {
		if q.Direction == Both {
			w.q.Nodes = 1 + q.Nodes/2 // leaves room for the other way
		}
		if err := w.oneWay(ctx, Up); err != nil {
			return nil, err
		}
	}
	w.q.Nodes = budget
	if q.Direction != Up {
		if err := w.oneWay(ctx, Down); err != nil {
			return nil, err
		}
	}
	return w.graph, nil
}

type walk struct {
	source Source
	q      Question
	graph  *Graph
	seen   map[string]bool
	edges  map[Edge]bool
}

// oneWay walks one way from the root.
func (w *walk) oneWay(ctx context.Context, way Direction) error {
	visited := map[string]bool{w.graph.Root: true}
	level := []string{w.graph.Root}
	for depth := 0; len(level) > 0; depth++ {
		last := depth == w.q.Depth
		fan := w.q.Fan
		if last {
			fan = 1 // only asks whether there is more
		}
		var next []string
		for ids := range slices.Chunk(level, max(1, maxEdges/fan)) {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			around, err := w.source.Neighbours(ctx, ids, way, fan)
			if err != nil {
				return err
			}
			found, err := w.connect(ctx, ids, around, way, last)
			if err != nil {
				return err
			}
			for _, id := range found {
				if !visited[id] {
					visited[id] = true
					next = append(next, id)
				}
			}
		}
		if last {
			break
		}
		level = next
	}
	return nil
}

// connect adds to the graph what is around nodes of it, as far as there is room, and
// returns what the edges lead to. At the last level no node is added.
func (w *walk) connect(ctx context.Context, ids []string, around []Around, way Direction, last bool) (found []string, err error) {
	var fresh []string
	for i, id := range ids {
		if around[i].More {
			w.graph.Cut[id] = true
		}
		for _, e := range around[i].Edges {
			other := e.To
			if way == Up {
				other = e.From
			}
			if other == id {
				continue
			}
			if !w.seen[other] {
				if last || len(w.graph.Nodes)+len(fresh) >= w.q.Nodes {
					w.graph.Cut[id] = true
					continue
				}
				w.seen[other] = true
				fresh = append(fresh, other)
			}
			if !w.edges[e] {
				w.edges[e] = true
				w.graph.Edges = append(w.graph.Edges, e)
			}
			if !last {
				found = append(found, other)
			}
		}
	}
	if len(fresh) == 0 {
		return found, nil
	}
	nodes, err := w.source.Nodes(ctx, fresh)
	w.graph.Nodes = append(w.graph.Nodes, nodes...)
	return found, err
}

// EdgesOf returns the edges of a node in one direction,
// in the order in which they were found.
func (g *Graph) EdgesOf(id string, way Direction) []Edge {
	var out []Edge
	for _, e := range g.Edges {
		if way == Up && e.To == id || way == Down && e.From == id {
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	return out
}
