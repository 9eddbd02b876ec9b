package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/millrace/millrace/internal/document"
)

// FunctionQuery selects functions; zero fields do not filter.
type FunctionQuery struct {
	Name   string // exact; "~x" for a case-insensitive substring
	Tag    string // "*" for any tag
	Hash   string
	Kind   string
	States []string
	Labels []string
	Limit  int
}

// Functions iterates over the functions of a project.
func (c *Client) Functions(ctx context.Context, project string, q FunctionQuery) iter.Seq2[document.Object, error] {
	query := url.Values{"label": q.Labels, "state": q.States}
	setNonEmpty(query, "name", q.Name, "tag", q.Tag, "hash_key", q.Hash, "kind", q.Kind)
	return c.list(ctx, segments(v1+"/projects", project, "functions"), "funcs", query, q.Limit)
}

// Function returns one function by its tag or its hash; both empty mean the tag
// latest.
func (c *Client) Function(ctx context.Context, project, name, tag, hash string) (document.Object, error) {
	query := url.Values{}
	setNonEmpty(query, "tag", tag, "hash_key", hash)
	answer, err := c.object(ctx, &request{method: http.MethodGet, path: segments(v1+"/projects", project, "functions", name), query: query})
	if err != nil {
		return nil, err
	}
	return document.Map(answer, "func"), nil
}

// StoreFunction stores a function under a tag ("" means latest), versioned or in
// the tag's mutable slot, and returns its hash.
func (c *Client) StoreFunction(ctx context.Context, project, name, tag string, versioned bool, doc document.Object) (string, error) {
	query := url.Values{"versioned": {strconv.FormatBool(versioned)}}
	setNonEmpty(query, "tag", tag)
	answer, err := c.object(ctx, &request{
		method: http.MethodPost, path: segments(v1+"/projects", project, "functions", name), query: query,
		body: document.Encode(doc), idempotent: true,
	})
	return document.String(answer, "hash_key"), err
}

// DeleteFunction deletes all versions and tags of a function and waits until they
// are gone. A function that does not exist is no error.
func (c *Client) DeleteFunction(ctx context.Context, project, name string) error {
	raw, _, status, err := c.read(ctx, &request{method: http.MethodDelete, path: segments(v2+"/projects", project, "functions", name)})
	if err != nil {
		return err
	}
	return c.awaitAnswer(ctx, project, status, raw)
}

// Build is the answer to a request to build a function's image or environment.
type Build struct {
	Function document.Object
	Ready    bool // nothing is left to do
}

// BuildFunction asks the server to make the function ready to run.
func (c *Client) BuildFunction(ctx context.Context, doc document.Object) (Build, error) {
	body := document.Encode(document.Object{"function": doc, "with_mlrun": false})
	answer, err := c.object(ctx, &request{method: http.MethodPost, path: v1 + "/build/function", body: body})
	if err != nil {
		return Build{}, err
	}
	return Build{Function: document.Map(answer, "data"), Ready: document.Bool(answer, "ready")}, nil
}

// BuildState is how far a build is, and its log from the offset asked for.
type BuildState struct {
	State string // pending, running, ready, error, unknown
	Image string
	Log   []byte
}

// BuildStatus returns the state of a function's build.
func (c *Client) BuildStatus(ctx context.Context, project, name, tag string, offset int64) (BuildState, error) {
	query := url.Values{"project": {project}, "name": {name}, "logs": {"yes"}, "offset": {strconv.FormatInt(offset, 10)}}
	setNonEmpty(query, "tag", tag)
	raw, header, _, err := c.read(ctx, &request{method: http.MethodGet, path: v1 + "/build/status", query: query})
	if err != nil {
		return BuildState{}, err
	}
	return BuildState{State: header.Get("x-mlrun-function-status"), Image: header.Get("function_image"), Log: raw}, nil
}
