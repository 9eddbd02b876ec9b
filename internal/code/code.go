// Package code is where code comes from: it reads a Python file, a notebook, a
// function.yaml, a folder, a script, an executable or a Go main package and makes
// a function of it.
//
// Nothing is executed. Files are embedded into the function; folders become a
// Bundle, a tar.gz with the same bytes for the same content, named by its digest.
// The entry points of Python code come from a Describer, which package
// code/pydescribe implements with an interpreter that parses the code and does not
// run it.
package code

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// MaxFile is the largest file that is embedded into a function, in bytes.
const MaxFile = 16 << 20

// Describer lists the entry points of Python source: what spec.entry_points of a
// function holds. Source that does not parse is a *SyntaxError; any other error is
// about the Describer itself.
type Describer interface {
	Describe(ctx context.Context, source []byte) (document.Object, error)
}

// SyntaxError says where Python source does not parse. Line counts from 1; 0 means
// that no line is known.
type SyntaxError struct {
	Line    int
	Message string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Message) }

// Options say how a function is made of code. The zero value makes a job named
// after the file, without entry points.
type Options struct {
	Name         string        // default: the name of the file without its suffix; normalised
	Project, Tag string        // "" sets none
	Kind         function.Kind // default: what the code says (a notebook's config, a function.yaml), else job
	Handler      string        // becomes spec.default_handler
	Image        string
	Requirements []string  // added to what the code says
	IgnoredTags  []string  // notebook cells with one of these tags are dropped
	Describer    Describer // nil: no entry points
	BundleDir    string    // where bundles of folders are put; required for folders
	MaxBundle    int64     // bytes of a folder's files; 0 means DefaultMaxBundle

	// Getenv expands environment variables in the build commands of a notebook;
	// nil leaves them as they are written.
	Getenv func(string) string
}

// Load makes a function of what ref names. The bundle is nil unless ref is a
// folder. Errors say which file and, where there is one, which line.
func Load(ctx context.Context, ref string, o Options) (*function.Function, *Bundle, error) {
	if ref == "" {
		return nil, nil, fault.Invalid("no file was given; name a .py, .ipynb or function.yaml file, a folder, a script or an executable")
	}
	info, err := os.Stat(ref)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fault.NotFound("%s: there is no such file or folder", ref)
	case err != nil:
		return nil, nil, fault.Invalid("%s cannot be read: %w", ref, err)
	case info.IsDir():
		return loadFolder(ctx, ref, o)
	case !info.Mode().IsRegular():
		return nil, nil, fault.Invalid("%s is not a regular file", ref)
	}
	f, err := loadFile(ctx, ref, info, o)
	return f, nil, err
}

func loadFile(ctx context.Context, ref string, info fs.FileInfo, o Options) (*function.Function, error) {
	switch suffix := strings.ToLower(filepath.Ext(ref)); suffix {
	case ".py":
		source, err := readSource(ref)
		if err != nil {
			return nil, err
		}
		return o.python(ctx, ref, source)
	case ".ipynb":
		return o.notebook(ctx, ref)
	case ".yaml", ".yml", ".json":
		return o.definition(ref)
	case ".go":
		return o.goFile(ref)
	case ".sh", ".bash":
		return o.script(ref)
	default:
		if info.Mode()&0o111 != 0 {
			return o.executable(ref)
		}
		return nil, fault.Invalid("%s: files ending in %q are not supported; use .py, .ipynb, .yaml, .json, .sh, .go or an executable (chmod +x)", ref, suffix)
	}
}

// python embeds a Python file.
func (o Options) python(ctx context.Context, ref string, source []byte) (*function.Function, error) {
	f, err := o.begin(ref)
	if err != nil {
		return nil, err
	}
	return f, o.embed(ctx, f, ref, source)
}

// embed puts source into f and describes it.
func (o Options) embed(ctx context.Context, f *function.Function, ref string, source []byte) error {
	f.SetCode(source, filepath.ToSlash(ref))
	f.SetSpec(origin(ref), "build", "code_origin")
	return o.describe(ctx, f, ref, source)
}

