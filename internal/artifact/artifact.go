// Package artifact is the artifact object: a file, dataset, model or plot that a
// run or a person logged, its identity, its address and its tags.
//
// A record is identified by project, db key and uid. The db key is what the URL
// of an artifact names (by default <run name>_<key>), so that the same output of
// many runs is one artifact with many versions; the uid is a hash of the content
// of the document (UID). The tree (also "producer id") is the run or workflow
// that made it, the iteration which child of it.
package artifact

import (
	"github.com/millrace/millrace/internal/document"
)

// The kinds that the rules below treat differently. Any other word is a plain
// artifact to them.
const (
	KindModel    = "model"
	KindDataset  = "dataset"
	KindDocument = "document"
	KindPrompt   = "llm-prompt"
	KindTable    = "table"
	KindDir      = "dir"
	KindLink     = "link"
)

// CategoryOther is the category of a list with all kinds that are no category of
// their own.
const CategoryOther = "other"

// Categories are the categories of a list, in the order in which messages have them.
var Categories = []string{KindModel, KindDataset, KindDocument, KindPrompt, CategoryOther}

// Key returns metadata.key; documents of the old flat layout have it at the top.
func Key(doc document.Object) string {
	if key := document.String(doc, "metadata", "key"); key != "" {
		return key
	}
	return document.String(doc, "key")
}

// DBKey returns the key under which the artifact is stored: spec.db_key, else its
// key.
func DBKey(doc document.Object) string {
	if key := document.String(doc, "spec", "db_key"); key != "" {
		return key
	}
	if key := document.String(doc, "db_key"); key != "" {
		return key
	}
	return Key(doc)
}

// Tree returns metadata.tree, the id of the producer.
func Tree(doc document.Object) string { return document.String(doc, "metadata", "tree") }

// Iter returns metadata.iter and whether it is given.
func Iter(doc document.Object) (int, bool) {
	n, ok := document.Int(doc, "metadata", "iter")
	return int(n), ok
}
