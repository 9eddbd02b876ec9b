package provenance

import (
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/run"
)

// Changes are what a repetition does otherwise than the run that it repeats.
// Parameters are refused unless Allow is set.
type Changes struct {
	Parameters document.Object
	Allow      bool
}

// OriginLabel is the label by which repetitions of a run are found.
const OriginLabel = "millrace/rerun-of"

// kept are the fields of spec that a repetition takes over.
var kept = []string{
	"handler", "parameters", "inputs", "input_path", "returns", "outputs", "secret_sources", "data_stores", "state_thresholds",
	"retry", "verbose", "seed", "hyperparams", "hyper_param_options", "param_file", "selector", "strategy", "custom_packagers",
}

// Repeat returns the task that repeats original, under a new uid, and the function
// that it runs, named by its hash. The task asks for what was recorded: the
// environment by its lock, the interpreter's version, the seeds. Its artifacts go
// to the default place, so that none of the original's is overwritten.
//
// fault.CodeConflict when original is not over, fault.CodePrecondition when too
// little is known about it, fault.CodeInvalid for changes that are not allowed.
func Repeat(original document.Object, uid string, changes Changes) (task document.Object, reference string, err error) {
	id := document.String(original, "metadata", "uid")
	if n, ok := document.Int(original, "metadata", "iteration"); ok && n > 0 {
		return nil, "", fault.Invalid("run %s#%d is an iteration of a run; repeat the run %s as a whole", id, n, id)
	}
	state := run.StateOf(original)
	if !state.Terminal() {
		return nil, "", fault.Conflict("run %s is not over (%s); repeat it when it is", id, state)
	}
	if state == run.Aborted {
		return nil, "", fault.Conflict("run %s was aborted, so it has no outputs to compare with; start it again with 'millrace run'", id)
	}
	record := document.Map(original, "status", "provenance")
	if document.String(original, "status", "reason") == "prepare" {
		return nil, "", fault.Conflict("run %s could not be made ready, so there was no execution that could be repeated; start it again with 'millrace run'", id)
	}
	if kind := document.String(original, "metadata", "labels", "kind"); document.Map(record, "environment") == nil && slices.Contains([]string{"remote", "nuclio", "nuclio:mlrun"}, kind) {
		return nil, "", fault.Precondition("run %s was executed by a deployed function (kind %s), of which it is not recorded what it used; send the run to the function again", id, kind)
	}
	if document.Map(record, "environment") == nil {
		return nil, "", fault.Precondition("run %s was executed by its client and not by this system, so it is not recorded what it used; start it with 'millrace run' to have that recorded", id)
	}
	uri := function.ParseURI(document.String(original, "spec", "function"))
	if uri.Hash == "" {
		return nil, "", fault.Precondition("run %s does not say which version of a function it executed (spec.function is %q), so it cannot be repeated", id, document.String(original, "spec", "function"))
	}
	if len(changes.Parameters) > 0 && !changes.Allow {
		return nil, "", fault.Invalid("a repeated run has the parameters of the run that it repeats; allow changes (--allow-changes) to give it others")
	}
	spec := document.Object{}
	for _, field := range kept {
		if value := document.Get(original, "spec", field); value != nil {
			spec[field] = document.Clone(value)
		}
	}
	if spec["seed"] == nil && document.String(record, "seed_from") == "run" {
		spec["seed"] = record["seed"]
	}
	for key, value := range changes.Parameters {
		document.Set(spec, value, "parameters", key)
	}
	again := document.Object{"of": id}
	if len(changes.Parameters) > 0 {
		again["changed"] = true
	}
	if python := document.String(record, "environment", "python"); python != "" {
		again["python"] = python
	}
	if lock := document.String(record, "environment", "lock"); lock != "" && !document.Bool(record, "environment", "shared") {
		again["lock"] = lock
	}
	if hash, ok := document.Int(record, "hash_seed"); ok {
		again["hash_seed"] = hash
	}
	spec["rerun"] = again
	labels := document.Object{OriginLabel: id}
	for key, value := range document.Strings(original, "metadata", "labels") {
		if key != "kind" && key != "host" && key != "owner" && key != "v3io_user" && key != OriginLabel && !strings.HasPrefix(key, "mlrun/") {
			labels[key] = value
		}
	}
	task = document.Object{
		"kind": "run", "spec": spec,
		"metadata": document.Object{
			"uid": uid, "name": document.String(original, "metadata", "name"), "project": document.String(original, "metadata", "project"), "labels": labels,
		},
	}
	return task, uri.String(), nil
}
