package tune

import (
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// Defaults where a task says nothing.
const (
	DefaultMaxIterations = 10 // of random
	DefaultTPEIterations = 50 // its first 10 are random
	DefaultMaxErrors     = 3
)

// Isolation says what a crash of one iteration can touch.
type Isolation string

// The isolations.
const (
	Warm Isolation = "warm" // calls to one process that has loaded the code
	Fork Isolation = "fork" // a fork of that process for each iteration
)

// Forks says whether the iterations of a run are forks of a process that has loaded the
// code.
func Forks(run document.Object) bool {
	return Isolation(document.String(run, "spec", "hyper_param_options", "isolation")) == Fork
}

// Options are the hyper_param_options of a task.
type Options struct {
	ParamFile      string
	Strategy       Strategy // "" for the one that fits the values
	Selector       Selector
	StopCondition  string
	ParallelRuns   int // 0 for one at a time
	DaskClusterURI string
	MaxIterations  int // 0 for the strategy's default
	MaxErrors      int // 0 for DefaultMaxErrors

	// Beyond what the SDK sends.
	Seed          *uint64
	Timeout       time.Duration // of one iteration; 0 for none
	Isolation     Isolation
	EarlyStopping *EarlyStopping
}

// optionNames are the keys of hyper_param_options.
var optionNames = []string{
	"param_file", "strategy", "selector", "stop_condition", "parallel_runs", "dask_cluster_uri", "max_iterations", "max_errors",
	"teardown_dask", "seed", "timeout", "isolation", "early_stopping",
}

// Iterative reports whether a run document asks for iterations that are generated
// for it: it has values or a file of them, and its strategy is not custom.
func Iterative(run document.Object) bool {
	strategy, _ := first(run, "strategy")
	file, _ := first(run, "param_file")
	return strategy != string(Custom) && (len(document.Map(run, "spec", "hyperparams")) > 0 || file != "")
}

// first reads a field that clients put into the spec itself (older ones) or into
// hyper_param_options, the spec first.
func first(run document.Object, field string) (string, error) {
	text, err := document.Want[string](run, "spec", field)
	if err != nil || text != "" {
		return text, err
	}
	return document.Want[string](run, "spec", "hyper_param_options", field)
}

// ParseOptions reads and checks the options of a run document. Errors carry
// fault.CodeInvalid and name the field.
func ParseOptions(run document.Object) (Options, error) {
	const at = "spec.hyper_param_options."
	var o Options
	doc, err := document.Want[document.Object](run, "spec", "hyper_param_options")
	if err != nil {
		return o, err
	}
	for name, value := range doc {
		if value != nil && !slices.Contains(optionNames, name) {
			return o, fault.Invalid("%s%s is not known; the options are %s", at, name, strings.Join(optionNames, ", "))
		}
	}
	texts := map[string]string{}
	for _, name := range []string{"strategy", "param_file"} {
		if texts[name], err = first(run, name); err != nil {
			return o, err
		}
	}
	for _, name := range []string{"selector", "stop_condition", "dask_cluster_uri", "timeout", "isolation"} {
		if texts[name], err = document.Want[string](run, "spec", "hyper_param_options", name); err != nil {
			return o, err
		}
	}
	if texts["selector"] == "" {
		if texts["selector"], err = document.Want[string](run, "spec", "selector"); err != nil {
			return o, err
		}
	}
	o = Options{
		ParamFile: texts["param_file"], Strategy: Strategy(texts["strategy"]), StopCondition: strings.TrimSpace(texts["stop_condition"]),
		DaskClusterURI: texts["dask_cluster_uri"], Isolation: Isolation(texts["isolation"]),
	}
	if o.Selector, err = ParseSelector(texts["selector"]); err != nil {
		return o, err
	}
	for name, field := range map[string]*int{"parallel_runs": &o.ParallelRuns, "max_iterations": &o.MaxIterations, "max_errors": &o.MaxErrors} {
		if doc[name] == nil {
			continue
		}
		n, ok := document.ToInt(doc[name])
		if !ok || n < 1 || n > maxPoints {
			return o, fault.Invalid("%s%s must be a whole number from 1 on, got %s; leave it out for the default", at, name, document.Encode(doc[name]))
		}
		*field = int(n)
	}
	if doc["seed"] != nil {
		n, ok := document.ToInt(doc["seed"])
		if !ok || n < 0 {
			return o, fault.Invalid("%sseed must be a whole number from 0 on, got %s", at, document.Encode(doc["seed"]))
		}
		seed := uint64(n)
		o.Seed = &seed
	}
	if texts["timeout"] != "" {
		if o.Timeout, err = function.ParseDuration(texts["timeout"]); err != nil || o.Timeout <= 0 {
			return o, fault.Invalid("%stimeout: %q is not a time such as 30s or 5m", at, texts["timeout"])
		}
	}
	if o.EarlyStopping, err = parseEarlyStopping(doc["early_stopping"]); err != nil {
		return o, err
	}
	return o, o.check()
}

func (o Options) check() error {
	if o.Strategy != "" && !slices.Contains(strategies, o.Strategy) {
		return fault.Invalid("strategy %q is not known; use grid, list, random, tpe or custom", o.Strategy)
	}
	if o.MaxIterations > 0 && o.Strategy != Random && o.Strategy != TPE {
		return fault.Invalid("max_iterations is for the strategies random and tpe; a grid or a list is as long as its values make it")
	}
	if isTable(o.ParamFile) && o.Strategy != "" && o.Strategy != List && o.Strategy != Custom {
		return tableMisused(o.Strategy)
	}
	if o.Strategy == TPE && o.Selector.Result == "" {
		return fault.Invalid("strategy tpe learns from a result: set selector, for instance max.accuracy")
	}
	if o.Isolation != "" && o.Isolation != Warm && o.Isolation != Fork {
		return fault.Invalid("isolation %q is not known; use warm or fork", o.Isolation)
	}
	return nil
}

func tableMisused(strategy Strategy) error {
	return fault.Invalid("a CSV file has one row for each iteration, which the strategy %s cannot use; use list, or a JSON file", strategy)
}
