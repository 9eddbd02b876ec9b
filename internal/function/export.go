package function

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Format is a textual form of a function.
type Format string

// The formats.
const (
	YAML Format = "yaml"
	JSON Format = "json"
)

// dropped are the fields that do not travel with an exported function, because
// they belong to where it ran.
var (
	droppedMetadata = []string{"hash", "namespace", "project", "labels", "annotations", "credentials", "updated", "created"}
	droppedPod      = []string{
		"volumes", "volume_mounts", "resources", "replicas", "image_pull_policy", "service_account", "image_pull_secret",
		"node_name", "node_selector", "affinity", "tolerations", "priority_class_name", "preemption_mode", "security_context",
	}
	droppedSpark = []string{
		"driver_node_selector", "executor_node_selector", "driver_tolerations", "executor_tolerations", "driver_affinity",
		"executor_affinity", "driver_volume_mounts", "executor_volume_mounts", "driver_cores", "executor_cores",
	}
)

// Strip returns a copy of doc for use elsewhere: without status, without what
// identifies this version and its project, without placement and mounts, and with
// the values of V3IO_ variables blanked.
func Strip(doc document.Object) document.Object {
	out := document.Clone(doc)
	delete(out, "status")
	remove(document.Map(out, "metadata"), droppedMetadata)
	spec, kind := document.Map(out, "spec"), Kind(document.String(doc, "kind"))
	if kind.Pod() && spec != nil {
		remove(spec, droppedPod)
		spec["disable_auto_mount"] = false
	}
	if kind == KindSpark {
		remove(spec, droppedSpark)
	}
	for _, item := range document.List(spec, "env") {
		if entry, ok := item.(document.Object); ok && strings.HasPrefix(document.String(entry, "name"), "V3IO_") {
			entry["value"] = ""
		}
	}
	return out
}

func remove(object document.Object, keys []string) {
	for _, key := range keys {
		delete(object, key)
	}
}

// Export renders the function for a file. A kind handler cannot be exported, for
// its code exists in one process only. With strip it is Strip that is rendered.
func (f *Function) Export(format Format, strip bool) ([]byte, error) {
	if f.Kind() == KindHandler {
		return nil, fault.Invalid("functions of kind handler cannot be exported; use kind local or job")
	}
	doc := f.Doc
	if strip {
		doc = Strip(doc)
	}
	switch format {
	case YAML:
		return EncodeYAML(doc)
	case JSON:
		return append(document.Encode(doc), '\n'), nil
	default:
		return nil, fault.Invalid("format %q is not known; use yaml or json", cut(string(format)))
	}
}

// Import reads a function from YAML or JSON text. A function without kind is a
// job.
func Import(data []byte) (*Function, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	value, err := decodeText(data)
	if err != nil {
		return nil, err
	}
	doc, ok := value.(document.Object)
	if !ok {
		return nil, fault.Invalid("a function must be an object with kind, metadata and spec, got %s", document.TypeName(value))
	}
	if doc["metadata"] == nil && doc["spec"] == nil {
		return nil, fault.Invalid("this is not a function: it has neither metadata nor spec")
	}
	if version := document.String(doc, "apiVersion"); strings.HasPrefix(version, "nuclio.io/") {
		return nil, fault.Invalid("this is a Nuclio function configuration (apiVersion %s), not a function; set kind to nuclio and put it under spec.base_spec", cut(version))
	}
	if doc["kind"] == nil {
		doc["kind"] = string(KindJob)
	}
	return Parse(doc)
}

// decodeText reads JSON when the text begins like it, and YAML otherwise or when it
// is not JSON after all (a flow mapping begins alike).
func decodeText(data []byte) (any, error) {
	text := bytes.TrimLeft(data, " \t\r\n")
	if len(text) == 0 {
		return nil, fault.Invalid("the file is empty; a function has kind, metadata and spec")
	}
	if text[0] != '{' {
		return DecodeYAML(data)
	}
	value, err := document.Decode(data)
	if err == nil {
		return value, nil
	}
	if value, yamlErr := DecodeYAML(data); yamlErr == nil {
		return value, nil
	}
	return nil, err
}

