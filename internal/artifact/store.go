package artifact

import (
	"crypto/sha1" //nolint:gosec // the identity of an artifact is defined with SHA-1
	"encoding/hex"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// MaxInline is how large a body inside the document may be.
const MaxInline = 16 << 20

var (
	keyPattern = lazyregexp.New(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	tagPattern = keyPattern
)

// ValidateKey checks a key or db key: letters, digits, '-', '_' and '.', with a
// letter or digit at both ends, at most 255. Errors carry fault.CodeInvalid.
func ValidateKey(field, key string) error {
	if len(key) > 255 || !keyPattern.MatchString(key) {
		return fault.Invalid("%s: the artifact key %q is invalid; use at most 255 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit", field, clip(key))
	}
	return nil
}

// ValidateTag checks a tag: like a key, at most 63 characters. Errors carry
// fault.CodeInvalid.
func ValidateTag(tag string) error {
	if len(tag) > 63 || !tagPattern.MatchString(tag) {
		return fault.Invalid("the tag %q is invalid; use at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit", clip(tag))
	}
	return nil
}

// notIdentity are the fields of spec that do not make an artifact another one:
// where it is found, and what is known about its content besides the content.
var notIdentity = map[string][]string{
	"":          {"db_key", "extra_data"},
	KindModel:   {"metrics", "parameters", "inputs", "outputs", "feature_vector", "feature_weights", "feature_stats"},
	KindTable:   {"schema", "header"},
	KindDataset: {"schema", "header", "length", "column_metadata", "features", "partition_keys", "timestamp_key", "label_column"},
}

// UID returns the identity of an artifact's content: 40 lower-case hex digits of
// the SHA-1 over the canonical form of doc without its labels, times, tag, uid and
// status and without the fields of spec that only describe it. The iteration (when
// iter is not 0) and the tree (when doc has none) are made part of it, so the
// same content from another run is another artifact. doc is not changed.
func UID(doc document.Object, iter int, tree string) string {
	hashed := maps.Clone(doc)
	metadata := maps.Clone(document.Map(doc, "metadata"))
	if metadata == nil {
		metadata = document.Object{}
	}
	delete(metadata, "labels")
	delete(metadata, "created")
	metadata["tag"], metadata["uid"], metadata["updated"] = "", "", nil
	if iter != 0 {
		metadata["iter"] = iter
	} else if _, ok := metadata["iter"]; !ok {
		metadata["iter"] = nil
	}
	if own, _ := metadata["tree"].(string); own == "" {
		metadata["tree"] = nil
		if tree != "" {
			metadata["tree"] = tree
		}
	}
	hashed["metadata"], hashed["status"] = metadata, nil
	if spec, ok := doc["spec"].(document.Object); ok {
		spec = maps.Clone(spec)
		for _, field := range notIdentity[""] {
			delete(spec, field)
		}
		if kind := document.String(doc, "kind"); kind != "" {
			for _, field := range notIdentity[kind] {
				delete(spec, field)
			}
		}
		hashed["spec"] = spec
	}
	sum := sha1.Sum(document.Canonical(hashed)) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// Address is where a document is stored: what the request says beside it.
type Address struct {
	Project, Tree, UID string
	Iter               int
	HasIter            bool // otherwise metadata.iter, else 0
}

// Stored returns the document to keep of body, which is not changed, and the
// address with everything filled in: the uid is set, the tag is taken out (tags
// are kept beside the document), labels stay. created is when the artifact was
// first stored, the zero time for a new one. Errors carry fault.CodeInvalid.
func Stored(body document.Object, at Address, created, now time.Time) (document.Object, Address, error) {
	doc := document.Clone(body)
	if doc == nil {
		doc = document.Object{}
	}
	if err := check(doc); err != nil {
		return nil, at, err
	}
	metadata := document.Ensure(doc, "metadata")
	if spec := document.Ensure(doc, "spec"); spec["has_children"] != nil {
		spec["has_children"] = false // found out when it is read; no part of the identity
	}
	if err := ValidateKey("metadata.key", document.String(metadata, "key")); err != nil {
		return nil, at, err
	}
	if own := document.String(metadata, "project"); own != "" && own != at.Project {
		return nil, at, fault.Invalid("metadata.project %q differs from the project %q in the address; make them equal", clip(own), clip(at.Project))
	}
	metadata["project"] = at.Project
	if !at.HasIter {
		at.Iter, _ = Iter(doc)
	}
	if at.Iter < 0 {
		return nil, at, fault.Invalid("iter %d is negative; it is 0 for a run and from 1 on for its children", at.Iter)
	}
	if at.Tree == "" {
		at.Tree = Tree(doc)
	}
	uid := UID(doc, at.Iter, at.Tree)
	if at.UID != "" && at.UID != uid {
		return nil, at, fault.Invalid("the uid %q of the request is not that of the document, %s; leave it out or store the unchanged document", clip(at.UID), uid)
	}
	at.UID = uid
	if created.IsZero() {
		created = now
	}
	metadata["uid"], metadata["iter"] = uid, at.Iter
	if at.Tree != "" {
		metadata["tree"] = at.Tree
	}
	metadata["created"], metadata["updated"] = Time(created), Time(now)
	delete(metadata, "tag")
	if document.String(doc, "status", "state") == "" {
		document.Set(doc, "created", "status", "state")
	}
	return doc, at, nil
}

// Time renders a time as artifacts hold it: with a blank where other documents
// have a T.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000+00:00") }

// check looks at the types of the fields that the server itself reads.
func check(doc document.Object) error {
	for _, path := range [][]string{{"metadata"}, {"spec"}, {"status"}, {"metadata", "labels"}, {"spec", "producer"}} {
		if _, err := document.Want[document.Object](doc, path...); err != nil {
			return err
		}
	}
	for _, path := range [][]string{{"kind"}, {"metadata", "key"}, {"metadata", "project"}, {"metadata", "tree"}, {"metadata", "tag"},
		{"spec", "db_key"}, {"spec", "target_path"}, {"spec", "producer", "uri"}, {"spec", "parent_uri"}, {"status", "state"}} {
		if _, err := document.Want[string](doc, path...); err != nil {
			return err
		}
	}
	for _, path := range [][]string{{"kind"}, {"metadata", "tree"}} {
		if text := document.String(doc, path...); len(text) > 255 || strings.ContainsRune(text, 0) {
			return fault.Invalid("%s %q is too long or contains a NUL character; at most 255 bytes are allowed", strings.Join(path, "."), clip(text))
		}
	}
	if value := document.Get(doc, "metadata", "iter"); value != nil {
		if n, ok := document.ToInt(value); !ok || n < 0 || n > 1<<31-1 {
			return fault.Invalid("metadata.iter must be a whole number from 0 on, got %s", clip(string(document.Encode(value))))
		}
	}
	if inline := document.Get(doc, "spec", "inline"); inline != nil {
		size := 0
		if text, ok := inline.(string); ok {
			size = len(text)
		} else {
			size = len(document.Encode(inline))
		}
		if size > MaxInline {
			return fault.Invalid("spec.inline has %d bytes and may have at most %d; store the body in a file and give its spec.target_path", size, MaxInline)
		}
	}
	for key, value := range document.Strings(doc, "metadata", "labels") {
		if key == "" || utf8.RuneCountInString(key) > 255 || utf8.RuneCountInString(value) > 255 || strings.ContainsRune(key+value, 0) {
			return fault.Invalid("metadata.labels: the label %q is too long, has no name or contains a NUL character; keys have 1 to 255 characters, values at most 255", clip(key))
		}
	}
	return nil
}

// Link is what an artifact of kind link says: that Iter's artifact Key of the
// producer Tree is the best of its iterations.
type Link struct {
	Key, Tree string
	Iter      int
}

// LinkOf reads a link stored under the db key key. Errors carry fault.CodeInvalid.
func LinkOf(doc document.Object, key, tree string) (Link, error) {
	if err := check(doc); err != nil {
		return Link{}, err
	}
	link := Link{Key: document.String(doc, "spec", "link_key"), Tree: document.String(doc, "spec", "link_tree")}
	if link.Key == "" {
		link.Key = key
	}
	if link.Tree == "" {
		link.Tree = Tree(doc)
	}
	if link.Tree == "" {
		link.Tree = tree
	}
	iter, ok := document.Int(doc, "spec", "link_iteration")
	if !ok || iter < 0 || iter > 1<<31-1 {
		return Link{}, fault.Invalid("spec.link_iteration: a link needs the whole number of the iteration that it points at")
	}
	link.Iter = int(iter)
	return link, nil
}

// minimalSpec are the fields of spec that the minimal format keeps.
var minimalSpec = []string{"producer", "db_key", "size", "framework", "algorithm", "metrics", "target_path", "parent_uri", "has_children"}

// Minimal returns the minimal format of doc for lists. It shares its values with
// doc.
func Minimal(doc document.Object) document.Object {
	out, spec := document.Object{}, document.Object{}
	if state := document.Get(doc, "status", "state"); state != nil {
		out["status"] = document.Object{"state": state}
	}
	for _, key := range []string{"kind", "metadata", "project"} {
		if value, ok := doc[key]; ok {
			out[key] = value
		}
	}
	for _, key := range minimalSpec {
		if value := document.Get(doc, "spec", key); value != nil {
			spec[key] = value
		}
	}
	out["spec"] = spec
	return out
}
