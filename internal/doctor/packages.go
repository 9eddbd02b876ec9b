package doctor

import (
	"context"

	"github.com/millrace/millrace/internal/env"
)

// Builder makes virtual environments.
type Builder interface {
	// Check tries what a build needs; see env.Manager.
	Check(ctx context.Context, interp env.Interpreter) (string, error)
}

// Packages checks that requirements can be installed for the default interpreter.
type Packages struct {
	Interpreters Interpreters
	Builder      Builder
}

// Name implements Check.
func (Packages) Name() string { return "packages" }

// Check implements Check.
func (c Packages) Check(ctx context.Context) Finding {
	// Without it, functions that ask for no packages still run.
	interp, err := c.Interpreters.Default(ctx)
	if err != nil {
		return warn("see python", "there is no interpreter to install them for")
	}
	found, err := c.Builder.Check(ctx, interp)
	if err != nil {
		return warn("functions without requirements run; for others install pip and venv for this interpreter", "%s", message(err))
	}
	return ok("virtual environments can be made, %s", found)
}
