package processor

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/template"
)

// holdEvery is how often the template of a function that may have no workers is
// asked for, so that it is there when they come back.
const holdEvery = 2 * time.Minute

// warm is the template of a revision. A nil one has none.
type warm struct {
	templates Templates
	logger    *slog.Logger
	file      string // of what the code imports

	mu    sync.Mutex
	spec  template.Spec
	known bool // the modules of spec are what this code imports
}

func newWarm(spec realtime.Revision, options Options, logger *slog.Logger) *warm {
	if options.Templates == nil || spec.Mode != realtime.ModeHandler {
		return nil
	}
	w := &warm{templates: options.Templates, logger: logger, spec: template.Spec{
		Interpreter: spec.Python, RuntimeDir: spec.Runtime, Env: template.Environ(os.Environ(), spec.Env, spec.VirtualEnv),
	}}
	// Until the code has told, what the revision before it imported is a good guess.
	w.file = options.Imports.File("function "+spec.Project+"/"+spec.Name, spec.Python)
	w.spec.Modules, _ = template.Learnt(w.file)
	return w
}

// socket is that of the template, "" if there is none now.
func (w *warm) socket(ctx context.Context) string {
	if w == nil {
		return ""
	}
	w.mu.Lock()
	spec := w.spec
	w.mu.Unlock()
	socket, reason := w.templates.Socket(ctx, spec)
	if reason != "" {
		w.logger.Debug("the worker will not be forked from a template", "reason", reason)
	}
	return socket
}

// wondering reports whether it is to be found out what the code imports.
func (w *warm) wondering() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.known
}

// learn takes what the code imports, and has its template started.
func (w *warm) learn(ctx context.Context, modules []string) {
	w.mu.Lock()
	changed := !slices.Equal(w.spec.Modules, modules)
	w.spec.Modules, w.known = modules, true
	w.mu.Unlock()
	if !changed {
		return
	}
	if err := template.Learn(w.file, modules); err != nil {
		w.logger.Warn("what the code imports is not noted", "reason", err)
	}
	w.socket(ctx)
}

// hold asks for the template until ctx ends.
func (w *warm) hold(ctx context.Context) {
	ticker := time.NewTicker(holdEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.socket(ctx)
		}
	}
}
