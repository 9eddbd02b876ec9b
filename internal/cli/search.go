package cli

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

// searchOptions are the flags of `run` that make it an iterative task.
type searchOptions struct {
	hyperparams      []string
	paramFile        string
	strategy         string
	selector         string
	stopCondition    string
	parallel         int
	maxIterations    int
	maxErrors        int
	iterationTimeout string
	isolation        string
	earlyStopping    string
}

// domainRule is how the text of a hyperparameter becomes its values, said in help
// and in docs/cli.md.
const domainRule = `Many parameter sets: --hyperparam NAME=VALUES executes the function once for each set, with
the code loaded once for each of --parallel processes, and keeps every iteration. VALUES is
  A,B,C             a list, each as with --param; or a JSON list: [1, 2], ["a", "b"]
  LOW..HIGH         a range, both ends included; of integers when both are
  LOW..HIGH:STEP    with steps, which --strategy grid needs unless the ends are integers
  LOW..HIGH:log     by orders of magnitude
Names vary in the order in which they are given, the first fastest. --selector names the
result by which the best iteration is found; its results become those of the run.`

func (o *searchOptions) declare(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&o.hyperparams, "hyperparam", "x", nil, "values of a parameter NAME=LIST or NAME=RANGE (may be repeated)")
	flags.StringVar(&o.paramFile, "param-file", "", "file or URL with the values: a JSON object, or a CSV file whose rows are the iterations")
	flags.StringVar(&o.strategy, "strategy", "", "grid (default), list (default for CSV), random, tpe, or custom for code that makes its own iterations")
	flags.StringVar(&o.selector, "selector", "", "the best iteration has the largest max.RESULT or the smallest min.RESULT")
	flags.IntVar(&o.parallel, "parallel", 0, "iterations at once, each in a process of its own (default 1)")
	flags.IntVar(&o.maxIterations, "max-iterations", 0, "of random and tpe: how many iterations (default 10, of tpe 50)")
	flags.IntVar(&o.maxErrors, "max-errors", 0, "failed iterations that are put up with (default 3)")
	flags.StringVar(&o.stopCondition, "stop-condition", "", `begin no further iteration once this holds for the results of one, such as "accuracy > 0.9"`)
	flags.StringVar(&o.iterationTimeout, "iteration-timeout", "", "end an iteration that takes longer, such as 30s or 5m")
	flags.StringVar(&o.isolation, "isolation", "", "warm (default): iterations share a process; fork: each has one of its own, made from a loaded one")
	flags.StringVar(&o.earlyStopping, "early-stopping", "", `end iterations that do badly, by a rule in JSON such as {"rule": "asha", "metric": "max.accuracy"}`)
	registerWords(cmd, "strategy", "grid", "list", "random", "tpe", "custom")
	registerWords(cmd, "isolation", "warm", "fork")
}

// check refuses options of an iterative task where there is none.
func (o *searchOptions) check() error {
	if len(o.hyperparams) > 0 || o.paramFile != "" || o.strategy == string(tune.Custom) {
		return nil
	}
	for flag, given := range map[string]bool{
		"strategy": o.strategy != "", "selector": o.selector != "", "parallel": o.parallel != 0, "max-iterations": o.maxIterations != 0,
		"max-errors": o.maxErrors != 0, "stop-condition": o.stopCondition != "", "iteration-timeout": o.iterationTimeout != "",
		"isolation": o.isolation != "", "early-stopping": o.earlyStopping != "",
	} {
		if given {
			return usagef("--%s has a meaning only with --hyperparam or --param-file", flag)
		}
	}
	return nil
}

