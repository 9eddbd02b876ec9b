package provenance

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/digest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/tune"
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
	Inputs   document.Object // key → description with digest; type that it is read as, suffix of its name
	Python   bool            // code that an interpreter of a known version executes
	Program  []string        // otherwise: digests of the files that are executed, and for which system; nil when they are not known
	Variable bool            // the code sees values that are not part of the function
	System   string          // what executes it: operating system, processor, build of the interpreter
	// Outside is where code comes from that Record's code digest does not cover: name →
	// digest, or "" when it is not known.
	Outside document.Object
	// Environ are values of the surroundings on which the code may depend.
	Environ document.Object
}

// Key returns the key under which the outputs of a run are found again: the digest
// of code digest, environment lock, interpreter, handler, parameters, digests of
// the inputs and how they are read, seed, and what is returned where. When one of these cannot be known
// there is none, and refused says why.
func Key(c Cacheable) (key, refused string) {
	code := document.String(c.Record, "code")
	lock, python := document.String(c.Record, "environment", "lock"), document.String(c.Record, "environment", "python")
	spec := document.Map(c.Run, "spec")
	switch {
	case c.Python && (lock == "" || python == ""):
		return "", "it is not known which packages the code can import"
	case !c.Python && len(c.Program) == 0:
		return "", "it is not known what the program is made of"
	case code == "":
		return "", "the code is more than what is read for its digest"
	case c.Variable || len(document.List(spec, "secret_sources")) > 0:
		return "", "the function sees secrets, whose values are no part of a key"
	case tune.Iterative(c.Run):
		return "", "results of iterative runs are not kept"
	}
	for _, name := range slices.Sorted(maps.Keys(c.Outside)) {
		if document.String(c.Outside, name) == "" {
			return "", fmt.Sprintf("code may come from %s, which is more than what is read for a digest", name)
		}
	}
	inputs := document.Object{}
	for _, name := range slices.Sorted(maps.Keys(c.Inputs)) {
		entry := document.Map(c.Inputs, name)
		content := Identity(entry)
		inputs[name] = []any{content, entry["type"], entry["suffix"]}
		if content == "" {
			return "", fmt.Sprintf("the content of the input %s has no digest (%s)", name, document.String(c.Inputs, name, "url"))
		}
	}
	uid := document.String(c.Run, "metadata", "uid")
	output := document.String(spec, "output_path")
	if uid != "" {
		output = strings.ReplaceAll(output, uid, "{{run.uid}}")
	}
	parts := document.Object{
		"millrace cache": 2, "code": code, "outside": c.Outside, "system": c.System, "environ": c.Environ, "lock": lock, "python": python, "handler": c.Handler,
		"parameters": document.Map(spec, "parameters"), "inputs": inputs, "seed": c.Record["seed"],
		"returns": document.List(spec, "returns"), "outputs": document.List(spec, "outputs"), "output_path": output,
	}
	if !c.Python {
		parts["program"] = anyOf(c.Program)
	}
	if packagers := document.List(spec, "custom_packagers"); len(packagers) > 0 {
		parts["custom_packagers"] = packagers
	}
	return digest.Of(document.Canonical(parts)), ""
}

func anyOf(texts []string) []any {
	out := make([]any, len(texts))
	for i, text := range texts {
		out[i] = text
	}
	return out
}

// Identity is what tells the content of an input from every other: its digest, else
// the tag that its store changes with the content of this URL, together with the
// size. "" when neither is known; a URL alone never tells content.
func Identity(entry document.Object) string {
	if sum := document.String(entry, "digest"); sum != "" {
		return sum
	}
	size, ok := document.Int(entry, "size")
	if tag := document.String(entry, "etag"); ok && tag != "" {
		return fmt.Sprintf("%s with the tag %s and %d bytes", document.String(entry, "url"), tag, size)
	}
	return ""
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
		seen := document.String(record, "cache", "began", name)
		if seen == "" {
			seen = document.String(record, "inputs", name, "digest")
		}
		if document.String(record, "cache", "inputs", name) != seen {
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
