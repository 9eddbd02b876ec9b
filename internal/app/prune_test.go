package app

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/store"
)

func TestBundlesThatNoFunctionNamesArePruned(t *testing.T) {
	t.Parallel()
	a := opened(t)
	bundles := map[string]string{} // what it is → its name
	old := time.Now().Add(-25 * time.Hour)
	for _, what := range []string{"of a version", "of an earlier version", "of a project", "of nobody", "young", "asked for", "other file", "unfinished"} {
		bundles[what] = fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(what)))
		path := filepath.Join(a.dir, "bundles", bundles[what]+".tar.gz")
		switch what {
		case "other file":
			path = filepath.Join(a.dir, "bundles", "notes.tar.gz")
		case "unfinished":
			path = filepath.Join(a.dir, "bundles", ".bundle-1")
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(what), 0o600); err != nil {
			t.Fatal(err)
		}
		if what != "young" {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	source := func(what string) string { return function.SchemeBundle + bundles[what] }
	if _, err := a.store.ProjectPut(t.Context(), "p", map[string]any{
		"metadata": map[string]any{"name": "p"}, "spec": map[string]any{"functions": []any{map[string]any{"name": "f", "source": source("of a project")}}},
	}); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"of an earlier version", "of a version"} {
		doc := map[string]any{
			"kind": "job", "metadata": map[string]any{"name": "f"}, "spec": map[string]any{"build": map[string]any{"source": source(what)}},
		}
		if _, err := a.store.FunctionPut(t.Context(), store.FunctionPut{Project: "p", Name: "f", Versioned: true, Doc: doc}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.bundles().Resolve(source("asked for")); err != nil {
		t.Fatal(err)
	}
	removed, err := a.pruneBundles(t.Context(), bundleAge)
	if err != nil || removed != 2 {
		t.Errorf("removed %d, %v, want 2", removed, err)
	}
	for what, name := range bundles {
		_, err := a.bundles().Path(name)
		gone := err != nil
		if want := what == "of nobody" || what == "other file" || what == "unfinished"; gone != want {
			t.Errorf("the bundle %s: gone is %v (%v), want %v", what, gone, err, want)
		}
	}
	left, err := os.ReadDir(filepath.Join(a.dir, "bundles"))
	var names []string
	for _, entry := range left {
		names = append(names, entry.Name())
	}
	if err != nil || len(left) != 6 || strings.Contains(strings.Join(names, " "), ".bundle-") {
		t.Errorf("left: %v, %v", names, err)
	}
	// With its function the bundle goes.
	if err := a.store.FunctionDelete(t.Context(), "p", "f"); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"of a version", "of an earlier version"} {
		if err := os.Chtimes(filepath.Join(a.dir, "bundles", bundles[what]+".tar.gz"), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err = a.pruneBundles(t.Context(), bundleAge); err != nil || removed != 2 {
		t.Errorf("after the function is gone: removed %d, %v, want 2", removed, err)
	}
}
