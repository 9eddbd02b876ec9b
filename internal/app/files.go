package app

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// artifactRoot is the folder below which all artifacts of a template of paths are,
// "" when they are not on this machine.
func artifactRoot(template string) string {
	template = strings.TrimPrefix(template, "file://")
	if !filepath.IsAbs(template) {
		return ""
	}
	fixed, _, templated := strings.Cut(template, "{{")
	if templated && !strings.HasSuffix(fixed, "/") {
		fixed = filepath.Dir(fixed)
	}
	if fixed = filepath.Clean(fixed); fixed == "/" {
		return ""
	}
	return fixed
}

// artifactFiles is the content that the server deletes and measures itself: files below root, and nothing that a link
// leads to from there.
type artifactFiles struct{ root string }

// open returns the root and the name of target below it.
func (a artifactFiles) open(target string) (*os.Root, string, error) {
	path := strings.TrimPrefix(target, "file://")
	refused := fault.NotSupported("%q is not a file in the artifact folder of this server, the only place where it deletes content; use deletion_strategy=metadata-only", target)
	if a.root == "" || filepath.Clean(path) != path {
		return nil, "", refused
	}
	name, ok := strings.CutPrefix(path, a.root+"/")
	if !ok || !filepath.IsLocal(name) {
		return nil, "", refused
	}
	root, err := os.OpenRoot(a.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", refused
	}
	return root, name, err
}

// Size implements api.Content.
func (a artifactFiles) Size(target string) (int64, error) {
	root, name, err := a.open(target)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	info, err := root.Stat(name)
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fault.NotSupported("%q is not a file", target)
	}
	return info.Size(), nil
}