// EncodeYAML renders a document as block style YAML that PyYAML and YAML 1.2
// readers read alike: whatever one of them could take for another type is quoted,
// and floats have a point. The keys of a function come in its customary order, all
// others sorted; there are no anchors.
func EncodeYAML(doc document.Object) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	node := mappingNode(doc, []string{"kind", "metadata", "spec", "verbose", "status"})
	if err := encoder.Encode(node); err != nil {
		return nil, fault.Invalid("the document cannot be written as YAML: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fault.Invalid("the document cannot be written as YAML: %w", err)
	}
	return out.Bytes(), nil
}

func mappingNode(object document.Object, first []string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	if len(object) == 0 {
		node.Style = yaml.FlowStyle
	}
	keys := sortedKeys(object)
	slices.SortStableFunc(keys, func(a, b string) int { return order(first, a) - order(first, b) })
	for _, key := range keys {
		node.Content = append(node.Content, stringNode(key), valueNode(object[key]))
	}
	return node
}

func order(first []string, key string) int {
	if at := slices.Index(first, key); at >= 0 {
		return at
	}
	return len(first)
}

func valueNode(value any) *yaml.Node {
	switch v := value.(type) {
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}
	case string:
		return stringNode(v)
	case document.Object:
		return mappingNode(v, []string{"name"})
	case []any:
		node := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if len(v) == 0 {
			node.Style = yaml.FlowStyle
		}
		for _, item := range v {
			node.Content = append(node.Content, valueNode(item))
		}
		return node
	default:
		return numberNode(v)
	}
}

// numberNode writes floats so that YAML 1.1 knows them: with a point and, before an
// exponent, a sign.
func numberNode(value any) *yaml.Node {
	literal := string(document.Canonical(value))
	if number, ok := value.(json.Number); ok {
		literal = string(number)
	}
	tag := "!!int"
	switch f, isFloat := value.(float64); {
	case isFloat && math.IsNaN(f):
		literal, tag = ".nan", "!!float"
	case isFloat && math.IsInf(f, 0):
		literal, tag = strings.TrimPrefix(strconv.FormatFloat(f, 'f', -1, 64), "+"), "!!float"
		literal = map[string]string{"Inf": ".inf", "-Inf": "-.inf"}[literal]
	case strings.ContainsAny(literal, ".eE"):
		tag = "!!float"
		mantissa, exponent, scaled := strings.Cut(strings.ToLower(literal), "e")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		literal = mantissa
		if scaled {
			if !strings.HasPrefix(exponent, "-") {
				exponent = "+" + strings.TrimPrefix(exponent, "+")
			}
			literal += "e" + exponent
		}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: literal}
}

// plainText is what is a string to every YAML reader without quotes.
var (
	plainText = lazyregexp.New(`\A[A-Za-z_/][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./(][A-Za-z0-9_./()-]*)*\z`)
	wordText  = lazyregexp.New(`(?i)\A(?:y|n|yes|no|true|false|on|off|null)\z`)
)

func stringNode(text string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	switch {
	case strings.Contains(text, "\n") && literalSafe(text):
		node.Style = yaml.LiteralStyle
	case !plainText.MatchString(text) || wordText.MatchString(text):
		node.Style = yaml.SingleQuotedStyle
		if strings.ContainsFunc(text, func(r rune) bool {
			return r < 0x20 || r == '\ufeff' || r >= 0x7f && r <= 0xa0 || r == 0x2028 || r == 0x2029
		}) {
			node.Style = yaml.DoubleQuotedStyle
		}
	}
	return node
}

// literalSafe reports whether a text of several lines survives literal style.
func literalSafe(text string) bool {
	if text[0] == ' ' || text[0] == '\n' || text[0] == '\t' || strings.HasSuffix(text, "\n\n") {
		return false
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimRight(line, " \t") != line || strings.ContainsFunc(line, func(r rune) bool {
			return r < 0x20 || r >= 0x7f && r <= 0xa0 || r == 0x2028 || r == 0x2029 || r == '\ufeff' || r == '\ufffd'
		}) {
			return false
		}
	}
	return true
}
