package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
)

// Submission is what Submit asks for: a task and the function it runs, either
// inline or by a reference in the task's spec.function.
type Submission struct {
	Task     document.Object
	Function document.Object // nil: the task names a stored function
	// AllowLocal lets the server run functions of the kinds local and handler,
	// which otherwise run where the client is.
	AllowLocal bool
	// Names are the hyperparameters of the task in the order in which they were
	// written; nil is alphabetical.
	Names []string
}

// Submit starts a run and returns its document as stored.
func (c *Client) Submit(ctx context.Context, s Submission) (document.Object, error) {
	body := document.Object{"task": s.Task}
	if s.Function != nil {
		body["function"] = s.Function
	}
	own := document.Object{}
	if s.AllowLocal {
		own["allow_local"] = true
	}
	if len(s.Names) > 0 {
		own["hyperparam_names"] = s.Names
	}
	if len(own) > 0 {
		body["millrace"] = own
	}
	answer, err := c.object(ctx, &request{method: http.MethodPost, path: v1 + "/submit_job", body: document.Encode(body)})
	if err != nil {
		return nil, err
	}
	data := document.Map(answer, "data")
	if data == nil {
		return nil, fault.Unavailable("the server accepted the run but did not say which; look with 'millrace get runs'")
	}
	return data, nil
}

// RunQuery selects runs; zero fields do not filter.
type RunQuery struct {
	Name         string // exact; "~x" for a case-insensitive substring
	UIDs         []string
	States       []string
	Labels       []string
	WithChildren bool
	Since        time.Time // started at or after
	Limit        int
}

// Runs iterates over runs, newest first. Project "*" spans projects.
func (c *Client) Runs(ctx context.Context, project string, q RunQuery) iter.Seq2[document.Object, error] {
	query := url.Values{"label": q.Labels, "state": q.States, "uid": q.UIDs, "sort": {"yes"}, "iter": {"no"}}
	if q.WithChildren {
		query.Set("iter", "yes")
	}
	setNonEmpty(query, "name", q.Name)
	// A list without any filter is the latest run a name of the last week; a
	// start time asks for all of them.
	query.Set("start_time_from", document.Time(q.Since))
	if q.Since.IsZero() {
		query.Set("start_time_from", document.Time(time.Unix(0, 0)))
	}
	return c.list(ctx, segments(v1+"/projects", project, "runs"), "runs", query, q.Limit)
}

// Run returns one run, with its artifacts in status.artifacts.
func (c *Client) Run(ctx context.Context, key run.Key) (document.Object, error) {
	answer, err := c.object(ctx, &request{
		method: http.MethodGet, path: segments(v1+"/projects", key.Project, "runs", key.UID),
		query: url.Values{"iter": {strconv.Itoa(key.Iter)}, "format": {"full"}},
	})
	if err != nil {
		return nil, err
	}
	return document.Map(answer, "data"), nil
}

// StoreRun replaces a run's document.
func (c *Client) StoreRun(ctx context.Context, key run.Key, doc document.Object) error {
	_, err := c.object(ctx, &request{
		method: http.MethodPost, path: segments(v1+"/projects", key.Project, "runs", key.UID),
		query: url.Values{"iter": {strconv.Itoa(key.Iter)}}, body: document.Encode(doc), idempotent: true,
	})
	return err
}

// UpdateRun sets values at dotted paths of a run's document.
func (c *Client) UpdateRun(ctx context.Context, key run.Key, updates document.Object) error {
	_, err := c.object(ctx, &request{
		method: http.MethodPatch, path: segments(v1+"/projects", key.Project, "runs", key.UID),
		query: url.Values{"iter": {strconv.Itoa(key.Iter)}}, body: document.Encode(updates), idempotent: true,
	})
	return err
}

// DeleteRun deletes a run with its children and its log. A run that does not
// exist is no error; a living one is refused.
func (c *Client) DeleteRun(ctx context.Context, project, uid string) error {
	_, err := c.object(ctx, &request{method: http.MethodDelete, path: segments(v1+"/projects", project, "runs", uid)})
	return err
}

// Abort asks for the end of a run and waits until it has ended. text, if not
// empty, becomes its status_text. A run that is over already is a conflict.
func (c *Client) Abort(ctx context.Context, project, uid, text string) error {
	updates := document.Object{}
	if text != "" {
		updates["status.status_text"] = text
	}
	raw, _, status, err := c.read(ctx, &request{
		method: http.MethodPost, path: segments(v1+"/projects", project, "runs", uid, "abort"), body: document.Encode(updates),
	})
	if err != nil {
		return err
	}
	return c.awaitAnswer(ctx, project, status, raw)
}
