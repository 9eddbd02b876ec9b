package client

import (
	"context"
	"net/http"

	"github.com/millrace/millrace/internal/document"
)

// Environments lists the virtual environments of the server, the latest used first.
func (c *Client) Environments(ctx context.Context) ([]document.Object, error) {
	answer, err := c.object(ctx, &request{method: http.MethodGet, path: v1 + "/millrace/environments"})
	if err != nil {
		return nil, err
	}
	var docs []document.Object
	for _, item := range document.List(answer, "environments") {
		if doc, ok := item.(document.Object); ok {
			docs = append(docs, doc)
		}
	}
	return docs, nil
}

// DeleteEnvironment deletes the environment of that name.
func (c *Client) DeleteEnvironment(ctx context.Context, name string) error {
	_, err := c.object(ctx, &request{method: http.MethodDelete, path: segments(v1+"/millrace/environments", name)})
	return err
}

// LockEnvironment tells what the requirements of a function have become on the server:
// "python" is the interpreter's version, "requirements" what installs exactly that.
func (c *Client) LockEnvironment(ctx context.Context, function document.Object) (document.Object, error) {
	return c.object(ctx, &request{method: http.MethodPost, path: v1 + "/millrace/environments/lock", body: document.Encode(function)})
}
