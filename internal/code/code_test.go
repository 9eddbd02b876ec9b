package code_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// tree writes files into a new folder; a name with a trailing '*' is executable.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		name, executable := strings.CutSuffix(name, "*")
		path, mode := filepath.Join(root, filepath.FromSlash(name)), os.FileMode(0o600)
		if executable {
			mode = 0o700
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func load(t *testing.T, ref string, o code.Options) (*function.Function, *code.Bundle) {
	t.Helper()
	f, bundle, err := code.Load(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Validate(); err != nil {
		t.Fatalf("Load made a function that is not valid: %v", err)
	}
	return f, bundle
}

func TestLoadFiles(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		"My_Train.py":  "\ufeffdef train(context): pass\n",
		"nb.ipynb":     `{"nbformat":4,"nbformat_minor":5,"metadata":{},"cells":[{"cell_type":"code","metadata":{},"source":["%nuclio config kind = \"local\"\n","%nuclio cmd pip install x\n","a = 1"]}]}`,
		"job.sh":       "echo hi\n",
		"perl.sh":      "#!/usr/bin/env -S perl -w\nprint 1;\n",
		"tool*":        "#!/bin/sh -e\necho tool\n",
		"bin with ' *": "\x7fELF\x02rest",
		"main.go":      "package main\n\nfunc main() {}\n",
	})
	at := func(name string) string { return filepath.Join(root, name) }
	for _, c := range []struct {
		file, name, kind, code, command, mode, language string
	}{
		{"My_Train.py", "my-train", "job", "def train(context): pass\n", "", "", "python"},
		{"nb.ipynb", "nb", "local", "# Converted from nb.ipynb\n\na = 1\n\n", "", "", "python"},
		{"job.sh", "job", "job", "echo hi\n", "bash {codefile}", "pass", "shell"},
		{"perl.sh", "perl", "job", "#!/usr/bin/env -S perl -w\nprint 1;\n", "/usr/bin/env -S perl -w {codefile}", "pass", "shell"},
		{"tool", "tool", "job", "#!/bin/sh -e\necho tool\n", "/bin/sh -e {codefile}", "pass", "shell"},
		{"main.go", "main", "job", "package main\n\nfunc main() {}\n", "", "", "go"},
	} {
		f, bundle := load(t, at(c.file), code.Options{})
		spec, err := f.Spec()
		if err != nil {
			t.Fatal(err)
		}
		if bundle != nil {
			t.Errorf("%s: a file made a bundle", c.file)
		}
		got := []string{f.Name(), string(f.Kind()), string(spec.Code), spec.Command, spec.Mode, spec.Language, spec.OriginFilename}
		want := []string{c.name, c.kind, c.code, c.command, c.mode, c.language, filepath.ToSlash(at(c.file))}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", c.file, diff)
		}
	}
	f, _ := load(t, at("bin with ' "), code.Options{Name: "bin"})
	spec, _ := f.Spec()
	words, err := function.FormatCommand(spec.Command, nil)
	if err != nil || !slices.Equal(words, []string{at("bin with ' ")}) || spec.Code != nil || spec.Mode != "pass" {
		t.Errorf("a binary: %q %v %+v", words, err, spec)
	}
	f, _ = load(t, at("nb.ipynb"), code.Options{
		Name: "A b", Project: "p", Tag: "v1", Kind: function.KindJob, Handler: "h", Image: "i", Requirements: []string{"x", "x"},
	})
	spec, _ = f.Spec()
	if f.Name() != "a-b" || f.Project() != "p" || f.Tag() != "v1" || f.Kind() != function.KindJob || spec.DefaultHandler != "h" || spec.Image != "i" ||
		!slices.Equal(spec.Requirements, []string{"x"}) || !slices.Equal(spec.Commands, []string{"pip install x"}) {
		t.Errorf("options: %s %+v", document.Encode(f.Doc), spec)
	}
}

