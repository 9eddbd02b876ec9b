package app

import (
	"context"

	"github.com/millrace/millrace/internal/cli"
	"github.com/millrace/millrace/internal/fault"
)

// Resume implements cli.System: an iterative task goes on in this process, without a
// server.
func (s *system) Resume(ctx context.Context, request cli.ResumeRequest, observer cli.Observer) (cli.RunResult, error) {
	a, err := s.open(ctx, request.ConnectOptions)
	if err != nil {
		return cli.RunResult{}, err
	}
	defer a.leave()
	if err := a.Recover(ctx); err != nil { // a runner that was killed is found here
		return cli.RunResult{}, err
	}
	before, err := a.control.Search(ctx, request.Key)
	if err != nil {
		return cli.RunResult{}, err
	}
	doc, err := a.control.Resume(ctx, request.Key)
	if err != nil {
		return cli.RunResult{}, err
	}
	r := &inline{App: a, key: request.Key, observer: observer, abort: request.Abort, kill: ctx.Done(), standalone: true}
	r.search.best, r.search.results = before.Best, before.Results
	observer.Created(doc)
	next, err := r.next(ctx)
	if err == nil && next == nil {
		err = fault.Conflict("run %s is being continued by somebody else", request.Key.UID)
	}
	if err != nil {
		return cli.RunResult{}, err
	}
	execution, err := r.again(ctx, *next, "continues where it was", request.Detach)
	if err == nil && !request.Detach {
		err = r.follow(ctx, execution)
	}
	if err != nil {
		return cli.RunResult{}, err
	}
	doc, err = a.result(context.WithoutCancel(ctx), request.Key)
	return cli.RunResult{Run: doc, Detached: request.Detach}, err
}
