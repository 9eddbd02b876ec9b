// Package document reads and writes the JSON documents that functions, runs,
// projects and artifacts are made of.
//
// A document is kept as it was received: unknown keys stay, lists keep their
// order, and numbers keep their literal (json.Number), since 1 and 1.0 are
// different to the hash of a function. Two things go beyond encoding/json: the
// literals NaN, Infinity and -Infinity, which Python's json module writes, are
// read (as float64); and a duplicate key is an error that names the key, because
// silently keeping one of two values loses what somebody wrote.
package document

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/fault"
)

// Object is a JSON object: values are nil, bool, string, json.Number, float64
// (only NaN and infinities), []any and Object-shaped map[string]any.
type Object = map[string]any

// MaxDepth is how deeply a document may nest; a deeper one is refused.
const MaxDepth = 200

// Decode reads one JSON value from data; anything but white space after it is an
// error. Errors carry fault.CodeInvalid and say at which byte.
func Decode(data []byte) (any, error) {
	d := decoder{data: data}
	d.space()
	value, err := d.value(0)
	if err != nil {
		return nil, err
	}
	d.space()
	if d.pos != len(data) {
		return nil, d.errorf("unexpected %q after the document", d.data[d.pos])
	}
	return value, nil
}

// DecodeObject is Decode for a document that has to be an object.
func DecodeObject(data []byte) (Object, error) {
	value, err := Decode(data)
	if err != nil {
		return nil, err
	}
	object, ok := value.(Object)
	if !ok {
		return nil, fault.Invalid("the document must be a JSON object, got %s", TypeName(value))
	}
	return object, nil
}

type decoder struct {
	data []byte
	pos  int
}

func (d *decoder) errorf(format string, args ...any) error {
	return fault.Invalid("malformed JSON at byte %d: %s", d.pos, fmt.Sprintf(format, args...))
}

