// Package pycompare tells cosmetic changes of Python code from others, with a
// Python interpreter that parses the code and does not execute it. It runs
// isolated (-I -S): no site packages, no environment, no user code on its path.
package pycompare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/diff"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/runtime/python"
)

// timeout is how long comparing may take; it takes milliseconds unless something
// is badly wrong.
const timeout = time.Minute

// Comparer implements diff.Comparer.
type Comparer struct{ python string }

// New returns a Comparer that uses the interpreter python (a path, or a name to be
// found on PATH; 3.9 or newer).
func New(python string) *Comparer { return &Comparer{python: python} }

// Compare implements diff.Comparer. Without an interpreter the error is a
// fault.CodePrecondition.
func (c *Comparer) Compare(ctx context.Context, a, b []byte) (diff.Comparison, error) {
	if !utf8.Valid(a) || !utf8.Valid(b) {
		return diff.Comparison{Reason: "it is not UTF-8"}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fault.Invalid("the code takes longer than %s to parse", timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, c.python, "-I", "-S", "-c", python.Compare)
	cmd.Dir = os.TempDir()
	cmd.Stdin = bytes.NewReader(document.Encode(document.Object{"a": string(a), "b": string(b)}))
	cmd.WaitDelay = 5 * time.Second
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return diff.Comparison{}, context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return diff.Comparison{}, fault.Precondition("the Python interpreter %s, which compares code, is not there; install Python 3.9 or newer, or name one with MILLRACE_PYTHON", c.python)
	case err != nil:
		lines := strings.Split(strings.TrimSpace(problems.String()), "\n")
		return diff.Comparison{}, fault.Precondition("the Python interpreter %s could not compare the code (%w): %s", c.python, err, lines[len(lines)-1])
	}
	doc, err := document.DecodeObject(out.Bytes())
	if err != nil {
		return diff.Comparison{}, fmt.Errorf("read how code compares: %w", err)
	}
	result := diff.Comparison{Same: document.Bool(doc, "same"), Reason: document.String(doc, "reason")}
	for _, item := range document.List(doc, "changed") {
		if name, ok := item.(string); ok {
			result.Changed = append(result.Changed, name)
		}
	}
	return result, nil
}
