package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/datastore/servertest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

// removing is an application whose project "own" has the credentials of a store.
type removing struct {
	*App
	t      *testing.T
	base   string // where its content is
	stores *datastore.Stores
}

func (r removing) put(names ...string) {
	r.t.Helper()
	for _, name := range names {
		if _, err := r.stores.Put(r.t.Context(), r.base+name, strings.NewReader("x"), datastore.PutOptions{Size: 1}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// left is what there is at base.
func (r removing) left() []string {
	r.t.Helper()
	var names []string
	err := r.stores.Walk(r.t.Context(), r.base, true, func(entry datastore.Entry) error {
		if !entry.Dir {
			names = append(names, entry.Name)
		}
		return nil
	})
	if err != nil && !fault.Is(err, fault.CodeNotFound) {
		r.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func (r removing) record(key, kind, target, more string) {
	r.t.Helper()
	doc, err := document.DecodeObject(fmt.Appendf(nil, `{"kind":%q,"metadata":{"key":%q,"project":"own"},"spec":{"target_path":%q%s}}`, kind, key, target, more))
	if err == nil {
		_, err = r.store.ArtifactPut(r.t.Context(), store.ArtifactPut{Project: "own", Key: key, Tree: "t", Doc: doc})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r removing) has(key string) bool {
	r.t.Helper()
	docs, _, err := r.store.ArtifactList(r.t.Context(), store.ArtifactFilter{Project: "own", Name: store.NameFilter{Value: key}})
	if err != nil {
		r.t.Fatal(err)
	}
	return len(docs) > 0
}

func (r removing) remove(ctx context.Context, key string, secrets map[string]string) error {
	_, err := r.store.ArtifactDeleteData(ctx, store.ArtifactFilter{Project: "own", Name: store.NameFilter{Value: key}}, true, func(removal store.Removal) error {
		return r.content.Remove(ctx, "own", removal, secrets)
	})
	return err
}

// TestContentGoes: files, folders and models with their extra files, in every store
// that content is deleted in, by real servers; what another record names stays, and
// what was interrupted is finished.
func TestContentGoes(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (base string, right, wrong map[string]string){
		"local": func(*testing.T) (string, map[string]string, map[string]string) { return "", nil, nil },
		"s3": func(t *testing.T) (string, map[string]string, map[string]string) {
			url := startS3(t).URL
			return "s3://data/base/", map[string]string{"S3_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": servertest.S3Key, "AWS_SECRET_ACCESS_KEY": servertest.S3Secret},
				map[string]string{"S3_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": servertest.S3Key, "AWS_SECRET_ACCESS_KEY": "wrong"}
		},
		"gcs": func(t *testing.T) (string, map[string]string, map[string]string) {
			return "gs://data/base/", map[string]string{"STORAGE_EMULATOR_HOST": startStore(t, servertest.GCS).URL}, map[string]string{"STORAGE_EMULATOR_HOST": "127.0.0.1:1"}
		},
		"azure": func(t *testing.T) (string, map[string]string, map[string]string) {
			url := startStore(t, servertest.Azure).URL
			return "az://data/base/", map[string]string{"AZURE_STORAGE_CONNECTION_STRING": servertest.AzureConnection(url)},
				map[string]string{"AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=AAAA;BlobEndpoint=" + url + "/devstoreaccount1;"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base, right, wrong := start(t)
			r := removing{App: opened(t), t: t, base: base}
			if _, err := r.store.ProjectPut(t.Context(), "own", map[string]any{"metadata": map[string]any{"name": "own"}}); err != nil {
				t.Fatal(err)
			}
			if base == "" {
				r.base = r.content.Folder("own") + "/base/"
			} else if err := r.secrets.Set(t.Context(), "own", right); err != nil {
				t.Fatal(err)
			}
			r.stores = datastore.New(datastore.Options{Lookup: func(name string) string { return right[name] }})
			contentGoes(r, right, wrong)
		})
	}
}

func contentGoes(r removing, right, wrong map[string]string) {
	t := r.t
	expect := func(what string, want ...string) {
		t.Helper()
		if got := r.left(); !slices.Equal(got, want) {
			t.Errorf("%s: %q is left, want %q", what, got, want)
		}
	}
	// A file, with the credentials of the request and with those of the project.
	for _, secrets := range []map[string]string{right, nil} {
		r.put("one.csv")
		r.record("one", "", r.base+"one.csv", "")
		if wrong != nil {
			if err := r.remove(t.Context(), "one", wrong); err == nil || !r.has("one") {
				t.Errorf("wrong credentials: %v", err)
			}
			expect("wrong credentials", "one.csv")
		}
		if err := r.remove(t.Context(), "one", secrets); err != nil || r.has("one") {
			t.Error(err)
		}
		expect("a file")
	}
	// A model: its files, and nothing else that is beside them or that it names elsewhere.
	r.put("m/model.bin", "m/model_spec.yaml", "m/extra/curve.html", "m/shared.csv", "m/other.bin", "elsewhere.csv")
	r.record("shared", "", r.base+"m/shared.csv", "")
	r.record("model", artifact.KindModel, r.base+"m/", fmt.Sprintf(`,"model_file":"model.bin","extra_data":{"curve":%q,"shared":"shared.csv","else":%q,"up":"../elsewhere.csv","gone":"gone.txt"}`,
		r.base+"m/extra/curve.html", r.base+"elsewhere.csv"))
	if err := r.remove(t.Context(), "model", nil); err != nil || r.has("model") {
		t.Error(err)
	}
	expect("a model", "elsewhere.csv", "m/other.bin", "m/shared.csv")
	r.record("hashed", artifact.KindModel, r.base+"m", `,"model_file":"shared.csv","model_target_file":"other.bin"`)
	if err := r.remove(t.Context(), "hashed", nil); err != nil {
		t.Error(err)
	}
	expect("a model by its content", "elsewhere.csv", "m/shared.csv")
	// A folder of more files than go in one step, with one that has a record of its own.
	names := make([]string, 0, 2*removalBatch+10)
	for i := range cap(names) {
		names = append(names, fmt.Sprintf("m/deep/%d/%d.txt", i%3, i))
	}
	r.put(names...)
	r.put("m/archive.zip", "mm/near.txt")
	r.record("folder", artifact.KindDir, r.base+"m", "")
	// Interrupted after the first step, as by a crash, and finished by what starts next.
	ctx, cancel := context.WithCancel(t.Context())
	_, err := r.store.ArtifactDeleteData(ctx, store.ArtifactFilter{Project: "own", Name: store.NameFilter{Value: "folder"}}, true, func(removal store.Removal) error {
		err := r.store.RemovalStep(ctx, removal, []string{r.base + names[0]}, func([]string) error { return nil })
		cancel()
		return errors.Join(err, ctx.Err())
	})
	if !errors.Is(err, context.Canceled) || !r.has("folder") {
		t.Fatal(err)
	}
	r.finishRemovals(t.Context())
	if r.has("folder") {
		t.Error("the record of the folder is left")
	}
	expect("a folder", "elsewhere.csv", "m/shared.csv", "mm/near.txt")
	if removals, err := r.store.Removals(t.Context()); err != nil || len(removals) != 0 {
		t.Error(removals, err)
	}
	// A folder artifact that is one file, and a data set of several.
	r.put("packed.zip", "parts/a.parquet", "parts/b.parquet")
	r.record("packed", artifact.KindDir, r.base+"packed.zip", "")
	r.record("parts", "dataset", r.base+"parts/", "")
	for _, key := range []string{"packed", "parts", "shared"} {
		if err := r.remove(t.Context(), key, nil); err != nil || r.has(key) {
			t.Error(key, err)
		}
	}
	expect("an archive and parts", "elsewhere.csv", "mm/near.txt")
	// What is too much, or not the server's, keeps its record.
	root, _, _ := strings.Cut(r.base, "base/")
	for key, target := range map[string]string{"all": root, "above": "/", "web": "https://127.0.0.1/x/", "parent": r.base + "../base/"} {
		r.record(key, artifact.KindDir, target, "")
		if err := r.remove(t.Context(), key, nil); err == nil || !r.has(key) {
			t.Errorf("%s was deleted: %v", target, err)
		}
	}
	expect("refusals", "elsewhere.csv", "mm/near.txt")
}

// TestLinksOfAFolderAreNotFollowed: a link in a folder artifact goes, what it leads to
// stays; empty folders go, also the artifact's own.
func TestLinksOfAFolderAreNotFollowed(t *testing.T) {
	t.Parallel()
	r := removing{App: opened(t), t: t}
	if _, err := r.store.ProjectPut(t.Context(), "own", map[string]any{"metadata": map[string]any{"name": "own"}}); err != nil {
		t.Fatal(err)
	}
	outside, folder := filepath.Join(t.TempDir(), "outside.txt"), filepath.Join(r.content.Folder("own"), "folder")
	err := errors.Join(os.WriteFile(outside, nil, 0o600), os.MkdirAll(filepath.Join(folder, "empty"), 0o700), os.Symlink(outside, filepath.Join(folder, "file")),
		os.Symlink(filepath.Dir(outside), filepath.Join(folder, "dir")))
	if err != nil {
		t.Fatal(err)
	}
	r.record("folder", artifact.KindDir, folder+"/", "")
	if err := r.remove(t.Context(), "folder", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
