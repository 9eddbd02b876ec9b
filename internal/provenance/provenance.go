// Package provenance is what is known about how a run came about, which every run
// carries in status.provenance, and what follows from it: how a run is repeated
// (Repeat), whether two runs have the same outputs and if not why (Compare), and
// when an earlier result stands for a new run (Key). It is pure.
//
// The fields of status.provenance:
//
//	code          code digest of what was executed (function.CodeOf); absent when
//	              there was more code than is looked at
//	code_outside  what brings in code that code does not cover
//	environment   python (version), lock (digest of the packages that could be
//	              imported), packages (how many), shared (true: those that are
//	              installed for the plain interpreter); {} for other programs
//	inputs        key → url, digest, size; or url and missing or reason
//	outputs       key → digest, size, kind of each artifact
//	results       digest of the canonical JSON of the results
//	seed          the seed, or null; seed_from says if it is the run's own or a parameter
//	unseeded      how a run with a seed started Python processes that it does not reach
//	hash_seed     what ordered the hashes of strings (PYTHONHASHSEED)
//	secrets       names of the secrets that it was given
//	machine       host, os, arch, cpus, gpus
//	millrace      version of the program
//	rerun_of      uid of the run that this one repeats
//	nondeterminism  sources that the code was seen to use; of repeated runs only
//	cached_from   uid of the run whose outputs were taken over
package provenance

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/digest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// maxSeed is the largest seed that every generator takes.
const maxSeed = 1<<32 - 1

// Seed returns the seed that a run asks for in spec.seed. fault.CodeInvalid when
// it is no whole number from 0 to 4294967295.
func Seed(run document.Object) (seed int64, given bool, err error) {
	value := document.Get(run, "spec", "seed")
	if value == nil {
		return 0, false, nil
	}
	n, ok := document.ToInt(value)
	if _, text := value.(string); !ok || text || n < 0 || n > maxSeed {
		return 0, false, fault.Invalid("spec.seed must be a whole number from 0 to %d, got %.40s", int64(maxSeed), string(document.Encode(value)))
	}
	return n, true, nil
}

// NotedSeed is the seed that is recorded: the run's own, else a parameter that by
// its name is one.
func NotedSeed(run document.Object) (seed int64, given bool, from string) {
	if n, ok, err := Seed(run); ok && err == nil {
		return n, true, "run"
	}
	for _, name := range []string{"seed", "random_state"} {
		value := document.Get(run, "spec", "parameters", name)
		if _, text := value.(string); text {
			continue
		}
		if n, ok := document.ToInt(value); ok && value != nil {
			return n, true, "parameter " + name
		}
	}
	return 0, false, ""
}

// LocalPath is the path on this machine that an input's URL names: a path, which
// when it is relative counts from inputPath, else from workdir, or a file URL.
// False for other URLs.
func LocalPath(inputPath, workdir, url string) (string, bool) {
	if rest, ok := strings.CutPrefix(url, "file://"); ok {
		return rest, filepath.IsAbs(rest)
	}
	if url == "" || strings.Contains(url, "://") {
		return "", false
	}
	if filepath.IsAbs(url) {
		return url, true
	}
	if strings.Contains(inputPath, "://") {
		return "", false
	}
	joined := filepath.Join(inputPath, url)
	if !filepath.IsAbs(joined) {
		joined = filepath.Join(workdir, joined)
	}
	return joined, filepath.IsAbs(joined)
}

// Merge brings one record of provenance into doc's status.provenance, in place:
// inputs and outputs key by key (what is there is kept where the record says
// less), everything else by replacing it.
func Merge(doc, record document.Object) {
	into := document.Ensure(doc, "status", "provenance")
	for _, field := range slices.Sorted(maps.Keys(record)) {
		value := record[field]
		entries, isObject := value.(document.Object)
		switch field {
		case "t", "iter", "time":
		case "inputs", "outputs":
			if !isObject {
				continue
			}
			have := document.Ensure(into, field)
			for key, entry := range entries {
				fresh, ok := entry.(document.Object)
				if !ok {
					continue
				}
				merged := maps.Clone(document.Map(have, key))
				if merged == nil {
					merged = document.Object{}
				}
				if document.String(fresh, "digest") != "" {
					delete(merged, "reason")
					delete(merged, "missing")
				} else if document.String(merged, "digest") != "" {
					continue
				}
				maps.Copy(merged, fresh)
				have[key] = merged
			}
		default:
			into[field] = value
		}
	}
}

// Artifact records what an artifact record of the journal says about its content.
func Artifact(doc, record document.Object) {
	sum, key := document.String(record, "digest"), document.String(record, "key")
	if sum == "" || key == "" {
		return
	}
	entry := document.Object{"digest": sum}
	if kind := document.String(record, "doc", "kind"); kind != "" {
		entry["kind"] = kind
	}
	for _, size := range []any{record["size"], document.Get(record, "doc", "spec", "size")} {
		if n, ok := document.ToInt(size); ok && size != nil {
			entry["size"] = n
			break
		}
	}
	Merge(doc, document.Object{"outputs": document.Object{key: entry}})
}

// Results records the digest of the run's results, once they are final. A run
// about which nothing is recorded stays so.
func Results(doc document.Object) {
	if document.Map(doc, "status", "provenance") != nil {
		document.Set(doc, ResultsDigest(doc), "status", "provenance", "results")
	}
}

// ResultsDigest is the digest of the canonical JSON of a run's results.
func ResultsDigest(doc document.Object) string {
	results := document.Map(doc, "status", "results")
	if results == nil {
		results = document.Object{}
	}
	return digest.Of(document.Canonical(results))
}
