package control

import (
	"context"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/tune"
)

// Search tells how far an iterative task is, as the store knows it.
// fault.CodeNotFound when there is no such run, fault.CodeConflict when it is not
// an iterative task that was executed here.
func (c *Control) Search(ctx context.Context, key run.Key) (tune.Progress, error) {
	var p tune.Progress
	doc, err := c.Store.RunGet(ctx, key)
	if err != nil {
		return p, err
	}
	executions, err := c.Store.ExecutionList(ctx, key.Project, key.UID)
	if err != nil {
		return p, err
	}
	if len(executions) == 0 || !iterative(executions[len(executions)-1]) {
		return p, notIterative(key)
	}
	plan := executions[len(executions)-1].Plan
	p = tune.ProgressOf(document.Map(plan, "search_state"))
	p.Names, p.State = texts(document.List(plan, "search", "names")), document.String(doc, "status", "state")
	if run.StateOf(doc).Terminal() {
		p.Running = 0
	}
	if p.Best == 0 {
		return p, nil
	}
	key.Iter = p.Best
	best, err := c.Store.RunGet(ctx, key)
	if err != nil && !fault.Is(err, fault.CodeNotFound) {
		return p, err
	}
	p.Results = document.Map(best, "status", "results")
	return p, nil
}

func notIterative(key run.Key) error {
	return fault.Conflict("run %s is not an iterative task that was executed here", key.UID)
}

func texts(list []any) []string {
	out := make([]string, 0, len(list))
	for _, item := range list {
		if text, ok := item.(string); ok {
			out = append(out, text)
		}
	}
	return out
}
