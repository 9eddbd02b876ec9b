package api

import (
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lineage"
)

func lineageRoutes() []*route {
	return []*route{
		v1("getLineage", "GET", "/millrace/projects/{project}/lineage", "What made something, and what it touched", lineageGet, takes(
			str("of", "address of an artifact, uid of a run, URI of a function, URL of data, or the id of a node; required"),
			enum("direction", "which way to walk (default both)", "up", "down", "both"),
			integer("depth", 1, "edges from the beginning, at most 100 (default 10)"),
			integer("nodes", 1, "nodes in all, at most 2000 (default 200)"),
			integer("fan", 1, "neighbours of one node in one direction, at most 500 (default 25)"),
		), answers(200, "Object")),
	}
}

func lineageGet(c *call) error {
	q := lineage.Question{}
	direction, err := c.enum("direction", string(lineage.Both))
	if err != nil {
		return err
	}
	q.Direction = lineage.Direction(direction)
	for name, field := range map[string]*int{"depth": &q.Depth, "nodes": &q.Nodes, "fan": &q.Fan} {
		n, err := c.int(name, 0)
		if err != nil {
			return err
		}
		*field = int(min(n, lineage.MaxNodes+1))
	}
	if err := q.Validate(); err != nil {
		return err
	}
	name := c.str("of")
	if name == "" {
		return fault.Invalid("parameter of must be given: what the lineage is asked of")
	}
	if q.Root, err = c.s.opts.Store.LineageFind(c.ctx(), c.path("project"), name); err != nil {
		return err
	}
	graph, err := c.s.opts.Store.LineageWalk(c.ctx(), q)
	if err != nil {
		return err
	}
	return c.json(200, graph.Document())
}
