package local

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"

	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/template"
	"github.com/millrace/millrace/internal/tune"
)

// Warm has the workers of launches forked from templates: interpreters of their
// environment that have imported what the code imported when it last ran. All
// fields are required.
type Warm struct {
	Templates *template.Pool
	Imports   template.Imports
	// HashSeed is what orders the hashes of strings in all of the templates, and so in
	// the runs that say nothing about it.
	HashSeed uint32
	Logger   *slog.Logger
}

// attach names the template that the launch's worker is to be forked from, if there
// is one now, and where the runner notes what the code imports, if that is not known.
func (w *Warm) attach(launch *spool.Launch) {
	if launch.Mode == spool.ModeCommand || launch.Python == "" {
		return
	}
	var record struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(launch.Provenance, &record); err == nil && record.Code != "" {
		launch.Imports = w.Imports.File(record.Code, launch.Python)
	}
	spec, err := w.spec(launch)
	reason := ""
	if err != nil {
		reason = err.Error()
	} else if len(spec.Modules) == 0 && tune.Forks(launch.Run) {
		reason = "iterations are forks of the worker, and each costs the less the less is in it"
	} else {
		launch.Template, reason = w.Templates.Socket(spec)
	}
	if reason != "" {
		w.Logger.Debug("the worker will not be forked from a template", "execution", launch.Execution, "reason", reason)
	}
}

var errHashSeed = errors.New("the run has a hash seed of its own")

// spec is the template that fits the launch. What its code imports is cleared from
// the launch when it is known.
func (w *Warm) spec(launch *spool.Launch) (template.Spec, error) {
	base := Environment(os.Environ())
	spec := template.Spec{
		Interpreter: launch.Python, RuntimeDir: launch.Runtime, Env: template.Environ(base, launch.Env, launch.VirtualEnv),
	}
	usual := hashVariable + "=" + strconv.FormatUint(uint64(w.HashSeed), 10)
	if !has(base, hashVariable) && !slices.Contains(spec.Env, usual) {
		return template.Spec{}, errHashSeed
	}
	if modules, known := template.Learnt(launch.Imports); known {
		spec.Modules, launch.Imports = modules, ""
	}
	return spec, nil
}

// Ended starts the template for an execution that has found out what its code
// imports: the next one will want it.
func (w *Warm) Ended(dir spool.Dir) {
	launch, err := dir.Launch()
	if err != nil || launch.Imports == "" {
		return
	}
	spec, err := w.spec(&launch)
	if err != nil || len(spec.Modules) == 0 {
		return
	}
	w.Templates.Socket(spec)
}