// search adds the iterative task to a run's spec and returns the names of the
// hyperparameters in the order in which they were given.
func (e *env) search(o runOptions, spec document.Object) ([]string, error) {
	values, names := document.Object{}, []string(nil)
	for _, text := range o.hyperparams {
		name, value, err := splitPair("hyperparam", text)
		if err != nil {
			return nil, err
		}
		if values[name] != nil {
			return nil, usagef("--hyperparam %s is given twice", name)
		}
		if values[name], err = parseDomain(name, value); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	options := document.Object{}
	for name, text := range map[string]string{
		"strategy": o.strategy, "selector": o.selector, "stop_condition": o.stopCondition, "timeout": o.iterationTimeout, "isolation": o.isolation,
		"param_file": e.inputURL(o.paramFile),
	} {
		if text != "" {
			options[name] = text
		}
	}
	for name, n := range map[string]int{"parallel_runs": o.parallel, "max_iterations": o.maxIterations, "max_errors": o.maxErrors} {
		if n < 0 {
			return nil, usagef("--%s %d must be from 1 on", strings.ReplaceAll(strings.TrimSuffix(name, "_runs"), "_", "-"), n)
		}
		if n > 0 {
			options[name] = n
		}
	}
	if o.earlyStopping != "" {
		rule, err := document.DecodeObject([]byte(o.earlyStopping))
		if err != nil {
			return nil, usagef(`--early-stopping %q must be a JSON object such as {"rule": "asha", "metric": "max.accuracy"}`, o.earlyStopping)
		}
		options["early_stopping"] = rule
	}
	if len(values) == 0 && len(options) == 0 {
		return nil, nil
	}
	if o.seed >= 0 {
		options["seed"] = o.seed
	}
	if len(values) > 0 {
		spec["hyperparams"] = values
	}
	if len(options) > 0 {
		spec["hyper_param_options"] = options
	}
	return names, nil
}

// parseDomain reads the values of a hyperparameter by domainRule.
func parseDomain(name, text string) (any, error) {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" {
		return nil, usagef("--hyperparam %s has no values; give a list such as %s=1,2,3 or a range such as %s=0.1..1", name, name, name)
	}
	if trimmed[0] == '[' || trimmed[0] == '{' {
		value, err := document.Decode([]byte(trimmed))
		if err != nil {
			return nil, usagef("--hyperparam %s: %s is not JSON; write a list as %s=1,2,3 or '%s=[1, 2, 3]'", name, trimmed, name, name)
		}
		return value, nil
	}
	if bounds, ok := parseBounds(trimmed); ok {
		return bounds, nil
	}
	if low, _, ok := strings.Cut(trimmed, ".."); ok {
		if _, err := strconv.ParseFloat(strings.TrimSpace(low), 64); err == nil {
			return nil, usagef("--hyperparam %s: %s is not a range; write LOW..HIGH, LOW..HIGH:STEP or LOW..HIGH:log", name, trimmed)
		}
	}
	list := []any{}
	for _, item := range splitList(trimmed) {
		list = append(list, parseValue(item))
	}
	return list, nil
}

// splitList splits at commas outside of JSON's quotes and brackets.
func splitList(text string) []string {
	var out []string
	depth, from, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 0:
			out = append(out, strings.TrimSpace(text[from:i]))
			from = i + 1
		}
	}
	return append(out, strings.TrimSpace(text[from:]))
}

// parseBounds reads LOW..HIGH, LOW..HIGH:STEP and LOW..HIGH:log.
func parseBounds(text string) (document.Object, bool) {
	low, rest, ok := strings.Cut(text, "..")
	if !ok {
		return nil, false
	}
	high, more, stepped := strings.Cut(rest, ":")
	out := document.Object{}
	bounds := map[string]string{"low": low, "high": high}
	switch {
	case stepped && more == "log":
		out["log"] = true
	case stepped:
		bounds["step"] = more
	}
	for name, text := range bounds {
		text = strings.TrimSpace(text)
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			return nil, false
		}
		value, err := document.Decode([]byte(text))
		if _, number := value.(json.Number); err != nil || !number {
			return nil, false
		}
		out[name] = value
	}
	return out, true
}

// steerOptions are the flags of `steer`.
type steerOptions struct {
	parallel, maxIterations, maxErrors int
	stopCondition                      string
	queue                              []string
	output                             string
}

