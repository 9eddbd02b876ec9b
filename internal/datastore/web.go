package datastore

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// web reads from web servers; keys are whole URLs.
type web struct{ lookup Lookup }

// webClient has no limit on the time of a transfer, only on waiting for its begin and
// for the next bytes.
var webClient = &http.Client{Transport: &http.Transport{
	Proxy: http.ProxyFromEnvironment, DialContext: dial,
	TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: time.Minute, IdleConnTimeout: time.Minute, DisableCompression: true,
}}

func (w *web) request(ctx context.Context, method, target string, r Range) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, fault.Invalid("%s: %w", target, err)
	}
	if r.Offset > 0 || r.Length > 0 {
		req.Header.Set("Range", rangeHeader(r))
		if r.ETag != "" {
			req.Header.Set("If-Match", r.ETag)
		}
	}
	if token := w.lookup("HTTPS_AUTH_TOKEN"); token != "" && req.URL.Scheme == "https" {
		req.Header.Set("Authorization", "token "+token)
	}
	response, err := webClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fault.Unavailable("%s did not answer: %w", target, err)
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	_ = response.Body.Close()
	return nil, statusError(target, response.StatusCode)
}

// statusError says what an HTTP status means for an object.
func statusError(name string, status int) error {
	switch {
	case status == http.StatusNotFound || status == http.StatusGone:
		return fault.NotFound("there is nothing at %s", name)
	case status == http.StatusUnauthorized:
		return fault.Unauthorized("%s asks for credentials, and refuses those given; check them", name)
	case status == http.StatusForbidden:
		return fault.Forbidden("%s may not be used with the credentials given", name)
	case status == http.StatusPreconditionFailed:
		return changed(name)
	case status == http.StatusRequestedRangeNotSatisfiable:
		return fault.Invalid("%s ends before the range asked for", name)
	case status >= 500 || status == http.StatusTooManyRequests:
		return fault.Unavailable("%s answers %d %s; try again", name, status, http.StatusText(status))
	}
	return fault.Invalid("%s answers %d %s", name, status, http.StatusText(status))
}

func (w *web) open(ctx context.Context, target string, r Range) (io.ReadCloser, Info, error) {
	response, err := w.request(ctx, http.MethodGet, target, r)
	if err != nil {
		return nil, Info{}, err
	}
	info := InfoOf(response)
	body := WholeBody(response.Body, target, response.ContentLength)
	if (r.Offset > 0 || r.Length > 0) && response.StatusCode != http.StatusPartialContent {
		if r.ETag != "" && r.ETag != info.ETag {
			return nil, Info{}, errors.Join(changed(target), body.Close())
		}
		// The server knows no ranges: skip what was not asked for.
		if _, err := io.CopyN(io.Discard, body, r.Offset); err != nil {
			return nil, Info{}, errors.Join(fault.Invalid("%s ends before byte %d", target, r.Offset), body.Close())
		}
		body = limited(body, r)
	}
	return body, info, nil
}

// WholeBody turns a body of length bytes (-1: not known) that ends early into an
// error that says so; name is who sends it.
func WholeBody(body io.ReadCloser, name string, length int64) io.ReadCloser {
	return &wholeBody{ReadCloser: body, name: name, left: length}
}

type wholeBody struct {
	io.ReadCloser
	name string
	left int64 // -1: not known
}

func (b *wholeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left >= 0 {
		b.left -= int64(n)
	}
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.EOF) && b.left > 0 {
		return n, fault.Unavailable("the connection to %s ended before the content did: %w", b.name, err)
	}
	return n, err
}

// InfoOf reads what the header of an answer says about its object.
func InfoOf(response *http.Response) Info {
	info := Info{
		Size: response.ContentLength, ContentType: response.Header.Get("Content-Type"), ETag: response.Header.Get("ETag"),
		Digest: response.Header.Get("X-Millrace-Digest"),
	}
	if strings.HasPrefix(info.ETag, "W/") {
		info.ETag = "" // says nothing about bytes
	}
	if _, total, ok := strings.Cut(response.Header.Get("Content-Range"), "/"); ok {
		if n, err := strconv.ParseInt(total, 10, 64); err == nil {
			info.Size = n
		}
	}
	if at, err := http.ParseTime(response.Header.Get("Last-Modified")); err == nil {
		info.Modified = at
	}
	return info
}

func (w *web) stat(ctx context.Context, target string) (Info, error) {
	response, err := w.request(ctx, http.MethodHead, target, Range{})
	if err != nil {
		return Info{}, err
	}
	return InfoOf(response), response.Body.Close()
}

func readOnly(target string) error {
	return fault.Invalid("%s is on a web server, which can only be read", target)
}

func (w *web) put(_ context.Context, target string, _ io.Reader, _ content) error {
	return readOnly(target)
}
func (w *web) remove(_ context.Context, target string) error { return readOnly(target) }
func (w *web) walk(_ context.Context, target string, _ bool, _ func(Entry) error) error {
	return fault.Invalid("%s is on a web server, which has no listings", target)
}
