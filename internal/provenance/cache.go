package provenance

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/digest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// CacheMode says what a run does with earlier results.
type CacheMode string

// The modes: neither use nor keep; use and keep; execute, and keep the new result.
const (
	CacheOff     CacheMode = ""
	CacheUse     CacheMode = "use"
	CacheRefresh CacheMode = "refresh"
)

// CacheModeOf reads spec.cache of a run, else of its function: true, false or
// "refresh". A run that repeats another one never takes a result over.
// fault.CodeInvalid for other values.
func CacheModeOf(functionDoc, run document.Object) (CacheMode, error) {
	mode := CacheOff
	for _, source := range []struct {
		name string
		doc  document.Object
	}{{"function", functionDoc}, {"task", run}} {
		switch value := document.Get(source.doc, "spec", "cache"); value {
		case nil:
		case true:
			mode = CacheUse
		case false:
			mode = CacheOff
		case "refresh":
			mode = CacheRefresh
		default:
			return CacheOff, fault.Invalid("%s: spec.cache must be true, false or \"refresh\", got %.40s", source.name, string(document.Encode(value)))
		}
	}
	if document.Map(run, "spec", "rerun") != nil {
		return CacheOff, nil
	}
	return mode, nil
}

// Cacheable is what a key is made of.
type Cacheable struct {
	Record   document.Object // provenance: code, code_outside, environment, seed
	Run      document.Object // the run as submitted
	Handler  string          // that is called
	Inputs   document.Object // key → description with digest
	Python   bool            // code that an interpreter of a known version executes
	Variable bool            // the code sees values that are not part of the function
}

// Key returns the key under which the outputs of a run are found again: the digest
// of code digest, environment lock, interpreter, handler, parameters, digests of
// the inputs, seed, and what is returned where. When one of these cannot be known
// there is none, and refused says why.
func Key(c Cacheable) (key, refused string) {
	code := document.String(c.Record, "code")
	lock, python := document.String(c.Record, "environment", "lock"), document.String(c.Record, "environment", "python")
	spec := document.Map(c.Run, "spec")
	switch {
	case !c.Python || lock == "" || python == "":
		return "", "only results of Python code are kept"
	case code == "":
		return "", "the code is more than what is read for its digest"
	case len(document.List(c.Record, "code_outside")) > 0:
		return "", fmt.Sprintf("code may come from %v, which no digest covers", document.List(c.Record, "code_outside")[0])
	case c.Variable || len(document.List(spec, "secret_sources")) > 0:
		return "", "the function sees secrets, whose values are no part of a key"
	case len(document.Map(spec, "hyperparams")) > 0:
		return "", "results of iterative runs are not kept"
	}
	inputs := document.Object{}
	for _, name := range slices.Sorted(maps.Keys(c.Inputs)) {
		sum := document.String(c.Inputs, name, "digest")
		if sum == "" {
			return "", fmt.Sprintf("the content of the input %s has no digest (%s)", name, document.String(c.Inputs, name, "url"))
		}
		inputs[name] = sum
	}
	uid := document.String(c.Run, "metadata", "uid")
	output := document.String(spec, "output_path")
	if uid != "" {
		output = strings.ReplaceAll(output, uid, "{{run.uid}}")
	}
	parts := document.Object{
		"millrace cache": 1, "code": code, "lock": lock, "python": python, "handler": c.Handler,
		"parameters": document.Map(spec, "parameters"), "inputs": inputs, "seed": c.Record["seed"],
		"returns": document.List(spec, "returns"), "outputs": document.List(spec, "outputs"), "output_path": output,
	}
	return digest.Of(document.Canonical(parts)), ""
}

// Keepable reports whether the finished run is what its key says: it completed,
// and the inputs that it was given were those of the key. key is "" if not.
func Keepable(doc document.Object) (key string) {
	record := document.Map(doc, "status", "provenance")
	key = document.String(record, "cache", "key")
	if key == "" || document.String(doc, "status", "state") != "completed" || document.String(record, "cached_from") != "" {
		return ""
	}
	for name := range document.Map(record, "cache", "inputs") {
		if document.String(record, "cache", "inputs", name) != document.String(record, "inputs", name, "digest") {
			return ""
		}
	}
	return key
}

// Adopt brings the outputs of earlier into doc, a run that was not executed.
func Adopt(doc, earlier document.Object) {
	from := document.Map(earlier, "status", "provenance")
	if results := document.Map(earlier, "status", "results"); results != nil {
		document.Set(doc, document.Clone(results), "status", "results")
	}
	record := document.Ensure(doc, "status", "provenance")
	for _, field := range []string{"inputs", "outputs", "results"} {
		if value := from[field]; value != nil {
			record[field] = document.Clone(value)
		}
	}
	record["cached_from"] = document.String(earlier, "metadata", "uid")
}
