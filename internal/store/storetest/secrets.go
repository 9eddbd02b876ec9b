package storetest

import (
	"errors"
	"testing"

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
	put := func(key, kind, target string) {
		b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: key, Tree: "t", Doc: object(`{"kind":%q,"metadata":{"key":%q},"spec":{"target_path":%q}}`, kind, key, target)}))
	}
	remove := func(key string, fail error) (shared bool, err error) {
		_, err = b.ArtifactDeleteData(b.ctx, store.ArtifactFilter{Project: "default", Name: store.NameFilter{Value: key}}, func(_ document.Object, is bool) error {
			shared = is
			return fail
		})
		return shared, err
	}
	put("one", "", "/d/x.csv")
	put("two", "", "file:///d/x.csv")
	errKept := errors.New("kept")
	if shared, err := remove("one", errKept); !shared || !errors.Is(err, errKept) {
		t.Fatal(shared, err)
	}
	if shared, err := remove("one", nil); !shared || err != nil {
		t.Fatal(shared, err)
	}
	put("folder", "dir", "/d/")
	if shared, err := remove("two", errKept); !shared || !errors.Is(err, errKept) {
		t.Fatal(shared, err)
	}
	if _, err := remove("folder", nil); err != nil {
		t.Fatal(err)
	}
	if shared, err := remove("two", nil); shared || err != nil {
		t.Fatal(shared, err)
	}
	// What is elsewhere is released while others can write, before its record goes.
	for _, fail := range []error{errKept, nil} {
		put("far", "", "s3://data/x.csv")
		_, err := b.ArtifactDeleteData(b.ctx, store.ArtifactFilter{Project: "default", Name: store.NameFilter{Value: "far"}}, func(_ document.Object, shared bool) error {
			put("meanwhile", "", "s3://data/y.csv")
			docs, _, err := b.ArtifactList(b.ctx, store.ArtifactFilter{Project: "default", Name: store.NameFilter{Value: "far"}})
			if err != nil || shared || len(docs) != 1 {
				t.Error(shared, len(docs), err)
			}
			return fail
		})
		if !errors.Is(err, fail) {
			t.Fatal(err)
		}
	}
	if _, err := remove("meanwhile", nil); err != nil {
		t.Fatal(err)
	}
	docs, _, err := b.ArtifactList(b.ctx, store.ArtifactFilter{Project: "default"})
	b.must(err)
	if len(docs) != 0 {
		t.Fatal(len(docs), "left")
	}
}
