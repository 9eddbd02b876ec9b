// Package submit turns a request to run a function into the function and the run
// that are stored: what the request leaves open is filled in from the function,
// the project and the server, and what is wrong is refused before anything is
// written. It is pure; who calls it stores and queues what it returns.
package submit

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/lazyregexp"
	"github.com/millrace/millrace/internal/run"
)

// Input is a request to run a function and what it is completed from. Nothing in
// it is changed.
type Input struct {
	Task     document.Object // the run as the caller describes it; required
	Function document.Object // resolved, with the overlay of the request; required
	Project  document.Object // the project's document; nil has no defaults

	// ProjectName is where the run belongs. "" means that of the task, then that of
	// the function; none at all is refused.
	ProjectName string

	ArtifactPath string        // the server's default output path, absolute or a URL
	NewUID       func() string // makes the uid of a run whose task has none; required
	AllowLocal   bool          // accept kinds that normally run with the caller

	// What the request says about its caller; "" says nothing.
	ClientVersion, PythonVersion, RemoteUser string
}

// Enrich returns the function to store as a version and the run to store, which
// share no values with in. Errors carry fault.CodeInvalid and name the field.
// spec.function of the run is left to the caller, who knows the hash.
func Enrich(in Input) (functionDoc, runDoc document.Object, err error) {
	functionDoc, runDoc = document.Clone(in.Function), document.Clone(in.Task)
	for _, part := range []string{"metadata", "spec", "status"} {
		if _, err := document.Want[document.Object](runDoc, part); err != nil {
			return nil, nil, fmt.Errorf("task: %w", err)
		}
		document.Ensure(runDoc, part)
	}
	f, err := function.Parse(functionDoc)
	if err != nil {
		return nil, nil, fmt.Errorf("function: %w", err)
	}
	e := enricher{in: in, f: f, run: runDoc}
	for _, step := range []func() error{
		e.kind, e.project, e.identity, e.labels, e.inputs, e.parameters, e.paths, e.thresholds, e.selector, e.image, e.packagers,
	} {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	runDoc["kind"] = "run"
	runDoc["status"] = document.Object{"state": string(run.Created)}
	return functionDoc, runDoc, nil
}

type enricher struct {
	in          Input
	f           *function.Function
	run         document.Object
	projectName string
	owner       string
}

// text reads a string of the run, naming the task in errors.
func (e *enricher) text(path ...string) (string, error) {
	value, err := document.Want[string](e.run, path...)
	if err != nil {
		return "", fmt.Errorf("task: %w", err)
	}
	return value, nil
}

// first returns the first of values that is not "".
func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

func (e *enricher) kind() error {
	if kind := e.f.Kind(); !e.in.AllowLocal && kind.Local() {
		return fault.Invalid("Local runtimes can not be run through API: function kind is %q; run it where you are (local=True) or make it kind job", string(kind))
	}
	return nil
}

func (e *enricher) project() error {
	name, err := e.text("metadata", "project")
	if err != nil {
		return err
	}
	e.projectName = first(e.in.ProjectName, name, e.f.Project())
	if e.projectName == "" {
		return fault.Invalid("task: metadata.project must be given")
	}
	if err := function.ValidateProjectName("task: metadata.project", e.projectName); err != nil {
		return err
	}
	document.Set(e.run, e.projectName, "metadata", "project")
	if e.f.Project() == "" {
		document.Set(e.f.Doc, e.projectName, "metadata", "project")
	}
	return nil
}

var uidPattern = lazyregexp.New(`\A[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\z`)

// identity fills handler, name, uid and iteration.
func (e *enricher) identity() error {
	handler, err := e.text("spec", "handler")
	if err != nil {
		return err
	}
	handler = first(handler, document.String(e.f.Doc, "spec", "default_handler"))
	document.Set(e.run, handler, "spec", "handler")
	name, err := e.text("metadata", "name")
	if err != nil {
		return err
	}
	if name == "" {
		name = runName(e.f.Name(), handler)
	}
	if err := function.ValidateRunName("task: metadata.name", name); err != nil {
		return err
	}
	document.Set(e.run, name, "metadata", "name")
	uid, err := e.text("metadata", "uid")
	if err != nil {
		return err
	}
	if uid == "" {
		uid = e.in.NewUID()
	}
	if !uidPattern.MatchString(uid) {
		return fault.Invalid("task: metadata.uid %.80q is not a uid: use 1 to 128 of letters, digits, '-', '_' and '.', beginning with a letter or digit", uid)
	}
	document.Set(e.run, uid, "metadata", "uid")
	iteration := document.Get(e.run, "metadata", "iteration")
	if n, ok := document.ToInt(iteration); iteration != nil && (!ok || n != 0) {
		return fault.Invalid("task: metadata.iteration must be 0 for a run that is submitted")
	}
	document.Set(e.run, 0, "metadata", "iteration")
	return nil
}

// runName is the name of a run that has none: function and handler.
func runName(name, handler string) string {
	for _, separator := range []string{"#", "::", "."} {
		if i := strings.LastIndex(handler, separator); i >= 0 {
			handler = handler[i+len(separator):]
		}
	}
	if name == "" {
		name = "run"
	}
	if handler != "" {
		name += "-" + handler
	}
	return function.NormalizeName(name)
}

// labels fills in who asked, with what, for which kind.
func (e *enricher) labels() error {
	labels, err := document.Want[document.Object](e.run, "metadata", "labels")
	if err != nil {
		return fmt.Errorf("task: %w", err)
	}
	if labels == nil {
		labels = document.Object{}
		document.Set(e.run, labels, "metadata", "labels")
	}
	for key, value := range map[string]string{"owner": e.in.RemoteUser, "v3io_user": e.in.RemoteUser} {
		if _, given := labels[key]; !given && value != "" {
			labels[key] = value
		}
	}
	for key, value := range map[string]string{
		"mlrun/client_version": e.in.ClientVersion, "mlrun/client_python_version": e.in.PythonVersion,
	} {
		if value != "" {
			labels[key] = value
		}
	}
	if kind := e.f.Kind(); kind != "" {
		labels["kind"] = string(kind)
	}
	e.owner, _ = labels["owner"].(string)
	return nil
}

func (e *enricher) inputs() error {
	inputs, err := document.Want[document.Object](e.run, "spec", "inputs")
	if err != nil {
		return fmt.Errorf("task: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(inputs)) {
		if _, ok := inputs[key].(string); !ok {
			return fault.Invalid("task: spec.inputs.%s must be a string, the path or URL of the input, got %s", key, document.TypeName(inputs[key]))
		}
	}
	return nil
}

// parameters checks that integers fit what the tracking of runs can hold.
func (e *enricher) parameters() error {
	for _, field := range []string{"parameters", "hyperparams"} {
		values, err := document.Want[document.Object](e.run, "spec", field)
		if err != nil {
			return fmt.Errorf("task: %w", err)
		}
		if err := checkIntegers("spec."+field, values); err != nil {
			return err
		}
	}
	return nil
}

func checkIntegers(at string, value any) error {
	switch v := value.(type) {
	case document.Object:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if err := checkIntegers(at+"."+key, v[key]); err != nil {
				return err
			}
		}
	case []any:
		for i, item := range v {
			if err := checkIntegers(at+"["+strconv.Itoa(i)+"]", item); err != nil {
				return err
			}
		}
	case json.Number:
		if _, err := v.Int64(); err != nil && !strings.ContainsAny(string(v), ".eE") {
			return fault.Invalid("task: %s: parameter value %.40s exceeds int64", at, string(v))
		}
	}
	return nil
}

// paths fills where outputs go and inputs come from.
func (e *enricher) paths() error {
	output, err := e.text("spec", "output_path")
	if err != nil {
		return err
	}
	output = first(output, document.String(e.in.Project, "spec", "artifact_path"), e.in.ArtifactPath)
	uid := document.String(e.run, "metadata", "uid")
	output = ArtifactPath(output, e.projectName, uid, e.owner)
	if strings.Contains(output, "{{") {
		return fault.Invalid("task: spec.output_path %.200q has a template other than {{run.uid}}, {{project}}, {{run.project}} and {{run.user}}", output)
	}
	document.Set(e.run, output, "spec", "output_path")
	input, err := e.text("spec", "input_path")
	if err != nil {
		return err
	}
	if input = first(input, document.String(e.f.Doc, "spec", "workdir")); input != "" {
		document.Set(e.run, input, "spec", "input_path")
	}
	if document.Get(e.run, "spec", "scrape_metrics") == nil {
		document.Set(e.run, true, "spec", "scrape_metrics")
	}
	return nil
}

// ArtifactPath fills the templates of an artifact path.
func ArtifactPath(template, project, uid, owner string) string {
	return strings.NewReplacer(
		"{{run.uid}}", uid, "{{project}}", project, "{{run.project}}", project, "{{run.user}}", owner,
	).Replace(template)
}

// thresholds overlays the defaults with the function's and the task's.
func (e *enricher) thresholds() error {
	out := document.Object{}
	for state, limit := range function.DefaultThresholds() {
		out[state] = limit
	}
	for _, source := range []struct {
		name string
		doc  document.Object
	}{{"function", e.f.Doc}, {"task", e.run}} {
		given, err := document.Want[document.Object](source.doc, "spec", "state_thresholds")
		if err != nil {
			return fmt.Errorf("%s: %w", source.name, err)
		}
		for _, state := range slices.Sorted(maps.Keys(given)) {
			field := source.name + ": spec.state_thresholds." + state
			if !slices.Contains(function.ThresholdStates(), state) {
				return fault.Invalid("%s is not a state; use %s", field, strings.Join(function.ThresholdStates(), ", "))
			}
			text, ok := given[state].(string)
			if !ok {
				return fault.Invalid("%s must be a string such as \"1h\", or \"-1\" for no limit, got %s", field, document.TypeName(given[state]))
			}
			if _, err := function.ParseThreshold(text); err != nil {
				return fmt.Errorf("%s: %w", field, err)
			}
			out[state] = text
		}
	}
	document.Set(e.run, out, "spec", "state_thresholds")
	return nil
}

// selector merges the node selectors of project, function and task.
func (e *enricher) selector() error {
	out := document.Object{}
	for _, source := range []struct {
		name string
		doc  document.Object
		key  string
	}{
		{"project", e.in.Project, "default_function_node_selector"}, {"function", e.f.Doc, "node_selector"}, {"task", e.run, "node_selector"},
	} {
		given, err := document.Want[document.Object](source.doc, "spec", source.key)
		if err != nil {
			return fmt.Errorf("%s: %w", source.name, err)
		}
		for key, value := range given {
			if _, ok := value.(string); !ok {
				return fault.Invalid("%s: spec.%s.%s must be a string, got %s", source.name, source.key, key, document.TypeName(value))
			}
			out[key] = value
		}
	}
	if len(out) > 0 {
		if err := function.ValidateLabels("spec.node_selector", document.Strings(document.Object{"s": out}, "s")); err != nil {
			return err
		}
		document.Set(e.run, out, "spec", "node_selector")
	}
	return nil
}

// image gives a function without one the project's default. Every kind that runs
// here has a default of its own, which is left out of the stored function: where
// runs are processes no image is used, and where they are containers the backend
// knows the kind's.
func (e *enricher) image() error {
	image, err := document.Want[string](e.in.Project, "spec", "default_image")
	if err != nil {
		return fmt.Errorf("project: %w", err)
	}
	if image != "" && e.f.Kind().Pod() && document.String(e.f.Doc, "spec", "image") == "" {
		document.Set(e.f.Doc, image, "spec", "image")
	}
	return nil
}

// packagers takes over the packagers of the project, pairs of a class's dotted path
// and whether runs fail without it, because a run cannot ask for its project.
func (e *enricher) packagers() error {
	if document.Get(e.run, "spec", "custom_packagers") != nil {
		return checkPackagers("task", e.run)
	}
	if len(document.List(e.in.Project, "spec", "custom_packagers")) == 0 {
		return nil
	}
	document.Set(e.run, document.Clone(document.Get(e.in.Project, "spec", "custom_packagers")), "spec", "custom_packagers")
	return checkPackagers("project", e.run)
}

func checkPackagers(of string, doc document.Object) error {
	list, err := document.Want[[]any](doc, "spec", "custom_packagers")
	if err != nil {
		return fmt.Errorf("%s: %w", of, err)
	}
	for i, entry := range list {
		pair, _ := entry.([]any)
		if len(pair) == 2 {
			_, named := pair[0].(string)
			if _, flag := pair[1].(bool); named && flag {
				continue
			}
		}
		return fault.Invalid("%s: spec.custom_packagers[%d] must be a pair of a packager's dotted path and whether it is mandatory, got %.80s", of, i, string(document.Encode(entry)))
	}
	return nil
}
