package code

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// Bundle is the code of a folder: a tar.gz with the same bytes for the same
// content, named sha256-<Digest>.tar.gz.
type Bundle struct {
	Digest string // hex SHA-256 of the file
	Path   string // absolute
	Size   int64  // of the file, in bytes
	Files  int
}

// Limits of a bundle.
const (
	DefaultMaxBundle = 256 << 20 // bytes of the files in it
	maxBundleFiles   = 100_000
)

// stamp is the time of every file in a bundle.
var stamp = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// MakeBundle packs the files of a folder into dir, which is created when it is not
// there, and returns what was made; a bundle of the same content is not made twice.
// maxBytes 0 means DefaultMaxBundle.
//
// Left out are version control, caches and virtual environments, and whatever the
// folder's .millraceignore names (in the syntax of .gitignore). A symbolic link to
// a file inside the folder becomes that file; any other link is an error, since
// what it points to would be missing where the bundle is unpacked.
func MakeBundle(ctx context.Context, folder, dir string, maxBytes int64) (*Bundle, error) {
	if dir == "" {
		return nil, fault.Invalid("the folder %s cannot be bundled: no folder for bundles is set", folder)
	}
	root, err := filepath.Abs(folder)
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, fault.Invalid("the folder %s cannot be read: %w", folder, err)
	}
	files, err := listFiles(ctx, root, dir)
	if err != nil {
		return nil, err
	}
	if err := checkSize(folder, files, cmp.Or(maxBytes, DefaultMaxBundle)); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	out, err := os.CreateTemp(dir, ".bundle-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(out.Name()) // fails once it is renamed
	digest := sha256.New()
	err = pack(ctx, io.MultiWriter(out, digest), files)
	size, _ := out.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return nil, err
	}
	b := &Bundle{Digest: hex.EncodeToString(digest.Sum(nil)), Size: size, Files: len(files)}
	b.Path = filepath.Join(dir, "sha256-"+b.Digest+".tar.gz")
	return b, os.Rename(out.Name(), b.Path)
}

// file is one file of a bundle.
type file struct {
	name, path string // in the bundle, on this machine
	size       int64
	executable bool
}

// listFiles walks the folder in the order of the bundle.
func listFiles(ctx context.Context, root, bundles string) ([]file, error) {
	rules, err := readIgnore(filepath.Join(root, ".millraceignore"))
	if err != nil {
		return nil, err
	}
	var files []file
	err = filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fault.Invalid("%s cannot be read: %w", at, err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case at == root:
			return nil
		}
		relative, _ := filepath.Rel(root, at)
		name := filepath.ToSlash(relative)
		if at == bundles || rules.ignores(name, entry.IsDir()) || entry.IsDir() && isFile(filepath.Join(at, "pyvenv.cfg")) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		f, err := bundleFile(root, at, name)
		if err != nil {
			return err
		}
		if files = append(files, f); len(files) > maxBundleFiles {
			return fault.TooLarge("the folder %s has more than %d files; name what the code does not need in its .millraceignore", root, maxBundleFiles)
		}
		return nil
	})
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, err
}

func bundleFile(root, at, name string) (file, error) {
	const remedy = "copy it into the folder or name it in .millraceignore"
	target, err := filepath.EvalSymlinks(at)
	if err != nil {
		return file{}, fault.Invalid("the link %s leads nowhere; remove it or name it in .millraceignore", name)
	}
	if !strings.HasPrefix(target, strings.TrimSuffix(root, string(filepath.Separator))+string(filepath.Separator)) {
		return file{}, fault.Invalid("the link %s points outside the folder; %s", name, remedy)
	}
	info, err := os.Stat(target)
	switch {
	case err != nil:
		return file{}, fault.Invalid("%s cannot be read: %w", name, err)
	case info.IsDir():
		return file{}, fault.Invalid("%s is a link to a folder; %s", name, remedy)
	case !info.Mode().IsRegular():
		return file{}, fault.Invalid("%s is not a regular file; name it in .millraceignore", name)
	}
	return file{name: name, path: target, size: info.Size(), executable: info.Mode()&0o100 != 0}, nil
}

