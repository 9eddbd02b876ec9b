package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// StoreArtifact stores the record of an artifact under its db key and gives it a
// tag; "" means none but latest.
func (c *Client) StoreArtifact(ctx context.Context, project, key, tag string, doc document.Object) (document.Object, error) {
	query := url.Values{}
	setNonEmpty(query, "tag", tag)
	return c.object(ctx, &request{method: http.MethodPut, path: segments(v2+"/projects", project, "artifacts", key), query: query, body: document.Encode(doc)})
}

// ArtifactPath is where artifacts of a project are put by default.
func (c *Client) ArtifactPath(ctx context.Context, project string) (string, error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return "", err
	}
	path, _, _ := strings.Cut(strings.ReplaceAll(document.String(spec, "artifact_path"), "{{project}}", project), "{{")
	return strings.TrimRight(path, "/"), nil
}

// RecordArtifact stores the record of an artifact that the iteration iter of a run has
// made, under its db key, its tree and its tag.
func (c *Client) RecordArtifact(ctx context.Context, project, key string, iter int, doc document.Object) error {
	query := url.Values{"iter": {strconv.Itoa(iter)}}
	setNonEmpty(query, "tag", document.String(doc, "metadata", "tag"))
	setNonEmpty(query, "tree", document.String(doc, "metadata", "tree"))
	_, err := c.object(ctx, &request{method: http.MethodPut, path: segments(v2+"/projects", project, "artifacts", key), query: query, body: document.Encode(doc)})
	return err
}

func contentPath(project string, parts ...string) string {
	return segments(v1+"/millrace/projects", append([]string{project}, parts...)...)
}

// OpenContent returns the bytes that r selects of what the server has at target, a
// store:// address, path or URL. It fits datastore.Opener.
func (c *Client) OpenContent(ctx context.Context, project, target string, r datastore.Range) (io.ReadCloser, datastore.Info, error) {
	header := map[string]string{}
	if r.Offset > 0 || r.Length > 0 {
		last := ""
		if r.Length > 0 {
			last = strconv.FormatInt(r.Offset+r.Length-1, 10)
		}
		header["Range"] = fmt.Sprintf("bytes=%d-%s", r.Offset, last)
	}
	if r.ETag != "" {
		header["If-Match"] = r.ETag
	}
	response, err := c.do(ctx, &request{method: http.MethodGet, path: contentPath(project, "content"), query: url.Values{"url": {target}}, header: header})
	if err != nil {
		return nil, datastore.Info{}, err
	}
	body := datastore.WholeBody(response.Body, c.base, response.ContentLength)
	return body, datastore.InfoOf(response), nil
}

// Upload is content on its way to the server; see datastore.Upload.
type Upload struct {
	Project, Token, Suffix string
	Folder, Name           string // for a file of a folder: the sum of the folder, and its name there
	SHA1                   string // what the server is to see; "" does not ask
}

func (u Upload) query() url.Values {
	query := url.Values{}
	setNonEmpty(query, "folder", u.Folder)
	setNonEmpty(query, "name", u.Name)
	return query
}

// Uploaded returns how many bytes of an upload the server has; stored is the size
// of what is there under the name of the upload, -1 for nothing.
func (c *Client) Uploaded(ctx context.Context, u Upload) (offset, stored int64, err error) {
	state, err := c.object(ctx, &request{method: http.MethodGet, path: contentPath(u.Project, "uploads", u.Token), query: u.query()})
	offset, _ = document.Int(state, "offset")
	stored, ok := document.Int(state, "size")
	if !ok {
		stored = -1
	}
	return offset, stored, err
}

// Contents calls yield with the name and size of every file below target, a folder
// that the server has. Names are the server's: see that they lead nowhere else.
func (c *Client) Contents(ctx context.Context, project, target string, yield func(name string, size int64) error) error {
	doc, err := c.object(ctx, &request{method: http.MethodGet, path: contentPath(project, "content-list"), query: url.Values{"url": {target}}})
	if err != nil {
		return err
	}
	for _, value := range document.List(doc, "files") {
		entry, _ := value.(document.Object)
		size, _ := document.Int(entry, "size")
		if err := yield(document.String(entry, "name"), size); err != nil {
			return err
		}
	}
	return nil
}

// SendContent sends the rest of an upload, which begins at offset and has length
// bytes, and returns the object that it has become. It is not repeated: ask
// Uploaded where to go on.
func (c *Client) SendContent(ctx context.Context, u Upload, offset, length int64, body io.Reader) (datastore.Written, error) {
	query := u.query()
	query.Set("upload", u.Token)
	query.Set("offset", strconv.FormatInt(offset, 10))
	setNonEmpty(query, "suffix", u.Suffix)
	setNonEmpty(query, "sha1", u.SHA1)
	r := &request{method: http.MethodPut, path: contentPath(u.Project, "content"), query: query, header: map[string]string{"Content-Type": "application/octet-stream"}, stream: func() (io.ReadCloser, error) { return io.NopCloser(body), nil }, size: length}
	if length == 0 {
		r.stream = nil
	}
	response, err := c.once(ctx, r)
	if err != nil {
		return datastore.Written{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return datastore.Written{}, c.unreachable(ctx, err)
	}
	doc, err := c.decode(r, raw)
	if err != nil {
		return datastore.Written{}, err
	}
	size, _ := document.Int(doc, "size")
	written := datastore.Written{URL: document.String(doc, "url"), Size: size, Digest: document.String(doc, "digest"), SHA1: document.String(doc, "sha1"), CRC64: document.String(doc, "crc64nvme")}
	if written.URL == "" || written.CRC64 == "" {
		return written, fault.Unavailable("the server at %s stores no content, or does not say its CRC-64; it is of another version", c.base)
	}
	return written, nil
}
