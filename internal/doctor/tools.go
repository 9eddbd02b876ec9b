package doctor

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// tool is a program that some functions need.
type tool struct {
	name   string
	args   []string
	need   string
	remedy string
}

// Git checks for git, which functions from repositories need.
func Git() Check {
	return tool{"git", []string{"--version"}, "code and packages from git repositories cannot be fetched", "install git"}
}

// Go checks for the Go toolchain, which functions written in Go need.
func Go() Check {
	return tool{"go", []string{"version"}, "functions written in Go cannot be built", "install Go from https://go.dev/dl"}
}

// Name implements Check.
func (t tool) Name() string { return t.name }

// Check implements Check.
func (t tool) Check(ctx context.Context) Finding {
	path, err := exec.LookPath(t.name)
	if err != nil {
		return warn(t.remedy, "not found on PATH: %s", t.need)
	}
	cmd := exec.CommandContext(ctx, path, t.args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return warn(t.remedy, "%s does not work (%v): %s", path, err, t.need)
	}
	return ok("%s (%s)", strings.TrimSpace(string(out)), path)
}
