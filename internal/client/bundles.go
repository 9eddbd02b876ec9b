package client

import (
	"context"
	"io"
	"net/http"
	"os"

	"github.com/millrace/millrace/internal/fault"
)

// HasBundle reports whether the server has the bundle of code called name,
// sha256-<hex>.
func (c *Client) HasBundle(ctx context.Context, name string) (bool, error) {
	_, _, _, err := c.read(ctx, &request{method: http.MethodHead, path: segments(v1+"/millrace/bundles", name), idempotent: true})
	if fault.Is(err, fault.CodeNotFound) {
		return false, nil
	}
	return err == nil, err
}

// PutBundle sends the file at path as the bundle called name.
func (c *Client) PutBundle(ctx context.Context, name, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fault.Invalid("the code bundle %s cannot be read: %w", path, err)
	}
	_, err = c.object(ctx, &request{
		method: http.MethodPut, path: segments(v1+"/millrace/bundles", name), header: map[string]string{"Content-Type": "application/gzip"},
		stream: func() (io.ReadCloser, error) { return os.Open(path) }, size: info.Size(),
	})
	return err
}
