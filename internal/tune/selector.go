package tune

import (
	"math"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Selector says which iteration is the best: the one with the largest, or the
// smallest, value of a result.
type Selector struct {
	Result   string // "" for none
	Minimise bool
}

// ParseSelector reads NAME, max.NAME or min.NAME; "" is no selector.
func ParseSelector(text string) (Selector, error) {
	if text == "" {
		return Selector{}, nil
	}
	op, name, dotted := strings.Cut(text, ".")
	if !dotted {
		op, name = "max", text
	}
	if name == "" || op != "max" && op != "min" {
		return Selector{}, fault.Invalid("selector %q is not of the form max.NAME or min.NAME, where NAME is a result, for instance max.accuracy", text)
	}
	return Selector{Result: name, Minimise: op == "min"}, nil
}

func (s Selector) String() string {
	switch {
	case s.Result == "":
		return ""
	case s.Minimise:
		return "min." + s.Result
	}
	return "max." + s.Result
}

// Value returns the selected result of an iteration; false when there is none, or
// it is no number, or NaN. A name with dots is looked for as it is, then as a path.
func (s Selector) Value(results document.Object) (float64, bool) {
	if s.Result == "" {
		return 0, false
	}
	value, ok := results[s.Result]
	if !ok {
		value = document.Get(results, strings.Split(s.Result, ".")...)
	}
	f, ok := number(value)
	return f, ok && !math.IsNaN(f)
}

// Better reports whether a is better than b.
func (s Selector) Better(a, b float64) bool {
	if s.Minimise {
		return a < b
	}
	return a > b
}

// Loss turns a value into one of which less is better.
func (s Selector) Loss(value float64) float64 {
	if s.Minimise {
		return value
	}
	return -value
}

// Best is the best iteration so far.
type Best struct {
	Iter  int // 0 for none
	Value float64
}

// consider takes an iteration into account; equal values go to the lower number,
// in whichever order they come.
func (b *Best) consider(s Selector, iter int, results document.Object) {
	value, ok := s.Value(results)
	if !ok {
		return
	}
	if b.Iter == 0 || s.Better(value, b.Value) || value == b.Value && iter < b.Iter {
		*b = Best{Iter: iter, Value: value}
	}
}
