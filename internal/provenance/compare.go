package provenance

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

// Cause is why the outputs of two runs of one function differ.
type Cause string

// The causes, in the order in which they are looked for: the first that holds is
// the one that is told. CauseNone goes with equal outputs.
const (
	CauseNone        Cause = ""
	CauseParameters  Cause = "parameters"
	CauseCode        Cause = "code"
	CauseEnvironment Cause = "environment"
	CauseInterpreter Cause = "interpreter"
	CauseInput       Cause = "input"
	CauseRandom      Cause = "random"
	CauseTime        Cause = "time"
	CauseOther       Cause = "nondeterministic"
	// CauseUnknown: an output is not known well enough to be compared.
	CauseUnknown Cause = "unknown"
)

// Verdict says whether the outputs of a repetition are those of the original.
type Verdict struct {
	Original, Repeated string // uids
	Equal              bool
	Cause              Cause
	Sentence           string
	Outputs            []string // that differ: "state", "result x", "artifact y"
	Changes            []string // what else differs, whether or not it made a difference
}

// Document is the verdict as users read it.
func (v Verdict) Document() document.Object {
	return document.Object{
		"original": v.Original, "rerun": v.Repeated, "equal": v.Equal, "cause": string(v.Cause), "sentence": v.Sentence,
		"outputs": list(v.Outputs), "changes": list(v.Changes),
	}
}

func list(texts []string) []any {
	out := make([]any, len(texts))
	for i, text := range texts {
		out[i] = text
	}
	return out
}

// Compare compares a finished run with its finished repetition. Outputs are the
// state, the error, the results and the content of the artifacts; artifacts whose
// content has no digest in either run cannot be called equal.
func Compare(original, repeated document.Object) Verdict {
	v := Verdict{Original: document.String(original, "metadata", "uid"), Repeated: document.String(repeated, "metadata", "uid")}
	differing, unknown := outputs(original, repeated)
	v.Outputs = differing
	cause, why, changes := explain(original, repeated)
	v.Changes = changes
	switch {
	case len(differing) > 0:
		v.Cause = cause
		v.Sentence = fmt.Sprintf("the outputs of %s differ from those of run %s in %s: %s", v.Repeated, v.Original, enumerate(differing), why)
	case len(unknown) > 0:
		v.Cause = CauseUnknown
		v.Sentence = fmt.Sprintf("whether the outputs of %s are those of run %s cannot be told: the content of %s has no digest", v.Repeated, v.Original, enumerate(unknown))
	default:
		v.Equal = true
		v.Sentence = fmt.Sprintf("the outputs of %s are equal to those of run %s (%s)", v.Repeated, v.Original, count(repeated))
		if len(changes) > 0 {
			v.Sentence += ", although " + enumerate(changes)
		}
	}
	return v
}

func count(doc document.Object) string {
	plural := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	if document.String(doc, "status", "state") != "completed" {
		return "both failed with the same error"
	}
	return plural(len(document.Map(doc, "status", "results")), "result") + ", " + plural(len(names(doc)), "artifact")
}

// names are the keys of a run's artifacts.
func names(doc document.Object) []string {
	keys := map[string]bool{}
	for _, path := range [][]string{{"status", "artifact_uris"}, {"status", "provenance", "outputs"}} {
		for key := range document.Map(doc, path...) {
			keys[key] = true
		}
	}
	for _, item := range document.List(doc, "status", "artifacts") {
		if artifact, ok := item.(document.Object); ok {
			if key := document.String(artifact, "metadata", "key"); key != "" {
				keys[key] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

func outputs(a, b document.Object) (differing, unknown []string) {
	if x, y := document.String(a, "status", "state"), document.String(b, "status", "state"); x != y {
		return []string{fmt.Sprintf("state (%s, was %s)", y, x)}, nil
	}
	if document.String(a, "status", "error") != document.String(b, "status", "error") {
		differing = append(differing, "error")
	}
	differing = append(differing, unequal("result ", document.Map(a, "status", "results"), document.Map(b, "status", "results"))...)
	inA, inB := names(a), names(b)
	for _, key := range slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(inA), inB...)))) {
		x := document.String(a, "status", "provenance", "outputs", key, "digest")
		y := document.String(b, "status", "provenance", "outputs", key, "digest")
		switch {
		case !slices.Contains(inA, key) || !slices.Contains(inB, key):
			differing = append(differing, "artifact "+key)
		case x == "" || y == "":
			unknown = append(unknown, "artifact "+key)
		case x != y:
			differing = append(differing, "artifact "+key)
		}
	}
	return differing, unknown
}

