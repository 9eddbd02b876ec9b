package env

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// probeTimeout bounds one start of an unknown executable.
const probeTimeout = 20 * time.Second

// probeScript runs on any Python 3, older ones than we support included.
const probeScript = `import json, os, sys, sysconfig
v = sys.version_info
level = {"alpha": "a", "beta": "b", "candidate": "rc"}.get(v[3], "")
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": {"major": v[0], "minor": v[1], "patch": v[2], "pre": level + str(v[4]) if level else ""},
    "abi": (sysconfig.get_config_var("SOABI") or "") + "/" + os.uname().machine,
    "executable": sys.executable,
}))`

// prober asks executables what they are and remembers the answer.
type prober struct {
	dir    string // "" means no memory
	logger *slog.Logger
}

// stamp identifies one state of an executable file.
type stamp struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	ModTime int64  `json:"mtime_ns"`
}

// record is a cache file: what the executable in that state answered, Failure
// instead when it did not answer as a Python interpreter.
type record struct {
	Stamp       stamp       `json:"stamp"`
	Interpreter Interpreter `json:"interpreter"`
	Failure     string      `json:"failure,omitempty"`
}

// probe returns what c is. A script (such as another tool's shim) answers for
// whatever it would start today, so it is never remembered; a failure is, as
// long as the file stays the same.
func (p prober) probe(ctx context.Context, c candidate) (Interpreter, error) {
	exe, real, err := locate(c.path)
	if err != nil {
		return Interpreter{}, err
	}
	info, err := os.Stat(real)
	if err != nil {
		return Interpreter{}, fmt.Errorf("look at the interpreter: %w", err)
	}
	want := stamp{Path: exe, Size: info.Size(), ModTime: info.ModTime().UnixNano()}
	if rec, ok := p.recall(want); ok {
		if rec.Failure != "" {
			return Interpreter{}, errors.New(rec.Failure)
		}
		rec.Interpreter.Origin = c.origin
		return rec.Interpreter, nil
	}
	script, err := isScript(real)
	if err != nil {
		return Interpreter{}, err
	}
	if script {
		// Ask what it starts, then treat that as the interpreter.
		answer, err := ask(ctx, exe)
		if err != nil {
			return Interpreter{}, err
		}
		target, targetReal, err := locate(answer.Executable)
		if err != nil {
			return Interpreter{}, err
		}
		if again, err := isScript(targetReal); err != nil || again {
			return Interpreter{}, errors.Join(errors.New("it is a script that starts another script"), err)
		}
		return p.probe(ctx, candidate{path: target, origin: c.origin})
	}
	answer, err := ask(ctx, exe)
	if ctx.Err() != nil {
		return Interpreter{}, context.Cause(ctx)
	}
	rec := record{Stamp: want, Interpreter: answer}
	rec.Interpreter.Executable, rec.Interpreter.Real = exe, real
	if err != nil {
		rec.Interpreter, rec.Failure = Interpreter{}, err.Error()
	}
	if err == nil || errors.Is(err, errNotPython) {
		p.remember(rec)
	}
	rec.Interpreter.Origin = c.origin
	return rec.Interpreter, err
}

// errNotPython: the executable ran and is not a working Python. Other failures
// (no memory, too slow today) say nothing about it.
var errNotPython = errors.New("it does not answer as a Python interpreter")

func isScript(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("read the interpreter: %w", err)
	}
	defer f.Close()
	head := make([]byte, 2)
	if _, err := io.ReadFull(f, head); err != nil {
		return false, fmt.Errorf("read the interpreter: %w", err)
	}
	return string(head) == "#!", nil
}

// ask starts the executable once, isolated from the environment.
func ask(ctx context.Context, exe string) (Interpreter, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, fmt.Errorf("it did not answer within %s", probeTimeout))
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, exe, "-I", "-S", "-c", probeScript)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	cmd.Dir = "/"
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return Interpreter{}, context.Cause(ctx)
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || !exit.Exited() {
			return Interpreter{}, fmt.Errorf("start it: %w", err)
		}
		if line := lastLine(stderr.String()); line != "" {
			return Interpreter{}, fmt.Errorf("%w: %w: %s", errNotPython, err, line)
		}
		return Interpreter{}, fmt.Errorf("%w: %w", errNotPython, err)
	}
	var answer Interpreter
	if err := json.Unmarshal(stdout.Bytes(), &answer); err != nil || answer.Executable == "" {
		return Interpreter{}, errNotPython
	}
	return answer, nil
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func (p prober) file(path string) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(p.dir, "interpreters", hex.EncodeToString(sum[:12])+".json")
}

func (p prober) recall(want stamp) (record, bool) {
	if p.dir == "" {
		return record{}, false
	}
	data, err := os.ReadFile(p.file(want.Path))
	if err != nil {
		return record{}, false
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil || rec.Stamp != want {
		return record{}, false
	}
	return rec, true
}

// remember writes the cache file. Not being able to costs time later and
// nothing else, so it is logged only.
func (p prober) remember(rec record) {
	if p.dir == "" {
		return
	}
	data, err := json.Marshal(rec)
	if err == nil {
		err = writeFile(p.file(rec.Stamp.Path), data)
	}
	if err != nil {
		p.logger.Warn("cannot remember an interpreter", "path", rec.Stamp.Path, "error", err)
	}
}
