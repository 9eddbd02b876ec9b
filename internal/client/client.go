// Package client is the Go client of the HTTP API that internal/api serves.
//
// Documents travel as internal/document objects: what the server sends is what
// the caller gets, unknown keys included. Errors are *fault.Error with the code
// that the server's status stands for, so callers decide by code, never by text.
//
// A request is repeated only when repeating it cannot do anything twice (reading,
// replacing, deleting), and only after a broken connection or a 502, 503 or 504.
// A refused connection is reported at once: nobody listens there.
//
// The transport is an http.RoundTripper: TCP and unix sockets here, and
// HandlerTransport for an API in the same process, so that there is one code path
// with and without a server.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Options configure a Client; only URL is needed.
type Options struct {
	URL       string            // http://HOST:PORT, https://…, unix:///PATH; a path after the host is kept
	Token     string            // sent as a bearer token; "" sends none
	Transport http.RoundTripper // nil means a transport of its own for URL
	UserAgent string            // "" means "millrace"
}

// Client speaks to one server. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	agent string
	http  *http.Client
}

// New makes a client. It does not connect; a URL that cannot be one is an error.
func New(options Options) (*Client, error) {
	base, transport, err := endpoint(options.URL)
	if err != nil {
		return nil, err
	}
	if options.Transport != nil {
		transport = options.Transport
	}
	agent := options.UserAgent
	if agent == "" {
		agent = "millrace"
	}
	return &Client{base: base, token: options.Token, agent: agent, http: &http.Client{Transport: transport}}, nil
}

// endpoint turns the URL of a server into the base of request URLs and the
// transport that reaches it.
func endpoint(raw string) (string, http.RoundTripper, error) {
	parsed, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || parsed.Scheme == "" {
		return "", nil, fault.Invalid("the server address %q is not a URL such as http://127.0.0.1:8080", raw)
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     90 * time.Second,
	}
	switch parsed.Scheme {
	case "http", "https":
		if parsed.Host == "" {
			return "", nil, fault.Invalid("the server address %q names no host; write http://HOST:PORT", raw)
		}
		parsed.RawQuery, parsed.Fragment = "", ""
		return strings.TrimRight(parsed.String(), "/"), transport, nil
	case "unix":
		path := parsed.Path
		if path == "" {
			return "", nil, fault.Invalid("the server address %q names no socket; write unix:///PATH", raw)
		}
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", path)
		}
		return "http://unix", transport, nil
	}
	return "", nil, fault.Invalid("the server address %q has the scheme %q; it must be http, https or unix", raw, parsed.Scheme)
}

// Close drops idle connections. The client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one call of the API.
type request struct {
	method     string
	path       string // below the server's address, such as /api/v1/projects
	query      url.Values
	header     map[string]string
	body       []byte
	stream     func() (io.ReadCloser, error) // a body that is read as it is sent, instead of body
	size       int64                         // of stream
	idempotent bool                          // may be repeated although it is a POST or PATCH
}

func (r *request) repeatable() bool {
	switch r.method {
	case http.MethodGet, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.idempotent
}

// attempts at a repeatable request, and the pause before the second.
const (
	attempts   = 4
	firstPause = 100 * time.Millisecond
	maxAnswer  = 1 << 30
)

// do performs the request and returns an answer below 400; the caller closes its
// body.
func (c *Client) do(ctx context.Context, r *request) (*http.Response, error) {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		response, err := c.once(ctx, r)
		if err == nil {
			return response, nil
		}
		if attempt == attempts || !r.repeatable() || !worthRepeating(err) || ctx.Err() != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
			pause *= 3
		}
	}
}

func (c *Client) once(ctx context.Context, r *request) (*http.Response, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	if r.stream != nil {
		stream, err := r.stream()
		if err != nil {
			return nil, fault.Invalid("the body of %s %s cannot be read: %w", r.method, target, err)
		}
		body = stream // the transport closes it
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, fault.Invalid("the request %s %s cannot be made: %w", r.method, target, err)
	}
	if r.stream != nil {
		req.ContentLength = r.size
	}
	req.Header.Set("User-Agent", c.agent)
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for key, value := range r.header {
		req.Header.Set(key, value)
	}
	response, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode >= 400 {
		defer response.Body.Close()
		raw, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		return nil, answerError(r, response.StatusCode, raw)
	}
	return response, nil
}

// unreachable explains a request that got no answer. A cancelled context stays
// what it is.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return &Unreachable{Server: c.base, Refused: true, Err: err}
	}
	return &Unreachable{Server: c.base, Err: err}
}

// Unreachable says that the server gave no answer. fault.CodeOf it is
// fault.CodeUnavailable.
type Unreachable struct {
	Server  string
	Refused bool // nobody listens at the address
	Err     error
}

func (u *Unreachable) Error() string {
	if u.Refused {
		return fmt.Sprintf("no server answers at %s; start one with 'millrace server' or correct --server (MILLRACE_URL)", u.Server)
	}
	return fmt.Sprintf("the server at %s did not answer: %v", u.Server, u.Err)
}

// As makes an Unreachable a fault of code unavailable.
func (u *Unreachable) As(target any) bool {
	if out, ok := target.(**fault.Error); ok {
		*out = &fault.Error{Code: fault.CodeUnavailable, Message: u.Error(), Err: u.Err}
		return true
	}
	return false
}

func (u *Unreachable) Unwrap() error { return u.Err }

// worthRepeating tells a passing failure (a broken connection, a gateway between,
// a server that is starting or full) from an answer.
func worthRepeating(err error) bool {
	var unreachable *Unreachable
	if errors.As(err, &unreachable) {
		return !unreachable.Refused
	}
	return fault.Is(err, fault.CodeUnavailable)
}

// read performs the request and returns the whole answer.
func (c *Client) read(ctx context.Context, r *request) ([]byte, http.Header, int, error) {
	response, err := c.do(ctx, r)
	if err != nil {
		return nil, nil, 0, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, nil, 0, c.unreachable(ctx, err)
	}
	return raw, response.Header, response.StatusCode, nil
}

// object performs the request and decodes the answer as an object; an empty
// answer is an empty object.
func (c *Client) object(ctx context.Context, r *request) (document.Object, error) {
	raw, _, _, err := c.read(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.decode(r, raw)
}

func (c *Client) decode(r *request, raw []byte) (document.Object, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return document.Object{}, nil
	}
	object, err := document.DecodeObject(raw)
	if err != nil {
		return nil, &Unreachable{Server: c.base, Err: fmt.Errorf("%s %s answered something that is not its API: %w", r.method, r.path, err)}
	}
	return object, nil
}

// segments joins path segments below prefix, escaping each.
func segments(prefix string, parts ...string) string {
	var b strings.Builder
	b.WriteString(prefix)
	for _, part := range parts {
		b.WriteByte('/')
		if part == "*" {
			b.WriteString(part)
			continue
		}
		b.WriteString(url.PathEscape(part))
	}
	return b.String()
}

const (
	v1 = "/api/v1"
	v2 = "/api/v2"
)
