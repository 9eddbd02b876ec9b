package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/millrace/millrace/internal/document"
)

// SetSecret stores a secret of a project.
func (c *Client) SetSecret(ctx context.Context, project, name, value string) error {
	body := document.Encode(document.Object{"provider": "kubernetes", "secrets": document.Object{name: value}})
	_, _, _, err := c.read(ctx, &request{method: http.MethodPost, path: segments(v1+"/projects", project, "secrets"), body: body, idempotent: true})
	return err
}

// Secrets lists the names of a project's secrets.
func (c *Client) Secrets(ctx context.Context, project string) ([]string, error) {
	answer, err := c.object(ctx, &request{method: http.MethodGet, path: segments(v1+"/projects", project, "secret-keys"), query: url.Values{"provider": {"kubernetes"}}})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, item := range document.List(answer, "secret_keys") {
		if name, ok := item.(string); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// DeleteSecret deletes a secret of a project; one that does not exist is no error.
func (c *Client) DeleteSecret(ctx context.Context, project, name string) error {
	_, _, _, err := c.read(ctx, &request{
		method: http.MethodDelete, path: segments(v1+"/projects", project, "secrets"), query: url.Values{"provider": {"kubernetes"}, "secret": {name}},
	})
	return err
}

// RotateSecrets encrypts all secrets with a new key and returns how many.
func (c *Client) RotateSecrets(ctx context.Context) (int, error) {
	answer, err := c.object(ctx, &request{method: http.MethodPost, path: v1 + "/millrace/secrets/rotate", idempotent: true})
	n, _ := document.Int(answer, "secrets")
	return int(n), err
}
