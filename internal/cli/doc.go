package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/code/pydescribe"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/render"
)

func newDoc(e *env) *cobra.Command {
	var output, handler string
	cmd := &cobra.Command{
		Use:   "doc FUNCTION",
		Short: "Show what can be called in a function",
		Long: `Show the entry points of a function: parameters with types and defaults, what they return,
and their documentation. The code is read, not executed.

FUNCTION is a path, or [PROJECT/]NAME[:TAG][@HASH] of a stored function.`,
		Example: `  millrace doc train.py
  millrace doc demo/trainer:v2 --handler train
  millrace doc notebook.ipynb -o json`,
		Args: arguments(1, 1, "one FUNCTION"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output, "text", "json", "yaml"); err != nil {
				return err
			}
			return e.doc(args[0], handler, output)
		},
		ValidArgsFunction: e.completeFunctionOrFile,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	cmd.Flags().StringVar(&handler, "handler", "", "only this entry point")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json or yaml")
	registerWords(cmd, "output", "text", "json", "yaml")
	return cmd
}

// describer reads entry points with the interpreter at hand; its results are kept
// in the data directory.
func (e *env) describer(dataDir string) code.Describer {
	python := cmp.Or(e.Getenv("MILLRACE_PYTHON"), "python3")
	return pydescribe.New(python, filepath.Join(dataDir, "cache", "entrypoints"))
}

// functionOf returns the function that target names, a path or a stored one, with
// its entry points.
func (e *env) functionOf(target string) (*function.Function, error) {
	dataDir, err := e.dataDir()
	if err != nil {
		return nil, err
	}
	if e.isPath(target) {
		return e.load(target, dataDir, code.Options{Describer: e.describer(dataDir)})
	}
	var f *function.Function
	err = e.with(func(connection *Connection) error {
		doc, err := e.storedFunction(connection.Client, target)
		if err != nil {
			return err
		}
		f, err = function.Parse(doc)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, describeStored(e.soft, f, e.describer(dataDir))
}

// describeStored adds the entry points to a stored function that has Python code
// and was saved without them.
func describeStored(ctx context.Context, f *function.Function, describer code.Describer) error {
	if len(document.Map(f.Doc, "spec", "entry_points")) > 0 {
		return nil
	}
	spec, err := f.Spec()
	if err != nil {
		return err
	}
	if spec.Code == nil || spec.Language != "" && spec.Language != function.LanguagePython {
		return nil
	}
	entries, err := describer.Describe(ctx, spec.Code)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		f.SetSpec(entries, "entry_points")
	}
	return nil
}

func (e *env) doc(target, handler, output string) error {
	f, err := e.functionOf(target)
	if err != nil {
		return err
	}
	entries := document.Map(f.Doc, "spec", "entry_points")
	if handler != "" {
		entry, ok := entries[handler]
		if !ok {
			return usagef("%s has no entry point %q; it has %s", target, handler, orNone(slices.Sorted(maps.Keys(entries))))
		}
		entries = document.Object{handler: entry}
	}
	if output == "json" || output == "yaml" {
		if entries == nil {
			entries = document.Object{}
		}
		return e.printDocument(output, document.Object{
			"name": f.Name(), "kind": string(f.Kind()), "description": document.String(f.Doc, "spec", "description"),
			"default_handler": document.String(f.Doc, "spec", "default_handler"), "entry_points": entries,
		})
	}
	return e.printf("%s", renderDoc(f, entries, e.palette(e.Stdout)))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// renderDoc is the text of a function's entry points, in the order of the code.
func renderDoc(f *function.Function, entries document.Object, palette render.Palette) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (kind %s)\n", palette.Paint(render.Bold, f.Name()), cmp.Or(string(f.Kind()), "local"))
	if text := document.String(f.Doc, "spec", "description"); text != "" {
		fmt.Fprintf(&b, "%s\n", text)
	}
	if len(entries) == 0 {
		b.WriteString("\nno entry points: the code runs as a program\n")
		return b.String()
	}
	names := slices.Collect(maps.Keys(entries))
	line := func(name string) int64 { n, _ := document.Int(entries, name, "lineno"); return n }
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(line(a), line(b)), cmp.Compare(a, b)) })
	main := document.String(f.Doc, "spec", "default_handler")
	for _, name := range names {
		entry := document.Map(entries, name)
		fmt.Fprintf(&b, "\n%s", signature(name, entry, palette))
		if name == main {
			b.WriteString(palette.Paint(render.Dim, "  # default handler"))
		}
		b.WriteByte('\n')
		if text := strings.TrimSpace(document.String(entry, "doc")); text != "" {
			indent(&b, text)
		}
		b.WriteString(parameterDocs(entry))
	}
	return b.String()
}

func indent(b *strings.Builder, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(b, "%s\n", strings.TrimRight("    "+render.StripEscapes(strings.TrimRight(line, " \r")), " "))
	}
}

// signature writes an entry point as its def line would have it.
func signature(name string, entry document.Object, palette render.Palette) string {
	var parts []string
	for _, item := range document.List(entry, "parameters") {
		parameter, ok := item.(document.Object)
		if !ok {
			continue
		}
		part := document.String(parameter, "name")
		typ := document.String(parameter, "type")
		if typ != "" {
			part += ": " + typ
		}
		if value, ok := parameter["default"]; ok {
			equals := "="
			if typ != "" {
				equals = " = "
			}
			part += equals + pythonLiteral(value)
		}
		parts = append(parts, part)
	}
	if document.Bool(entry, "has_varargs") {
		parts = append(parts, "*args")
	}
	if document.Bool(entry, "has_kwargs") {
		parts = append(parts, "**kwargs")
	}
	text := palette.Paint(render.Bold, name) + "(" + strings.Join(parts, ", ") + ")"
	for _, item := range document.List(entry, "outputs") {
		if output, ok := item.(document.Object); ok && document.String(output, "type") != "" {
			text += " -> " + document.String(output, "type")
		}
	}
	return text
}

// parameterDocs are the documented parameters of an entry point.
func parameterDocs(entry document.Object) string {
	var b strings.Builder
	for _, item := range document.List(entry, "parameters") {
		parameter, ok := item.(document.Object)
		if text := document.String(parameter, "doc"); ok && text != "" {
			fmt.Fprintf(&b, "      %s: %s\n", document.String(parameter, "name"), oneLine(text))
		}
	}
	for _, item := range document.List(entry, "outputs") {
		output, ok := item.(document.Object)
		if text := document.String(output, "doc"); ok && text != "" {
			fmt.Fprintf(&b, "      returns: %s\n", oneLine(text))
		}
	}
	return b.String()
}

// pythonLiteral writes a default as Python would; a text may be code that was no
// literal, which cannot be told from a string, so it is quoted.
func pythonLiteral(value any) string {
	switch v := value.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return "'" + strings.ReplaceAll(strings.ReplaceAll(v, `\`, `\\`), "'", `\'`) + "'"
	case json.Number:
		return string(v)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = pythonLiteral(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case document.Object:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, pythonLiteral(key)+": "+pythonLiteral(v[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return string(document.Encode(value))
}
