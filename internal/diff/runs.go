package diff

import (
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/run"
)

// Section is one side of two runs, with what differs there.
type Section struct {
	Name    string
	Changes []Change
}

// Runs is how two runs differ: what went in, where it ran, what came out.
type Runs struct {
	A, B     string // their uids
	Sections []Section
	// FunctionA and FunctionB are the functions to compare next, when the code
	// differs and both are stored.
	FunctionA, FunctionB string
}

// sections are those that a comparison has, in their order. Seconds differ between
// any two runs and say nothing about equality.
const durations = "duration"

// Equal reports whether nothing but the time differs.
func (d *Runs) Equal() bool {
	for _, s := range d.Sections {
		if s.Name != durations && s.Name != "machine" && len(s.Changes) > 0 {
			return false
		}
	}
	return true
}

// Section returns the changes of a section.
func (d *Runs) Section(name string) []Change {
	for _, s := range d.Sections {
		if s.Name == name {
			return s.Changes
		}
	}
	return nil
}

// Document is the JSON form.
func (d *Runs) Document() document.Object {
	sections := document.Object{}
	for _, s := range d.Sections {
		sections[s.Name] = changeDocuments(s.Changes)
	}
	doc := document.Object{"kind": "runs", "a": d.A, "b": d.B, "equal": d.Equal(), "sections": sections}
	if d.FunctionA != "" {
		doc["functions"] = []any{d.FunctionA, d.FunctionB}
	}
	return doc
}

// RunSide is a run with what its environment was resolved to.
type RunSide struct {
	Doc document.Object
	// Packages are the versions of the environment, by name; nil when unknown.
	Packages map[string]string
}

// CompareRuns compares two runs.
func CompareRuns(a, b RunSide) *Runs {
	d := &Runs{A: document.String(a.Doc, "metadata", "uid"), B: document.String(b.Doc, "metadata", "uid")}
	add := func(name string, left, right any) {
		d.Sections = append(d.Sections, Section{name, compareValues("", left, right)})
	}
	add("code", codeOf(a.Doc, b.Doc), codeOf(b.Doc, a.Doc))
	if from, to := document.String(a.Doc, "spec", "function"), document.String(b.Doc, "spec", "function"); from != to && from != "" && to != "" {
		d.FunctionA, d.FunctionB = from, to
	}
	add("parameters", document.Map(a.Doc, "spec", "parameters"), document.Map(b.Doc, "spec", "parameters"))
	left, right := agreed(inputsOf(a.Doc), inputsOf(b.Doc))
	add("inputs", left, right)
	add("environment", environmentOf(a), environmentOf(b))
	add("seed", document.Object{"seed": document.Get(a.Doc, "status", "provenance", "seed")}, document.Object{"seed": document.Get(b.Doc, "status", "provenance", "seed")})
	add("machine", machineOf(a.Doc), machineOf(b.Doc))
	add("state", stateOf(a.Doc), stateOf(b.Doc))
	add("results", document.Map(a.Doc, "status", "results"), document.Map(b.Doc, "status", "results"))
	left, right = agreed(artifactsOf(a.Doc), artifactsOf(b.Doc))
	add("artifacts", left, right)
	add(durations, durationOf(a.Doc), durationOf(b.Doc))
	return d
}

// codeOf is what identifies the code of doc beside that of other: its digest where both
// have one, else the version of the function.
func codeOf(doc, other document.Object) document.Object {
	out := document.Object{"handler": document.String(doc, "spec", "handler")}
	digest := document.String(doc, "status", "provenance", "code")
	if digest != "" && document.String(other, "status", "provenance", "code") != "" {
		out["digest"] = digest
		return out
	}
	uri := function.ParseURI(document.String(doc, "spec", "function"))
	out["function"] = uri.String()
	return out
}

// known is what is known of a thing, the surest first.
type known [3]any

// agreed makes of two sides what can be compared: of a thing that both have the surest
// that is known on both. A run that has not begun has no digests yet; that is no difference.
func agreed(a, b map[string]known) (left, right document.Object) {
	left, right = document.Object{}, document.Object{}
	surest := func(k known) any { return k[max(0, slices.IndexFunc(k[:], func(v any) bool { return !empty(v) }))] }
	for name, x := range a {
		left[name] = surest(x)
		if y, ok := b[name]; ok {
			for i := range x {
				if !empty(x[i]) && !empty(y[i]) {
					left[name], right[name] = x[i], y[i]
					break
				}
			}
		}
	}
	for name, y := range b {
		if _, ok := right[name]; !ok {
			right[name] = surest(y)
		}
	}
	return left, right
}

// inputsOf are the inputs: their digests and addresses.
func inputsOf(doc document.Object) map[string]known {
	out := map[string]known{}
	for name, url := range document.Map(doc, "spec", "inputs") {
		name, _, _ = strings.Cut(name, ":")
		out[strings.TrimSpace(name)] = known{nil, url}
	}
	for name := range document.Map(doc, "status", "provenance", "inputs") {
		digest := document.String(doc, "status", "provenance", "inputs", name, "digest")
		of := out[name]
		if of[0] = digest; of[1] == nil {
			of[1] = document.String(doc, "status", "provenance", "inputs", name, "url")
		}
		out[name] = of
	}
	return out
}

func environmentOf(side RunSide) document.Object {
	recorded := document.Map(side.Doc, "status", "provenance", "environment")
	out := document.Object{}
	for _, field := range []string{"python", "image"} {
		if value := document.String(recorded, field); value != "" {
			out[field] = value
		}
	}
	if len(side.Packages) > 0 {
		packages := document.Object{}
		for name, version := range side.Packages {
			packages[name] = version
		}
		out["packages"] = packages
	} else if lock := document.String(recorded, "lock"); lock != "" && side.Packages == nil {
		out["lock"] = lock
	}
	return out
}

// machineOf is where a run executed; the host is a label of runs that recorded
// nothing more.
func machineOf(doc document.Object) document.Object {
	if machine := document.Map(doc, "status", "provenance", "machine"); len(machine) > 0 {
		return machine
	}
	return document.Object{"host": document.String(doc, "metadata", "labels", "host")}
}

func stateOf(doc document.Object) document.Object {
	return document.Object{"state": document.String(doc, "status", "state"), "error": document.String(doc, "status", "error")}
}

// artifactsOf are what the run made: the digests that were recorded, the hashes that the
// artifacts carry, and their sizes.
func artifactsOf(doc document.Object) map[string]known {
	out := map[string]known{}
	for _, item := range document.List(doc, "status", "artifacts") {
		art, ok := item.(document.Object)
		if !ok {
			continue
		}
		of := known{nil, nil, document.Object{"size": document.Get(art, "spec", "size"), "kind": document.String(art, "kind")}}
		if hash := document.String(art, "metadata", "hash"); hash != "" {
			of[1] = "sha1:" + hash
		}
		out[document.String(art, "metadata", "key")] = of
	}
	for name := range document.Map(doc, "status", "provenance", "outputs") {
		if digest := document.String(doc, "status", "provenance", "outputs", name, "digest"); digest != "" {
			of := out[name]
			of[0] = digest
			out[name] = of
		}
	}
	return out
}

// durationOf is how long a run took, in seconds.
func durationOf(doc document.Object) document.Object {
	start, end := run.Time(doc, "status", "start_time"), run.Time(doc, "status", "end_time")
	if end.IsZero() {
		end = run.Time(doc, "status", "last_update")
	}
	if start.IsZero() || end.Before(start) {
		return nil
	}
	return document.Object{"seconds": end.Sub(start).Seconds()}
}
