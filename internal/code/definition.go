package code

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// definition reads a function.yaml or function.json.
//
// A local function whose command names a Python file gets that file embedded, so
// that it runs wherever it is sent; the file is looked for in the working directory
// and then beside the definition.
func (o Options) definition(ref string) (*function.Function, error) {
	data, err := readLimited(ref, function.MaxYAML)
	if err != nil {
		return nil, err
	}
	f, err := function.Import(data)
	if err != nil {
		return nil, fault.Invalid("%s: %w", ref, err)
	}
	if o.Kind != function.KindDefault {
		f.SetKind(o.Kind)
	}
	if f.Name() == "" {
		f.SetName(function.NormalizeName(stem(ref)))
	}
	if err := o.finish(f); err != nil {
		return nil, err
	}
	if err := f.Validate(); err != nil {
		return nil, fault.Invalid("%s: %w", ref, err)
	}
	if f.Kind() == function.KindDefault || f.Kind() == function.KindLocal {
		return f, embedCommand(f, ref)
	}
	return f, nil
}

// embedCommand embeds the file that the command of a local function names.
func embedCommand(f *function.Function, ref string) error {
	spec, err := f.Spec()
	if err != nil || spec.Code != nil || spec.Mode == function.ModePass || spec.Source != "" {
		return err
	}
	file, _, _ := strings.Cut(strings.TrimSpace(spec.Command), " ")
	if file == "" {
		if strings.Contains(spec.DefaultHandler, ".") {
			return nil // an importable handler needs no code
		}
		return fault.Invalid("%s: the function has neither code nor a command; set spec.build.functionSourceCode or spec.command", ref)
	}
	if filepath.Ext(file) != ".py" {
		return nil
	}
	path := file
	if _, err := os.Stat(path); err != nil && !filepath.IsAbs(file) {
		path = filepath.Join(filepath.Dir(ref), file)
	}
	if _, err := os.Stat(path); err != nil {
		return fault.NotFound("%s: spec.command names %s, which is neither in the working directory nor beside the definition", ref, file)
	}
	source, err := readSource(path)
	if err != nil {
		return err
	}
	f.SetCode(source, filepath.ToSlash(file))
	return nil
}