// describe records the entry points of source.
func (o Options) describe(ctx context.Context, f *function.Function, ref string, source []byte) error {
	if o.Describer == nil || f.Kind().Nuclio() && f.Kind() != function.KindRemote {
		return nil
	}
	entries, err := o.Describer.Describe(ctx, source)
	if syntax := (*SyntaxError)(nil); errors.As(err, &syntax) {
		if syntax.Line > 0 {
			ref = fmt.Sprintf("%s:%d", ref, syntax.Line)
		}
		return fault.Invalid("%s: %w", ref, &located{syntax})
	}
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		f.SetSpec(entries, "entry_points")
	}
	return nil
}

// located is a SyntaxError whose line is said by what stands around it.
type located struct{ *SyntaxError }

func (e *located) Error() string { return e.Message }

func (e *located) Unwrap() error { return e.SyntaxError }

// begin makes the function that ref's code goes into.
func (o Options) begin(ref string) (*function.Function, error) {
	kind := o.Kind
	if kind == function.KindDefault {
		kind = function.KindJob
	}
	if !kind.Known() {
		return nil, function.New(kind, "").Validate()
	}
	name := o.Name
	if name == "" {
		name = stem(ref)
	}
	f := function.New(kind, function.NormalizeName(name))
	return f, o.finish(f)
}

// finish sets what the options say.
func (o Options) finish(f *function.Function) error {
	if o.Name != "" {
		f.SetName(function.NormalizeName(o.Name))
	}
	if err := function.ValidateName("the function name", f.Name()); err != nil {
		return err
	}
	if o.Project != "" {
		if err := function.ValidateProjectName("the project", o.Project); err != nil {
			return err
		}
		f.SetProject(o.Project)
	}
	if o.Tag != "" {
		if err := function.ValidateTag("the tag", o.Tag); err != nil {
			return err
		}
		f.SetTag(o.Tag)
	}
	if o.Handler != "" {
		if _, err := function.ParseHandler(o.Handler); err != nil {
			return err
		}
		f.SetSpec(o.Handler, "default_handler")
	}
	if o.Image != "" {
		f.SetSpec(o.Image, "image")
	}
	if len(o.Requirements) > 0 {
		spec, err := f.Spec()
		if err != nil {
			return err
		}
		f.SetRequirements(append(spec.Requirements, o.Requirements...))
	}
	return nil
}

func stem(ref string) string {
	if abs, err := filepath.Abs(ref); err == nil {
		ref = abs
	}
	base := filepath.Base(ref)
	if trimmed := strings.TrimSuffix(base, filepath.Ext(base)); trimmed != "" {
		return trimmed
	}
	return base
}

// readFile reads a file that is embedded.
func readFile(ref string) ([]byte, error) { return readLimited(ref, MaxFile) }

func readLimited(ref string, limit int64) ([]byte, error) {
	file, err := os.Open(ref)
	if err != nil {
		return nil, fault.Invalid("%s cannot be read: %w", ref, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fault.Invalid("%s cannot be read: %w", ref, err)
	}
	if int64(len(data)) > limit {
		return nil, fault.TooLarge("%s is larger than %d MiB, the most that one file of code may have; use a folder for large code", ref, limit>>20)
	}
	return data, nil
}

// readSource reads a text file of code: UTF-8, without a byte order mark.
func readSource(ref string) ([]byte, error) {
	data, err := readFile(ref)
	if err != nil {
		return nil, err
	}
	return checkSource(ref, data)
}

// checkSource strips a byte order mark and refuses what is not text.
func checkSource(ref string, data []byte) ([]byte, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if at := bytes.IndexByte(data, 0); at >= 0 {
		return nil, fault.Invalid("%s is binary: there is a zero byte at position %d; it is not source code", ref, at)
	}
	if !utf8.Valid(data) {
		line := 1
		for rest := data; len(rest) > 0; {
			r, size := utf8.DecodeRune(rest)
			if r == utf8.RuneError && size == 1 {
				break
			}
			if r == '\n' {
				line++
			}
			rest = rest[size:]
		}
		return nil, fault.Invalid("%s:%d: the text is not UTF-8; save the file as UTF-8", ref, line)
	}
	return data, nil
}