// checkSize refuses an empty folder and one over the limit, of which it names the
// largest part.
func checkSize(folder string, files []file, limit int64) error {
	if len(files) == 0 {
		return fault.Invalid("the folder %s has no files to run", folder)
	}
	total, parts := int64(0), map[string]int64{}
	for _, f := range files {
		top, _, _ := strings.Cut(f.name, "/")
		parts[top] += f.size
		total += f.size
	}
	if total <= limit {
		return nil
	}
	largest := ""
	for name, size := range parts {
		if size > parts[largest] || size == parts[largest] && name < largest {
			largest = name
		}
	}
	return fault.TooLarge("the folder %s has %d MiB of files and the limit is %d MiB; the largest part is %s with %d MiB: name it in .millraceignore if the code does not need it",
		folder, total>>20, limit>>20, largest, parts[largest]>>20)
}

func pack(ctx context.Context, out io.Writer, files []file) error {
	zipper := gzip.NewWriter(out)
	archive := tar.NewWriter(zipper)
	for _, f := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := packFile(archive, f); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zipper.Close())
}

func packFile(archive *tar.Writer, f file) error {
	mode := int64(0o644)
	if f.executable {
		mode = 0o755
	}
	in, err := os.Open(f.path)
	if err != nil {
		return fault.Invalid("%s cannot be read: %w", f.name, err)
	}
	defer in.Close()
	header := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: f.size, Mode: mode, ModTime: stamp}
	if err := archive.WriteHeader(header); err != nil {
		return fault.Invalid("%s cannot be packed: %w", f.name, err)
	}
	switch n, err := io.Copy(archive, io.LimitReader(in, f.size)); {
	case err != nil:
		return fault.Invalid("%s cannot be packed: %w", f.name, err)
	case n != f.size:
		return fault.Invalid("%s changed while it was read; try again", f.name)
	}
	return nil
}

// alwaysIgnored is what no bundle needs.
var alwaysIgnored = []string{
	".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache",
	".tox", ".nox", ".venv", "node_modules", ".eggs", ".idea", ".vscode", ".millrace", ".DS_Store", "*.pyc", "*.pyo",
}

// ignoreRules are the lines of a .millraceignore; a later one wins.
type ignoreRules []ignoreRule

type ignoreRule struct {
	parts                  []string // of the pattern; "**" stands for any number of folders
	negate, folder, rooted bool
}

func readIgnore(path string) (ignoreRules, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Invalid("%s cannot be read: %w", path, err)
	}
	return parseIgnore(append(slices.Clone(alwaysIgnored), strings.Split(string(data), "\n")...))
}

func parseIgnore(lines []string) (ignoreRules, error) {
	var rules ignoreRules
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var r ignoreRule
		line, r.negate = strings.CutPrefix(line, "!")
		line, r.folder = strings.CutSuffix(line, "/")
		r.rooted = strings.Contains(line, "/")
		r.parts = strings.Split(strings.TrimPrefix(line, "/"), "/")
		for _, part := range r.parts {
			if _, err := path.Match(part, ""); err != nil {
				return nil, fault.Invalid(".millraceignore: %q is not a pattern", line)
			}
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// ignores reports whether a path of the bundle is left out.
func (rules ignoreRules) ignores(name string, folder bool) bool {
	out := false
	parts := strings.Split(name, "/")
	for _, r := range rules {
		subject := parts
		if !r.rooted {
			subject = parts[len(parts)-1:]
		}
		if (folder || !r.folder) && matchParts(r.parts, subject) {
			out = !r.negate
		}
	}
	return out
}

func matchParts(pattern, parts []string) bool {
	if len(pattern) == 0 {
		return len(parts) == 0
	}
	if pattern[0] == "**" {
		for i := range len(parts) + 1 {
			if matchParts(pattern[1:], parts[i:]) {
				return true
			}
		}
		return false
	}
	if len(parts) == 0 {
		return false
	}
	ok, _ := path.Match(pattern[0], parts[0])
	return ok && matchParts(pattern[1:], parts[1:])
}
