package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// pageSize is how many items one request of a list asks for.
const pageSize = 200

// list iterates over the objects of a list, page by page, and ends after limit
// items (0: all). The first error ends the iteration; it is yielded with a nil
// object. key names the list in the answer.
func (c *Client) list(ctx context.Context, path, key string, query url.Values, limit int) iter.Seq2[document.Object, error] {
	return func(yield func(document.Object, error) bool) {
		query := cloneValues(query)
		size := pageSize
		if limit > 0 && limit < size {
			size = limit
		}
		query.Set("page", "1")
		query.Set("page-size", strconv.Itoa(size))
		for seen := 0; ; {
			answer, err := c.object(ctx, &request{method: http.MethodGet, path: path, query: query})
			if err != nil {
				if seen > 0 && query.Get("page-token") != "" && fault.Is(err, fault.CodeNotFound) {
					return // the token has run out: the list is over
				}
				yield(nil, err)
				return
			}
			items := document.List(answer, key)
			for _, item := range items {
				object, ok := item.(document.Object)
				if !ok {
					continue
				}
				if !yield(object, nil) {
					return
				}
				if seen++; limit > 0 && seen >= limit {
					return
				}
			}
			token := document.String(answer, "pagination", "page-token")
			if token == "" || len(items) == 0 {
				return
			}
			query = cloneValues(query)
			query.Del("page")
			query.Set("page-token", token)
		}
	}
}

func cloneValues(values url.Values) url.Values {
	out := make(url.Values, len(values)+2)
	for key, list := range values {
		out[key] = append([]string(nil), list...)
	}
	return out
}

// setNonEmpty adds the query values that are not empty.
func setNonEmpty(query url.Values, pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
}
