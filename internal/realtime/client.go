package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// Client speaks to the processor of one function. It keeps no connection and may
// be used from several goroutines.
type Client struct {
	dir  Dir
	http *http.Client
}

// NewClient returns the client of the processor that serves dir, whether it runs
// or not.
func NewClient(dir Dir) *Client {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dir.DialControl(ctx)
	}}
	return &Client{dir: dir, http: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// Status asks for the status. fault.CodeUnavailable without a processor.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	raw, err := c.do(ctx, http.MethodGet, "/status", nil)
	if err == nil {
		err = json.Unmarshal(raw, &status)
	}
	return status, err
}

// Apply tells what should be, and returns the status right after it was taken;
// what it asks for comes about later. It writes no file: use Dir.WriteDesired first.
func (c *Client) Apply(ctx context.Context, desired Desired) (Status, error) {
	var status Status
	body, err := json.Marshal(desired)
	if err != nil {
		return status, fmt.Errorf("encode desired: %w", err)
	}
	raw, err := c.do(ctx, http.MethodPut, "/desired", body)
	if err == nil {
		err = json.Unmarshal(raw, &status)
	}
	return status, err
}

// Metrics returns the processor's metrics in the text format of Prometheus.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	return c.do(ctx, http.MethodGet, "/metrics", nil)
}

// Drain lets the processor finish its events and end. It returns when the
// processor has taken the order, not when it is gone.
func (c *Client) Drain(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/drain", nil)
	return err
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://processor"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, &fault.Error{Code: fault.CodeUnavailable, Message: "the processor of " + filepath.Base(c.dir.Path) + " does not answer", Err: err}
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read the processor's answer: %w", err)
	}
	if response.StatusCode/100 == 2 {
		return raw, nil
	}
	var told Problem
	if json.Unmarshal(raw, &told) != nil || told.Error == "" {
		return nil, fmt.Errorf("the processor answered %s", response.Status)
	}
	return nil, &fault.Error{Code: told.Code, Message: told.Error}
}

// Problem is the body of an answer that refuses a request.
type Problem struct {
	Error string     `json:"error"`
	Code  fault.Code `json:"code,omitempty"`
}

// DialHTTP connects to the socket that serves the function's events.
func (d Dir) DialHTTP(ctx context.Context) (net.Conn, error) {
	return dialSocket(ctx, d.Path, HTTPSocket)
}

// DialControl connects to the socket on which the processor is asked and told.
func (d Dir) DialControl(ctx context.Context) (net.Conn, error) {
	return d.Dial(ctx, ControlSocket)
}

// Dial connects to the socket of a name in the folder.
func (d Dir) Dial(ctx context.Context, name string) (net.Conn, error) {
	return dialSocket(ctx, d.Path, name)
}

// maxSocketPath is the kernel's limit of 107 bytes.
const maxSocketPath = 107

// dialSocket connects to a unix socket whose path may be longer than the kernel
// takes: it is then named through a descriptor of its folder.
func dialSocket(ctx context.Context, folder, name string) (net.Conn, error) {
	path, done, err := socketPath(folder, name)
	if err != nil {
		return nil, err
	}
	defer done()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", path)
}

// Listen listens on the socket of a name in the folder, a unix socket that its user alone can open, in place of
// what stood at its path. The caller holds the lock of the folder.
func (d Dir) Listen(name string) (net.Listener, error) {
	full := d.file(name)
	if err := os.Remove(full); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of an earlier processor: %w", err)
	}
	path, done, err := socketPath(d.Path, name)
	if err != nil {
		return nil, err
	}
	defer done()
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", full, err)
	}
	// The path may be gone when the listener closes; whoever comes next removes it.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(full, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("protect %s: %w", full, err)
	}
	return listener, nil
}

func socketPath(folder, name string) (path string, done func(), err error) {
	path = filepath.Join(folder, name)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	file, err := os.Open(folder)
	if err != nil {
		return "", nil, fmt.Errorf("open %s: %w", folder, err)
	}
	return "/proc/self/fd/" + strconv.Itoa(int(file.Fd())) + "/" + name, func() { file.Close() }, nil
}
