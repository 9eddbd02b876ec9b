package digest_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/internal/digest"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func path(t *testing.T, name string) string {
	t.Helper()
	sum, _, err := digest.Path(t.Context(), name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "f")
	write(t, file, "abc")
	sum, size, err := digest.Path(t.Context(), file, 3)
	if err != nil || size != 3 || sum != "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" || sum != digest.Of([]byte("abc")) {
		t.Errorf("got %s, %d, %v", sum, size, err)
	}
	if _, _, err := digest.Path(t.Context(), file, 2); !errors.Is(err, digest.ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	if _, _, err := digest.Path(t.Context(), file+"x", 2); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := digest.Path(ended, file, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, _, err := digest.Path(t.Context(), os.DevNull, 3); !errors.Is(err, digest.ErrIrregular) {
		t.Errorf("device: %v", err)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for _, root := range []string{a, b} {
		write(t, filepath.Join(root, "x/one"), "1")
		write(t, filepath.Join(root, "two"), "2")
	}
	if path(t, a) != path(t, b) {
		t.Error("equal folders at two places differ")
	}
	write(t, filepath.Join(a, "x/__pycache__/m.pyc"), "bytecode")
	if path(t, a) != path(t, b) {
		t.Error("bytecode counts")
	}
	before := path(t, a)
	write(t, filepath.Join(a, "two"), "3")
	if path(t, a) == before {
		t.Error("changed content does not count")
	}
	write(t, filepath.Join(b, "x/one"), "2")
	write(t, filepath.Join(b, "two"), "1")
	if path(t, b) == before {
		t.Error("which file has which content does not count")
	}
	if err := os.Symlink("two", filepath.Join(a, "link")); err != nil {
		t.Fatal(err)
	}
	linked := path(t, a)
	if err := os.Remove(filepath.Join(a, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("x/one", filepath.Join(a, "link")); err != nil {
		t.Fatal(err)
	}
	if path(t, a) == linked {
		t.Error("where a link points to does not count")
	}
	if _, _, err := digest.Path(t.Context(), a, 1); !errors.Is(err, digest.ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
}

// What a folder's links lead to outside it counts by its content, and a folder
// without files by being there.
func TestFolderLinksOutside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, other := filepath.Join(dir, "root"), filepath.Join(dir, "other")
	write(t, filepath.Join(root, "one"), "1")
	write(t, filepath.Join(other, "x/two"), "2")
	for name, target := range map[string]string{"file": "../other/x/two", "folder": "../other", "nowhere": "../missing"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(root, filepath.Join(other, "back")); err != nil { // folders that lead to each other
		t.Fatal(err)
	}
	if _, _, err := digest.Path(t.Context(), root, 1<<20); !errors.Is(err, digest.ErrIrregular) {
		t.Errorf("links without an end: %v", err)
	}
	if err := os.Remove(filepath.Join(other, "back")); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	step := func(name string) {
		t.Helper()
		sum := path(t, root)
		if was, ok := seen[sum]; ok {
			t.Errorf("%s: the digest of %s", name, was)
		}
		seen[sum] = name
	}
	step("as made")
	write(t, filepath.Join(other, "x/two"), "3")
	step("a file outside changed")
	write(t, filepath.Join(other, "x/three"), "3")
	step("a file outside more")
	if err := os.MkdirAll(filepath.Join(root, "empty", "__pycache__"), 0o755); err != nil {
		t.Fatal(err)
	}
	step("an empty folder")
}

func TestCode(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, filepath.Join(root, "a.py"), "1")
	write(t, filepath.Join(root, ".env"), "1")
	code := func() string {
		t.Helper()
		sum, err := digest.Code(t.Context(), root, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before := code()
	write(t, filepath.Join(root, ".git/index"), "1")
	if code() != before {
		t.Error("the folder of a version control system counts")
	}
	write(t, filepath.Join(root, ".env"), "2")
	if code() == before {
		t.Error("a hidden file does not count")
	}
	modules := func() string {
		t.Helper()
		sum, err := digest.Modules(t.Context(), root, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before = modules()
	write(t, filepath.Join(root, "data/rows.csv"), "1")
	write(t, filepath.Join(root, ".venv/b.py"), "1")
	if modules() != before {
		t.Error("what is not imported counts as a module")
	}
	write(t, filepath.Join(root, "data/b.py"), "1")
	if modules() == before {
		t.Error("a module in a folder does not count")
	}
}
