// Package project is the project object: the name space that functions, runs and
// artifacts live in, with its own labels, parameters and defaults.
//
// A document keeps whatever keys it came with. The server owns
// metadata.created and status.state; the latter follows spec.desired_state.
package project

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Default is the project of clients that never chose one. It always exists.
const Default = "default"

// Online is the state of a project that nobody asked to be in another.
const Online = "online"

var namePattern = lazyregexp.New(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// ValidateName checks that name is a DNS-1123 label: at most 63 lower-case letters,
// digits and '-', with a letter or digit at both ends. Errors carry
// fault.CodeInvalid.
func ValidateName(name string) error {
	if len(name) > 63 || !namePattern.MatchString(name) {
		return fault.Invalid("project name %q is invalid; use at most 63 lower-case letters, digits and '-', beginning and ending with a letter or digit", clip(name))
	}
	return nil
}

// New returns the document to keep for a new project: body with the fields that
// every reader may rely on. body is not changed. Errors carry fault.CodeInvalid.
func New(body document.Object, now time.Time) (document.Object, error) {
	doc := document.Clone(body)
	if doc == nil {
		doc = document.Object{}
	}
	if err := check(doc); err != nil {
		return nil, err
	}
	if err := ValidateName(document.String(doc, "metadata", "name")); err != nil {
		return nil, err
	}
	doc["kind"] = "project"
	document.Ensure(doc, "metadata")["created"] = document.Time(now)
	complete(doc)
	return doc, nil
}

// Replace returns the document to keep when body is stored over old (nil when
// there is none) under name. metadata.created stays old's. Neither argument is
// changed. Errors carry fault.CodeInvalid, or fault.CodeConflict when body names
// another project.
func Replace(old document.Object, name string, body document.Object, now time.Time) (document.Object, error) {
	doc := document.Clone(body)
	if doc == nil {
		doc = document.Object{}
	}
	if err := check(doc); err != nil {
		return nil, err
	}
	switch own := document.String(doc, "metadata", "name"); own {
	case name:
	case "":
		document.Set(doc, name, "metadata", "name")
	default:
		return nil, fault.Conflict("metadata.name %q differs from the project %q in the address; make them equal", clip(own), clip(name))
	}
	stripParams(doc)
	doc, err := New(doc, now)
	if err != nil {
		return nil, err
	}
	if created := document.Get(old, "metadata", "created"); created != nil {
		document.Set(doc, created, "metadata", "created")
	}
	return doc, nil
}

// Patch returns old with patch merged in: objects deeply, anything else replaced;
// with additive, lists are appended to instead. The name and the time of creation
// stay. Neither argument is changed. Errors carry fault.CodeInvalid.
func Patch(old, patch document.Object, additive bool, now time.Time) (document.Object, error) {
	doc := document.Clone(old)
	merge(doc, patch, additive)
	if err := check(doc); err != nil {
		return nil, err
	}
	name, created := document.Get(old, "metadata", "name"), document.Get(old, "metadata", "created")
	if own := document.Get(doc, "metadata", "name"); own != name {
		return nil, fault.Invalid("metadata.name: a project can not be renamed; %v is %v", own, name)
	}
	doc, err := New(doc, now)
	if err != nil {
		return nil, err
	}
	document.Set(doc, created, "metadata", "created")
	return doc, nil
}

func merge(into, from document.Object, additive bool) {
	for key, value := range from {
		switch v := value.(type) {
		case document.Object:
			inner, ok := into[key].(document.Object)
			if !ok {
				inner = document.Object{}
				into[key] = inner
			}
			merge(inner, v, additive)
		case []any:
			list, ok := into[key].([]any)
			if additive && ok {
				into[key] = append(list, document.Clone(v)...)
			} else {
				into[key] = document.Clone(v)
			}
		default:
			into[key] = value
		}
	}
}

// check looks at the types of the fields that the server or every client reads.
func check(doc document.Object) error {
	for _, path := range [][]string{{"metadata"}, {"spec"}, {"status"}, {"metadata", "labels"}, {"metadata", "annotations"}, {"spec", "params"}} {
		if _, err := document.Want[document.Object](doc, path...); err != nil {
			return err
		}
	}
	for _, path := range [][]string{{"metadata", "name"}, {"spec", "owner"}, {"spec", "desired_state"}, {"spec", "description"}, {"spec", "artifact_path"}} {
		if _, err := document.Want[string](doc, path...); err != nil {
			return err
		}
	}
	for _, field := range []string{"functions", "workflows", "artifacts"} {
		if _, err := document.Want[[]any](doc, "spec", field); err != nil {
			return err
		}
	}
	for key, value := range document.Strings(doc, "metadata", "labels") {
		if key == "" || utf8.RuneCountInString(key) > 255 || utf8.RuneCountInString(value) > 255 {
			return fault.Invalid("metadata.labels: the label %q is too long or has no name; keys have 1 to 255 characters, values at most 255", clip(key))
		}
	}
	return nil
}

// states are the words of status.state that a project can be asked to be in.
var states = map[string]bool{"online": true, "offline": true, "archived": true}

func complete(doc document.Object) {
	metadata, spec, status := document.Ensure(doc, "metadata"), document.Ensure(doc, "spec"), document.Ensure(doc, "status")
	for _, key := range []string{"labels", "annotations"} {
		if metadata[key] == nil {
			metadata[key] = document.Object{}
		}
	}
	if spec["params"] == nil {
		spec["params"] = document.Object{}
	}
	for _, key := range []string{"functions", "workflows", "artifacts"} {
		if spec[key] == nil {
			spec[key] = []any{}
		}
	}
	desired := document.String(spec, "desired_state")
	if !states[desired] {
		desired = Online
		spec["desired_state"] = desired
	}
	status["state"] = desired
}

// stripParams removes the blanks around the keys and string values of
// spec.params, where a pasted value brings them along.
func stripParams(doc document.Object) {
	params := document.Map(doc, "spec", "params")
	for key, value := range params {
		if text, ok := value.(string); ok {
			value = strings.TrimSpace(text)
		}
		delete(params, key)
		params[strings.TrimSpace(key)] = value
	}
}

// Minimal returns doc without its lists of functions, workflows and artifacts.
// It shares its values with doc.
func Minimal(doc document.Object) document.Object {
	out, spec := document.Object{}, document.Object{}
	for key, value := range doc {
		out[key] = value
	}
	for key, value := range document.Map(doc, "spec") {
		spec[key] = value
	}
	for _, key := range []string{"functions", "workflows", "artifacts"} {
		spec[key] = nil
	}
	out["spec"] = spec
	return out
}

// clip shortens what a client wrote so that it can stand in a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
