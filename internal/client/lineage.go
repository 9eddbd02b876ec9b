package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/millrace/millrace/internal/document"
)

// LineageQuery is a question about lineage; zero fields mean the server's defaults.
type LineageQuery struct {
	Of                string // what it is asked of
	Direction         string // up, down or both
	Depth, Nodes, Fan int
}

// Lineage returns the graph around something.
func (c *Client) Lineage(ctx context.Context, project string, q LineageQuery) (document.Object, error) {
	query := url.Values{}
	setNonEmpty(query, "of", q.Of, "direction", q.Direction)
	for name, n := range map[string]int{"depth": q.Depth, "nodes": q.Nodes, "fan": q.Fan} {
		if n != 0 {
			query.Set(name, strconv.Itoa(n))
		}
	}
	return c.object(ctx, &request{method: http.MethodGet, path: segments(v1+"/millrace/projects", project, "lineage"), query: query})
}
