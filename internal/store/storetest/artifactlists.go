package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/store"
)

// testArtifactLists compares lists with what is picked from the list of all, over
// enough artifacts that every way of finding them is taken.
func testArtifactLists(t *testing.T, fresh Fresh) {
	t.Run("as picked from all", func(t *testing.T) {
		b := setup(t, fresh)
		rng := rand.New(rand.NewPCG(5, 9))
		b.fillArtifacts(rng)
		all, _, err := b.ArtifactList(b.ctx, store.ArtifactFilter{Project: "default"})
		b.must(err)
		if len(all) < 2000 {
			t.Fatalf("only %d are listed", len(all))
		}
		for range 300 {
			filter := artifactFilter(rng)
			docs, more, err := b.ArtifactList(b.ctx, filter)
			b.must(err)
			var want []document.Object
			for _, doc := range all {
				if picks(filter, doc) {
					want = append(want, doc)
				}
			}
			size := len(want)
			if filter.Page.Size > 0 {
				size = min(size, filter.Page.Size)
			}
			if diff := cmpDiff(versions(docs), versions(want[:size])); diff != "" || more != (size < len(want)) {
				t.Fatalf("%+v: more %t, -want +got\n%s", filter, more, diff)
			}
		}
	})
}

func (b *bundle) fillArtifacts(rng *rand.Rand) {
	b.Helper()
	for from := range 4 { // each its own time
		b.must(b.Tx(b.ctx, func(tx *store.Tx) error {
			for i := range 500 {
				n := from*500 + i
				labels := document.Object{"all": fmt.Sprint("v", rng.IntN(3))}
				tag := ""
				if n%200 == 7 {
					labels["rare"], tag = "Yes", "rare"
				}
				key := fmt.Sprint("Key-", n%900)
				_, err := tx.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: key, Tag: tag, Tree: fmt.Sprint("t", n/3), Doc: document.Object{
					"kind": []string{"model", "dataset", "plot", "artifact", "document", "llm-prompt"}[rng.IntN(6)], "metadata": document.Object{"key": key, "labels": labels},
				}})
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	// Some get another tag.
	for n := range 20 {
		_, err := b.TagAppend(b.ctx, "default", "more", []store.ArtifactIdentifier{{Key: fmt.Sprint("Key-", n*40)}})
		b.must(err)
	}
}

func artifactFilter(rng *rand.Rand) store.ArtifactFilter {
	f := store.ArtifactFilter{Project: "default"}
	one := func(n int) bool { return rng.IntN(n) == 0 }
	if one(2) {
		f.Tag = []string{"latest", "rare", "more", "none"}[rng.IntN(4)]
	}
	if one(3) {
		f.Kinds = []string{"model", "plot"}[:1+rng.IntN(2)]
	} else if one(3) {
		f.Category = artifact.Categories[rng.IntN(len(artifact.Categories))]
	}
	if one(3) {
		f.Labels = append(f.Labels, store.LabelFilter{Key: "rare", Value: []string{"Yes", "no"}[rng.IntN(2)], HasValue: one(2)})
	}
	if one(3) {
		f.Labels = append(f.Labels, store.LabelFilter{Key: "all", Value: fmt.Sprint("v", rng.IntN(3)), HasValue: one(2), ValueContains: one(2)})
	}
	switch rng.IntN(6) {
	case 0:
		f.Name = store.NameFilter{Value: fmt.Sprint("Key-", rng.IntN(900))}
	case 1:
		f.Name = store.NameFilter{Value: fmt.Sprint("EY-", rng.IntN(90)), Contains: true}
	case 2:
		f.Tree = fmt.Sprint("t", rng.IntN(600))
	}
	if one(2) {
		f.Page.Size = 1 + rng.IntN(30)
	}
	return f
}

// picks reports whether a filter selects an element of a list.
func picks(f store.ArtifactFilter, doc document.Object) bool {
	kind, key := document.String(doc, "kind"), document.String(doc, "metadata", "key")
	category := kind
	if !slices.Contains(artifact.Categories, kind) {
		category = artifact.CategoryOther
	}
	for _, label := range f.Labels {
		value, ok := document.Strings(doc, "metadata", "labels")[label.Key]
		if !ok || label.HasValue && value != label.Value && (!label.ValueContains || !strings.Contains(strings.ToLower(value), strings.ToLower(label.Value))) {
			return false
		}
	}
	named := f.Name.Value == "" || key == f.Name.Value || f.Name.Contains && strings.Contains(strings.ToLower(key), strings.ToLower(f.Name.Value))
	return named && (f.Tag == "" || document.String(doc, "metadata", "tag") == f.Tag) && (f.Category == "" || category == f.Category) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, kind)) && (f.Tree == "" || document.String(doc, "metadata", "tree") == f.Tree)
}

// versions are the elements of a list as key, uid and tag.
func versions(docs []document.Object) []string {
	out := []string{}
	for _, doc := range docs {
		out = append(out, document.String(doc, "metadata", "key")+" "+document.String(doc, "metadata", "uid")+" "+document.String(doc, "metadata", "tag"))
	}
	return out
}
