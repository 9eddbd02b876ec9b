package function

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// MaxYAML is the largest YAML text that is read, in bytes.
const MaxYAML = 32 << 20

// maxAliased bounds how many values aliases may add to a document.
const maxAliased = 100_000

// DecodeYAML reads one YAML document into document values.
//
// Function files are written by PyYAML, so plain scalars mean what they mean there
// (YAML 1.1): yes and on are booleans, 0x1F, 017 and 1:30 integers, and 1e5, which
// has no point, is a string. Floats keep their literal when JSON has it. Times
// become strings as they are written. Duplicate keys, recursive aliases, aliases
// that multiply a document, and tags beyond the standard ones are refused. Errors
// carry fault.CodeInvalid and name the line.
func DecodeYAML(data []byte) (any, error) {
	if len(data) > MaxYAML {
		return nil, fault.TooLarge("the YAML text is larger than %d MiB", MaxYAML>>20)
	}
	if at := bytes.IndexByte(data, 0); at >= 0 {
		return nil, fault.Invalid("malformed YAML: there is a zero byte at position %d", at)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root, second yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil, fault.Invalid("the YAML document is empty")
	case err != nil:
		return nil, fault.Invalid("malformed YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fault.Invalid("the YAML text has more than one document; write each into its own file")
	}
	d := yamlDecoder{active: map[*yaml.Node]bool{}}
	return d.value(&root, 0)
}

type yamlDecoder struct {
	active  map[*yaml.Node]bool // anchors being expanded
	aliased int                 // values made inside aliases
	inAlias bool
}

func (d *yamlDecoder) value(node *yaml.Node, depth int) (any, error) {
	if depth > document.MaxDepth {
		return nil, yamlError(node, "nested deeper than %d levels", document.MaxDepth)
	}
	if d.inAlias {
		if d.aliased++; d.aliased > maxAliased {
			return nil, yamlError(node, "aliases add more than %d values; write the values out", maxAliased)
		}
	}
	switch node.Kind {
	case yaml.DocumentNode:
		return d.value(node.Content[0], depth)
	case yaml.AliasNode:
		return d.alias(node, depth)
	case yaml.MappingNode:
		if err := checkTag(node, "!!map"); err != nil {
			return nil, err
		}
		return d.mapping(node, depth)
	case yaml.SequenceNode:
		if err := checkTag(node, "!!seq", "!!python/tuple"); err != nil {
			return nil, err
		}
		list := make([]any, 0, len(node.Content))
		for _, item := range node.Content {
			value, err := d.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	default:
		return scalar(node)
	}
}

func (d *yamlDecoder) alias(node *yaml.Node, depth int) (any, error) {
	target := node.Alias
	if d.active[target] {
		return nil, yamlError(node, "the alias *%s contains itself", node.Value)
	}
	outer := d.inAlias
	d.active[target], d.inAlias = true, true
	value, err := d.value(target, depth)
	d.inAlias = outer
	delete(d.active, target)
	return value, err
}

func (d *yamlDecoder) mapping(node *yaml.Node, depth int) (document.Object, error) {
	object := make(document.Object, len(node.Content)/2)
	var merged []document.Object
	for i := 0; i+1 < len(node.Content); i += 2 {
		keyNode := node.Content[i]
		value, err := d.value(node.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if keyNode.Kind == yaml.ScalarNode && keyNode.Value == "<<" && keyNode.Style == 0 {
			list, err := mergeList(keyNode, value)
			if err != nil {
				return nil, err
			}
			merged = append(merged, list...)
			continue
		}
		key, err := d.key(keyNode)
		if err != nil {
			return nil, err
		}
		if _, twice := object[key]; twice {
			return nil, yamlError(keyNode, "the key %q stands twice in one mapping", cut(key))
		}
		object[key] = value
	}
	for _, other := range merged { // own keys win, then earlier ones
		for key, value := range other {
			if _, own := object[key]; !own {
				object[key] = value
			}
		}
	}
	return object, nil
}

func mergeList(node *yaml.Node, value any) ([]document.Object, error) {
	items, ok := value.([]any)
	if !ok {
		items = []any{value}
	}
	var out []document.Object
	for _, item := range items {
		object, ok := item.(document.Object)
		if !ok {
			return nil, yamlError(node, "the merge key << needs a mapping or a list of mappings, got %s", document.TypeName(item))
		}
		out = append(out, object)
	}
	return out, nil
}

// key reads a mapping's key. One that is no string becomes what JSON made by
// Python has for it.
func (d *yamlDecoder) key(node *yaml.Node) (string, error) {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.ScalarNode {
		return "", yamlError(node, "a key must be a string")
	}
	value, err := scalar(node)
	if err != nil {
		return "", err
	}
	if s, ok := value.(string); ok {
		return s, nil
	}
	return string(document.Canonical(value)), nil
}

func yamlError(node *yaml.Node, format string, args ...any) error {
	inner := fault.Invalid(format, args...)
	return fault.Invalid("malformed YAML in line %d: %w", node.Line, inner)
}

func checkTag(node *yaml.Node, allowed ...string) error {
	tag := shortTag(node)
	if tag == "" || tag == "!" {
		return nil
	}
	for _, ok := range allowed {
		if tag == ok {
			return nil
		}
	}
	return yamlError(node, "the tag %s is not supported here; write a plain value", cut(tag))
}

// shortTag is the tag that stands in the text, "" when there is none.
func shortTag(node *yaml.Node) string {
	if node.Style&yaml.TaggedStyle == 0 {
		return ""
	}
	return strings.Replace(node.Tag, "tag:yaml.org,2002:", "!!", 1)
}

var (
	yamlBool  = lazyregexp.New(`\A(?:yes|Yes|YES|true|True|TRUE|on|On|ON|no|No|NO|false|False|FALSE|off|Off|OFF)\z`)
	yamlTrue  = lazyregexp.New(`\A(?:yes|Yes|YES|true|True|TRUE|on|On|ON)\z`)
	yamlNull  = lazyregexp.New(`\A(?:~|null|Null|NULL|)\z`)
	yamlInt   = lazyregexp.New(`\A[-+]?(?:0b[0-1_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)\z`)
	yamlClock = lazyregexp.New(`\A[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\z`)
	yamlFloat = lazyregexp.New(`\A(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)\z`)
	yamlInf   = lazyregexp.New(`\A[-+]?\.(?:inf|Inf|INF)\z`)
	yamlNaN   = lazyregexp.New(`\A\.(?:nan|NaN|NAN)\z`)
	jsonFloat = lazyregexp.New(`\A-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?\z`)
)

func scalar(node *yaml.Node) (any, error) {
	plain := node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	text := node.Value
	switch tag := shortTag(node); tag {
	case "":
		if !plain {
			return text, nil
		}
		return resolve(text)
	case "!", "!!str", "!!timestamp", "!!python/str", "!!python/unicode":
		return text, nil
	case "!!int", "!!float", "!!bool", "!!null":
		value, err := resolve(text)
		if err != nil {
			return nil, err
		}
		if number, ok := value.(json.Number); ok && tag == "!!float" && !strings.ContainsAny(string(number), ".eE") {
			return number + ".0", nil
		}
		ok := false
		switch value := value.(type) {
		case nil:
			ok = tag == "!!null"
		case bool:
			ok = tag == "!!bool"
		case json.Number:
			ok = tag == "!!float" || tag == "!!int" && !strings.ContainsAny(string(value), ".eE")
		case float64:
			ok = tag == "!!float"
		}
		if !ok {
			return nil, yamlError(node, "%q is not a value of the tag %s", cut(text), tag)
		}
		return value, nil
	default:
		return nil, checkTag(node, "!!str")
	}
}

// resolve gives a plain scalar its type.
func resolve(text string) (any, error) {
	switch {
	case yamlNull.MatchString(text):
		return nil, nil
	case yamlBool.MatchString(text):
		return yamlTrue.MatchString(text), nil
	case len(text) > 1000: // no number that means something
		return text, nil
	case yamlInt.MatchString(text):
		if n, ok := integer(text); ok {
			return n, nil
		}
		return text, nil
	case yamlFloat.MatchString(text):
		return float(strings.ReplaceAll(text, "_", ""))
	case yamlClock.MatchString(text):
		return clock(text)
	case yamlInf.MatchString(text):
		if text[0] == '-' {
			return math.Inf(-1), nil
		}
		return math.Inf(1), nil
	case yamlNaN.MatchString(text):
		return math.NaN(), nil
	}
	return text, nil
}

// integer reads an integer of any size in one of the bases of YAML 1.1.
func integer(text string) (json.Number, bool) {
	digits := strings.ReplaceAll(text, "_", "")
	sign := ""
	if digits[0] == '-' || digits[0] == '+' {
		sign, digits = strings.TrimPrefix(digits[:1], "+"), digits[1:]
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0b"):
		base, digits = 2, digits[2:]
	case strings.HasPrefix(digits, "0x"):
		base, digits = 16, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base = 8
	}
	n, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return "", false
	}
	if sign != "" {
		n.Neg(n)
	}
	return json.Number(n.String()), true
}

// float keeps the literal where JSON has it.
func float(text string) (any, error) {
	if jsonFloat.MatchString(text) {
		return json.Number(text), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && math.IsInf(f, 0) {
		return f, nil
	}
	return json.Number(document.PythonFloat(f)), nil
}

// clock reads the base-60 numbers of YAML 1.1, such as 1:30.
func clock(text string) (any, error) {
	digits := strings.ReplaceAll(strings.TrimLeft(text, "+-"), "_", "")
	total := 0.0
	for part := range strings.SplitSeq(digits, ":") {
		n, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return text, nil
		}
		total = total*60 + n
	}
	if text[0] == '-' {
		total = -total
	}
	switch {
	case math.IsInf(total, 0) || math.Abs(total) >= 1<<53:
		return text, nil
	case strings.Contains(digits, "."):
		return json.Number(document.PythonFloat(total)), nil
	default:
		return json.Number(strconv.FormatInt(int64(total), 10)), nil
	}
}
