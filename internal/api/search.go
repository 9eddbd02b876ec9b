package api

import (
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/tune"
)

// searchRoutes are about iterative tasks.
func searchRoutes() []*route {
	const named = "/millrace/projects/{project}/runs/{uid}"
	return []*route{
		v1("getSearch", "GET", named+"/search", "How far an iterative task is", searchGet, answers(200, "Object")),
		v1("steerSearch", "PATCH", named+"/search", "Change an iterative task while it runs", searchSteer, body("Object"), answers(200, "Object")),
		v1("resumeRun", "POST", named+"/resume", "Continue an iterative task that was aborted or lost", runResume, answers(200, "RunAnswer")),
		v1("listIterations", "GET", named+"/iterations", "Iterations of a run", iterationList, answers(200, "Object"), takes(
			str("sort", "iter (default), param.NAME or output.NAME, with - before it from the largest; iterations without the value come last"),
			strs("state", "states to return"), integer("limit", 0, "how many to return, at most 10000 (default 1000); 0 means all"), integer("offset", 0, "how many to leave out before"),
		)),
	}
}

// task reads which run a call about an iterative task is for.
func (c *call) task() run.Key { return run.Key{Project: c.path("project"), UID: c.path("uid")} }

func searchGet(c *call) error {
	control, err := c.controller()
	if err != nil {
		return err
	}
	progress, err := control.Search(c.ctx(), c.task())
	if err != nil {
		return err
	}
	return c.json(200, progress.Document())
}

func searchSteer(c *call) error {
	control, err := c.controller()
	if err != nil {
		return err
	}
	request, err := c.object()
	if err != nil {
		return err
	}
	change, err := tune.ParseSteering(request)
	if err != nil {
		return err
	}
	if err := control.Steer(c.ctx(), c.task(), change); err != nil {
		return err
	}
	return c.json(200, document.Object{"accepted": change.Document()})
}

func runResume(c *call) error {
	c.discard()
	control, err := c.controller()
	if err != nil {
		return err
	}
	doc, err := control.Resume(c.ctx(), c.task())
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"data": doc})
}

// defaultIterations is how many iterations an answer has when the caller does not
// say; maxPageSize bounds what it may say.
const defaultIterations = 1000

func iterationList(c *call) error {
	filter, err := c.iterationFilter()
	if err != nil {
		return err
	}
	// Written piece by piece: the answer begins with the first iteration, until which
	// an error is answered as usual.
	buffer := getBuffer()
	defer putBuffer(buffer)
	begun := false
	more, err := c.s.opts.Store.RunIterations(c.ctx(), c.task(), filter, func(doc document.Object) error {
		if begun {
			buffer.b = append(buffer.b, ',')
		} else {
			c.start(200)
			buffer.b = append(buffer.b, `{"iterations":[`...)
			begun = true
		}
		if buffer.b = document.Append(buffer.b, iteration(doc)); len(buffer.b) < flushAt {
			return nil
		}
		_, err := c.w.Write(buffer.b)
		buffer.b = buffer.b[:0]
		return err
	})
	switch {
	case err != nil && begun:
		c.fail(err)
		panic(abortResponse) // breaking the connection is the only honest end
	case err != nil:
		return err
	case !begun:
		return c.json(200, document.Object{"iterations": []any{}, "more": more})
	}
	buffer.b = append(document.Append(append(buffer.b, `],"more":`...), more), '}')
	_, _ = c.w.Write(buffer.b)
	return nil
}

// flushAt is how many bytes of a list are written at once.
const flushAt = 256 << 10

func (c *call) iterationFilter() (store.IterationFilter, error) {
	filter := store.IterationFilter{States: c.strs("state")}
	for _, state := range filter.States {
		if !run.State(state).Known() {
			return filter, fault.Invalid("parameter state must be one of %v, got %q", run.States(), clip(state))
		}
	}
	var err error
	if filter.Sort, err = store.ParseIterationSort(c.str("sort")); err != nil {
		return filter, err
	}
	limit, err := c.int("limit", defaultIterations)
	if err != nil {
		return filter, err
	}
	if limit > maxPageSize {
		return filter, fault.Invalid("parameter limit must be at most %d, or 0 for all, got %d", maxPageSize, limit)
	}
	offset, err := c.int("offset", 0)
	if err != nil {
		return filter, err
	}
	if offset > maxPageNumber {
		return filter, fault.Invalid("parameter offset must be at most %d, got %d", maxPageNumber, offset)
	}
	filter.Page = store.Page{Offset: int(offset), Size: int(limit)}
	return filter, nil
}

// iteration is a child run as a row of its task.
func iteration(doc document.Object) document.Object {
	iter, _ := document.Int(doc, "metadata", "iteration")
	out := document.Object{
		"iter": iter, "state": document.String(doc, "status", "state"), "start_time": document.Get(doc, "status", "start_time"), "end_time": document.Get(doc, "status", "end_time"),
	}
	for field, path := range map[string][]string{"parameters": {"spec", "parameters"}, "results": {"status", "results"}, "artifact_uris": {"status", "artifact_uris"}} {
		values := document.Map(doc, path...)
		if values == nil {
			values = document.Object{}
		}
		out[field] = values
	}
	for _, field := range []string{"error", "reason", "log"} {
		if value := document.Get(doc, "status", field); value != nil {
			out[field] = value
		}
	}
	return out
}
