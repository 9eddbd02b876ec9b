package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/millrace/millrace/internal/fault"
)

func TestContentIsDeletedBelowTheArtifactFolderOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(path string) string {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	outside := write("outside/secret")
	inside := write("artifacts/demo/a.csv")
	for link, to := range map[string]string{"artifacts/demo/link": outside, "artifacts/away": filepath.Join(dir, "outside")} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	f := artifactFiles{root: artifactRoot(filepath.Join(dir, "artifacts", "{{project}}"))}
	for _, target := range []string{
		outside, f.root, f.root + "/", f.root + "/demo", f.root + "/../outside/secret", f.root + "/demo/../../outside/secret", f.root + "/demo/link",
		f.root + "/away/secret", "file://" + outside, "s3://bucket/x", "relative", "", f.root + "x/a", f.root + "/demo/./a.csv",
	} {
		if err := f.removeFile(target, false); err == nil {
			t.Errorf("%q was deleted", target)
		}
	}
	for _, path := range []string{outside, inside} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if size, err := f.Size("file://" + inside); err != nil || size != 7 {
		t.Errorf("size %d, %v", size, err)
	}
	for range 2 { // the second time it is gone already
		if err := f.removeFile(inside, false); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(inside); err == nil {
		t.Error("it is still there")
	}
	if err := (artifactFiles{}).removeFile("/x", false); !fault.Is(err, fault.CodeNotSupported) {
		t.Error(err)
	}
	for template, want := range map[string]string{"s3://b/{{project}}": "", "/{{project}}": "", "/a/b": "/a/b", "/a/b-{{project}}/c": "/a", "file:///a/{{run.uid}}": "/a", "rel": ""} {
		if got := artifactRoot(template); got != want {
			t.Errorf("%s: %q", template, got)
		}
	}
}
