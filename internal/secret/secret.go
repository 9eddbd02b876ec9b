// Package secret is the secrets of projects: what they may be called, how they are
// encrypted, which of them a run gets, and how their values are kept out of what
// people read.
//
// A secret is written and never read back: people list names, and a value reaches
// only the execution whose function or task names it (see Wanted).
package secret

import (
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// MaxValue is how many bytes a value may have: it has to fit into the environment
// of a process.
const MaxValue = 120 << 10

// internalPrefix begins the names that belong to the server.
const internalPrefix = "mlrun."

var namePattern = lazyregexp.New(`\A[-._a-zA-Z0-9]{1,253}\z`)

// ValidateName checks the name of a secret: 1 to 253 letters, digits, '-', '_' and
// '.' (fault.CodeInvalid), and none of those that belong to the server
// (fault.CodeForbidden).
func ValidateName(name string) error {
	if !namePattern.MatchString(name) {
		return fault.Invalid("the secret name %q is invalid; use 1 to 253 letters, digits, '-', '_' and '.'", clip(name))
	}
	if Internal(name) {
		return fault.Forbidden("the secret name %q is one of the server's own, which begin with %s; use another", clip(name), internalPrefix)
	}
	return nil
}

// Internal reports whether a name belongs to the server and is hidden from people.
func Internal(name string) bool { return strings.HasPrefix(name, internalPrefix) }

// ValidateValue checks a value: not empty, since that counts as a missing secret,
// and something that an environment variable can hold. The message never has the
// value in it.
func ValidateValue(name, value string) error {
	switch {
	case value == "":
		return fault.Invalid("the secret %s has an empty value; give one, or delete the secret", clip(name))
	case len(value) > MaxValue:
		return fault.Invalid("the secret %s has %d bytes and may have at most %d; put a longer one into a file that the function reads", clip(name), len(value), MaxValue)
	case strings.ContainsRune(value, 0):
		return fault.Invalid("the secret %s contains a NUL character, which no environment variable can hold; encode it, for example as base64", clip(name))
	}
	return nil
}

// Variable is the environment variable in which a run finds a project's secret.
func Variable(name string) string { return "MLRUN_K8S_SECRET__" + strings.ToUpper(name) }

// clip shortens what a client wrote so that it can stand in a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
