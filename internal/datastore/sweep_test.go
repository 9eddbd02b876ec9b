package datastore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/datastore"
)

func TestSweep(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	old := time.Now().Add(-8 * 24 * time.Hour)
	write := func(when time.Time, names ...string) {
		for _, name := range names {
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{name, filepath.Dir(name)} {
				if err := os.Chtimes(name, when, when); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	write(old, dir+"/a/b/.millrace-part-1", dir+"/a/.millrace-part-2/c/d", dir+"/a/.millrace-part-2/e", dir+"/a/f", outside+"/.millrace-part-3")
	write(time.Now(), dir+"/a/.millrace-part-4")
	for i := range 5000 { // more than is in memory at once
		write(old, fmt.Sprintf("%s/many/%d", dir, i))
	}
	write(old, dir+"/many/.millrace-part-5")
	if err := os.Symlink(outside, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	removed, err := datastore.Sweep(t.Context(), dir, 7*24*time.Hour)
	if err != nil || removed != 3 {
		t.Errorf("removed %d, %v", removed, err)
	}
	for name, want := range map[string]bool{"a/b": true, "a/f": true, "a/.millrace-part-4": true, "a/b/.millrace-part-1": false, "a/.millrace-part-2": false, "many/.millrace-part-5": false, "link/.millrace-part-3": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if removed, err := datastore.Sweep(t.Context(), dir+"/none", 0); err != nil || removed != 0 {
		t.Errorf("a folder that is not there: %d, %v", removed, err)
	}
}

// TestListing: a folder is listed in order, a large one whole, and neither with what is
// not complete.
func TestListing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const many = 10_000
	for i := range many {
		if err := os.WriteFile(fmt.Sprintf("%s/%05d", dir, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"deep/b/2", "deep/a/1", "deep/.millrace-part-1/x", "deep/.millrace-part-2"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, stores := range []*datastore.Stores{datastore.New(datastore.Options{}), datastore.New(datastore.Options{Confined: true, Roots: []string{dir}})} {
		list := func(folder string, recursive bool) (names []string) {
			if err := stores.Walk(context.Background(), folder, recursive, func(entry datastore.Entry) error {
				names = append(names, entry.Name)
				return nil
			}); err != nil {
				t.Error(err)
			}
			return names
		}
		if got := list(dir+"/deep", true); !slices.Equal(got, []string{"a", "b", "a/1", "b/2"}) {
			t.Errorf("got %q", got)
		}
		if got := list(dir, false); len(got) != many+1 {
			t.Errorf("%d names", len(got))
		}
		if got := list(dir, true); len(got) != many+5 || len(slices.Compact(slices.Sorted(slices.Values(got)))) != many+5 {
			t.Errorf("%d names", len(got))
		}
	}
}
