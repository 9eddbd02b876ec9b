package diff

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
)

// Meaning is what a field of a function is about.
type Meaning string

// The meanings, in the order in which they are shown. A field that is not known
// to be something else is about behaviour.
const (
	Behaviour Meaning = "behaviour"
	Resources Meaning = "resources"
	Placement Meaning = "placement"
	Metadata  Meaning = "metadata"
)

// meanings are the fields that are not about behaviour, by the beginning of their
// paths.
var meanings = map[string]Meaning{
	"spec.resources": Resources, "spec.replicas": Resources, "spec.min_replicas": Resources, "spec.max_replicas": Resources,
	"spec.driver_resources": Resources, "spec.executor_resources": Resources, "spec.scheduler_resources": Resources,
	"spec.worker_resources": Resources, "spec.nthreads": Resources, "spec.state_thresholds": Resources, "spec.dynamic_allocation": Resources,
	"spec.node_name": Placement, "spec.node_selector": Placement, "spec.affinity": Placement, "spec.tolerations": Placement,
	"spec.priority_class_name": Placement, "spec.preemption_mode": Placement, "spec.image_pull_policy": Placement,
	"metadata": Metadata, "spec.description": Metadata, "spec.entry_points": Metadata, "spec.build.code_origin": Metadata,
	"spec.build.origin_filename": Metadata, "spec.build.registry": Metadata, "spec.build.secret": Metadata, "verbose": Metadata,
}

// MeaningOf returns what a field is about.
func MeaningOf(path string) Meaning {
	for at := path; ; {
		if m, ok := meanings[at]; ok {
			return m
		}
		dot := strings.LastIndexByte(at, '.')
		if dot < 0 {
			return Behaviour
		}
		at = at[:dot]
	}
}

// Field is a field of a function that differs.
type Field struct {
	Change
	Meaning Meaning
}

// Functions is how two functions differ.
type Functions struct {
	A, B    string // their names
	Verdict Verdict
	Reason  string
	Changed []string // parts of the code
	Code    string   // a unified diff
	Fields  []Field
}

// Equal reports whether nothing differs.
func (d *Functions) Equal() bool { return d.Verdict == Identical && len(d.Fields) == 0 }

// SameBehaviour reports whether it is certain that the two do the same: the code
// is identical or differs cosmetically, and no field about behaviour does.
func (d *Functions) SameBehaviour() bool {
	return d.Verdict != MayDiffer && !slices.ContainsFunc(d.Fields, func(f Field) bool { return f.Meaning == Behaviour })
}

// Document is the JSON form.
func (d *Functions) Document() document.Object {
	fields := make([]any, len(d.Fields))
	for i, f := range d.Fields {
		doc := f.Document()
		doc["meaning"] = string(f.Meaning)
		fields[i] = doc
	}
	changed := make([]any, len(d.Changed))
	for i, name := range d.Changed {
		changed[i] = name
	}
	return document.Object{
		"kind": "functions", "a": d.A, "b": d.B, "equal": d.Equal(), "same_behaviour": d.SameBehaviour(),
		"code": document.Object{"verdict": string(d.Verdict), "reason": d.Reason, "changed": changed, "diff": d.Code}, "fields": fields,
	}
}

// CompareFunctions compares two functions called nameA and nameB.
func CompareFunctions(ctx context.Context, nameA, nameB string, a, b *function.Function, comparer Comparer) (*Functions, error) {
	d := &Functions{A: nameA, B: nameB, Verdict: Identical, Reason: "the code is equal, byte for byte"}
	left, right := sourceOf(a), sourceOf(b)
	if left != right {
		d.Verdict, d.Code = MayDiffer, Unified(nameA, nameB, left, right)
		switch {
		case left == "" || right == "":
			d.Reason = "only one of the two carries its code"
		case a.Language() != function.LanguagePython || b.Language() != function.LanguagePython:
			d.Reason = "the code differs, and only Python is compared by its syntax"
		default:
			result, err := comparer.Compare(ctx, []byte(left), []byte(right))
			if err != nil {
				return nil, err
			}
			d.Reason, d.Changed = result.Reason, result.Changed
			if result.Same {
				d.Verdict = Cosmetic
			}
		}
	}
	for _, c := range compareValues("", fieldsOf(a), fieldsOf(b)) {
		if c.Path == "metadata.project" && (c.A == nil || c.B == nil) {
			continue // a file belongs to no project yet
		}
		d.Fields = append(d.Fields, Field{Change: c, Meaning: MeaningOf(c.Path)})
	}
	order := []Meaning{Behaviour, Resources, Placement, Metadata}
	slices.SortStableFunc(d.Fields, func(a, b Field) int { return slices.Index(order, a.Meaning) - slices.Index(order, b.Meaning) })
	return d, nil
}

// sourceOf is the code that a function carries, "" when it carries none.
func sourceOf(f *function.Function) string {
	raw := document.String(f.Doc, "spec", "build", "functionSourceCode")
	text, err := base64.StdEncoding.DecodeString(raw)
	if err != nil {
		return raw
	}
	return string(text)
}

// fieldsOf is the part of a function that is compared field by field: without
// what is derived (hash, times, status, entry points, which follow from the code),
// and with lists of named things as objects.
func fieldsOf(f *function.Function) document.Object {
	doc := document.Clone(f.Doc)
	delete(doc, "status")
	for _, field := range []string{"hash", "updated", "created", "uid", "tag"} {
		delete(document.Map(doc, "metadata"), field)
	}
	spec := document.Map(doc, "spec")
	delete(spec, "entry_points")
	delete(document.Map(spec, "build"), "functionSourceCode")
	for _, list := range []struct{ field, key string }{{"env", "name"}, {"volumes", "name"}, {"volume_mounts", "mountPath"}} {
		if items, ok := spec[list.field].([]any); ok {
			if named := byName(items, list.key); named != nil {
				spec[list.field] = named
			}
		}
	}
	for _, parent := range []document.Object{spec, document.Map(spec, "build")} {
		if items, ok := parent["requirements"].([]any); ok {
			parent["requirements"] = requirements(items)
		}
	}
	return doc
}

// byName turns a list of objects with distinct names into an object; nil when it
// is no such list.
func byName(items []any, key string) document.Object {
	out := document.Object{}
	for _, item := range items {
		object, _ := item.(document.Object)
		name := document.String(object, key)
		if name == "" || out[name] != nil {
			return nil
		}
		rest := document.Object{}
		for field, value := range object {
			if field != key {
				rest[field] = value
			}
		}
		if value, ok := rest["value"]; ok && len(rest) == 1 {
			out[name] = value
		} else {
			out[name] = rest
		}
	}
	return out
}

// requirements turns lines of requirements into an object by package.
func requirements(items []any) any {
	out := document.Object{}
	for _, item := range items {
		line, ok := item.(string)
		if !ok {
			return items
		}
		name, version := splitRequirement(line)
		if _, had := out[name]; had {
			return items
		}
		out[name] = version
	}
	return out
}

// splitRequirement cuts a line into the package and what is asked of it.
func splitRequirement(line string) (name, version string) {
	line = strings.TrimSpace(line)
	if at := strings.IndexAny(line, "=<>!~ ;@["); at > 0 {
		return strings.ToLower(line[:at]), strings.TrimSpace(line[at:])
	}
	return strings.ToLower(line), "any version"
}
