package function

import (
	"crypto/sha1" //nolint:gosec // the identity of a version is defined with SHA-1
	"encoding/hex"
	"maps"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Hash returns the identity of a function's content: 40 lower-case hex digits of
// the SHA-1 over the canonical form of doc with metadata.tag and metadata.hash
// empty, metadata.updated and status null, and without metadata.created. So
// neither a tag nor a state changes it, and everything else does. doc is not
// changed.
func Hash(doc document.Object) string {
	hashed := maps.Clone(doc)
	if hashed == nil {
		hashed = document.Object{}
	}
	metadata := maps.Clone(document.Map(doc, "metadata"))
	if metadata == nil {
		metadata = document.Object{}
	}
	delete(metadata, "created")
	metadata["tag"], metadata["hash"], metadata["updated"] = "", "", nil
	hashed["metadata"], hashed["status"] = metadata, nil
	sum := sha1.Sum(document.Canonical(hashed)) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// Stored returns the body that a store keeps of doc under project and name, and
// its hash: a copy in which the name and project are filled from the address, the
// tag is empty (whoever reads by a tag is told that one), and hash and updated are
// set. A stored body hashes to its own hash, so storing what was read makes no new
// version. A doc that names another function is refused.
func Stored(doc document.Object, project, name string, now time.Time) (document.Object, string, error) {
	if body := document.String(doc, "metadata", "name"); body != "" && body != name {
		return nil, "", fault.Invalid("metadata.name %q differs from the name %q it is stored under; make them equal or leave metadata.name out", cut(body), cut(name))
	}
	out := document.Clone(doc)
	metadata := document.Ensure(out, "metadata")
	metadata["name"], metadata["tag"] = name, ""
	if project != "" {
		metadata["project"] = project
	}
	hash := Hash(out)
	metadata["hash"], metadata["updated"] = hash, document.Time(now)
	return out, hash, nil
}

// minimalSpec are the fields of spec that the minimal format keeps.
var minimalSpec = []string{
	"description", "command", "image", "default_handler", "default_class", "graph",
	"preemption_mode", "node_selector", "priority_class_name",
}

// Minimal returns the minimal format of doc for lists: kind, metadata, status and
// a few fields of spec. It shares its values with doc.
func Minimal(doc document.Object) document.Object {
	out := pick(doc, "kind", "metadata", "status")
	out["spec"] = pick(document.Map(doc, "spec"), minimalSpec...)
	return out
}

func pick(object document.Object, keys ...string) document.Object {
	out := document.Object{}
	for _, key := range keys {
		if value, ok := object[key]; ok {
			out[key] = value
		}
	}
	return out
}
