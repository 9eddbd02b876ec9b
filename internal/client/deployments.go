package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Deploy is a request to serve a function.
type Deploy struct {
	Function document.Object // with its project and name
	Canary   int             // percent of the events; 0 means all
	Shadow   bool            // it gets copies of the events only
}

// Deploy has a function served and returns it as it was stored. It is not
// repeated: each request makes a revision.
func (c *Client) Deploy(ctx context.Context, d Deploy) (document.Object, error) {
	body := document.Object{"function": d.Function}
	if d.Canary != 0 || d.Shadow {
		body["millrace"] = document.Object{"canary": d.Canary, "shadow": d.Shadow}
	}
	path := segments(v1+"/projects", document.String(d.Function, "metadata", "project"), "nuclio", document.String(d.Function, "metadata", "name"), "deploy")
	answer, err := c.object(ctx, &request{method: http.MethodPost, path: path, body: document.Encode(body)})
	return document.Map(answer, "data"), err
}

// DeployState is how far a deployment is.
type DeployState struct {
	State string // building, ready, error, unhealthy
	Log   string // what was said since
	Last  string // pass it to the next call
}

// DeployStatus returns how far the deployment of a function is, and what was said
// about it after the time that an earlier answer had ("" for all).
func (c *Client) DeployStatus(ctx context.Context, project, name, tag, last string) (DeployState, error) {
	query := url.Values{}
	setNonEmpty(query, "tag", tag, "last_log_timestamp", last)
	raw, header, _, err := c.read(ctx, &request{method: http.MethodGet, path: segments(v1+"/projects", project, "nuclio", name, "deploy"), query: query})
	return DeployState{State: header.Get("x-mlrun-function-status"), Log: string(raw), Last: header.Get("x-mlrun-last-timestamp")}, err
}

func deploymentPath(project, name string, more ...string) string {
	parts := append([]string{project, "deployments", name}, more...)
	return segments(v1+"/millrace/projects", parts...)
}

// Deployments lists the deployments of a project, of all projects when it is "".
func (c *Client) Deployments(ctx context.Context, project string) ([]document.Object, error) {
	path := v1 + "/millrace/deployments"
	if project != "" {
		path = segments(v1+"/millrace/projects", project, "deployments")
	}
	answer, err := c.object(ctx, &request{method: http.MethodGet, path: path})
	docs := []document.Object{}
	for _, item := range document.List(answer, "deployments") {
		if doc, ok := item.(document.Object); ok {
			docs = append(docs, doc)
		}
	}
	return docs, err
}

// Deployment returns a deployment with its revisions. Its name is the function's,
// followed by a dash and the tag unless that is latest.
func (c *Client) Deployment(ctx context.Context, project, name string) (document.Object, error) {
	return c.object(ctx, &request{method: http.MethodGet, path: deploymentPath(project, name)})
}

// Undeploy ends a deployment and returns when it is gone; the function stays stored.
func (c *Client) Undeploy(ctx context.Context, project, name string) error {
	_, _, _, err := c.read(ctx, &request{method: http.MethodDelete, path: deploymentPath(project, name)})
	return err
}

// Rollback has an earlier version served: the revision or hash to, or what served
// before when it is "". It returns the number of the new revision.
func (c *Client) Rollback(ctx context.Context, project, name, to string) (int, error) {
	body := document.Encode(document.Object{"to": to})
	answer, err := c.object(ctx, &request{method: http.MethodPost, path: deploymentPath(project, name, "rollback"), body: body})
	revision, _ := document.Int(answer, "revision")
	return int(revision), err
}

// DeploymentMetrics returns the metrics of a deployed function in the text format
// of Prometheus.
func (c *Client) DeploymentMetrics(ctx context.Context, project, name string) ([]byte, error) {
	raw, _, _, err := c.read(ctx, &request{method: http.MethodGet, path: deploymentPath(project, name, "metrics")})
	return raw, err
}

// DeploymentLog streams what a deployed function writes, from an offset on, or the
// last tail bytes if that is less; with follow until ctx ends. The caller closes it.
func (c *Client) DeploymentLog(ctx context.Context, project, name string, offset, tail int64, follow bool) (io.ReadCloser, error) {
	query := url.Values{"offset": {strconv.FormatInt(offset, 10)}, "follow": {strconv.FormatBool(follow)}}
	if tail > 0 {
		query.Set("tail", strconv.FormatInt(tail, 10))
	}
	response, err := c.do(ctx, &request{method: http.MethodGet, path: deploymentPath(project, name, "log"), query: query})
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// Invoke sends one event to a deployed function through the server and returns its
// answer, whatever its status; the caller closes the body. path is that of the
// function, with its query. An error means that there is no answer.
func (c *Client) Invoke(ctx context.Context, project, name, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	target := c.base + segments("/fn", project, name) + "/" + strings.TrimPrefix(path, "/")
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fault.Invalid("the request %s %s cannot be made: %w", method, target, err)
	}
	req.Header = header.Clone()
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", c.agent)
	}
	if c.token != "" && req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return response, nil
}
