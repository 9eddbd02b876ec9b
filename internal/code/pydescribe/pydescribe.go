// Package pydescribe lists the entry points of Python source with a Python
// interpreter that parses the source and does not execute it.
//
// The interpreter runs isolated (-I -S): no site packages, no environment, no user
// code on its path. Results are kept in a cache folder by the hash of script,
// interpreter and source, so that saving unchanged code starts no process.
package pydescribe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/runtime/python"
)

// timeout is how long parsing may take; it takes milliseconds unless something is
// badly wrong.
const timeout = time.Minute

// Describer implements code.Describer. It may be used by several goroutines.
type Describer struct {
	python, cache string
}

// New returns a Describer that uses the interpreter python (a path, or a name to be
// found on PATH; 3.9 or newer) and keeps results in the folder cache, which is
// created when needed; "" keeps none.
func New(python, cache string) *Describer { return &Describer{python: python, cache: cache} }

// Describe implements code.Describer. Without an interpreter the error is a
// fault.CodePrecondition.
func (d *Describer) Describe(ctx context.Context, source []byte) (document.Object, error) {
	file := d.cacheFile(source)
	if file != "" {
		if data, err := os.ReadFile(file); err == nil {
			if entries, err := read(data); err == nil || errors.As(err, new(*code.SyntaxError)) {
				return entries, err
			}
		}
	}
	data, err := d.run(ctx, source)
	if err != nil {
		return nil, err
	}
	entries, err := read(data)
	if file != "" && (err == nil || errors.As(err, new(*code.SyntaxError))) {
		keep(file, data)
	}
	return entries, err
}

func (d *Describer) cacheFile(source []byte) string {
	if d.cache == "" {
		return ""
	}
	hash := sha256.New()
	for _, part := range []string{python.Describe, d.python} {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	hash.Write(source)
	return filepath.Join(d.cache, hex.EncodeToString(hash.Sum(nil))+".json")
}

// keep stores a result. Failing to is no harm: it is made again the next time.
func keep(file string, data []byte) {
	if os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	out, err := os.CreateTemp(filepath.Dir(file), ".describe-*")
	if err != nil {
		return
	}
	_, err = out.Write(data)
	if errors.Join(err, out.Close()) != nil || os.Rename(out.Name(), file) != nil {
		_ = os.Remove(out.Name())
	}
}

// run starts the interpreter and returns what it prints.
func (d *Describer) run(ctx context.Context, source []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fault.Invalid("the code takes longer than %s to parse", timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, d.python, "-I", "-S", "-c", python.Describe)
	cmd.Dir = os.TempDir()
	cmd.Stdin = bytes.NewReader(source)
	cmd.WaitDelay = 5 * time.Second
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return nil, fault.Precondition("the Python interpreter %s, which reads the entry points of the code, is not there; install Python 3.9 or newer", d.python)
	case err != nil:
		text := strings.TrimSpace(problems.String())
		if at := strings.LastIndexByte(text, '\n'); at >= 0 {
			text = text[at+1:]
		}
		return nil, fault.Precondition("the Python interpreter %s could not read the entry points of the code (%w): %s", d.python, err, text)
	}
	return out.Bytes(), nil
}

func read(data []byte) (document.Object, error) {
	doc, err := document.DecodeObject(data)
	if err != nil {
		return nil, fmt.Errorf("read entry points: %w", err)
	}
	if syntax := document.Map(doc, "syntax_error"); syntax != nil {
		line, _ := document.Int(syntax, "line")
		return nil, &code.SyntaxError{Line: int(line), Message: document.String(syntax, "message")}
	}
	entries, err := document.Want[document.Object](doc, "entry_points")
	if err == nil && entries == nil {
		err = errors.New("read entry points: there are none in the answer")
	}
	return entries, err
}