// unequal names the keys whose values differ.
func unequal(prefix string, a, b document.Object) []string {
	var out []string
	keys := slices.Sorted(maps.Keys(a))
	for key := range b {
		if _, ok := a[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		x, inA := a[key]
		y, inB := b[key]
		if inA != inB || !bytes.Equal(document.Canonical(x), document.Canonical(y)) {
			out = append(out, prefix+key)
		}
	}
	return out
}

// explain finds what differs between two runs and what the code does that makes
// runs differ, in the order of the causes.
func explain(original, repeated document.Object) (Cause, string, []string) {
	a, b := document.Map(original, "status", "provenance"), document.Map(repeated, "status", "provenance")
	type finding struct {
		cause Cause
		text  string
	}
	var found []finding
	add := func(cause Cause, format string, args ...any) {
		found = append(found, finding{cause, fmt.Sprintf(format, args...)})
	}
	differ := func(path ...string) (string, string, bool) {
		x, y := document.String(a, path...), document.String(b, path...)
		return x, y, x != y && x != "" && y != ""
	}
	if changed := unequal("", document.Map(original, "spec", "parameters"), document.Map(repeated, "spec", "parameters")); len(changed) > 0 && document.Bool(repeated, "spec", "rerun", "changed") {
		add(CauseParameters, "the parameters %s were changed", enumerate(changed))
	}
	if _, _, ok := differ("code"); ok {
		add(CauseCode, "the code is not the code that was recorded")
	}
	switch x, y, ok := differ("environment", "lock"); {
	case document.String(repeated, "status", "reason") == "prepare":
		add(CauseEnvironment, "the environment could not be made ready: %s", document.String(repeated, "status", "error"))
	case ok && !document.Bool(a, "environment", "shared") && document.String(a, "environment", "python") == document.String(b, "environment", "python"):
		add(CauseEnvironment, "the packages are not those of the recorded lock (%.15s…, was %.15s…)", y, x)
	case ok && document.Bool(a, "environment", "shared") && document.String(a, "environment", "python") == document.String(b, "environment", "python"):
		add(CauseEnvironment, "the packages that are installed for the interpreter have changed since")
	}
	if x, y, ok := differ("environment", "python"); ok {
		add(CauseInterpreter, "the interpreter is Python %s and was %s", y, x)
	}
	for _, key := range slices.Sorted(maps.Keys(document.Map(a, "inputs"))) {
		was, is := document.Map(a, "inputs", key), document.Map(b, "inputs", key)
		x, y := document.String(was, "digest"), document.String(is, "digest")
		switch {
		case document.Bool(is, "missing") && !document.Bool(was, "missing"):
			add(CauseInput, "the input %s is not at %s any more", key, document.String(is, "url"))
		case x != "" && y != "" && x != y:
			add(CauseInput, "the content of the input %s (%s) has changed", key, document.String(is, "url"))
		}
	}
	changes := make([]string, len(found))
	for i, f := range found {
		changes[i] = f.text
	}
	used := seen(b)
	seeded := document.String(a, "seed_from") == "run"
	var random []string
	for _, source := range used {
		switch source {
		case "random", "numpy.random":
			if !seeded {
				random = append(random, source)
			}
		case "os.urandom", "uuid":
			random = append(random, source)
		}
	}
	unseedable := func(source string) bool { return source == "os.urandom" || source == "uuid" }
	switch {
	case drawn(original) && !seeded:
		add(CauseRandom, "no seed was recorded and the parameters of the iterations are drawn at random (strategy %s)", strategy(original))
	case len(random) > 0 && !slices.ContainsFunc(random, func(source string) bool { return !unseedable(source) }):
		add(CauseRandom, "the code draws randomness that no seed determines (%s)", strings.Join(random, ", "))
	case len(random) > 0 && seeded:
		add(CauseRandom, "the code draws randomness that no seed determines (%s)", strings.Join(random, ", "))
	case len(random) > 0:
		add(CauseRandom, "no seed was recorded and the code uses randomness (%s)", strings.Join(random, ", "))
	}
	if slices.Contains(used, "time") {
		add(CauseTime, "the code depends on the time")
	}
	if slices.Contains(used, "threads") {
		add(CauseOther, "the code is not deterministic; it runs threads, whose order nothing determines")
	}
	if slices.Contains(used, "processes") {
		add(CauseOther, "the code is not deterministic; it starts Python processes of its own, whose chance no seed determines and nobody watched")
	}
	if len(found) == 0 {
		add(CauseOther, "%s", unrecorded(a, b))
	}
	return found[0].cause, found[0].text, changes
}

// unrecorded says what may be the cause when nothing that is recorded is.
func unrecorded(a, b document.Object) string {
	var suspects []string
	for _, record := range []document.Object{a, b} {
		if outside := document.List(record, "code_outside"); len(outside) > 0 {
			suspects = append(suspects, fmt.Sprintf("code that comes from %v", outside[0]))
			break
		}
	}
	if secrets := document.List(a, "secrets"); len(secrets) > 0 {
		suspects = append(suspects, fmt.Sprintf("the value of the secret %v", secrets[0]))
	}
	if len(suspects) == 0 {
		suspects = []string{"an environment variable, a file that is no input, a service"}
	}
	return "nothing that was recorded differs, so the code is not deterministic, or it depends on what is not recorded (" + strings.Join(suspects, ", ") + ")"
}

func strategy(doc document.Object) string {
	if name := document.String(doc, "spec", "hyper_param_options", "strategy"); name != "" {
		return name
	}
	return document.String(doc, "spec", "strategy")
}

// drawn reports whether chance chooses the parameters of a run's iterations.
func drawn(doc document.Object) bool {
	return tune.Iterative(doc) && (strategy(doc) == "random" || strategy(doc) == "tpe")
}

func seen(record document.Object) []string {
	var out []string
	for _, item := range document.List(record, "nondeterminism") {
		if text, ok := item.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

func enumerate(texts []string) string {
	const most = 5
	if len(texts) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(texts[:most], ", "), len(texts)-most)
	}
	if len(texts) > 1 {
		return strings.Join(texts[:len(texts)-1], ", ") + " and " + texts[len(texts)-1]
	}
	return strings.Join(texts, "")
}
