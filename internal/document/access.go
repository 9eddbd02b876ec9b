package document

import (
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// TypeName names the JSON type of value for messages: "an object", "a list", ….
func TypeName(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case Object:
		return "an object"
	case []any:
		return "a list"
	default:
		return "a number"
	}
}

// Clone copies value deeply.
func Clone[T any](value T) T {
	clone, _ := cloneAny(value).(T) // a nil of type any is the zero T
	return clone
}

func cloneAny(value any) any {
	switch v := value.(type) {
	case Object:
		out := make(Object, len(v))
		for key, item := range v {
			out[key] = cloneAny(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = cloneAny(item)
		}
		return out
	case map[string]string:
		return maps.Clone(v)
	default:
		return value
	}
}

// Get returns the value at path, nil when any part is absent or not an object.
func Get(object Object, path ...string) any {
	var value any = object
	for _, key := range path {
		inner, ok := value.(Object)
		if !ok {
			return nil
		}
		value = inner[key]
	}
	return value
}

// String returns the string at path, "" when there is none.
func String(object Object, path ...string) string {
	s, _ := Get(object, path...).(string)
	return s
}

// Bool returns the boolean at path, false when there is none.
func Bool(object Object, path ...string) bool {
	b, _ := Get(object, path...).(bool)
	return b
}

// Map returns the object at path, nil when there is none. A nil Object can be
// read but not written; see Ensure.
func Map(object Object, path ...string) Object {
	m, _ := Get(object, path...).(Object)
	return m
}

// List returns the list at path, nil when there is none.
func List(object Object, path ...string) []any {
	l, _ := Get(object, path...).([]any)
	return l
}

// Int returns the integer at path and whether there is one; an integral float
// such as 3.0 counts.
func Int(object Object, path ...string) (int64, bool) { return ToInt(Get(object, path...)) }

// ToInt converts a decoded number to an int64; false for anything not integral
// or out of range.
func ToInt(value any) (int64, bool) {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, true
		}
		f, err := v.Float64()
		if err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<62 {
			return int64(f), true
		}
	case int:
		return int64(v), true
	case int64:
		return v, true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<62 {
			return int64(v), true
		}
	}
	return 0, false
}

// ToFloat converts a decoded number to a float64.
func ToFloat(value any) (float64, bool) {
	switch v := value.(type) {
	case json.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		return f, err == nil
	case float64:
		return v, true
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	}
	return 0, false
}

// Strings returns the string-to-string object at path; entries of other types
// are rendered as JSON. It is how labels are read.
func Strings(object Object, path ...string) map[string]string {
	switch m := Get(object, path...).(type) {
	case Object:
		out := make(map[string]string, len(m))
		for key, value := range m {
			if s, ok := value.(string); ok {
				out[key] = s
			} else {
				out[key] = string(Encode(value))
			}
		}
		return out
	case map[string]string:
		return maps.Clone(m)
	}
	return nil
}

// Ensure returns the object at path, creating it and its parents; a value of
// another type in the way is replaced.
func Ensure(object Object, path ...string) Object {
	for _, key := range path {
		inner, ok := object[key].(Object)
		if !ok {
			inner = Object{}
			object[key] = inner
		}
		object = inner
	}
	return object
}

// Set stores value at path, creating parents.
func Set(object Object, value any, path ...string) {
	Ensure(object, path[:len(path)-1]...)[path[len(path)-1]] = value
}

// Want returns the value at path as T (string, bool, Object, []any), the zero T
// when absent or null, and an error naming the field when its type is another.
func Want[T any](object Object, path ...string) (T, error) {
	var zero T
	value := Get(object, path...)
	if value == nil {
		return zero, nil
	}
	if v, ok := value.(T); ok {
		return v, nil
	}
	return zero, fault.Invalid("%s must be %s, got %s", strings.Join(path, "."), TypeName(any(zero)), TypeName(value))
}

// SetPath stores value at a dotted path as the run updates of the API write it:
// keys are split at ".", and a backslash switches to a literal stretch and back,
// so that `a.\b.c\.d` addresses the keys "a", "b.c" and "d".
func SetPath(object Object, path string, value any) {
	keys := SplitPath(path)
	Set(object, value, keys...)
}

// SplitPath splits a dotted path into its keys; see SetPath.
func SplitPath(path string) []string {
	var keys []string
	var key strings.Builder
	literal := false
	for _, r := range path {
		switch {
		case r == '\\':
			literal = !literal
		case r == '.' && !literal:
			keys = append(keys, key.String())
			key.Reset()
		default:
			key.WriteRune(r)
		}
	}
	return append(keys, key.String())
}

// Time renders t as all documents hold times: UTC, microseconds, "+00:00".
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000+00:00") }

// ParseTime reads any ISO-8601 time as Python or JavaScript write it, with "T"
// or a blank, with or without fraction and offset; without an offset it is UTC.
func ParseTime(s string) (time.Time, error) {
	text := strings.TrimSpace(s)
	if len(text) > 10 && text[10] == ' ' {
		text = text[:10] + "T" + text[11:]
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999-0700", "2006-01-02T15:04", "2006-01-02T15:04Z07:00", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fault.Invalid("%q is not an ISO-8601 time such as 2024-10-23T08:15:52+00:00", s)
}
