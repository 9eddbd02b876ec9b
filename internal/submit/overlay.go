package submit

import (
	"fmt"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// replaced are the fields of spec that an overlay replaces as a whole.
var replaced = []string{
	"volume_mounts", "image", "image_pull_policy", "replicas", "node_name", "node_selector", "affinity",
	"priority_class_name", "tolerations", "preemption_mode", "security_context",
}

// Overlay returns the stored function with those attributes of the inline one
// that a request may set for one run: placement, image, resources, volumes and
// environment. Everything else of inline is ignored. Neither is changed.
func Overlay(stored, inline document.Object) (document.Object, error) {
	from, err := document.Want[document.Object](inline, "spec")
	if err != nil {
		return nil, fmt.Errorf("function: %w", err)
	}
	out := document.Clone(stored)
	spec := document.Ensure(out, "spec")
	for _, key := range replaced {
		if !empty(from[key]) {
			spec[key] = document.Clone(from[key])
		}
	}
	resources, err := document.Want[document.Object](from, "resources")
	if err != nil {
		return nil, fmt.Errorf("function: spec.%w", err)
	}
	if !empty(resources["limits"]) || !empty(resources["requests"]) {
		spec["resources"] = document.Clone(any(resources))
	}
	if credentials := document.Map(inline, "metadata", "credentials"); len(credentials) > 0 {
		document.Set(out, document.Clone(any(credentials)), "metadata", "credentials")
	}
	for _, key := range []string{"volumes", "env"} {
		merged, err := mergeNamed("function: spec."+key, spec[key], from[key])
		if err != nil {
			return nil, err
		}
		if merged != nil {
			spec[key] = merged
		}
	}
	return out, nil
}

// empty reports whether an attribute says nothing.
func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case document.Object:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// mergeNamed merges lists of objects by their name: entries of changes replace
// those of base in place, new ones follow. Nil when changes says nothing.
func mergeNamed(field string, base, changes any) ([]any, error) {
	if empty(changes) {
		return nil, nil
	}
	list, ok := changes.([]any)
	if !ok {
		return nil, fault.Invalid("%s must be a list, got %s", field, document.TypeName(changes))
	}
	old, _ := base.([]any)
	out := append([]any(nil), old...)
next:
	for i, item := range list {
		entry, ok := item.(document.Object)
		name, named := entry["name"].(string)
		if !ok || !named || name == "" {
			return nil, fault.Invalid("%s[%d] must be an object with a name", field, i)
		}
		entry = document.Clone(entry)
		for at, existing := range out {
			if inner, _ := existing.(document.Object); document.String(inner, "name") == name {
				out[at] = entry
				continue next
			}
		}
		out = append(out, entry)
	}
	return out, nil
}
