package client

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// codes maps the status of an answer to what it means.
var codes = map[int]fault.Code{
	http.StatusBadRequest:            fault.CodeInvalid,
	http.StatusUnprocessableEntity:   fault.CodeInvalid,
	http.StatusUnauthorized:          fault.CodeUnauthorized,
	http.StatusForbidden:             fault.CodeForbidden,
	http.StatusNotFound:              fault.CodeNotFound,
	http.StatusMethodNotAllowed:      fault.CodeNotSupported,
	http.StatusConflict:              fault.CodeConflict,
	http.StatusPreconditionFailed:    fault.CodePrecondition,
	http.StatusRequestEntityTooLarge: fault.CodeTooLarge,
	http.StatusNotImplemented:        fault.CodeNotSupported,
	http.StatusBadGateway:            fault.CodeUnavailable,
	http.StatusServiceUnavailable:    fault.CodeUnavailable,
	http.StatusGatewayTimeout:        fault.CodeUnavailable,
}

// answerError makes the error for an answer of 400 or above.
func answerError(r *request, status int, raw []byte) error {
	code, ok := codes[status]
	if !ok {
		code = fault.CodeInternal
		if status < 500 {
			code = fault.CodeInvalid
		}
	}
	// The submit route says this before every sentence.
	message := strings.TrimPrefix(detail(raw), "Runtime error: ")
	if message == "" {
		message = fmt.Sprintf("%s %s was answered with status %d %s", r.method, r.path, status, http.StatusText(status))
	}
	if code == fault.CodeUnauthorized {
		message += "; give a token in MILLRACE_TOKEN or --token-file"
	}
	return &fault.Error{Code: code, Message: message}
}

// detail reads the sentence out of an error body: `detail` is a string, an object
// with a reason, or a list of field errors. "" means there is none.
func detail(raw []byte) string {
	if len(bytes.TrimSpace(raw)) == 0 {
		return ""
	}
	object, err := document.DecodeObject(raw)
	if err != nil {
		return ""
	}
	switch value := object["detail"].(type) {
	case string:
		return unwrapClass(value)
	case document.Object:
		for _, key := range []string{"reason", "message", "error"} {
			if text := document.String(value, key); text != "" {
				return unwrapClass(text)
			}
		}
		if len(value) > 0 {
			return string(document.Encode(value))
		}
	case []any:
		var parts []string
		for _, item := range value {
			entry, ok := item.(document.Object)
			if !ok {
				continue
			}
			var where []string
			for _, part := range document.List(entry, "loc") {
				where = append(where, strings.Trim(string(document.Encode(part)), `"`))
			}
			parts = append(parts, strings.TrimPrefix(strings.Join(where, ".")+": ", ": ")+document.String(entry, "msg"))
		}
		return strings.Join(parts, "; ")
	}
	return ""
}

// unwrapClass turns the form Class('sentence') or Class("sentence"), in which
// errors travel, into the sentence.
func unwrapClass(text string) string {
	open := strings.IndexByte(text, '(')
	if open <= 0 || !strings.HasSuffix(text, ")") {
		return text
	}
	for _, r := range text[:open] {
		if (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '.' {
			return text
		}
	}
	inner := text[open+1 : len(text)-1]
	if len(inner) < 2 || inner[0] != inner[len(inner)-1] || (inner[0] != '\'' && inner[0] != '"') {
		return text
	}
	return unescapePython(inner[1 : len(inner)-1])
}

// unescapePython undoes the escapes of a Python string's repr that appear in
// sentences.
func unescapePython(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\"`, `"`, `\n`, "\n", `\t`, "\t", `\r`, "\r").Replace(s)
}
