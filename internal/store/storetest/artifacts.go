package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// make stores an artifact of the project default.
func (b *bundle) artifact(key, tag, tree string, iter int, content string) document.Object {
	b.Helper()
	return b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{
		Project: "default", Key: key, Tag: tag, Tree: tree, Iter: iter, HasIter: true,
		Doc: object(`{"kind":"artifact","metadata":{"key":"%s"},"spec":{"target_path":"%s","producer":{"uri":"default/%s"}}}`, key, content, tree),
	}))
}

// tags lists "content:tag" of the artifacts that match, sorted.
func (b *bundle) tags(filter store.ArtifactFilter) []string {
	b.Helper()
	filter.Project = "default"
	docs, _, err := b.ArtifactList(b.ctx, filter)
	b.must(err)
	out := []string{}
	for _, doc := range docs {
		tag := "-"
		if text, ok := document.Get(doc, "metadata", "tag").(string); ok {
			tag = text
		}
		out = append(out, document.String(doc, "spec", "target_path")+":"+tag)
	}
	slices.Sort(out)
	return out
}

func (b *bundle) wantTags(filter store.ArtifactFilter, want ...string) {
	b.Helper()
	if diff := cmpDiff(b.tags(filter), append([]string{}, slices.Sorted(slices.Values(want))...)); diff != "" {
		b.Fatalf("-want +got\n%s", diff)
	}
}

