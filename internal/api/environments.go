package api

import (
	"context"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Environments are the virtual environments of this machine.
type Environments interface {
	// EnvironmentList describes them, the latest used first.
	EnvironmentList(ctx context.Context) ([]document.Object, error)
	// EnvironmentDelete removes one; fault.CodeNotFound when there is none,
	// fault.CodeConflict while it is in use.
	EnvironmentDelete(ctx context.Context, name string) error
	// EnvironmentLock tells what the requirements of a function have become here: "python",
	// the version of the interpreter, and "requirements", lines that install exactly that.
	// fault.CodePrecondition when they have not been resolved yet, fault.CodeInvalid when
	// there are none.
	EnvironmentLock(ctx context.Context, function document.Object) (document.Object, error)
}

func environmentRoutes() []*route {
	return []*route{
		v1("listEnvironments", "GET", "/millrace/environments", "List the virtual environments of this server", environmentList, answers(200, "Object")),
		v1("deleteEnvironment", "DELETE", "/millrace/environments/{name}", "Delete a virtual environment that nothing uses", environmentDelete, silent(204)),
		v1("lockEnvironment", "POST", "/millrace/environments/lock", "Tell what the requirements of a function have become on this server", environmentLock, body("Object"), answers(200, "Object")),
	}
}

func (c *call) environments() (Environments, error) {
	if c.s.opts.Environments == nil {
		return nil, fault.NotSupported("this server keeps no environments")
	}
	return c.s.opts.Environments, nil
}

func environmentList(c *call) error {
	environments, err := c.environments()
	if err != nil {
		return err
	}
	docs, err := environments.EnvironmentList(c.ctx())
	if err != nil {
		return err
	}
	list := make([]any, len(docs))
	for i, doc := range docs {
		list[i] = doc
	}
	return c.json(200, document.Object{"environments": list})
}

func environmentDelete(c *call) error {
	environments, err := c.environments()
	if err != nil {
		return err
	}
	if err := environments.EnvironmentDelete(c.ctx(), c.path("name")); err != nil {
		return err
	}
	c.w.WriteHeader(204)
	return nil
}

func environmentLock(c *call) error {
	environments, err := c.environments()
	if err != nil {
		return err
	}
	doc, err := c.object()
	if err != nil {
		return err
	}
	lock, err := environments.EnvironmentLock(c.ctx(), doc)
	if err != nil {
		return err
	}
	return c.json(200, lock)
}
