package env

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Interpreter is one Python executable.
type Interpreter struct {
	// Executable is the file to start. It is real (no symbolic link) unless it
	// belongs to a virtual environment.
	Executable string `json:"executable"`
	// Real is Executable with every symbolic link followed.
	Real string `json:"real"`
	// Implementation is "cpython" for every interpreter that is selected.
	Implementation string  `json:"implementation"`
	Version        Version `json:"version"`
	// ABI says which compiled extensions fit, such as
	// "cpython-311-x86_64-linux-gnu".
	ABI string `json:"abi"`
	// Origin says where it was found: "default", "PATH", "pyenv" or a folder.
	Origin string `json:"origin"`
}

// Identity is what environments built from the interpreter depend on.
func (i Interpreter) Identity() string {
	return strings.Join([]string{i.Implementation, i.Version.String(), i.ABI, i.Real}, "|")
}

// Usable reports whether functions can run on the interpreter.
func (i Interpreter) Usable() bool { return i.Implementation == "cpython" && i.Version.Supported() }

// Release is the version as one asks for it: "3.13.5", and "3.13.5t" of a free-threaded build.
func (i Interpreter) Release() string {
	if i.FreeThreaded() {
		return i.Version.String() + "t"
	}
	return i.Version.String()
}

// FreeThreaded reports whether it is a build without a global interpreter lock.
func (i Interpreter) FreeThreaded() bool { return freeABI.MatchString(i.ABI) }

var freeABI = lazyregexp.New(`^cpython-\d+t-`)

// InterpreterConfig says where to look. The zero value looks everywhere and
// remembers nothing.
type InterpreterConfig struct {
	// Default is the executable to use when a function asks for no version; a
	// name without a slash is looked up in PATH. Empty means python3, then python.
	Default string
	// CacheDir keeps what executables said about themselves; empty means that
	// every use starts the executable.
	CacheDir string
	// Dir is where a .python-version file is looked for (upwards), as pyenv does;
	// empty means none.
	Dir string
	// Getenv reads the environment (PATH, HOME, PYENV_ROOT, PYENV_VERSION);
	// nil means os.Getenv.
	Getenv func(string) string
	// Folders replaces the folders searched after PATH and pyenv; nil means
	// /usr/local/bin and /usr/bin (and Homebrew's).
	Folders []string
	// Logger gets what could not be cached or started; nil discards it.
	Logger *slog.Logger
}

// Interpreters finds Python interpreters. It is safe for concurrent use and
// looks at the machine anew on every call.
type Interpreters struct {
	search search
	probes prober
}

// NewInterpreters returns a finder; it does no work.
func NewInterpreters(cfg InterpreterConfig) *Interpreters {
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	logger = logger.With("component", "interpreters")
	return &Interpreters{search: newSearch(cfg), probes: prober{dir: cfg.CacheDir, logger: logger}}
}

// Default returns the interpreter used when a function asks for none: the
// configured one, which must be usable, or the first usable one on PATH and
// then anywhere. Its errors name what was found and what to do.
func (in *Interpreters) Default(ctx context.Context) (Interpreter, error) {
	return in.Select(ctx, "")
}

// Select returns the interpreter for a requested version (see ParseConstraint):
// the default when it fits, else the newest that does, a final release before a
// pre-release, and a free-threaded build after all others. Errors carry fault.CodeInvalid for a malformed request and
// fault.CodePrecondition when nothing fits.
func (in *Interpreters) Select(ctx context.Context, request string) (Interpreter, error) {
	want, err := ParseConstraint(request)
	if err != nil {
		return Interpreter{}, err
	}
	preferred, err := in.preferred(ctx)
	switch {
	case err == nil && want.Fits(preferred):
		return preferred, nil
	case ctx.Err() != nil:
		return Interpreter{}, context.Cause(ctx)
	case err != nil && want.Any() && in.search.configured != "":
		return Interpreter{}, err // what was configured explicitly is not replaced silently
	}
	all := in.List(ctx)
	if err := ctx.Err(); err != nil {
		return Interpreter{}, context.Cause(ctx)
	}
	for _, candidate := range all {
		if candidate.Usable() && want.Fits(candidate) {
			return candidate, nil
		}
	}
	return Interpreter{}, notFound(want, all)
}

// List returns every interpreter of the machine, usable or not: usable ones
// first, free-threaded ones after the others, then newest first. Executables that do not start are left out.
func (in *Interpreters) List(ctx context.Context) []Interpreter {
	candidates := in.search.all()
	found := make([]Interpreter, len(candidates))
	limit := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for i, c := range candidates {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			if interp, err := in.probes.probe(ctx, c); err == nil {
				found[i] = interp
			}
		})
	}
	wg.Wait()
	found = slices.DeleteFunc(found, func(i Interpreter) bool { return i.Executable == "" })
	slices.SortStableFunc(found, func(a, b Interpreter) int {
		if a.Usable() != b.Usable() {
			return boolOrder(b.Usable(), a.Usable())
		}
		if a.FreeThreaded() != b.FreeThreaded() {
			return boolOrder(a.FreeThreaded(), b.FreeThreaded())
		}
		if (a.Version.Pre == "") != (b.Version.Pre == "") {
			return boolOrder(b.Version.Pre == "", a.Version.Pre == "")
		}
		return b.Version.Compare(a.Version)
	})
	seen := map[string]bool{}
	return slices.DeleteFunc(found, func(i Interpreter) bool {
		again := seen[i.Executable]
		seen[i.Executable] = true
		return again
	})
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// errNoDefault: nothing was configured and PATH has no Python.
var errNoDefault = errors.New("no python3 on PATH")

func (in *Interpreters) preferred(ctx context.Context) (Interpreter, error) {
	c, err := in.search.preferred()
	if err != nil {
		return Interpreter{}, err
	}
	interp, err := in.probes.probe(ctx, c)
	if err != nil {
		return Interpreter{}, fault.Precondition("the Python interpreter %s does not work: %w; choose another with --python", c.path, err)
	}
	if !interp.Usable() {
		return Interpreter{}, fault.Precondition("%s is %s %s, but functions need CPython %d.%d or newer: choose another with --python",
			c.path, interp.Implementation, interp.Version, Oldest.Major, Oldest.Minor)
	}
	return interp, nil
}

func notFound(want Constraint, all []Interpreter) error {
	var found []string
	for _, i := range all {
		if i.Usable() {
			found = append(found, fmt.Sprintf("%s (%s)", i.Release(), i.Executable))
		}
	}
	what := fmt.Sprintf("no Python %d.%d or newer was found", Oldest.Major, Oldest.Minor)
	if !want.Any() {
		what = fmt.Sprintf("no Python %s was found", want)
	}
	if len(found) == 0 {
		return fault.Precondition("%s on this machine: install Python %d.%d to %d.%d, or name an executable with --python",
			what, Oldest.Major, Oldest.Minor, Newest.Major, Newest.Minor)
	}
	const most = 8
	if len(found) > most {
		found = append(found[:most], fmt.Sprintf("and %d more", len(found)-most))
	}
	return fault.Precondition("%s on this machine, which has %s: install it (for example with pyenv) or ask for one of these",
		what, strings.Join(found, ", "))
}
