// Package function is the function object: code, operational spec, interface and
// metadata under one name, versioned by the hash of its content.
//
// A Function is a view on a document (internal/document). The document is the
// truth and is kept as it was received, unknown keys included; the methods here
// read what the engine needs from it. So a function of any kind round-trips
// without loss, even of a kind this build cannot execute.
//
// Checks come in two steps. Parse (and Validate) look at types only, since
// whatever an older client saved has to stay readable. Spec.Check looks at
// values — quantities, durations, the mode — and is for the moment a run is asked
// for.
//
// Names (names.go), URIs (uri.go), the version hash (hash.go), export and import
// (export.go, yaml.go), handlers (handler.go), quantities, durations and
// {placeholders} each have a file of their own.
package function

import (
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Function is one function object. Doc has the top-level keys kind, metadata,
// spec, status and verbose; metadata and spec are always objects.
type Function struct {
	Doc document.Object
}

// New returns an empty function of kind under name.
func New(kind Kind, name string) *Function {
	return &Function{Doc: document.Object{
		"kind":     string(kind),
		"metadata": document.Object{"name": name},
		"spec":     document.Object{},
		"verbose":  false,
	}}
}

// Parse checks the document of a function: the types of all modelled fields and
// the kind. It keeps doc (no copy) and creates metadata and spec when absent.
// Errors carry fault.CodeInvalid and name the field.
func Parse(doc document.Object) (*Function, error) {
	if doc == nil {
		return nil, fault.Invalid("a function must be an object, got null")
	}
	for _, key := range []string{"metadata", "spec"} {
		if _, err := document.Want[document.Object](doc, key); err != nil {
			return nil, err
		}
		document.Ensure(doc, key)
	}
	f := &Function{Doc: doc}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	return f, nil
}

// Kind returns the function's kind.
func (f *Function) Kind() Kind { return Kind(document.String(f.Doc, "kind")) }

// Name returns metadata.name.
func (f *Function) Name() string { return document.String(f.Doc, "metadata", "name") }

// Project returns metadata.project, "" when it is not set.
func (f *Function) Project() string { return document.String(f.Doc, "metadata", "project") }

// Tag returns metadata.tag.
func (f *Function) Tag() string { return document.String(f.Doc, "metadata", "tag") }

// Hash returns metadata.hash: what the store wrote there, "" before that.
func (f *Function) Hash() string { return document.String(f.Doc, "metadata", "hash") }

// Labels returns metadata.labels; changing the map does not change the function.
func (f *Function) Labels() map[string]string { return document.Strings(f.Doc, "metadata", "labels") }

// State returns status.state, "" when there is none.
func (f *Function) State() string { return document.String(f.Doc, "status", "state") }

// Verbose reports whether the function asks for debug logging.
func (f *Function) Verbose() bool { return document.Bool(f.Doc, "verbose") }

// URI returns project/name@hash when the hash is known, else project/name:tag.
func (f *Function) URI() URI {
	return URI{Project: f.Project(), Name: f.Name(), Tag: f.Tag(), Hash: f.Hash()}
}

// SetName sets metadata.name as given; see NormalizeName.
func (f *Function) SetName(name string) { document.Set(f.Doc, name, "metadata", "name") }

// SetProject sets metadata.project.
func (f *Function) SetProject(project string) { document.Set(f.Doc, project, "metadata", "project") }

// SetTag sets metadata.tag.
func (f *Function) SetTag(tag string) { document.Set(f.Doc, tag, "metadata", "tag") }

// SetLabel sets one label.
func (f *Function) SetLabel(key, value string) {
	document.Set(f.Doc, value, "metadata", "labels", key)
}

// SetKind sets the kind.
func (f *Function) SetKind(kind Kind) { f.Doc["kind"] = string(kind) }

// SetSpec stores value under spec at path; nil removes the field.
func (f *Function) SetSpec(value any, path ...string) {
	path = append([]string{"spec"}, path...)
	if value == nil {
		if parent := document.Map(f.Doc, path[:len(path)-1]...); parent != nil {
			delete(parent, path[len(path)-1])
		}
		return
	}
	document.Set(f.Doc, value, path...)
}

// SetRequirements replaces spec.build.requirements by the cleaned lines.
func (f *Function) SetRequirements(lines []string) {
	f.SetSpec(anys(CleanRequirements(lines)), "build", "requirements")
}

// SetEnv sets one variable in spec.env, replacing an entry of that name in place.
func (f *Function) SetEnv(name, value string) {
	entry := document.Object{"name": name, "value": value}
	list := document.List(f.Doc, "spec", "env")
	for i, item := range list {
		if object, ok := item.(document.Object); ok && document.String(object, "name") == name {
			list[i] = entry
			return
		}
	}
	f.SetSpec(append(list, entry), "env")
}

// SetCode embeds source as spec.build.functionSourceCode and records the file it
// came from.
func (f *Function) SetCode(source []byte, origin string) {
	f.SetSpec(encodeCode(source), "build", "functionSourceCode")
	f.SetSpec(origin, "build", "origin_filename")
}

// Clone copies the function deeply.
func (f *Function) Clone() *Function { return &Function{Doc: document.Clone(f.Doc)} }

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
