package lineage

import (
	"context"
	"slices"

	"github.com/millrace/millrace/internal/fault"
)

// Source is where the graph is.
type Source interface {
	// Node describes a node. One that is not stored comes back with Gone; one that
	// nothing tells of is fault.CodeNotFound only where it is asked for by name.
	Node(ctx context.Context, id string) (Node, error)
	// Neighbours returns at most limit edges of a node, those to what it was made
	// from (Up) or to what was made with it (Down), newest first, and whether there
	// are more.
	Neighbours(ctx context.Context, id string, to Direction, limit int) (edges []Edge, more bool, err error)
}

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
	root, err := source.Node(ctx, q.Root)
	if err != nil {
		return nil, err
	}
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
		var next []string
		for _, id := range level {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			last := depth == w.q.Depth
			fan := w.q.Fan
			if last {
				fan = 1 // only asks whether there is more
			}
			edges, more, err := w.source.Neighbours(ctx, id, way, fan)
			if err != nil {
				return err
			}
			if more {
				w.graph.Cut[id] = true
			}
			for _, e := range edges {
				other := e.To
				if way == Up {
					other = e.From
				}
				if other == id {
					continue
				}
				if !w.seen[other] {
					if last || len(w.graph.Nodes) >= w.q.Nodes {
						w.graph.Cut[id] = true
						continue
					}
					node, err := w.source.Node(ctx, other)
					if err != nil {
						return err
					}
					w.seen[other] = true
					w.graph.Nodes = append(w.graph.Nodes, node)
				}
				if !w.edges[e] {
					w.edges[e] = true
					w.graph.Edges = append(w.graph.Edges, e)
				}
				if !visited[other] && !last {
					visited[other] = true
					next = append(next, other)
				}
			}
		}
		if depth == w.q.Depth {
			break
		}
		level = next
	}
	return nil
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
