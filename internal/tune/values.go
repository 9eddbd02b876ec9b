package tune

import (
	"math"
	"slices"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Values are the values that each parameter of a task may take, in the order in
// which the names were written.
type Values struct {
	Names []string
	By    map[string]Domain
	rows  bool // they are rows of a table: only the strategy list fits
}

// Domain is what one parameter may be: one of a list, or a number of a range.
type Domain struct {
	List  []any
	Range *Range
}

// Range is {"low": …, "high": …, "log": bool, "step": …}, both ends included. It
// gives integers when low, high and step are written as integers.
type Range struct {
	Low, High, Step float64 // Step is 0 for any number in between
	Log, Int        bool
}

// ParseValues reads the JSON object of a task's hyperparams: name → list, or name
// → range. raw is the text itself, for the order of the names. where names the
// field in errors.
func ParseValues(raw []byte, where string) (*Values, error) {
	object, err := document.DecodeObject(raw)
	if err != nil {
		return nil, fault.Invalid("%s: %w", where, err)
	}
	return valuesOf(object, keyOrder(raw), where)
}

// valuesOf reads the values of an object in the order of names; names that order
// does not know come after those, alphabetically.
func valuesOf(object document.Object, order []string, where string) (*Values, error) {
	v := &Values{By: map[string]Domain{}}
	for _, name := range PointOf(object, order).Names {
		domain, err := parseDomain(object[name], where+"."+name)
		if err != nil {
			return nil, err
		}
		v.Names, v.By[name] = append(v.Names, name), domain
	}
	return v, nil
}

func parseDomain(value any, where string) (Domain, error) {
	switch v := value.(type) {
	case []any:
		if len(v) == 0 {
			return Domain{}, fault.Invalid("%s has no values, so there would be no iteration; give at least one", where)
		}
		return Domain{List: v}, nil
	case document.Object:
		r, err := parseRange(v, where)
		return Domain{Range: r}, err
	}
	return Domain{}, fault.Invalid(`%s must be a list of values such as [1, 2] or a range such as {"low": 0.001, "high": 1}, got %s`, where, document.TypeName(value))
}

func parseRange(object document.Object, where string) (*Range, error) {
	r := &Range{Int: true}
	for name, value := range object {
		switch name {
		case "low", "high", "step":
			f, ok := document.ToFloat(value)
			if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
				return nil, fault.Invalid("%s.%s must be a number, got %s", where, name, document.Encode(value))
			}
			if !integerLiteral(value) {
				r.Int = false
			}
			switch name {
			case "low":
				r.Low = f
			case "high":
				r.High = f
			default:
				if f <= 0 {
					return nil, fault.Invalid("%s.step must be above 0, got %s", where, document.Encode(value))
				}
				r.Step = f
			}
		case "log":
			b, ok := value.(bool)
			if !ok {
				return nil, fault.Invalid("%s.log must be true or false, got %s", where, document.Encode(value))
			}
			r.Log = b
		default:
			return nil, fault.Invalid("%s.%s is not known; a range has low, high, log and step", where, name)
		}
	}
	switch {
	case object["low"] == nil || object["high"] == nil:
		return nil, fault.Invalid("%s is a range and needs low and high", where)
	case r.Low > r.High:
		return nil, fault.Invalid("%s: low %v is above high %v", where, r.Low, r.High)
	case r.Log && r.Low <= 0:
		return nil, fault.Invalid("%s: a logarithmic range begins above 0, got low %v", where, r.Low)
	case r.Log && r.Step > 0:
		return nil, fault.Invalid("%s: a logarithmic range has no step", where)
	}
	if r.Int && !r.Log && r.Step == 0 {
		r.Step = 1
	}
	return r, nil
}

// ValuesOf returns the values of a run document's task. names are those of its
// hyperparams in the order in which they were written; file is the content of its
// parameter file, nil without one. Errors carry fault.CodeInvalid.
func ValuesOf(run document.Object, o Options, names []string, file []byte) (*Values, error) {
	given, err := document.Want[document.Object](run, "spec", "hyperparams")
	if err != nil {
		return nil, err
	}
	var direct, read *Values
	if len(given) > 0 {
		if direct, err = valuesOf(given, names, "spec.hyperparams"); err != nil {
			return nil, err
		}
	}
	if o.ParamFile != "" && file != nil {
		if read, err = ParseFile(o.ParamFile, file); err != nil {
			return nil, err
		}
	}
	return Merge(read, direct), nil
}

// Merge lays over the values of a file those that were given directly: a name that
// both have keeps its place and takes the given values, others come after.
func Merge(file, given *Values) *Values {
	switch {
	case file == nil:
		return given
	case given == nil:
		return file
	}
	out := &Values{Names: slices.Clone(file.Names), By: map[string]Domain{}, rows: file.rows}
	for _, name := range file.Names {
		out.By[name] = file.By[name]
	}
	for _, name := range given.Names {
		if _, known := out.By[name]; !known {
			out.Names = append(out.Names, name)
		}
		out.By[name] = given.By[name]
	}
	return out
}

// KeyOrder returns the keys of the object at path in a JSON document as they are
// written, nil when there is no such object. The document must be valid JSON.
func KeyOrder(raw []byte, path ...string) []string {
	for _, key := range path {
		raw = member(raw, key)
	}
	return keyOrder(raw)
}

func keyOrder(raw []byte) (keys []string) {
	eachMember(raw, func(key string, _ []byte) { keys = append(keys, key) })
	return keys
}

func member(raw []byte, name string) (value []byte) {
	eachMember(raw, func(key string, v []byte) {
		if key == name {
			value = v
		}
	})
	return value
}

// eachMember calls fn for the members of a valid JSON object; the value's bytes
// may have white space or a comma around them.
func eachMember(raw []byte, fn func(key string, value []byte)) {
	depth, i := 0, 0
	key, from, haveKey := "", 0, false
	flush := func(to int) {
		if haveKey {
			fn(key, raw[from:to])
		}
		haveKey = false
	}
	for ; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			start := i
			for i++; i < len(raw) && raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			if depth == 1 && !haveKey && i < len(raw) {
				text, err := document.Decode(raw[start : i+1])
				if err != nil {
					return
				}
				key, _ = text.(string)
				for i++; i < len(raw) && raw[i] != ':'; i++ {
				}
				from, haveKey = min(i+1, len(raw)), true
			}
		case '{', '[':
			if depth == 0 && raw[i] == '[' {
				return
			}
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				flush(i)
				return
			}
		case ',':
			if depth == 1 {
				flush(i)
			}
		}
	}
}
