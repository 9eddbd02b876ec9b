package cli

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/internal/document"
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

// renderJSON is the indented JSON of a document, with a newline at its end.
func renderJSON(value any) []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, document.Encode(value), "", "  "); err != nil {
		panic("cli: indent encoded JSON: " + err.Error()) // Encode writes valid JSON
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// renderYAML is the YAML of a document: keys sorted, numbers as they stand,
// strings with line breaks as literal blocks.
func renderYAML(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(yamlNode(value)); err != nil {
		return nil, err
	}
	return out.Bytes(), encoder.Close()
}

func yamlNode(value any) *yaml.Node {
	scalar := func(tag, text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text} }
	switch v := value.(type) {
	case document.Object:
		node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			node.Content = append(node.Content, scalar("!!str", key), yamlNode(v[key]))
		}
		return node
	case []any:
		node := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, item := range v {
			node.Content = append(node.Content, yamlNode(item))
		}
		return node
	case nil:
		return scalar("!!null", "null")
	case bool:
		if v {
			return scalar("!!bool", "true")
		}
		return scalar("!!bool", "false")
	case json.Number:
		if strings.ContainsAny(string(v), ".eE") {
			return yamlFloat(v)
		}
		return scalar("!!int", string(v))
	case float64:
		switch {
		case math.IsNaN(v):
			return scalar("!!float", ".nan")
		case math.IsInf(v, 1):
			return scalar("!!float", ".inf")
		case math.IsInf(v, -1):
			return scalar("!!float", "-.inf")
		}
		return scalar("!!float", document.PythonFloat(v))
	case string:
		node := scalar("!!str", v)
		if strings.Contains(v, "\n") {
			node.Style = yaml.LiteralStyle
		}
		return node
	}
	// What is left (integers, string lists and maps) has a decoded form.
	decoded, err := document.Decode(document.Encode(value))
	if err != nil {
		panic("cli: decode encoded JSON: " + err.Error())
	}
	return yamlNode(decoded)
}

// yamlFloat keeps the literal where YAML reads it as a float: 1e5 is a string to
// many readers, 1.0e+5 is not.
func yamlFloat(number json.Number) *yaml.Node {
	text := string(number)
	if !strings.Contains(text, ".") || strings.ContainsAny(text, "eE") {
		if f, err := number.Float64(); err == nil {
			text = document.PythonFloat(f)
			if mantissa, exponent, ok := strings.Cut(text, "e"); ok && !strings.Contains(mantissa, ".") {
				text = mantissa + ".0e" + exponent
			}
		}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: text}
}
