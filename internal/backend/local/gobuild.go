package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/sdk"
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
	return hex.EncodeToString(sum.Sum(nil))[:32], sdkDigest(sum)
}

// sdkDigest adds what functions are built from that come without a module.
func sdkDigest(sum io.Writer) error {
	return fs.WalkDir(sdk.Source, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(sdk.Source, path)
		fmt.Fprintf(sum, "%s %d\n", path, len(data))
		_, _ = sum.Write(data)
		return err
	})
}

// goModule writes the go.mod of code that has none: its only dependency can be the
// package sdk of this program, which is written to folder.
func goModule(source, folder string) error {
	const module = "github.com/millrace/millrace"
	if err := os.MkdirAll(filepath.Join(folder, "sdk"), 0o700); err != nil {
		return err
	}
	files := map[string][]byte{
		filepath.Join(folder, "go.mod"): []byte("module " + module + "\n\ngo 1.24\n"),
		filepath.Join(source, "go.mod"): []byte("module function\n\ngo 1.24\n\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + strconv.Quote(folder) + "\n"),
	}
	names, err := fs.Glob(sdk.Source, "*.go")
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if files[filepath.Join(folder, "sdk", name)], err = fs.ReadFile(sdk.Source, name); err != nil {
			return err
		}
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
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
		if err := goModule(source, filepath.Join(temp, "millrace")); err != nil {
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
