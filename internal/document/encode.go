package document

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Encode renders value as JSON for the wire and for storage: compact, keys
// sorted, UTF-8 as it is, NaN and infinities as null (JSON has no others).
// Besides what Decode produces it takes Go's integers and floats, string slices
// and string maps, time.Time (RFC 3339 in UTC with an offset of +00:00) and
// json.Marshaler. It panics on any other type, which is a mistake in our code.
func Encode(value any) []byte { return Append(nil, value) }

// Append is Encode into dst.
func Append(dst []byte, value any) []byte {
	e := encoder{out: dst}
	e.value(value)
	return e.out
}

// Canonical renders value exactly as Python's json.dumps(value, sort_keys=True)
// does: ", " and ": " between, ASCII only, floats as repr, NaN and Infinity as
// such. It is what the hash of a function is taken over.
func Canonical(value any) []byte {
	e := encoder{python: true}
	e.value(value)
	return e.out
}

type encoder struct {
	out    []byte
	python bool
}

func (e *encoder) value(value any) {
	switch v := value.(type) {
	case nil:
		e.out = append(e.out, "null"...)
	case bool:
		e.out = strconv.AppendBool(e.out, v)
	case string:
		e.string(v)
	case json.Number:
		e.number(string(v))
	case float64:
		e.float(v)
	case float32:
		e.float(float64(v))
	case int:
		e.out = strconv.AppendInt(e.out, int64(v), 10)
	case int64:
		e.out = strconv.AppendInt(e.out, v, 10)
	case int32:
		e.out = strconv.AppendInt(e.out, int64(v), 10)
	case uint64:
		e.out = strconv.AppendUint(e.out, v, 10)
	case time.Time:
		e.string(Time(v))
	case map[string]any:
		object(e, v)
	case map[string]string:
		object(e, v)
	case []any:
		list(e, v)
	case []string:
		list(e, v)
	case []Object:
		list(e, v)
	case json.Marshaler:
		raw, err := v.MarshalJSON()
		if err == nil {
			var inner any
			if inner, err = Decode(raw); err == nil {
				e.value(inner)
				return
			}
		}
		panic(fmt.Sprintf("document: encode %T: %v", v, err))
	default:
		panic(fmt.Sprintf("document: cannot encode a %T", v))
	}
}

func object[V any](e *encoder, object map[string]V) {
	e.out = append(e.out, '{')
	for i, key := range slices.Sorted(maps.Keys(object)) {
		if i > 0 {
			e.comma()
		}
		e.string(key)
		e.out = append(e.out, ':')
		if e.python {
			e.out = append(e.out, ' ')
		}
		e.value(object[key])
	}
	e.out = append(e.out, '}')
}

func list[V any](e *encoder, list []V) {
	e.out = append(e.out, '[')
	for i, item := range list {
		if i > 0 {
			e.comma()
		}
		e.value(item)
	}
	e.out = append(e.out, ']')
}

func (e *encoder) comma() {
	e.out = append(e.out, ',')
	if e.python {
		e.out = append(e.out, ' ')
	}
}

// number writes the literal of a JSON number. For Python an integer stays as it
// is ("-0" is 0) and anything else is rounded to a float first.
func (e *encoder) number(literal string) {
	if !e.python {
		e.out = append(e.out, literal...)
		return
	}
	if strings.ContainsAny(literal, ".eE") {
		f, _ := strconv.ParseFloat(literal, 64) // out of range gives an infinity, as in Python
		e.float(f)
		return
	}
	if literal == "-0" {
		literal = "0"
	}
	e.out = append(e.out, literal...)
}

func (e *encoder) float(f float64) {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		switch {
		case !e.python:
			e.out = append(e.out, "null"...)
		case math.IsNaN(f):
			e.out = append(e.out, "NaN"...)
		case f > 0:
			e.out = append(e.out, "Infinity"...)
		default:
			e.out = append(e.out, "-Infinity"...)
		}
	default:
		e.out = append(e.out, PythonFloat(f)...)
	}
}

// PythonFloat renders a finite float as Python's repr does: the shortest digits
// that round-trip, with an exponent below 1e-4 and from 1e16 on.
func PythonFloat(f float64) string {
	shortest := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(shortest, "e")
	exp, _ := strconv.Atoi(exponent)
	if f != 0 && (exp < -4 || exp >= 16) {
		return fmt.Sprintf("%se%+03d", mantissa, exp)
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(plain, ".") {
		plain += ".0"
	}
	return plain
}

const hexDigits = "0123456789abcdef"

func (e *encoder) string(s string) {
	e.out = append(e.out, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && (c != 0x7f || !e.python) {
				i++
				continue
			}
			e.out = append(e.out, s[start:i]...)
			switch c {
			case '"', '\\':
				e.out = append(e.out, '\\', c)
			case '\n':
				e.out = append(e.out, '\\', 'n')
			case '\r':
				e.out = append(e.out, '\\', 'r')
			case '\t':
				e.out = append(e.out, '\\', 't')
			case '\b':
				e.out = append(e.out, '\\', 'b')
			case '\f':
				e.out = append(e.out, '\\', 'f')
			default:
				e.unicode(rune(c))
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if !e.python && (r != utf8.RuneError || size > 1) {
			i += size
			continue
		}
		e.out = append(e.out, s[start:i]...)
		switch {
		case !e.python:
			e.out = append(e.out, "\ufffd"...)
		case r > 0xffff:
			r -= 0x10000
			e.unicode(0xd800 + r>>10)
			e.unicode(0xdc00 + r&0x3ff)
		default:
			e.unicode(r)
		}
		i += size
		start = i
	}
	e.out = append(e.out, s[start:]...)
	e.out = append(e.out, '"')
}

func (e *encoder) unicode(r rune) {
	e.out = append(e.out, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}
