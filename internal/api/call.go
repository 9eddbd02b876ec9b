package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// call is one request on its way through its route. Parameters are read through
// it by the names that the route declares; reading an undeclared one panics,
// because then the OpenAPI document would be wrong.
type call struct {
	s      *Server
	w      http.ResponseWriter // &writer
	r      *http.Request
	route  *route
	values url.Values // parsed query, nil until first used
	id     string
	writer recorder
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom lets the connection take a file as such.
func (w *recorder) ReadFrom(from io.Reader) (n int64, err error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	if to, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		n, err = to.ReadFrom(from)
	} else {
		n, err = io.CopyBuffer(struct{ io.Writer }{w.ResponseWriter}, from, make([]byte, 256<<10))
	}
	w.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (c *call) ctx() context.Context { return c.r.Context() }

// path returns a segment of the path by its name in the route.
func (c *call) path(name string) string { return c.r.PathValue(name) }

// requestID is the caller's x-request-id, cut to 36 characters, or a fresh one.
func (c *call) requestID() string {
	if c.id == "" {
		if c.id = c.r.Header.Get("X-Request-Id"); len(c.id) > 36 {
			c.id = c.id[:36]
		}
		if c.id == "" {
			c.id = c.s.prefix + strconv.FormatUint(c.s.serial.Add(1), 10)
		}
	}
	return c.id
}

// query returns the parsed query.
func (c *call) query() url.Values {
	if c.values == nil {
		c.values = parseQuery(c.r.URL.RawQuery)
	}
	return c.values
}

// declared checks that the route has the parameter.
func (c *call) declared(name string, types ...string) {
	if p := c.route.param(name); p == nil || !slices.Contains(types, p.typ) {
		panic("api: " + c.route.id + " does not declare parameter " + name)
	}
}

// str returns a parameter, "" when it is absent or empty.
func (c *call) str(name string) string {
	c.declared(name, "string", "enum")
	if c.values == nil && c.r.URL.RawQuery == "" {
		return ""
	}
	return c.query().Get(name)
}

// strs returns all non-empty values of a repeated parameter.
func (c *call) strs(name string) []string {
	c.declared(name, "strings")
	var out []string
	for _, value := range c.query()[name] {
		if value != "" {
			out = append(out, value)
		}
	}
	return out
}

// raw returns a parameter of any type, "" when absent.
func (c *call) raw(name string) string {
	if c.values == nil && c.r.URL.RawQuery == "" {
		return ""
	}
	return c.query().Get(name)
}

// int returns an integer parameter, otherwise when it is absent. The route says
// the least value allowed.
func (c *call) int(name string, otherwise int64) (int64, error) {
	c.declared(name, "integer")
	text := c.raw(name)
	if text == "" {
		return otherwise, nil
	}
	return parseInt(name, text, c.route.param(name).least)
}

// bool returns a boolean parameter, otherwise when it is absent.
func (c *call) bool(name string, otherwise bool) (bool, error) {
	c.declared(name, "boolean")
	text := c.raw(name)
	if text == "" {
		return otherwise, nil
	}
	return parseBool(name, text)
}

// time returns a time parameter, the zero time when it is absent.
func (c *call) time(name string) (time.Time, error) {
	c.declared(name, "time")
	text := c.raw(name)
	if text == "" {
		return time.Time{}, nil
	}
	return parseTime(name, text)
}

// enum returns a parameter with a fixed set of values, otherwise when it is absent.
func (c *call) enum(name, otherwise string) (string, error) {
	text := c.str(name)
	if text == "" {
		return otherwise, nil
	}
	if allowed := c.route.param(name).values; !slices.Contains(allowed, text) {
		return "", fault.Invalid("parameter %s must be one of %s, got %q", name, strings.Join(allowed, ", "), clip(text))
	}
	return text, nil
}

// iter is the iteration that the call is about.
func (c *call) iter() (int, error) {
	n, err := c.int("iter", 0)
	if err == nil && n > maxPageNumber {
		err = fault.Invalid("parameter iter must be at most %d, got %d", maxPageNumber, n)
	}
	return int(n), err
}

// clientBefore reports whether the caller says it is a client older than
// major.minor; an absent or unreadable version is not.
func (c *call) clientBefore(major, minor int) bool {
	parts := strings.SplitN(c.r.Header.Get("X-Mlrun-Client-Version"), ".", 3)
	if len(parts) < 3 {
		return false
	}
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil || a == 0 {
		return false // 0.0.0 is a development build
	}
	return a < major || a == major && b < minor
}

// buffers are reused between requests; very large ones are let go.
type pooledBuffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &pooledBuffer{b: make([]byte, 0, 8<<10)} }}