func (d *decoder) space() {
	for d.pos < len(d.data) {
		switch d.data[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

func (d *decoder) value(depth int) (any, error) {
	if depth > MaxDepth {
		return nil, d.errorf("nested deeper than %d levels", MaxDepth)
	}
	if d.pos >= len(d.data) {
		return nil, d.errorf("the document ends too early")
	}
	switch c := d.data[d.pos]; {
	case c == '{':
		return d.object(depth)
	case c == '[':
		return d.array(depth)
	case c == '"':
		return d.string()
	case c == '-' || c >= '0' && c <= '9':
		if c == '-' && d.literal("-Infinity") {
			return math.Inf(-1), nil
		}
		return d.number()
	case d.literal("true"):
		return true, nil
	case d.literal("false"):
		return false, nil
	case d.literal("null"):
		return nil, nil
	case d.literal("NaN"):
		return math.NaN(), nil
	case d.literal("Infinity"):
		return math.Inf(1), nil
	default:
		return nil, d.errorf("unexpected %q", c)
	}
}

func (d *decoder) literal(word string) bool {
	if len(d.data)-d.pos < len(word) || string(d.data[d.pos:d.pos+len(word)]) != word {
		return false
	}
	d.pos += len(word)
	return true
}

func (d *decoder) object(depth int) (Object, error) {
	d.pos++
	object := Object{}
	d.space()
	if d.pos < len(d.data) && d.data[d.pos] == '}' {
		d.pos++
		return object, nil
	}
	for {
		d.space()
		if d.pos >= len(d.data) || d.data[d.pos] != '"' {
			return nil, d.errorf("expected a key in double quotes")
		}
		at := d.pos
		key, err := d.string()
		if err != nil {
			return nil, err
		}
		if _, twice := object[key]; twice {
			d.pos = at
			return nil, d.errorf("the key %q stands twice in one object", key)
		}
		d.space()
		if d.pos >= len(d.data) || d.data[d.pos] != ':' {
			return nil, d.errorf("expected ':' after the key %q", key)
		}
		d.pos++
		d.space()
		value, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		object[key] = value
		done, err := d.next('}')
		if err != nil || done {
			return object, err
		}
	}
}

func (d *decoder) array(depth int) ([]any, error) {
	d.pos++
	list := []any{}
	d.space()
	if d.pos < len(d.data) && d.data[d.pos] == ']' {
		d.pos++
		return list, nil
	}
	for {
		d.space()
		value, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
		done, err := d.next(']')
		if err != nil || done {
			return list, err
		}
	}
}

func (d *decoder) next(end byte) (done bool, err error) {
	d.space()
	if d.pos >= len(d.data) {
		return false, d.errorf("the document ends too early")
	}
	switch d.data[d.pos] {
	case end:
		d.pos++
		return true, nil
	case ',':
		d.pos++
		return false, nil
	}
	return false, d.errorf("expected ',' or %q, got %q", end, d.data[d.pos])
}

func (d *decoder) number() (any, error) {
	start := d.pos
	digits := func() int {
		from := d.pos
		for d.pos < len(d.data) && d.data[d.pos] >= '0' && d.data[d.pos] <= '9' {
			d.pos++
		}
		return d.pos - from
	}
	if d.data[d.pos] == '-' {
		d.pos++
	}
	first := d.pos
	if digits() == 0 {
		return nil, d.errorf("a number needs a digit")
	}
	if d.data[first] == '0' && d.pos-first > 1 {
		d.pos = start
		return nil, d.errorf("a number may not start with 0")
	}
	if d.pos < len(d.data) && d.data[d.pos] == '.' {
		d.pos++
		if digits() == 0 {
			return nil, d.errorf("a number needs a digit after the point")
		}
	}
	if d.pos < len(d.data) && (d.data[d.pos] == 'e' || d.data[d.pos] == 'E') {
		d.pos++
		if d.pos < len(d.data) && (d.data[d.pos] == '+' || d.data[d.pos] == '-') {
			d.pos++
		}
		if digits() == 0 {
			return nil, d.errorf("a number needs a digit in its exponent")
		}
	}
	return json.Number(d.data[start:d.pos]), nil
}

func (d *decoder) string() (string, error) {
	start := d.pos + 1
	for i := start; i < len(d.data); i++ {
		switch c := d.data[i]; {
		case c == '"':
			d.pos = i + 1
			raw := d.data[start:i]
			if !utf8.Valid(raw) {
				d.pos = start
				return "", d.errorf("a string is not valid UTF-8")
			}
			return string(raw), nil
		case c == '\\':
			return d.escaped(start, i)
		case c < 0x20:
			d.pos = i
			return "", d.errorf("a control character must be escaped in a string")
		}
	}
	d.pos = len(d.data)
	return "", d.errorf("a string has no end")
}

// escaped reads the string that begins at start and whose first backslash is at i.
func (d *decoder) escaped(start, i int) (string, error) {
	out := append(make([]byte, 0, 2*(i-start)+16), d.data[start:i]...)
	for i < len(d.data) {
		c := d.data[i]
		switch {
		case c == '"':
			d.pos = i + 1
			if !utf8.Valid(out) {
				d.pos = start
				return "", d.errorf("a string is not valid UTF-8")
			}
			return string(out), nil
		case c < 0x20:
			d.pos = i
			return "", d.errorf("a control character must be escaped in a string")
		case c != '\\':
			out = append(out, c)
			i++
			continue
		}
		d.pos = i
		if i+1 >= len(d.data) {
			break
		}
		switch e := d.data[i+1]; e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := d.hex(i + 2)
			if !ok {
				return "", d.errorf(`\u needs four hexadecimal digits`)
			}
			i += 6
			if utf16.IsSurrogate(r) {
				low, ok := rune(0), false
				if i+1 < len(d.data) && d.data[i] == '\\' && d.data[i+1] == 'u' {
					low, ok = d.hex(i + 2)
				}
				if pair := utf16.DecodeRune(r, low); ok && pair != utf8.RuneError {
					r = pair
					i += 6
				} else {
					r = utf8.RuneError
				}
			}
			out = utf8.AppendRune(out, r)
			continue
		default:
			return "", d.errorf(`unknown escape \%c`, e)
		}
		i += 2
	}
	d.pos = len(d.data)
	return "", d.errorf("a string has no end")
}

func (d *decoder) hex(at int) (rune, bool) {
	if at+4 > len(d.data) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(d.data[at:at+4]), 16, 32)
	return rune(n), err == nil
}
