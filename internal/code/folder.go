package code

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// loadFolder makes a function of a folder: its function.yaml if there is one and no
// handler is asked for, a Go main package, or Python modules. Those are called
// through a handler such as package.module.function, which may be left to the run;
// without one main.py, if there is one, runs as a program.
func loadFolder(ctx context.Context, ref string, o Options) (*function.Function, *Bundle, error) {
	if o.Handler == "" {
		for _, name := range []string{"function.yaml", "function.yml", "function.json"} {
			if file := filepath.Join(ref, name); isFile(file) {
				return o.folderDefinition(ctx, ref, file)
			}
		}
		goFiles, err := goMain(ref)
		if err != nil {
			return nil, nil, err
		}
		if goFiles {
			return o.folder(ctx, ref, func(f *function.Function) error {
				f.SetSpec(function.LanguageGo, "language")
				return nil
			})
		}
		for _, name := range []string{"main.py", "__main__.py"} {
			if isFile(filepath.Join(ref, name)) {
				return o.folder(ctx, ref, func(f *function.Function) error {
					f.SetSpec(name, "command")
					return o.describeModule(ctx, f, filepath.Join(ref, name))
				})
			}
		}
		if !hasPython(ref) {
			return nil, nil, fault.Invalid("%s is a folder without function.yaml, Python modules or a Go main package; name a folder with code", ref)
		}
		return o.folder(ctx, ref, func(*function.Function) error { return nil }) // the run names the handler
	}
	handler, err := function.ParseHandler(o.Handler)
	if err != nil {
		return nil, nil, err
	}
	if handler.Module == "" {
		return nil, nil, fault.Invalid("handler %q names no module of the folder %s; write module.%s", o.Handler, ref, o.Handler)
	}
	module := path.Join(strings.Split(handler.Module, ".")...)
	for _, name := range []string{module + ".py", module + "/__init__.py"} {
		if file := filepath.Join(ref, filepath.FromSlash(name)); isFile(file) {
			return o.folder(ctx, ref, func(f *function.Function) error { return o.describeModule(ctx, f, file) })
		}
	}
	return nil, nil, fault.NotFound("the folder %s has no module %s: there is neither %s.py nor %s/__init__.py", ref, handler.Module, module, module)
}

// folder bundles ref and makes the function that runs it.
func (o Options) folder(ctx context.Context, ref string, complete func(*function.Function) error) (*function.Function, *Bundle, error) {
	f, err := o.begin(ref)
	if err != nil {
		return nil, nil, err
	}
	if err := complete(f); err != nil {
		return nil, nil, err
	}
	bundle, err := o.attach(ctx, f, ref)
	return f, bundle, err
}

// attach makes ref's bundle the source of f.
func (o Options) attach(ctx context.Context, f *function.Function, ref string) (*Bundle, error) {
	bundle, err := MakeBundle(ctx, ref, o.BundleDir, o.MaxBundle)
	if err != nil {
		return nil, err
	}
	f.SetSpec(bundle.Source(), "build", "source")
	f.SetSpec(true, "build", "load_source_on_run")
	f.SetSpec(originFrom(ref, ref), "build", "code_origin")
	return bundle, nil
}

// folderDefinition loads a definition in a folder; when its source is "." or "./"
// the folder itself is bundled.
func (o Options) folderDefinition(ctx context.Context, ref, file string) (*function.Function, *Bundle, error) {
	if o.Name == "" {
		o.Name = nameIn(file)
	}
	if o.Name == "" {
		o.Name = stem(ref)
	}
	f, err := o.definition(file)
	if err != nil {
		return nil, nil, err
	}
	spec, err := f.Spec()
	if err != nil || spec.Source != "." && spec.Source != "./" {
		return f, nil, err
	}
	bundle, err := o.attach(ctx, f, ref)
	return f, bundle, err
}

// nameIn returns the name that a definition file gives its function, "" when it
// gives none or cannot be read.
func nameIn(file string) string {
	data, err := readLimited(file, function.MaxYAML)
	if err != nil {
		return ""
	}
	f, err := function.Import(data)
	if err != nil {
		return ""
	}
	return f.Name()
}

// describeModule records the entry points of the module that the handler is in.
func (o Options) describeModule(ctx context.Context, f *function.Function, file string) error {
	source, err := readSource(file)
	if err != nil {
		return err
	}
	return o.describe(ctx, f, file, source)
}

// goMain reports whether the folder's top level is a Go main package. Go files of
// another package beside no Python are an error.
func goMain(ref string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(globEscape(ref), "*.go"))
	if err != nil {
		return false, fault.Invalid("%s cannot be searched for Go files: %w", ref, err)
	}
	found := false
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := readSource(file)
		if err != nil {
			return false, err
		}
		if err := checkGoMain(file, source); err != nil {
			return false, err
		}
		found = true
	}
	return found, nil
}

// hasPython reports whether there is a module at the folder's top level or in a
// folder directly below.
func hasPython(ref string) bool {
	for _, pattern := range []string{"*.py", "*/*.py"} {
		if files, _ := filepath.Glob(filepath.Join(globEscape(ref), pattern)); len(files) > 0 {
			return true
		}
	}
	return false
}

// globEscape makes a path match only itself.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
