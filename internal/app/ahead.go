package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/backend/local"
	"github.com/millrace/millrace/internal/cli"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/runner"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/worker"
)

// ahead is a worker that was started before its run was accepted, because most
// runs need a Python worker of the default interpreter, and that takes longer to
// start than everything else together. Until the run is accepted it knows no code.
type ahead struct {
	worker *worker.Worker
	output *os.File
	log    string // path of the file behind output
	python string
}

// startAhead starts a worker for the request, or none when it is not clear that it
// can be used. It never fails: what is wrong will be said by the ordinary path.
func startAhead(ctx context.Context, request cli.RunRequest) *ahead {
	if request.Function == nil || request.Detach || !plain(request.Function) || document.Get(request.Task, "spec", "seed") != nil {
		return &ahead{}
	}
	dir, err := dataDir(request.DataDir)
	if err != nil {
		return &ahead{}
	}
	runtimeDir, err := worker.Unpack(filepath.Join(dir, "runtime"))
	if err != nil {
		return &ahead{}
	}
	interpreter, err := env.NewInterpreters(env.InterpreterConfig{Default: request.Python, CacheDir: filepath.Join(dir, "cache")}).Select(ctx, "")
	if err != nil {
		return &ahead{}
	}
	log := filepath.Join(spool.Root(dir), fmt.Sprintf(".ahead-%d.log", os.Getpid()))
	output, err := os.OpenFile(log, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return &ahead{}
	}
	a := &ahead{output: output, log: log, python: interpreter.Executable}
	a.worker, err = worker.Start(ctx, worker.Spec{
		Interpreter: interpreter.Executable, RuntimeDir: runtimeDir, Stdout: output, Stderr: output,
		Env: append(local.Environment(os.Environ()), append(local.HashSeedOf(request.UID()), runner.ExecutionVariable+"="+request.UID()+"-1")...),
	})
	if err != nil {
		a.discard()
	}
	return a
}

// plain reports whether the function asks for nothing but Python: code or a Python
// file, without requirements, version, or variables that the interpreter reads at
// its start.
func plain(doc document.Object) bool {
	f := &function.Function{Doc: doc}
	spec, err := f.Spec()
	if err != nil || spec.Mode != "" || spec.Language != function.LanguagePython || spec.PythonVersion != "" || len(spec.Requirements) > 0 {
		return false
	}
	for _, variable := range spec.Env {
		if strings.HasPrefix(variable.Name, "PYTHON") && variable.Name != "PYTHONPATH" {
			return false
		}
	}
	return strings.HasSuffix(spec.OriginFilename, ".py") || strings.HasSuffix(spec.OriginFilename, ".ipynb")
}

// fits reports whether the worker is what launch needs.
func (a *ahead) fits(launch spool.Launch) bool {
	return a != nil && a.worker != nil && launch.Mode != spool.ModeCommand && launch.Python == a.python
}

// take returns the worker, once, and nil when there is none.
func (a *ahead) take() *worker.Worker {
	if a == nil {
		return nil
	}
	w := a.worker
	a.worker = nil
	return w
}

// file is the open log of the worker, nil when there is none.
func (a *ahead) file() *os.File {
	if a == nil {
		return nil
	}
	return a.output
}

// discard ends a worker that is not used and removes its log; once the worker is
// taken it only closes the log's descriptor of this process.
func (a *ahead) discard() {
	if a == nil {
		return
	}
	if w := a.take(); w != nil {
		_ = w.Kill() // it knows no code
		<-w.Done()
		_ = os.Remove(a.log)
	}
	if a.output != nil {
		_ = a.output.Close()
		a.output = nil
	}
}
