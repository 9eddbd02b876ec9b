package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/millrace/millrace/internal/document"
)

// ArtifactQuery selects artifacts; zero fields do not filter.
type ArtifactQuery struct {
	Name     string // exact; "~x" for a case-insensitive substring
	Tag      string
	Kind     string
	Category string // model, dataset or other
	Tree     string // the uid of the producing run
	Labels   []string
	Limit    int
}

// Artifacts iterates over the artifacts of a project.
func (c *Client) Artifacts(ctx context.Context, project string, q ArtifactQuery) iter.Seq2[document.Object, error] {
	query := url.Values{"label": q.Labels}
	setNonEmpty(query, "name", q.Name, "tag", q.Tag, "kind", q.Kind, "category", q.Category, "tree", q.Tree)
	return c.list(ctx, segments(v2+"/projects", project, "artifacts"), "artifacts", query, q.Limit)
}

// Artifact names one artifact; only Key is needed.
type Artifact struct {
	Key, Tag, Tree, UID string
	Iter                int // -1 means any
}

// Artifact returns one artifact.
func (c *Client) Artifact(ctx context.Context, project string, a Artifact) (document.Object, error) {
	query := url.Values{}
	setNonEmpty(query, "tag", a.Tag, "tree", a.Tree, "object-uid", a.UID)
	if a.Iter >= 0 {
		query.Set("iter", strconv.Itoa(a.Iter))
	}
	return c.object(ctx, &request{method: http.MethodGet, path: segments(v2+"/projects", project, "artifacts", a.Key), query: query})
}
