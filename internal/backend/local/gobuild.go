package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/kind"
)

// GoBuilder returns a function that builds Go main packages, each content once,
// below cache. Builds of the same content wait for each other.
func GoBuilder(cache string) func(context.Context, *kind.Plan, func(control.Step)) (string, error) {
	var mu sync.Mutex
	building := map[string]*sync.Mutex{}
	return func(ctx context.Context, plan *kind.Plan, progress func(control.Step)) (string, error) {
		digest, err := goDigest(ctx, plan)
		if err != nil {
			return "", err
		}
		mu.Lock()
		one := building[digest]
		if one == nil {
			one = &sync.Mutex{}
			building[digest] = one
		}
		mu.Unlock()
		one.Lock()
		defer one.Unlock()
		executable := filepath.Join(cache, digest, "main")
		if _, err := os.Stat(executable); err == nil {
			return executable, nil
		}
		progress(control.Step{Text: "building the Go program"})
		return executable, goBuild(ctx, plan, filepath.Dir(executable))
	}
}

// goDigest names the content that is built.
func goDigest(ctx context.Context, plan *kind.Plan) (string, error) {
	sum := sha256.New()
	for name, content := range plan.Files {
		fmt.Fprintf(sum, "%s %d\n", name, len(content))
		sum.Write(content)
	}
	switch {
	case plan.Bundle != "":
		raw, err := os.ReadFile(plan.Bundle)
		if err != nil {
			return "", fault.Invalid("spec.build.source %q cannot be read: %w", plan.Bundle, err)
		}
		sum.Write(raw)
	case plan.Folder != "":
		temp, err := os.MkdirTemp("", "millrace-go-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(temp)
		bundle, err := code.MakeBundle(ctx, plan.Folder, temp, 0)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, bundle.Digest)
	}
	return hex.EncodeToString(sum.Sum(nil))[:32], nil
}

// goBuild builds into a new folder beside target and renames it.
func goBuild(ctx context.Context, plan *kind.Plan, target string) error {
	tool, err := exec.LookPath("go")
	if err != nil {
		return fault.Invalid("the function is a Go program and there is no go command on this machine; install Go or give a built executable")
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(target), ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	source := plan.Folder
	switch {
	case plan.Bundle != "":
		source = filepath.Join(temp, "src")
		if err := code.Extract(plan.Bundle, source); err != nil {
			return err
		}
	case source == "":
		source = filepath.Join(temp, "src")
		if err := os.Mkdir(source, 0o700); err != nil {
			return err
		}
		for _, content := range plan.Files {
			if err := os.WriteFile(filepath.Join(source, "main.go"), content, 0o600); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stat(filepath.Join(source, "go.mod")); errors.Is(err, fs.ErrNotExist) && plan.Folder == "" {
		if err := os.WriteFile(filepath.Join(source, "go.mod"), []byte("module function\n"), 0o600); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, tool, "build", "-o", filepath.Join(temp, "out", "main"), ".")
	cmd.Dir = source
	cmd.Env = append(Environment(os.Environ()), "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		text := strings.TrimSpace(strings.ReplaceAll(output.String(), source+string(filepath.Separator), ""))
		return fault.Invalid("the Go program does not build: %.2000s", text)
	}
	if err := os.Rename(filepath.Join(temp, "out"), target); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
