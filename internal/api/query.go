package api

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

// parseQuery reads a query. What is no escape sequence stands for itself, so that
// nothing that a client sent is silently left out.
func parseQuery(raw string) url.Values {
	if values, err := url.ParseQuery(raw); err == nil {
		return values
	}
	values := url.Values{}
	for pair := range strings.SplitSeq(raw, "&") {
		if key, value, _ := strings.Cut(pair, "="); pair != "" {
			values.Add(unescape(key), unescape(value))
		}
	}
	return values
}

func unescape(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return strings.ReplaceAll(text, "+", " ")
}

// parseBool reads the spellings of a boolean that clients send.
func parseBool(name, text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "t", "1", "yes", "y", "on":
		return true, nil
	case "false", "f", "0", "no", "n", "off":
		return false, nil
	}
	return false, fault.Invalid("parameter %s must be a boolean such as true or false, got %q", name, clip(text))
}

// parseInt reads an integer not below least.
func parseInt(name, text string, least int64) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fault.Invalid("parameter %s must be an integer, got %q", name, clip(text))
	}
	if n < least {
		return 0, fault.Invalid("parameter %s must be at least %d, got %d", name, least, n)
	}
	return n, nil
}

// parseTime reads an ISO-8601 time. A blank in the place of the offset's sign is
// a "+" that the client forgot to escape.
func parseTime(name, text string) (time.Time, error) {
	if n := len(text); n > 19 && text[n-6] == ' ' && text[n-3] == ':' {
		text = text[:n-6] + "+" + text[n-5:]
	}
	t, err := document.ParseTime(text)
	if err != nil {
		return time.Time{}, fault.Invalid("parameter %s: %q is not an ISO-8601 time such as 2024-10-23T08:15:52+00:00", name, clip(text))
	}
	return t, nil
}

// parseName reads a name filter: exact, or a case-insensitive substring after "~".
func parseName(text string) store.NameFilter {
	if rest, ok := strings.CutPrefix(text, "~"); ok {
		return store.NameFilter{Value: rest, Contains: true}
	}
	return store.NameFilter{Value: text}
}

// parseLabels reads label filters: "k", "k=v", with "~" before either side for a
// case-insensitive substring. A bare key is dropped when the same key also
// stands with a value, which implies it.
func parseLabels(texts []string) ([]store.LabelFilter, error) {
	var out []store.LabelFilter
	valued := map[string]bool{}
	for _, text := range texts {
		key, value, has := strings.Cut(text, "=")
		f := store.LabelFilter{Key: strings.TrimSpace(key), Value: strings.TrimSpace(value), HasValue: has}
		f.Key, f.KeyContains = strings.CutPrefix(f.Key, "~")
		f.Value, f.ValueContains = strings.CutPrefix(f.Value, "~")
		if f.Key == "" && (!f.KeyContains || !has) {
			return nil, fault.Invalid("parameter label must be KEY or KEY=VALUE, got %q", clip(text))
		}
		if has {
			valued[f.Key] = true
		}
		out = append(out, f)
	}
	kept := out[:0]
	for _, f := range out {
		if f.HasValue || !valued[f.Key] {
			kept = append(kept, f)
		}
	}
	return kept, nil
}

// clip shortens what a caller sent for use in a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
