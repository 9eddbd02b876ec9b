package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/store"
)

func testSecrets(t *testing.T, fresh Fresh) {
	t.Run("kept", func(t *testing.T) { secretsAreKept(t, fresh) })
}

func secretsAreKept(t *testing.T, fresh Fresh) {
	b := setup(t, fresh)
	row := func(name, key, value string) secret.Sealed {
		return secret.Sealed{Project: "default", Name: name, KeyID: key, Value: []byte(value)}
	}
	b.must(b.SecretPut(b.ctx, "default", []secret.Sealed{row("b", "k1", "one\x00\xff"), row("a", "k1", "two")}))
	b.must(b.SecretPut(b.ctx, "default", []secret.Sealed{row("a", "k2", "three")}))
	b.refuses(b.SecretPut(b.ctx, "none", []secret.Sealed{row("a", "k", "v")}), fault.CodeNotFound, "none")
	names, err := b.SecretNames(b.ctx, "default")
	b.must(err)
	b.same(document.Object{"names": toAny(names)}, `{"names":["a","b"]}`)
	others, err := b.SecretOthers(b.ctx, "k2", 10)
	b.must(err)
	if len(others) != 1 || string(others[0].Value) != "one\x00\xff" || others[0].Project != "default" {
		t.Fatalf("got %v", others)
	}
	b.must(b.SecretReplace(b.ctx, others, []secret.Sealed{row("b", "k2", "sealed again")}))
	b.must(b.SecretReplace(b.ctx, others, []secret.Sealed{row("b", "k3", "too late")}))
	found, err := b.SecretGet(b.ctx, "default", []string{"b", "missing"})
	b.must(err)
	if len(found) != 1 || found[0].KeyID != "k2" || string(found[0].Value) != "sealed again" {
		t.Fatalf("got %v", found)
	}
	b.must(b.SecretDelete(b.ctx, "default", []string{"b", "missing"}))
	b.must(b.ProjectDelete(b.ctx, "default"))
	if names, err = b.SecretNames(b.ctx, "default"); err != nil || len(names) != 0 {
		t.Fatal(names, err)
	}
}

func testArtifactContent(t *testing.T, fresh Fresh) {
	t.Run("shared", func(t *testing.T) { contentIsShared(t, fresh) })
}

func contentIsShared(t *testing.T, fresh Fresh) {
	b := setup(t, fresh)
	put := func(key, kind, target, more string) {
		b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: key, Tree: "t", Doc: object(`{"kind":%q,"metadata":{"key":%q},"spec":{"target_path":%q%s}}`, kind, key, target, more)}))
	}
	named := func(key string) store.ArtifactFilter {
		return store.ArtifactFilter{Project: "default", Name: store.NameFilter{Value: key}}
	}
	remove := func(key string, fail error) (shared bool, err error) {
		shared = true
		_, err = b.ArtifactDeleteData(b.ctx, named(key), true, func(r store.Removal) error {
			what := artifact.ContentOf(r.Doc)
			if what.Folder != "" {
				return fail
			}
			b.must(b.RemovalStep(b.ctx, r, what.Files, func([]string) error {
				shared = false
				return nil
			}))
			return fail
		})
		return shared, err
	}
	put("one", "", "/d/x.csv", "")
	put("two", "", "file:///d/x.csv", "")
	errKept := errors.New("kept")
	if shared, err := remove("one", errKept); !shared || !errors.Is(err, errKept) {
		t.Fatal(shared, err)
	}
	if shared, err := remove("one", nil); !shared || err != nil {
		t.Fatal(shared, err)
	}
	put("folder", "dir", "/d/", "")
	if shared, err := remove("two", errKept); !shared || !errors.Is(err, errKept) {
		t.Fatal(shared, err)
	}
	if _, err := remove("folder", nil); err != nil {
		t.Fatal(err)
	}
	if shared, err := remove("two", nil); shared || err != nil {
		t.Fatal(shared, err)
	}
	// Elsewhere, folders and models that name the file.
	put("far", "", "s3://data/a/x.csv", "")
	for _, other := range []struct{ kind, target, more string }{
		{"dir", "s3://data/a/", ""}, {"dir", "s3://data/a", ""}, {"model", "s3://data/", `,"model_file":"a/x.csv"`}, {"", "s3://data/a/x.csv", ""},
	} {
		put("other", other.kind, other.target, other.more)
		if shared, err := remove("far", errKept); !shared || !errors.Is(err, errKept) {
			t.Error(other, shared, err)
		}
		if _, err := b.ArtifactDelete(b.ctx, named("other")); err != nil {
			t.Fatal(err)
		}
	}
	put("other", "model", "s3://data/a/", `,"model_file":"y.csv"`)
	if shared, err := remove("far", errKept); shared || !errors.Is(err, errKept) {
		t.Error("a model that does not name it", shared, err)
	}
	// A record that is stored while content elsewhere is deleted keeps what is left of it, and
	// one that is stored again stays.
	_, err := b.ArtifactDeleteData(b.ctx, named("far"), true, func(r store.Removal) error {
		b.must(b.RemovalStep(b.ctx, r, []string{"s3://data/a/1", "s3://data/a/2"}, func(targets []string) error {
			if len(targets) != 2 {
				t.Error(targets)
			}
			put("other", "", "s3://data/a/3", "")
			return nil
		}))
		b.must(b.RemovalStep(b.ctx, r, []string{"s3://data/a/3", "s3://data/a/4"}, func(targets []string) error {
			if len(targets) != 1 || targets[0] != "s3://data/a/4" {
				t.Error(targets)
			}
			return nil
		}))
		put("far", "", "s3://data/a/x.csv", "")
		return b.RemovalStep(b.ctx, r, []string{"s3://data/a/5"}, func([]string) error {
			t.Error("the content of a record that was stored again goes on being deleted")
			return nil
		})
	})
	if !fault.Is(err, fault.CodeConflict) {
		t.Fatal(err)
	}
	// What was interrupted is found, and ends with the record.
	ctx, cancel := context.WithCancel(b.ctx)
	_, err = b.ArtifactDeleteData(ctx, named("far"), true, func(store.Removal) error {
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	left, err := b.Removals(b.ctx)
	b.must(err)
	if len(left) != 1 || !left[0].Force || document.String(left[0].Doc, "metadata", "key") != "far" {
		t.Fatal(left)
	}
	if err := b.RemovalEnd(b.ctx, left[0], errKept); !errors.Is(err, errKept) {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := remove("far", nil); err != nil {
			t.Fatal(err)
		}
	}
	if left, err = b.Removals(b.ctx); err != nil || len(left) != 0 {
		t.Fatal(left, err)
	}
	if _, err := remove("other", nil); err != nil {
		t.Fatal(err)
	}
	docs, _, err := b.ArtifactList(b.ctx, store.ArtifactFilter{Project: "default"})
	b.must(err)
	if len(docs) != 0 {
		t.Fatal(len(docs), "left")
	}
}
