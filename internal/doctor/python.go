package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/millrace/millrace/internal/env"
)

// Interpreters finds Python interpreters.
type Interpreters interface {
	// Default is what functions run on that ask for no version.
	Default(ctx context.Context) (env.Interpreter, error)
	// List is every one of this machine.
	List(ctx context.Context) []env.Interpreter
}

// Python checks that functions have an interpreter to run on.
type Python struct {
	Interpreters Interpreters
}

// Name implements Check.
func (Python) Name() string { return "python" }

// Check implements Check.
func (c Python) Check(ctx context.Context) Finding {
	remedy := fmt.Sprintf("install CPython %d.%d to %d.%d, or name one with --python", env.Oldest.Major, env.Oldest.Minor, env.Newest.Major, env.Newest.Minor)
	chosen, err := c.Interpreters.Default(ctx)
	if err != nil {
		return fail(remedy, "%s", message(err))
	}
	var others, old []string
	for _, i := range c.Interpreters.List(ctx) {
		switch {
		case i.Executable == chosen.Executable:
		case i.Usable():
			others = append(others, i.Release())
		default:
			old = append(old, i.Version.String())
		}
	}
	detail := fmt.Sprintf("%s (%s)", chosen.Release(), chosen.Executable)
	if len(others) > 0 {
		detail += ", also " + strings.Join(others, ", ")
	}
	if len(old) > 0 {
		detail += ", not usable: " + strings.Join(old, ", ")
	}
	if chosen.Version.Minor > env.Newest.Minor {
		return warn(remedy, "%s; the default is newer than any tried", detail)
	}
	return ok("%s", detail)
}
