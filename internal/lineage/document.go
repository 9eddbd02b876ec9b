package lineage

import (
	"github.com/millrace/millrace/internal/document"
)

// Document is the JSON form of a graph.
func (g *Graph) Document() document.Object {
	nodes, edges := make([]any, len(g.Nodes)), make([]any, len(g.Edges))
	for i, n := range g.Nodes {
		node := document.Object{"id": n.ID, "kind": string(n.Kind), "title": n.Title, "uri": n.URI}
		for key, value := range map[string]string{"type": n.Type, "version": n.Version, "state": n.State} {
			if value != "" {
				node[key] = value
			}
		}
		if !n.Time.IsZero() {
			node["time"] = document.Time(n.Time)
		}
		if n.Gone {
			node["gone"] = true
		}
		if g.Cut[n.ID] {
			node["more"] = true
		}
		nodes[i] = node
	}
	for i, e := range g.Edges {
		edge := document.Object{"from": e.From, "to": e.To, "role": e.Role}
		if e.Name != "" {
			edge["name"] = e.Name
		}
		edges[i] = edge
	}
	return document.Object{"root": g.Root, "direction": string(g.Direction), "nodes": nodes, "edges": edges}
}

// FromDocument is the reverse of Document; what is no graph reads as an empty one.
func FromDocument(doc document.Object) *Graph {
	g := &Graph{Root: document.String(doc, "root"), Direction: Direction(document.String(doc, "direction")), Cut: map[string]bool{}}
	for _, item := range document.List(doc, "nodes") {
		node, ok := item.(document.Object)
		if !ok {
			continue
		}
		n := Node{
			ID: document.String(node, "id"), Kind: Kind(document.String(node, "kind")), Title: document.String(node, "title"),
			Type: document.String(node, "type"), Version: document.String(node, "version"), State: document.String(node, "state"),
			URI: document.String(node, "uri"), Gone: document.Bool(node, "gone"),
		}
		if at, err := document.ParseTime(document.String(node, "time")); err == nil {
			n.Time = at
		}
		if document.Bool(node, "more") {
			g.Cut[n.ID] = true
		}
		g.Nodes = append(g.Nodes, n)
	}
	for _, item := range document.List(doc, "edges") {
		if edge, ok := item.(document.Object); ok {
			g.Edges = append(g.Edges, Edge{From: document.String(edge, "from"), To: document.String(edge, "to"), Role: document.String(edge, "role"), Name: document.String(edge, "name")})
		}
	}
	return g
}
