package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/tune"
)

func searchPath(key run.Key, what string) string {
	return segments(v1+"/millrace/projects", key.Project, "runs", key.UID, what)
}

// Search tells how far an iterative task is. fault.CodeConflict when the run is not
// one.
func (c *Client) Search(ctx context.Context, key run.Key) (tune.Progress, error) {
	answer, err := c.object(ctx, &request{method: http.MethodGet, path: searchPath(key, "search")})
	if err != nil {
		return tune.Progress{}, err
	}
	return tune.ParseProgress(answer), nil
}

// Steer changes an iterative task that is not over.
func (c *Client) Steer(ctx context.Context, key run.Key, change tune.Steering) error {
	_, err := c.object(ctx, &request{method: http.MethodPatch, path: searchPath(key, "search"), body: document.Encode(change.Document())})
	return err
}

// Resume continues an iterative task that was aborted or whose runner was lost, and
// returns the run as it is then.
func (c *Client) Resume(ctx context.Context, key run.Key) (document.Object, error) {
	answer, err := c.object(ctx, &request{method: http.MethodPost, path: searchPath(key, "resume")})
	if err != nil {
		return nil, err
	}
	data := document.Map(answer, "data")
	if data == nil {
		return nil, fault.Unavailable("the server resumed run %s but did not say what it is now; look with 'millrace get run %s'", key.UID, key.UID)
	}
	return data, nil
}

// IterationQuery selects iterations; zero fields do not filter.
type IterationQuery struct {
	Sort   string // iter, param.NAME or output.NAME, with "-" before it for descending
	States []string
	Limit  int // 0 is all
}

// iterationPage is how many iterations are asked for at once when not all are wanted.
const iterationPage = 10_000

// Iterations iterates over the iterations of a run, each as a document {iter, state,
// parameters, results, …}.
func (c *Client) Iterations(ctx context.Context, key run.Key, q IterationQuery) iter.Seq2[document.Object, error] {
	return func(yield func(document.Object, error) bool) {
		for offset := 0; ; {
			// All at once are sorted once.
			query := url.Values{"state": q.States, "limit": {strconv.Itoa(min(iterationPage, q.Limit-min(offset, q.Limit)))}, "offset": {strconv.Itoa(offset)}}
			setNonEmpty(query, "sort", q.Sort)
			answer, err := c.object(ctx, &request{method: http.MethodGet, path: searchPath(key, "iterations"), query: query})
			if err != nil {
				yield(nil, err)
				return
			}
			list := document.List(answer, "iterations")
			for _, item := range list {
				doc, _ := item.(document.Object)
				if !yield(doc, nil) {
					return
				}
			}
			if offset += len(list); len(list) == 0 || offset >= q.Limit || !document.Bool(answer, "more") {
				return
			}
		}
	}
}