func getBuffer() *pooledBuffer { return buffers.Get().(*pooledBuffer) }

func putBuffer(buffer *pooledBuffer) {
	if cap(buffer.b) <= 1<<20 {
		buffer.b = buffer.b[:0]
		buffers.Put(buffer)
	}
}

// body decodes the request's body; nil when it is empty.
func (c *call) body() (any, error) { return c.bodySeen(nil) }

// bodySeen is body with a look at the bytes of valid JSON, which are reused
// afterwards.
func (c *call) bodySeen(see func(raw []byte)) (any, error) {
	buffer := getBuffer()
	defer putBuffer(buffer)
	limit := c.s.opts.MaxBody
	if c.r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	into := bytes.NewBuffer(buffer.b)
	if c.r.ContentLength > int64(into.Cap()) && c.r.ContentLength <= 1<<20 {
		into.Grow(int(c.r.ContentLength) + bytes.MinRead)
	}
	_, err := into.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, limit))
	buffer.b = into.Bytes()[:0]
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(limit)
	case err != nil:
		return nil, fault.Invalid("the request ended before its body did: %v", err)
	}
	data := into.Bytes()
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	value, err := document.Decode(data)
	if err != nil {
		return nil, withReason(fault.Invalid("bad JSON body: %w", err))
	}
	if see != nil {
		see(data)
	}
	return value, nil
}

func tooLarge(limit int64) error {
	return fault.TooLarge("the request's body is larger than %d bytes", limit)
}

// object decodes a body that has to be a JSON object.
func (c *call) object() (document.Object, error) { return c.objectSeen(nil) }

// objectSeen is to object what bodySeen is to body.
func (c *call) objectSeen(see func(raw []byte)) (document.Object, error) {
	value, err := c.bodySeen(see)
	if err != nil {
		return nil, err
	}
	object, ok := value.(document.Object)
	if !ok {
		what := "nothing"
		if value != nil {
			what = document.TypeName(value)
		}
		return nil, withReason(fault.Invalid("bad JSON body: the body must be a JSON object, got %s", what))
	}
	return object, nil
}

// discard reads a body that is accepted and means nothing, such as "null".
func (c *call) discard() {
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(c.w, c.r.Body, 1<<20))
}

// json answers with value.
func (c *call) json(status int, value any) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	buffer.b = document.Append(buffer.b, value)
	writeJSON(c.w, status, buffer.b)
	return nil
}

// done answers 200 with an object that says nothing.
func (c *call) done() error {
	writeJSON(c.w, http.StatusOK, []byte("{}"))
	return nil
}

// silent answers with a status alone.
func (c *call) silent(status int) error {
	c.w.WriteHeader(status)
	return nil
}

// start begins a streamed JSON answer.
func (c *call) start(status int) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
}

// fail answers with err; internal errors are logged, since nobody else sees them.
// An answer that has already begun is left as it is.
func (c *call) fail(err error) {
	if c.ctx().Err() != nil && errors.Is(err, context.Canceled) {
		return // the client left; there is nobody to answer
	}
	status, body := renderError(err)
	if status == http.StatusInternalServerError {
		c.s.log.ErrorContext(c.ctx(), "request failed", "request", c.requestID(), "method", c.r.Method, "path", c.r.URL.Path, "error", err)
	}
	if c.writer.status != 0 {
		return
	}
	h := c.w.Header()
	h.Set("X-Request-Id", c.requestID())
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(c.w, status, body)
}
