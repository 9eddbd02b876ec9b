package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
)

// printDocument writes one document to standard output as JSON (indented) or YAML.
func (e *env) printDocument(format string, value any) error {
	raw := renderJSON(value)
	if format == "yaml" {
		var err error
		if raw, err = renderYAML(value); err != nil {
			return err
		}
	}
	_, err := e.Stdout.Write(raw)
	return err
}

// listWriter prints a list as printDocument does, but each document when it comes.
type listWriter struct {
	*env
	format string // other than json and yaml print nothing
	some   bool
}

func (l *listWriter) add(doc document.Object) error {
	if l.format == "yaml" {
		raw, err := renderYAML([]any{doc})
		if err != nil {
			return err
		}
		l.some = true
		_, err = l.Stdout.Write(raw)
		return err
	}
	text := strings.ReplaceAll(strings.TrimSuffix(string(renderJSON(doc)), "\n"), "\n", "\n  ")
	before := ",\n  "
	if !l.some {
		before = "[\n  "
	}
	l.some = true
	return l.printf("%s%s", before, text)
}

func (l *listWriter) end() error {
	switch {
	case l.format != "json" && l.format != "yaml":
		return nil
	case !l.some:
		return l.printDocument(l.format, []any{})
	case l.format == "json":
		return l.printf("\n]\n")
	}
	return nil
}

// renderJSON is the indented JSON of a document, with a newline at its end.
func renderJSON(value any) []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, document.Encode(value), "", "  "); err != nil {
		panic("cli: indent encoded JSON: " + err.Error()) // Encode writes valid JSON
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// renderYAML is the YAML of a document, or of a list of documents.
func renderYAML(value any) ([]byte, error) {
	if object, ok := value.(document.Object); ok {
		return function.EncodeYAML(object)
	}
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("cannot write %T as YAML", value)
	}
	if len(list) == 0 {
		return []byte("[]\n"), nil
	}
	var out bytes.Buffer
	for _, item := range list {
		object, ok := item.(document.Object)
		if !ok {
			return nil, fmt.Errorf("cannot write a list of %T as YAML", item)
		}
		raw, err := function.EncodeYAML(object)
		if err != nil {
			return nil, err
		}
		mark := "- "
		for line := range strings.Lines(string(raw)) {
			if strings.TrimRight(line, "\r\n") != "" {
				out.WriteString(mark)
				mark = "  "
			}
			out.WriteString(line)
		}
	}
	return out.Bytes(), nil
}