func testArtifacts(t *testing.T, fresh Fresh) {
	one, zero := 1, 0
	get := func(f store.ArtifactFilter) store.ArtifactFilter {
		f.Project, f.Name = "default", store.NameFilter{Value: "k"}
		return f
	}
	t.Run("the same content is the same artifact", func(t *testing.T) {
		b := setup(t, fresh)
		first := b.artifact("k", "v1", "t1", 0, "a")
		b.wantTags(store.ArtifactFilter{}, "a:latest", "a:v1")
		second := b.artifact("k", "", "t1", 0, "a")
		if document.String(first, "metadata", "uid") != document.String(second, "metadata", "uid") || document.String(first, "metadata", "created") != document.String(second, "metadata", "created") {
			b.Errorf("%v\n%v", first, second)
		}
		b.wantTags(store.ArtifactFilter{}, "a:latest", "a:v1")
		b.artifact("k", "", "t1", 0, "b") // another content of the same run takes latest
		b.wantTags(store.ArtifactFilter{}, "b:latest", "a:v1")
		b.artifact("k", "v1", "t2", 0, "c") // another run takes both
		b.wantTags(store.ArtifactFilter{}, "a:-", "b:-", "c:latest", "c:v1")
		b.wantTags(store.ArtifactFilter{Tag: "v1"}, "c:v1")
		got := b.doc(b.ArtifactGet(b.ctx, get(store.ArtifactFilter{Tag: "latest"})))
		b.same(got["metadata"], fmt.Sprintf(`{"key":"k","project":"default","iter":0,"tree":"t2","tag":"latest","uid":%q,"created":%q,"updated":%q}`,
			document.String(got, "metadata", "uid"), document.String(got, "metadata", "created"), document.String(got, "metadata", "updated")))
		if document.String(got, "status", "state") != "created" || !strings.Contains(document.String(got, "metadata", "created"), "2024-03-01 12:00:00.") {
			b.Error(got)
		}
		got = b.doc(b.ArtifactGet(b.ctx, get(store.ArtifactFilter{Tree: "t1"}))) // the newer of two
		if document.String(got, "spec", "target_path") != "b" || document.Get(got, "metadata", "tag") != nil {
			b.Error(got)
		}
		got = b.doc(b.ArtifactGet(b.ctx, get(store.ArtifactFilter{UID: document.String(first, "metadata", "uid"), Tag: "latest"})))
		if document.String(got, "spec", "target_path") != "a" || document.Get(got, "metadata", "tag") != nil {
			b.Error(got)
		}
		_, err := b.ArtifactGet(b.ctx, get(store.ArtifactFilter{Tag: "v9", Tree: "t2"}))
		b.refuses(err, fault.CodeNotFound, "Artifact not found: default/k:v9@t2")
	})
	t.Run("iterations and the best of them", func(t *testing.T) {
		b := setup(t, fresh)
		for iter := 1; iter <= 3; iter++ {
			b.artifact("k", "", "t1", iter, fmt.Sprint("i", iter))
		}
		b.wantTags(store.ArtifactFilter{}, "i1:latest", "i2:latest", "i3:latest")
		b.wantTags(store.ArtifactFilter{BestOnly: true})
		_, err := b.ArtifactGet(b.ctx, get(store.ArtifactFilter{Tag: "latest", Iter: &zero}))
		b.refuses(err, fault.CodeNotFound, "default/k")
		link := func(iter int) error {
			_, err := b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: "k", Tree: "t1", Doc: object(`{"kind":"link","metadata":{"key":"k","tree":"t1"},"spec":{"link_iteration":%d}}`, iter)})
			return err
		}
		b.must(link(3))
		b.must(link(2))
		b.wantTags(store.ArtifactFilter{BestOnly: true}, "i2:latest")
		got := b.doc(b.ArtifactGet(b.ctx, get(store.ArtifactFilter{Tag: "latest", Iter: &zero})))
		if document.String(got, "spec", "target_path") != "i2" {
			b.Error(got)
		}
		got = b.doc(b.ArtifactGet(b.ctx, get(store.ArtifactFilter{Iter: &one})))
		if document.String(got, "spec", "target_path") != "i1" {
			b.Error(got)
		}
		b.refuses(link(9), fault.CodeNotFound, "k#9@t1")
		b.artifact("k", "", "t1", 2, "i2") // stored again it stays the best
		b.wantTags(store.ArtifactFilter{BestOnly: true}, "i2:latest")
		b.doc(b.RunPut(b.ctx, run.Key{Project: "default", UID: "t1"}, object(`{"metadata":{"name":"n"}}`)))
		b.doc(b.RunPut(b.ctx, run.Key{Project: "default", UID: "t1", Iter: 3}, object(`{"metadata":{"name":"n"}}`)))
		docs, err := b.ArtifactsOfRun(b.ctx, run.Key{Project: "default", UID: "t1"})
		b.must(err)
		b.same(pick(docs, "spec", "target_path"), `["i2"]`)
		docs, err = b.ArtifactsOfRun(b.ctx, run.Key{Project: "default", UID: "t1", Iter: 3})
		b.must(err)
		b.same(pick(docs, "spec", "target_path"), `["i3"]`)
	})
	t.Run("a step of a workflow has the artifacts it names", func(t *testing.T) {
		b := setup(t, fresh)
		doc := b.artifact("k", "", "workflow", 0, "a")
		b.artifact("other", "", "workflow", 0, "b")
		uri := artifact.URIOf(doc, "default")
		uri.Tag = ""
		b.doc(b.RunPut(b.ctx, run.Key{Project: "default", UID: "u"}, object(`{"metadata":{"name":"n","labels":{"workflow":"workflow"}},"status":{"artifact_uris":{"k":"%s","x":"nonsense"}}}`, uri)))
		docs, err := b.ArtifactsOfRun(b.ctx, run.Key{Project: "default", UID: "u"})
		b.must(err)
		b.same(pick(docs, "spec", "target_path"), `["a"]`)
	})
	t.Run("parents", func(t *testing.T) {
		b := setup(t, fresh)
		child := func(key, parent string) error {
			_, err := b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: key, Tree: "t1",
				Doc: object(`{"metadata":{"key":"%s"},"spec":{"target_path":"%s","parent_uri":"%s"}}`, key, key, parent)})
			return err
		}
		of := func(text string) store.ArtifactFilter {
			uri, err := artifact.ParseParent(text)
			b.must(err)
			return store.ArtifactFilter{Parent: &uri, Tag: "latest"}
		}
		b.artifact("k", "v1", "t1", 1, "i1")
		b.artifact("k", "v1", "t1", 2, "i2")
		b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: "k", Tree: "t1", Doc: object(`{"kind":"link","metadata":{"key":"k","tree":"t1"},"spec":{"link_iteration":2}}`)}))
		b.must(child("best", "store://artifacts/default/k#0@t1"))
		b.must(child("first", "store://artifacts/default/k#1@t1"))
		b.must(child("deep", "store://artifacts/first"))
		b.wantTags(of("k:v1"), "best:latest", "first:latest")
		b.wantTags(of("store://artifacts/default/k#0:v1@t1"), "best:latest")
		b.wantTags(of("store://artifacts/k#1"), "first:latest")
		b.wantTags(of("k:none"))
		got := b.doc(b.ArtifactGet(b.ctx, get(store.ArtifactFilter{Iter: &one})))
		if document.Get(got, "spec", "has_children") != true {
			b.Error(got)
		}
		b.refuses(child("own", "store://artifacts/default/own@t1"), fault.CodeInvalid, "itself")
		b.refuses(child("far", "store://artifacts/elsewhere/k"), fault.CodeInvalid, "another project")
		b.wantTags(store.ArtifactFilter{Name: store.NameFilter{Value: "own"}})
		_, err := b.ArtifactDelete(b.ctx, store.ArtifactFilter{Project: "default", Name: store.NameFilter{Value: "k"}, Iter: &one})
		b.must(err)
		b.wantTags(of("k:v1"), "best:latest")
		b.wantTags(of("first"), "deep:latest")
		b.must(child("first", "store://artifacts/default/k#1@t1")) // its parent is gone
		b.wantTags(of("k"), "best:latest")
	})
	t.Run("lists and deletes", func(t *testing.T) {
		b := setup(t, fresh)
		for i, kind := range []string{"model", "dataset", "plot", "artifact"} {
			b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: "k_" + kind, Tag: "v1", Doc: object(
				`{"kind":"%s","metadata":{"key":"%s","tree":"t%d","labels":{"l":"%d"}},"spec":{"target_path":"%s","producer":{"uri":"default/t%d"}}}`, kind, kind, i, i, kind, i)}))
		}
		middle := b.clock.Now()
		b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: "late", Doc: object(`{"metadata":{"key":"late"},"spec":{"target_path":"late"}}`)}))
		v1 := func(f store.ArtifactFilter) store.ArtifactFilter { f.Tag = "v1"; return f }
		b.wantTags(v1(store.ArtifactFilter{Category: "model"}), "model:v1")
		b.wantTags(v1(store.ArtifactFilter{Category: "dataset"}), "dataset:v1")
		b.wantTags(store.ArtifactFilter{Category: "other", Tag: "latest"}, "plot:latest", "artifact:latest", "late:latest")
		b.wantTags(v1(store.ArtifactFilter{Kinds: []string{"plot", "model"}}), "plot:v1", "model:v1")
		b.wantTags(v1(store.ArtifactFilter{Labels: []store.LabelFilter{{Key: "l", Value: "1", HasValue: true}}}), "dataset:v1")
		b.wantTags(v1(store.ArtifactFilter{Name: store.NameFilter{Value: "K_M", Contains: true}}), "model:v1")
		b.wantTags(store.ArtifactFilter{Tag: "latest", ProducerURI: "t2"}, "plot:latest", "late:latest")
		b.wantTags(store.ArtifactFilter{Since: middle}, "late:latest")
		b.wantTags(v1(store.ArtifactFilter{Until: middle, Tree: "t3"}), "artifact:v1")
		docs, more, err := b.ArtifactList(b.ctx, store.ArtifactFilter{Project: "default", Page: store.Page{Size: 2}})
		b.must(err)
		if len(docs) != 2 || !more || document.String(docs[0], "spec", "target_path") != "late" {
			b.Error(docs, more)
		}
		docs, more, err = b.ArtifactList(b.ctx, store.ArtifactFilter{Project: "default", Limit: 2})
		b.must(err)
		if len(docs) != 2 || more {
			b.Error(docs, more)
		}
		tags, err := b.ArtifactTags(b.ctx, "default", "")
		b.must(err)
		models, err := b.ArtifactTags(b.ctx, "default", "model")
		b.must(err)
		b.same([]any{toAny(tags), toAny(models)}, `[["latest","v1"],["latest","v1"]]`)
		for _, f := range []store.ArtifactFilter{{Category: "x"}, {Category: "model", Kinds: []string{"model"}}, {BestOnly: true, Iter: &zero}} {
			f.Project = "default"
			_, _, err := b.ArtifactList(b.ctx, f)
			b.refuses(err, fault.CodeInvalid, "")
		}
		n, err := b.ArtifactDelete(b.ctx, store.ArtifactFilter{Project: "default", Name: store.NameFilter{Value: "k_plot"}, Tag: "v1"})
		b.must(err)
		if n != 1 {
			b.Errorf("deleted %d", n)
		}
		b.wantTags(store.ArtifactFilter{Tag: "latest", Category: "other"}, "artifact:latest", "late:latest")
		n, err = b.ArtifactDelete(b.ctx, store.ArtifactFilter{Project: "default", Limit: 3})
		b.must(err)
		if n != 3 {
			b.Errorf("deleted %d", n)
		}
		b.wantTags(store.ArtifactFilter{}, "model:latest", "model:v1")
	})
	t.Run("bad artifacts", func(t *testing.T) {
		b := setup(t, fresh)
		good := `{"metadata":{"key":"k"}}`
		for name, c := range map[string]struct {
			put store.ArtifactPut
			doc string
		}{
			"key":       {store.ArtifactPut{Key: "a/b"}, good},
			"tag":       {store.ArtifactPut{Key: "k", Tag: strings.Repeat("a", 64)}, good},
			"no key":    {store.ArtifactPut{Key: "k"}, `{"metadata":{}}`},
			"project":   {store.ArtifactPut{Key: "k"}, `{"metadata":{"key":"k","project":"other"}}`},
			"uid":       {store.ArtifactPut{Key: "k", UID: "x"}, good},
			"iter":      {store.ArtifactPut{Key: "k"}, `{"metadata":{"key":"k","iter":-1}}`},
			"spec":      {store.ArtifactPut{Key: "k"}, `{"metadata":{"key":"k"},"spec":1}`},
			"inline":    {store.ArtifactPut{Key: "k"}, `{"metadata":{"key":"k"},"spec":{"inline":"` + strings.Repeat("x", artifact.MaxInline+1) + `"}}`},
			"link":      {store.ArtifactPut{Key: "k"}, `{"kind":"link","metadata":{"key":"k"}}`},
			"long kind": {store.ArtifactPut{Key: "k"}, `{"kind":"` + strings.Repeat("x", 300) + `","metadata":{"key":"k"}}`},
		} {
			c.put.Project, c.put.Doc = "default", object("%s", c.doc)
			if _, err := b.ArtifactPut(b.ctx, c.put); !fault.Is(err, fault.CodeInvalid) {
				b.Errorf("%s: %v", name, err)
			}
		}
		b.wantTags(store.ArtifactFilter{})
		b.artifact("k", "", "t", 0, "a")
		_, err := b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: "k", Tree: "t", HasIter: true, CreateOnly: true,
			Doc: object(`{"kind":"artifact","metadata":{"key":"k"},"spec":{"target_path":"a","producer":{"uri":"default/t"}}}`)})
		b.refuses(err, fault.CodeConflict, "exists already")
	})
}