func TestLoadDefinition(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		"function.yaml": "metadata: {}\nspec: {image: x, future_field: [1, 1.0]}\n",
		"f.json":        `{"kind":"serving","metadata":{"name":"s"},"spec":{"graph":{"kind":"router"}}}`,
		"local.yaml":    "kind: local\nmetadata: {name: l}\nspec: {command: train.py --x 1}\n",
		"train.py":      "x = 1\n",
		"lost.yaml":     "kind: local\nspec: {command: gone.py}\n",
		"empty.yaml":    "kind: ''\nspec: {}\n",
	})
	f, _ := load(t, filepath.Join(root, "function.yaml"), code.Options{})
	if got, want := string(document.Encode(f.Doc)), `{"kind":"job","metadata":{"name":"function"},"spec":{"future_field":[1,1.0],"image":"x"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if f, _ = load(t, filepath.Join(root, "f.json"), code.Options{}); f.Kind() != function.KindServing {
		t.Errorf("kind %s", f.Kind())
	}
	f, _ = load(t, filepath.Join(root, "local.yaml"), code.Options{})
	if spec, err := f.Spec(); err != nil || string(spec.Code) != "x = 1\n" || spec.Command != "train.py --x 1" {
		t.Errorf("the command's file is not embedded: %+v %v", spec, err)
	}
	for name, say := range map[string]string{"lost.yaml": "names gone.py", "empty.yaml": "neither code nor a command"} {
		if _, _, err := code.Load(t.Context(), filepath.Join(root, name), code.Options{}); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v, want %q", name, err, say)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{
		"a.txt": "x", "zero.py": "a\x00b", "latin.py": "x = 1\ns = '\xe9'\n", "lib.go": "package lib\n", "bad.go": "package main\nfunc {\n",
		"data*": "plain text", "nb.ipynb": "{}", "bad.yaml": "a: [", "ok.py": "", "job.sh": "", "empty/x/.git/config": "", "py/a.py": "", "go/a.go": "package lib\n",
	})
	for _, c := range []struct {
		ref  string
		o    code.Options
		code fault.Code
		say  string
	}{
		{"", code.Options{}, fault.CodeInvalid, "no file was given"},
		{"gone.py", code.Options{}, fault.CodeNotFound, "no such file"},
		{"a.txt", code.Options{}, fault.CodeInvalid, `files ending in ".txt" are not supported`},
		{"zero.py", code.Options{}, fault.CodeInvalid, "binary: there is a zero byte at position 1"},
		{"latin.py", code.Options{}, fault.CodeInvalid, "latin.py:2: the text is not UTF-8"},
		{"lib.go", code.Options{}, fault.CodeInvalid, "package lib; a function in Go must be of package main"},
		{"bad.go", code.Options{}, fault.CodeInvalid, "bad.go:2: "},
		{"data", code.Options{}, fault.CodeInvalid, "neither a program of this machine nor a script"},
		{"nb.ipynb", code.Options{}, fault.CodeInvalid, "is not a notebook"},
		{"bad.yaml", code.Options{}, fault.CodeInvalid, "bad.yaml: malformed YAML"},
		{"job.sh", code.Options{Handler: "h"}, fault.CodeInvalid, "is a script and has no handler"},
		{"ok.py", code.Options{Kind: "Job"}, fault.CodeInvalid, `kind "Job" is not known`},
		{"ok.py", code.Options{Project: "A_b"}, fault.CodeInvalid, `the project "A_b"`},
		{"ok.py", code.Options{Handler: "(x)"}, fault.CodeInvalid, "is an expression"},
		{"ok.py", code.Options{Tag: "a b"}, fault.CodeInvalid, `the tag "a b"`},
		{"ok.py", code.Options{Name: "a/b"}, fault.CodeInvalid, `function name "a/b"`},
		{"empty", code.Options{}, fault.CodeInvalid, "name a folder with code"},
		{"py", code.Options{Handler: "f"}, fault.CodeInvalid, "write module.f"},
		{"py", code.Options{Handler: "b.f"}, fault.CodeNotFound, "has no module b"},
		{"py", code.Options{Handler: "a.f"}, fault.CodeInvalid, "no folder for bundles"},
		{"go", code.Options{}, fault.CodeInvalid, "must be of package main"},
	} {
		ref := c.ref
		if ref != "" {
			ref = filepath.Join(root, ref)
		}
		if _, _, err := code.Load(t.Context(), ref, c.o); !fault.Is(err, c.code) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s %+v: %v, want %q", c.ref, c.o, err, c.say)
		}
	}
	if _, err := code.MakeBundle(t.Context(), filepath.Join(root, "empty"), t.TempDir(), 0); !fault.Is(err, fault.CodeInvalid) {
		t.Errorf("a folder without files: %v", err)
	}
}

// names lists a bundle's files with their mode and content.
func names(t *testing.T, bundle *code.Bundle) map[string]string {
	t.Helper()
	file, err := os.Open(bundle.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		out[header.Name] = os.FileMode(header.Mode).String() + " " + string(content) //nolint:gosec // a mode
	}
}

func TestLoadFolder(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"pkg/__init__.py": "", "pkg/train.py": "def fit(): pass\n", "run.sh*": "#!/bin/sh\n", "data.csv": "1,2\n",
		".git/config": "x", "pkg/__pycache__/a.pyc": "x", "env/pyvenv.cfg": "", "env/lib/big.py": "x", "node_modules/a/b.js": "",
		".millraceignore": "# comment\n*.log\n/build/\ndocs/**/*.md\n!docs/keep/*.md\n", "a.log": "x", "pkg/b.log": "x", "build/x": "x", "pkg/build/x": "kept",
		"docs/a/b/c.md": "x", "docs/keep/d.md": "kept",
	}
	root, bundles := tree(t, files), t.TempDir()
	if err := os.Symlink("train.py", filepath.Join(root, "pkg/link.py")); err != nil {
		t.Fatal(err)
	}
	f, bundle := load(t, root, code.Options{Name: "f", Handler: "pkg.train.fit", BundleDir: bundles})
	want := map[string]string{
		"pkg/__init__.py": "-rw-r--r-- ", "pkg/train.py": "-rw-r--r-- def fit(): pass\n", "pkg/link.py": "-rw-r--r-- def fit(): pass\n",
		"run.sh": "-rwxr-xr-x #!/bin/sh\n", "data.csv": "-rw-r--r-- 1,2\n", "pkg/build/x": "-rw-r--r-- kept", "docs/keep/d.md": "-rw-r--r-- kept",
		".millraceignore": "-rw-r--r-- " + files[".millraceignore"],
	}
	if diff := cmp.Diff(want, names(t, bundle)); diff != "" {
		t.Error(diff)
	}
	spec, _ := f.Spec()
	if spec.Source != bundle.Source() || !spec.LoadSourceOnRun || spec.DefaultHandler != "pkg.train.fit" || bundle.Files != len(want) {
		t.Errorf("%+v %+v", spec, bundle)
	}
	if filepath.Base(bundle.Path) != "sha256-"+bundle.Digest+".tar.gz" {
		t.Errorf("the bundle is called %s", bundle.Path)
	}

	// The same content elsewhere, written at another time, is the same bundle.
	other := tree(t, files)
	if err := os.Symlink("train.py", filepath.Join(other, "pkg/link.py")); err != nil {
		t.Fatal(err)
	}
	_, again := load(t, other, code.Options{Handler: "pkg.train.fit", BundleDir: bundles})
	if again.Digest != bundle.Digest {
		t.Error("the same content made another bundle")
	}
	if left, _ := os.ReadDir(bundles); len(left) != 1 {
		t.Errorf("%d files in the folder of bundles", len(left))
	}
	extracted := filepath.Join(t.TempDir(), "out")
	if err := code.Extract(bundle.Path, extracted); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(extracted, "pkg/train.py")); err != nil || string(got) != "def fit(): pass\n" {
		t.Errorf("extracted %q %v", got, err)
	}

	if _, err := code.MakeBundle(t.Context(), root, bundles, 10); !fault.Is(err, fault.CodeTooLarge) || !strings.Contains(err.Error(), ".millraceignore") {
		t.Errorf("over the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := code.MakeBundle(ctx, root, bundles, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for link, say := range map[string]string{"/etc/hostname": "outside", "pkg": "link to a folder", "gone": "leads nowhere"} {
		path := filepath.Join(root, "bad")
		if err := os.Symlink(link, path); err != nil {
			t.Fatal(err)
		}
		if _, err := code.MakeBundle(t.Context(), root, bundles, 0); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("link to %s: %v, want %q", link, err, say)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoadFolderKinds(t *testing.T) {
	t.Parallel()
	bundles := t.TempDir()
	f, bundle := load(t, tree(t, map[string]string{"go.mod": "module x\n", "main.go": "package main\n", "main_test.go": "package main_test\n", "lib/a.go": "package lib\n"}), code.Options{Name: "g", BundleDir: bundles})
	if spec, _ := f.Spec(); spec.Language != function.LanguageGo || spec.Source != bundle.Source() || bundle.Files != 4 {
		t.Errorf("Go: %+v %+v", spec, bundle)
	}
	f, bundle = load(t, tree(t, map[string]string{"main.py": "print(1)\n", "lib.py": ""}), code.Options{Name: "p", BundleDir: bundles})
	if spec, _ := f.Spec(); spec.Command != "main.py" || spec.Source != bundle.Source() {
		t.Errorf("main.py: %+v", spec)
	}
	f, bundle = load(t, tree(t, map[string]string{"pkg/lib.py": ""}), code.Options{Name: "p", BundleDir: bundles})
	if spec, _ := f.Spec(); spec.Command != "" || spec.DefaultHandler != "" || spec.Source != bundle.Source() {
		t.Errorf("modules: %+v", spec)
	}
	f, bundle = load(t, tree(t, map[string]string{"function.yaml": "metadata: {name: n}\nspec: {default_handler: a.f, build: {source: ./}}\n", "a.py": ""}), code.Options{BundleDir: bundles})
	if spec, _ := f.Spec(); f.Name() != "n" || bundle == nil || spec.Source != bundle.Source() {
		t.Errorf("function.yaml: %+v", spec)
	}
	f, bundle = load(t, tree(t, map[string]string{"function.yaml": "metadata: {name: n}\nspec: {image: x}\n"}), code.Options{BundleDir: bundles})
	if f.Name() != "n" || bundle != nil {
		t.Errorf("function.yaml without source: %+v", bundle)
	}
}

func TestCodeOrigin(t *testing.T) {
	t.Parallel()
	commit := strings.Repeat("ab", 20)
	root := tree(t, map[string]string{
		"src/a.py": "", ".git/HEAD": "ref: refs/heads/main\n", ".git/packed-refs": "# pack-refs\n" + commit + " refs/heads/main\n",
		".git/config": "[core]\n\turl = no\n[remote \"origin\"]\n\turl = https://user:secret@example.com/o/r.git\n",
	})
	file := filepath.Join(root, "src/a.py")
	f, _ := load(t, file, code.Options{})
	if got, want := document.String(f.Doc, "spec", "build", "code_origin"), "https://example.com/o/r.git#"+commit+":"+filepath.ToSlash(file); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	plain := filepath.Join(tree(t, map[string]string{"a.py": ""}), "a.py")
	f, _ = load(t, plain, code.Options{})
	if got := document.String(f.Doc, "spec", "build", "code_origin"); got != filepath.ToSlash(plain) {
		t.Errorf("without git: %s", got)
	}
}
