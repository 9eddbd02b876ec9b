package artifact_test

import (
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

func object(text string) document.Object {
	doc, err := document.DecodeObject([]byte(text))
	if err != nil {
		panic(err)
	}
	return doc
}

// TestUIDIsTheHashOf writes down the bytes that the identity is taken over.
func TestUIDIsTheHashOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		doc, tree, hashed string
		iter              int
	}{
		{`{"kind":"model","metadata":{"key":"m","tag":"v1","labels":{"a":"b"},"created":"x","updated":"y","uid":"z","project":"p"},"spec":{"db_key":"k","metrics":{"a":1},"size":1.0,"header":[]},"status":{"state":"created"}}`, "t", `{"kind": "model", "metadata": {"iter": 2, "key": "m", "project": "p", "tag": "", "tree": "t", "uid": "", "updated": null}, "spec": {"header": [], "size": 1.0}, "status": null}`, 2},
		{`{"metadata":{"key":"m","iter":1,"tree":"own"},"spec":{"extra_data":{},"metrics":{}}}`, "t", `{"metadata": {"iter": 1, "key": "m", "tag": "", "tree": "own", "uid": "", "updated": null}, "spec": {"metrics": {}}, "status": null}`, 0},
		{`{"kind":"dataset","metadata":{"key":"m"},"spec":{"schema":{},"header":[],"length":3,"format":"csv"}}`, "", `{"kind": "dataset", "metadata": {"iter": null, "key": "m", "tag": "", "tree": null, "uid": "", "updated": null}, "spec": {"format": "csv"}, "status": null}`, 0},
	} {
		doc := object(c.doc)
		sum := sha1.Sum([]byte(c.hashed))
		if got := artifact.UID(doc, c.iter, c.tree); got != hex.EncodeToString(sum[:]) {
			t.Errorf("%s has the uid %s, which is not that of %s", c.doc, got, c.hashed)
		}
		if again := string(document.Encode(doc)); again != string(document.Encode(object(c.doc))) {
			t.Errorf("the document changed: %s", again)
		}
	}
}

func TestStored(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 10, 23, 8, 16, 10, 0, time.UTC)
	got, at, err := artifact.Stored(object(`{"kind":"","metadata":{"key":"k","tag":"v1","iter":3},"other":1}`), artifact.Address{Project: "p", Tree: "t"}, time.Time{}, now)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"","metadata":{"created":"2024-10-23 08:16:10.000000+00:00","iter":3,"key":"k","project":"p","tree":"t","uid":"` + at.UID + `","updated":"2024-10-23 08:16:10.000000+00:00"},"other":1,"spec":{},"status":{"state":"created"}}`
	if text := string(document.Encode(got)); text != want || at.Iter != 3 {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestURI(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]artifact.URI{
		"store://models/demo/n_m#0@u1":             {Prefix: "models", Project: "demo", Key: "n_m", HasIter: true, Tree: "u1"},
		"store://artifacts/demo/k#12:v1@tree":      {Prefix: "artifacts", Project: "demo", Key: "k", Iter: 12, HasIter: true, Tag: "v1", Tree: "tree"},
		"store://datasets/demo/raw":                {Prefix: "datasets", Project: "demo", Key: "raw"},
		"store://models/demo/m:latest@5b1b^9cf4":   {Prefix: "models", Project: "demo", Key: "m", Tag: "latest", Tree: "5b1b", UID: "9cf4"},
		"store://models/demo/m^9cf4":               {Prefix: "models", Project: "demo", Key: "m", UID: "9cf4"},
		"store://llm-prompts/demo/ask@t1":          {Prefix: "llm-prompts", Project: "demo", Key: "ask", Tree: "t1"},
		"store://documents/demo/text":              {Prefix: "documents", Project: "demo", Key: "text"},
		"store://artifacts/raw:latest":             {Prefix: "artifacts", Key: "raw", Tag: "latest"},
		"store://artifacts/a/b/c.d-e_f@5b1b9cf4a1": {Prefix: "artifacts", Project: "a/b", Key: "c.d-e_f", Tree: "5b1b9cf4a1"},
	} {
		got, err := artifact.ParseURI(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	if got, err := artifact.ParseURI("store://demo/k"); err != nil || got.Prefix != "artifacts" || got.Project != "demo" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"", "demo/k", "s3://a/b", "store://", "store://models/", "store://models/p/k#x", "store://models/p/k#99999999999999"} {
		if _, err := artifact.ParseURI(text); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	legacy := artifact.URIOf(object(`{"kind":"dataset","key":"k","db_key":"n_k"}`), "p")
	if legacy.String() != "store://datasets/p/n_k" {
		t.Error(legacy)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for key, ok := range map[string]bool{"a": true, "a.b-c_d": true, "": false, "a/b": false, "-a": false, "a_": false, "é": false, strings.Repeat("a", 256): false, "a\n": false} {
		if err := artifact.ValidateKey("key", key); (err == nil) != ok {
			t.Errorf("key %q: %v", key, err)
		}
	}
	for tag, ok := range map[string]bool{"v1": true, "": false, "a b": false, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false} {
		if err := artifact.ValidateTag(tag); (err == nil) != ok {
			t.Errorf("tag %q: %v", tag, err)
		}
	}
}

func TestMinimal(t *testing.T) {
	t.Parallel()
	got := artifact.Minimal(object(`{"kind":"model","metadata":{"key":"k"},"spec":{"size":1,"inputs":[],"db_key":"d"},"status":{"state":"created","preview":[[1]]},"x":1}`))
	if text := string(document.Encode(got)); text != `{"kind":"model","metadata":{"key":"k"},"spec":{"db_key":"d","size":1},"status":{"state":"created"}}` {
		t.Error(text)
	}
}

func FuzzParseURI(f *testing.F) {
	for _, text := range []string{"store://models/demo/n_m#0@u1", "store://a/b:c@d", "store://a/b@d^e", "store://k"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uri, err := artifact.ParseURI(text)
		if err != nil {
			if !fault.Is(err, fault.CodeInvalid) {
				t.Fatal(err)
			}
			return
		}
		if again, err := artifact.ParseURI(uri.String()); err != nil || again != uri {
			t.Fatalf("%+v, then %+v, %v", uri, again, err)
		}
	})
}
