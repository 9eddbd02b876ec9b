package function

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// NormalizeName is how clients spell the name of a function: every run of white
// space and every underscore becomes a dash, letters become lower-case. Nothing
// else changes, so a normalised name can still be refused by ValidateName.
func NormalizeName(name string) string {
	var b strings.Builder
	blank := false
	for _, r := range name {
		if unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f { // what Python's \s matches
			if !blank {
				b.WriteByte('-')
			}
			blank = true
			continue
		}
		blank = false
		if r == '_' {
			r = '-'
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

var (
	wordPattern  = lazyregexp.New(`\A(?:(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\z`)
	labelPattern = lazyregexp.New(`\A[a-z0-9](?:[-a-z0-9]*[a-z0-9])?\z`)
)

const (
	wordRule  = "at most 63 of letters, digits, '-', '_' and '.', with a letter or digit first and last"
	labelRule = "1 to 63 of lower-case letters, digits and '-', with a letter or digit first and last"
)

// ValidateName checks the name a function is stored under: 1 to 255 bytes without
// white space, control characters and the separators of a URI. field names it in
// the error.
func ValidateName(field, name string) error {
	const rule = "1 to 255 characters without blanks, '/', ':' and '@'"
	switch {
	case name == "":
		return fault.Invalid("%s is empty; a function needs a name of %s", field, rule)
	case len(name) > 255 || !utf8.ValidString(name) || strings.ContainsFunc(name, badNameRune):
		return fault.Invalid("%s %q is not a function name: use %s", field, cut(name), rule)
	}
	return nil
}

func badNameRune(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("/:@", r)
}

// ValidateTag checks a tag; the empty tag passes.
func ValidateTag(field, tag string) error { return validateWord(field, "tag", tag) }

// ValidateRunName checks the name of a run; the empty name passes.
func ValidateRunName(field, name string) error { return validateWord(field, "run name", name) }

func validateWord(field, what, value string) error {
	if len(value) > 63 || !wordPattern.MatchString(value) {
		return fault.Invalid("%s %q is not a %s: use %s", field, cut(value), what, wordRule)
	}
	return nil
}

// ValidateProjectName checks the name of a project: a DNS-1123 label.
func ValidateProjectName(field, name string) error {
	if len(name) > 63 || !labelPattern.MatchString(name) {
		return fault.Invalid("%s %q is not a project name: use %s", field, cut(name), labelRule)
	}
	return nil
}

// ValidateLabels checks labels by the Kubernetes rules: a key is a word with an
// optional DNS prefix before a '/', a value a word that may be empty.
func ValidateLabels(field string, labels map[string]string) error {
	for key, value := range labels {
		prefix, name, prefixed := strings.Cut(key, "/")
		if !prefixed {
			prefix, name = "", key
		}
		if name == "" || len(name) > 63 || !wordPattern.MatchString(name) || prefixed && !dnsName(prefix) {
			return fault.Invalid("%s: the key %q is not a label key: use %s, with an optional DNS prefix and '/' before it", field, cut(key), wordRule)
		}
		if err := validateWord(field+"."+key, "label value", value); err != nil {
			return err
		}
	}
	return nil
}

func dnsName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if len(part) > 63 || !labelPattern.MatchString(part) {
			return false
		}
	}
	return true
}

// cut shortens a value for a message to 63 characters.
func cut(s string) string {
	if utf8.RuneCountInString(s) <= 63 {
		return s
	}
	return string([]rune(s)[:63]) + "…"
}