func toAny(list []string) []any {
	out := []any{}
	for _, item := range list {
		out = append(out, item)
	}
	return out
}

func testTags(t *testing.T, fresh Fresh) {
	id := func(text string) store.ArtifactIdentifier {
		id, err := store.IdentifierOf(object("%s", text))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	t.Run("append, replace, delete", func(t *testing.T) {
		b := setup(t, fresh)
		b.artifact("k", "", "t1", 0, "a")
		b.artifact("l", "", "t1", 0, "b")
		uid := document.String(b.artifact("m", "", "t2", 1, "c"), "metadata", "uid")
		for _, step := range []struct {
			what string
			do   func(tag string, ids []store.ArtifactIdentifier) (int, error)
			tag  string
			id   string
			n    int
			want []string
		}{
			{"append by key", b.append, "x", `{"key":"k","kind":null,"iter":null,"uid":null,"producer_id":null}`, 1, []string{"a:latest", "a:x", "b:latest", "c:latest"}},
			{"append by producer", b.append, "y", `{"producer_id":"t1"}`, 2, []string{"a:latest", "a:x", "a:y", "b:latest", "b:y", "c:latest"}},
			{"a uid", b.append, "z", `{"uid":"` + uid + `","iter":1}`, 1, []string{"a:latest", "a:x", "a:y", "b:latest", "b:y", "c:latest", "c:z"}},
			{"a uid that is a producer", b.replace, "w", `{"uid":"t1"}`, 2, []string{"a:w", "b:w", "c:latest", "c:z"}},
			{"nothing", b.append, "w", `{"key":"none"}`, 0, []string{"a:w", "b:w", "c:latest", "c:z"}},
			{"delete", b.remove, "w", `{"key":"k"}`, 1, []string{"a:-", "b:w", "c:latest", "c:z"}},
			{"all", b.replace, "v", `{"kind":"artifact"}`, 3, []string{"a:v", "b:v", "c:v"}},
		} {
			n, err := step.do(step.tag, []store.ArtifactIdentifier{id(step.id)})
			if err != nil || n != step.n {
				b.Errorf("%s: %d, %v", step.what, n, err)
			}
			b.wantTags(store.ArtifactFilter{}, step.want...)
		}
		_, err := b.TagAppend(b.ctx, "default", "no good", nil)
		b.refuses(err, fault.CodeInvalid, "no good")
		for _, bad := range []string{`{"key":1}`, `{"iter":"a"}`, `{"iter":-1}`} {
			_, err := store.IdentifierOf(object("%s", bad))
			b.refuses(err, fault.CodeInvalid, "must be")
		}
	})
}

func (b *bundle) append(tag string, ids []store.ArtifactIdentifier) (int, error) {
	return b.TagAppend(b.ctx, "default", tag, ids)
}

func (b *bundle) replace(tag string, ids []store.ArtifactIdentifier) (int, error) {
	return b.TagReplace(b.ctx, "default", tag, ids)
}

func (b *bundle) remove(tag string, ids []store.ArtifactIdentifier) (int, error) {
	return b.TagDelete(b.ctx, "default", tag, ids)
}
