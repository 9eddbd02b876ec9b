package artifact

import (
	"github.com/millrace/millrace/internal/document"
)

// legacyMetadata are the fields of the flat layout that became metadata.
var legacyMetadata = []string{"key", "project", "iter", "tree", "tag", "labels", "hash", "description", "updated", "uid"}

// FromLegacy returns doc in today's layout under the key key, which it takes when
// it names none. A document of the flat layout, which has no metadata, is divided:
// what identifies it into metadata, kind and status as they are, all else into
// spec. doc is not changed. Errors carry fault.CodeInvalid.
func FromLegacy(doc document.Object, key string) (document.Object, error) {
	out := document.Clone(doc)
	if out == nil {
		out = document.Object{}
	}
	if err := check(out); err != nil {
		return nil, err
	}
	if out["metadata"] == nil && out["spec"] == nil {
		flat := out
		metadata, spec := document.Object{}, document.Object{}
		out = document.Object{"metadata": metadata, "spec": spec}
		for _, field := range []string{"kind", "status", "project"} {
			if value, ok := flat[field]; ok {
				out[field] = value
			}
		}
		for _, field := range legacyMetadata {
			if value, ok := flat[field]; ok {
				metadata[field] = value
				delete(flat, field)
			}
		}
		delete(flat, "kind")
		delete(flat, "status")
		for field, value := range flat {
			spec[field] = value
		}
	}
	if document.String(out, "metadata", "key") == "" {
		document.Set(out, key, "metadata", "key")
	}
	return out, nil
}
