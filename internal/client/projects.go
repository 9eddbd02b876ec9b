package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Health asks whether the server is ready.
func (c *Client) Health(ctx context.Context) (document.Object, error) {
	return c.object(ctx, &request{method: http.MethodGet, path: v1 + "/healthz"})
}

// Spec returns what the server tells its clients: version, default artifact path, ….
func (c *Client) Spec(ctx context.Context) (document.Object, error) {
	return c.object(ctx, &request{method: http.MethodGet, path: v1 + "/client-spec"})
}

// ProjectQuery selects projects; zero fields do not filter.
type ProjectQuery struct {
	Labels []string
	State  string
	Owner  string
}

// Projects iterates over projects.
func (c *Client) Projects(ctx context.Context, q ProjectQuery) iter.Seq2[document.Object, error] {
	query := url.Values{"format": {"full"}}
	setNonEmpty(query, "state", q.State, "owner", q.Owner)
	query["label"] = q.Labels
	return func(yield func(document.Object, error) bool) {
		answer, err := c.object(ctx, &request{method: http.MethodGet, path: v1 + "/projects", query: query})
		if err != nil {
			yield(nil, err)
			return
		}
		for _, item := range document.List(answer, "projects") {
			if object, ok := item.(document.Object); ok && !yield(object, nil) {
				return
			}
		}
	}
}

// Project returns one project.
func (c *Client) Project(ctx context.Context, name string) (document.Object, error) {
	return c.object(ctx, &request{method: http.MethodGet, path: segments(v1+"/projects", name)})
}

// CreateProject creates a project from its document and returns it as stored; one
// that exists is a conflict.
func (c *Client) CreateProject(ctx context.Context, doc document.Object) (document.Object, error) {
	return c.object(ctx, &request{method: http.MethodPost, path: v1 + "/projects", body: document.Encode(doc)})
}

// EnsureProject creates the project when it does not exist.
func (c *Client) EnsureProject(ctx context.Context, name string) error {
	_, err := c.Project(ctx, name)
	if !fault.Is(err, fault.CodeNotFound) {
		return err
	}
	_, err = c.CreateProject(ctx, document.Object{"kind": "project", "metadata": document.Object{"name": name}, "spec": document.Object{}})
	if fault.Is(err, fault.CodeConflict) {
		return nil // somebody else was faster
	}
	return err
}

// DeleteProject deletes a project and waits until it is gone. With cascade all
// that is in it goes too; without, a project that holds anything is refused with
// a precondition fault.
func (c *Client) DeleteProject(ctx context.Context, name string, cascade bool) error {
	strategy := "restrict"
	if cascade {
		strategy = "cascade"
	}
	raw, _, status, err := c.read(ctx, &request{
		method: http.MethodDelete, path: segments(v2+"/projects", name), header: map[string]string{"x-mlrun-deletion-strategy": strategy},
	})
	if err != nil {
		return err
	}
	return c.awaitAnswer(ctx, "", status, raw)
}
