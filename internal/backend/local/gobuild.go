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
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/digest"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/sdk"
)

// GoBuilder returns a function that builds Go main packages, each content once,
// below cache. Builds of the same content wait for each other. A folder that is built in
// place is built each time: only go knows what goes into it from outside, and its own
// cache makes that short.
func GoBuilder(cache string) func(context.Context, *kind.Plan, func(control.Step)) (string, error) {
	var mu sync.Mutex
	building := map[string]*sync.Mutex{}
	return func(ctx context.Context, plan *kind.Plan, progress func(control.Step)) (string, error) {
		if plan.Bundle == "" && plan.Folder != "" {
			progress(control.Step{Text: "building the Go program"})
			return goBuild(ctx, plan, cache, "")
		}
		name, err := goDigest(plan)
		if err != nil {
			return "", err
		}
		mu.Lock()
		one := building[name]
		if one == nil {
			one = &sync.Mutex{}
			building[name] = one
		}
		mu.Unlock()
		one.Lock()
		defer one.Unlock()
		executable := filepath.Join(cache, name, "main")
		if _, err := os.Stat(executable); err == nil {
			return executable, nil
		}
		progress(control.Step{Text: "building the Go program"})
		return goBuild(ctx, plan, cache, name)
	}
}

// goDigest names the content that is built.
func goDigest(plan *kind.Plan) (string, error) {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(plan.Files)) {
		fmt.Fprintf(sum, "%s %d\n", name, len(plan.Files[name]))
		sum.Write(plan.Files[name])
	}
	if plan.Bundle != "" {
		raw, err := os.ReadFile(plan.Bundle)
		if err != nil {
			return "", fault.Invalid("spec.build.source %q cannot be read: %w", plan.Bundle, err)
		}
		sum.Write(raw)
	}
	if err := sdkDigest(sum); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil))[:32], nil
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
// package sdk of this program, which is written to folder, beside source. Its name there is
// relative and go trims other paths, so that equal code becomes equal programs.
func goModule(source, folder string) error {
	const module = "github.com/millrace/millrace"
	if err := os.MkdirAll(filepath.Join(folder, "sdk"), 0o700); err != nil {
		return err
	}
	files := map[string][]byte{
		filepath.Join(folder, "go.mod"): []byte("module " + module + "\n\ngo 1.24\n"),
		filepath.Join(source, "go.mod"): []byte("module function\n\ngo 1.24\n\nrequire " + module + " v0.0.0\n\nreplace " + module + " => ../" + filepath.Base(folder) + "\n"),
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

// goBuild builds into a new folder below cache, renames it to name, or to the digest
// of the program when that is "", and returns the program's path.
func goBuild(ctx context.Context, plan *kind.Plan, cache, name string) (string, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return "", fault.Invalid("the function is a Go program and there is no go command on this machine; install Go or give a built executable")
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(cache, ".build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	source := plan.Folder
	switch {
	case plan.Bundle != "":
		source = filepath.Join(temp, "src")
		if err := code.Extract(plan.Bundle, source); err != nil {
			return "", err
		}
	case source == "":
		source = filepath.Join(temp, "src")
		if err := os.Mkdir(source, 0o700); err != nil {
			return "", err
		}
		for _, content := range plan.Files {
			if err := os.WriteFile(filepath.Join(source, "main.go"), content, 0o600); err != nil {
				return "", err
			}
		}
	}
	if _, err := os.Stat(filepath.Join(source, "go.mod")); errors.Is(err, fs.ErrNotExist) && plan.Folder == "" {
		if err := goModule(source, filepath.Join(temp, "millrace")); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, tool, "build", "-trimpath", "-o", filepath.Join(temp, "out", "main"), ".")
	cmd.Dir = source
	cmd.Env = append(Environment(os.Environ()), "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		text := strings.TrimSpace(strings.ReplaceAll(output.String(), source+string(filepath.Separator), ""))
		return "", fault.Invalid("the Go program does not build: %.2000s", text)
	}
	built := filepath.Join(temp, "out")
	if name == "" {
		sum, _, err := digest.Path(ctx, filepath.Join(built, "main"), programLimit)
		if err != nil {
			return "", err
		}
		name = strings.Replace(sum, ":", "-", 1)
	}
	target := filepath.Join(cache, name)
	if err := os.Rename(built, target); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return filepath.Join(target, "main"), nil
}
