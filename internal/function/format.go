package function

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// codeFile is the one placeholder that is not a parameter: it stands for the path
// of the function's code file and is left in place for whoever knows that path.
const codeFile = "codefile"

// FormatCommand splits spec.command into words and fills the {parameter}
// placeholders of each. Words are separated by white space; single and double
// quotes keep white space inside a word, as in a shell, and a backslash outside
// single quotes takes the next character as it is. Filling comes after splitting,
// so the value of a parameter never becomes several words. The placeholder
// {codefile} stays.
func FormatCommand(command string, parameters document.Object) ([]string, error) {
	words, err := splitWords(command)
	if err != nil {
		return nil, err
	}
	for i, word := range words {
		if words[i], err = formatText("spec.command", word, parameters); err != nil {
			return nil, err
		}
	}
	return words, nil
}

// FormatArgument fills the placeholders of one item of spec.args.
func FormatArgument(argument string, parameters document.Object) (string, error) {
	return formatText("spec.args", argument, parameters)
}

func splitWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	inside, quote, escaped := false, rune(0), false
	for _, r := range text {
		switch {
		case escaped:
			if quote == '"' && r != '"' && r != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inside = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inside = r, true
		case unicode.IsSpace(r):
			if inside {
				words = append(words, word.String())
				word.Reset()
			}
			inside = false
		default:
			inside = true
			word.WriteRune(r)
		}
	}
	if quote != 0 || escaped {
		return nil, fault.Invalid("spec.command %q has a quote or a backslash without its end", cut(text))
	}
	if inside {
		words = append(words, word.String())
	}
	return words, nil
}

// Quote writes word so that FormatCommand reads exactly it.
func Quote(word string) string {
	word = strings.NewReplacer("{", "{{", "}", "}}").Replace(word)
	plain := func(r rune) bool {
		return !unicode.IsSpace(r) && !strings.ContainsRune(`'"\`, r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// formatText fills {name}, {name[key]} and {name[0]}; "{{" and "}}" are braces.
func formatText(field, text string, parameters document.Object) (string, error) {
	if !strings.ContainsAny(text, "{}") {
		return text, nil
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(text) && text[i+1] == c:
			out.WriteByte(c)
			i++
		case c == '}':
			return "", fault.Invalid("%s %q has a '}' without its '{'; write '}}' for a brace", field, cut(text))
		case c == '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return "", fault.Invalid("%s %q has a '{' without its '}'; write '{{' for a brace", field, cut(text))
			}
			value, err := placeholderValue(field, text[i+1:i+end], parameters)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			i += end
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), nil
}

func placeholderValue(field, expression string, parameters document.Object) (string, error) {
	if expression == codeFile {
		if value, ok := parameters[codeFile]; ok {
			return pythonText(value), nil
		}
		return "{" + codeFile + "}", nil
	}
	name, index, indexed := strings.Cut(expression, "[")
	if name == "" || strings.ContainsAny(expression, "{!:.") || indexed && !strings.HasSuffix(index, "]") {
		return "", fault.Invalid("%s: the placeholder {%s} is not the name of a parameter; use {name}, {name[key]}, or {{ and }} for braces", field, cut(expression))
	}
	value, ok := parameters[name]
	if !ok {
		return "", fault.Invalid("%s: the placeholder {%s} has no parameter; pass --param %s=…, or write {{ and }} for braces", field, cut(expression), cut(name))
	}
	for indexed {
		var key string
		key, index, _ = strings.Cut(index, "]")
		if value, ok = element(value, key); !ok {
			return "", fault.Invalid("%s: the placeholder {%s}: parameter %s has no element %q", field, cut(expression), cut(name), cut(key))
		}
		if index, indexed = strings.CutPrefix(index, "["); !indexed && index != "" {
			return "", fault.Invalid("%s: the placeholder {%s} goes on after ']'; use {name[key]}", field, cut(expression))
		}
	}
	return pythonText(value), nil
}

func element(value any, key string) (any, bool) {
	switch v := value.(type) {
	case document.Object:
		item, ok := v[key]
		return item, ok
	case []any:
		at, err := strconv.Atoi(key)
		if err != nil || at < 0 || at >= len(v) {
			return nil, false
		}
		return v[at], true
	}
	return nil, false
}

// pythonText renders a value as Python's str() does, which is what scripts that
// are written for placeholders expect.
func pythonText(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	return pythonRepr(value)
}

func pythonRepr(value any) string {
	switch v := value.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return pythonString(v)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = pythonRepr(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case document.Object:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for i, key := range keys {
			keys[i] = pythonString(key) + ": " + pythonRepr(v[key])
		}
		return "{" + strings.Join(keys, ", ") + "}"
	case json.Number, float64:
		text := string(document.Canonical(v))
		if out, ok := map[string]string{"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}[text]; ok {
			return out
		}
		return text
	default:
		return string(document.Canonical(v))
	}
}

func pythonString(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == '\\' || r == rune(quote):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			b.WriteString(`\x` + strconv.FormatInt(int64(r)+0x100, 16)[1:])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte(quote)
	return b.String()
}