func newSteer(e *env) *cobra.Command {
	var o steerOptions
	cmd := &cobra.Command{
		Use:   "steer RUN",
		Short: "Change an iterative task while it runs",
		Long: `Change an iterative task that is not over. A task that runs takes the change up within a
quarter of a second, one that waits when it begins; it is kept when the task is resumed.

--queue NAME=VALUE,… gives a set of parameters to be tried next, beyond those that the strategy
makes; parameters that it leaves out have the values of the run.

` + runReferenceHelp,
		Example: `  millrace steer 3f2a9c --parallel 8
  millrace steer trainer-train --max-iterations 500 --stop-condition "accuracy > 0.95"
  millrace steer 3f2a9c --queue rate=0.1,depth=4 --queue '{"rate": 0.2, "depth": 5}'
  millrace steer 3f2a9c --stop-condition ""`,
		Args: arguments(1, 1, "one RUN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := o.change(cmd.Flags())
			if err != nil {
				return err
			}
			return e.with(func(connection *Connection) error { return e.steer(connection, args[0], change, o.output) })
		},
		ValidArgsFunction: e.completeRuns,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.IntVar(&o.parallel, "parallel", 0, "iterations at once")
	flags.IntVar(&o.maxIterations, "max-iterations", 0, "of random and tpe: how many iterations in all")
	flags.IntVar(&o.maxErrors, "max-errors", 0, "failed iterations that are put up with")
	flags.StringVar(&o.stopCondition, "stop-condition", "", `begin no further iteration once this holds; "" removes the condition`)
	flags.StringArrayVar(&o.queue, "queue", nil, "parameters to try next, NAME=VALUE,… or a JSON object (may be repeated)")
	flags.StringVarP(&o.output, "output", "o", "", "print how far the task is: json or yaml")
	registerWords(cmd, "output", "json", "yaml")
	return cmd
}

// change is what the flags say.
func (o *steerOptions) change(flags *pflag.FlagSet) (tune.Steering, error) {
	doc := document.Object{}
	for flag, n := range map[string]int{"parallel": o.parallel, "max-iterations": o.maxIterations, "max-errors": o.maxErrors} {
		if flags.Changed(flag) {
			if n < 1 {
				return tune.Steering{}, usagef("--%s %d must be from 1 on", flag, n)
			}
			doc[strings.ReplaceAll(flag, "-", "_")] = n
		}
	}
	if flags.Changed("stop-condition") {
		doc["stop_condition"] = o.stopCondition
	}
	var points []any
	for _, text := range o.queue {
		point, err := parsePoint(text)
		if err != nil {
			return tune.Steering{}, err
		}
		points = append(points, point)
	}
	if len(points) > 0 {
		doc["queue"] = points
	}
	if len(doc) == 0 {
		return tune.Steering{}, usagef("nothing is changed; give --parallel, --max-iterations, --max-errors, --stop-condition or --queue")
	}
	if err := checkOutput(o.output, "json", "yaml"); err != nil {
		return tune.Steering{}, err
	}
	return tune.ParseSteering(doc)
}

// parsePoint reads a set of parameters: NAME=VALUE,… or a JSON object.
func parsePoint(text string) (document.Object, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		point, err := document.DecodeObject([]byte(text))
		if err != nil {
			return nil, usagef("--queue %s is not a JSON object: %v", text, err)
		}
		return point, nil
	}
	point := document.Object{}
	for _, pair := range splitList(text) {
		name, value, err := splitPair("queue", pair)
		if err != nil {
			return nil, err
		}
		point[name] = parseValue(value)
	}
	return point, nil
}

func (e *env) steer(connection *Connection, ref string, change tune.Steering, output string) error {
	c := connection.Client
	doc, err := e.findRun(c, ref)
	if err != nil {
		return err
	}
	key := keyOf(doc)
	if err := c.Steer(e.soft, key, change); err != nil {
		return err
	}
	if output != "" {
		progress, err := c.Search(e.soft, key)
		if err != nil {
			return err
		}
		return e.printDocument(output, progress.Document())
	}
	e.say("millrace: run %s takes up %s", key.UID, described(change))
	return nil
}

// described is a change on one line.
func described(change tune.Steering) string {
	var parts []string
	doc := change.Document()
	for _, name := range []string{"parallel", "max_iterations", "max_errors", "stop_condition"} {
		if value, ok := doc[name]; ok {
			parts = append(parts, strings.ReplaceAll(name, "_", "-")+" "+cmp.Or(shortValue(value), `""`))
		}
	}
	if n := len(change.Queue); n > 0 {
		parts = append(parts, strconv.Itoa(n)+" queued")
	}
	return strings.Join(slices.Clip(parts), ", ")
}
