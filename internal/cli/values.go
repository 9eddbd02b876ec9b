package cli

import (
	"cmp"
	"strings"

	"github.com/millrace/millrace/internal/document"
)

// valueRule is how the text of a parameter becomes a value, said in help and in
// docs/cli.md.
const valueRule = `VALUE is read as JSON (1, 0.5, true, null, "01", [1, 2], {"a": 1}); True, False and None mean
what they mean in Python; anything else is the text itself. To pass text that looks like a
value, quote it as JSON: --param 'zip="01234"'.`

// parseValue reads a value by valueRule. NaN and Infinity are text: they have no
// form in JSON that every program reads.
func parseValue(text string) any {
	switch strings.TrimSpace(text) {
	case "True":
		return true
	case "False":
		return false
	case "None":
		return nil
	case "NaN", "Infinity", "-Infinity":
		return text
	}
	value, err := document.Decode([]byte(text))
	if err != nil {
		return text
	}
	return value
}

// splitPair splits NAME=VALUE at the first "="; blanks around the name go.
func splitPair(flag, text string) (name, value string, err error) {
	name, value, ok := strings.Cut(text, "=")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return "", "", usagef("--%s %q must be NAME=VALUE", flag, text)
	}
	return name, value, nil
}

// parseParams reads --param; a name given twice has its last value.
func parseParams(list []string) (document.Object, error) {
	out := document.Object{}
	for _, text := range list {
		name, value, err := splitPair("param", text)
		if err != nil {
			return nil, err
		}
		out[name] = parseValue(value)
	}
	return out, nil
}

// parseStrings reads a flag of NAME=VALUE pairs whose values are text.
func parseStrings(flag string, list []string) (document.Object, error) {
	out := document.Object{}
	for _, text := range list {
		name, value, err := splitPair(flag, text)
		if err != nil {
			return nil, err
		}
		out[name] = value
	}
	return out, nil
}

// inputURL makes the address of an input absolute: a path without a scheme is a
// file on this machine, seen from the working directory.
func (e *env) inputURL(value string) string {
	if value == "" || strings.Contains(value, "://") {
		return value
	}
	return e.path(value)
}

// parseEnv reads --env: NAME=VALUE, or NAME for the value it has here.
func (e *env) parseEnv(list []string) ([]any, error) {
	var out []any
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if name = strings.TrimSpace(name); name == "" {
			return nil, usagef("--env %q must be NAME=VALUE or NAME", text)
		}
		if !ok {
			if value = e.Getenv(name); value == "" {
				return nil, usagef("--env %s: the variable is not set here; write %s=VALUE", name, cmp.Or(name, "NAME"))
			}
		}
		out = append(out, document.Object{"name": name, "value": value})
	}
	return out, nil
}
