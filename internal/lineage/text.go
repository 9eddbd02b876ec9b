package lineage

import (
	"strings"
)

// Text draws the graph as a tree: what the root was made from, and what it led
// to. A node that stands there already is named again, without what belongs to it.
// paint may be nil; it makes the line of a node from what stands before it and what is
// said of it.
func (g *Graph) Text(paint func(n Node, before, text string) string) string {
	if paint == nil {
		paint = func(_ Node, before, text string) string { return before + text }
	}
	t := &tree{graph: g, paint: paint, up: map[string][]Edge{}, down: map[string][]Edge{}, nodes: map[string]Node{}}
	for _, n := range g.Nodes {
		t.nodes[n.ID] = n
	}
	for _, e := range g.Edges {
		t.up[e.To] = append(t.up[e.To], e)
		t.down[e.From] = append(t.down[e.From], e)
	}
	root := t.nodes[g.Root]
	t.out.WriteString(paint(root, "", line(root)) + "\n")
	if g.Direction != Down {
		t.section("made from", "nothing that is known", Up)
	}
	if g.Direction != Up {
		t.section("led to", "nothing that is known", Down)
	}
	return t.out.String()
}

type tree struct {
	graph    *Graph
	paint    func(n Node, before, text string) string
	up, down map[string][]Edge
	nodes    map[string]Node
	seen     map[string]bool
	out      strings.Builder
}

func (t *tree) section(title, nothing string, way Direction) {
	t.out.WriteString("\n" + title + "\n")
	t.seen = map[string]bool{t.graph.Root: true}
	if !t.branch(t.graph.Root, "", way) {
		t.out.WriteString("  " + nothing + "\n")
	}
}

// branch writes what is around a node, and reports whether there is anything.
func (t *tree) branch(id, indent string, way Direction) bool {
	edges := t.down[id]
	if way == Up {
		edges = t.up[id]
	}
	cut := t.graph.Cut[id]
	for i, e := range edges {
		other := e.To
		if way == Up {
			other = e.From
		}
		mark, next := "├─ ", "│  "
		if i == len(edges)-1 && !cut {
			mark, next = "└─ ", "   "
		}
		before, text := indent+mark, line(t.nodes[other])
		if label := edgeLabel(e); label != "" {
			before += label + ": "
		}
		again := t.seen[other] && (len(t.up[other]) > 0 && way == Up || len(t.down[other]) > 0 && way == Down)
		if again {
			text += "  (above)"
		}
		t.out.WriteString(t.paint(t.nodes[other], before, text) + "\n")
		if !t.seen[other] {
			t.seen[other] = true
			t.branch(other, indent+next, way)
		}
	}
	if cut && (len(edges) > 0 || !t.stopsElsewhere(id, way)) {
		t.out.WriteString(indent + "└─ … more; see --depth, --fan and --nodes\n")
	}
	return len(edges) > 0
}

// stopsElsewhere reports whether the cut of a node was found on the other way.
func (t *tree) stopsElsewhere(id string, way Direction) bool {
	if id != t.graph.Root {
		return false
	}
	return way == Up && len(t.down[id]) > 0 || way == Down && len(t.up[id]) > 0
}

// line is a node on one line: kind, title, what is known, address.
func line(n Node) string {
	parts := []string{string(n.Kind), n.Title}
	switch n.Kind {
	case Function:
		parts = append(parts, n.Type)
	case Run:
		parts = append(parts, n.State)
	case Artifact:
		if n.Type != string(Artifact) {
			parts = append(parts, n.Type)
		}
	}
	if n.URI != "" && n.URI != n.Title {
		parts = append(parts, n.URI)
	}
	if n.Gone {
		parts = append(parts, "(not stored)")
	}
	if !n.Time.IsZero() {
		parts = append(parts, n.Time.UTC().Format("2006-01-02 15:04:05"))
	}
	kept := parts[:0]
	for _, part := range parts {
		if part != "" {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "  ")
}
