// Package diff says how two functions, or two runs, differ, and what that means:
// whether the code may behave differently, and which side of a function a field is
// on. It compares documents and starts nothing; what knows a language's syntax is
// handed in as a Comparer.
package diff

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Verdict is what a change of code means.
type Verdict string

// The verdicts. Cosmetic is only said when it is certain.
const (
	Identical Verdict = "identical"
	Cosmetic  Verdict = "cosmetic"
	MayDiffer Verdict = "behaviour may differ"
)

// Comparison is what a Comparer finds.
type Comparison struct {
	Same    bool     // no execution can tell the two apart
	Reason  string   // why, one clause
	Changed []string // the parts that differ, where it is known
}

// Comparer compares two Python sources by their syntax.
type Comparer interface {
	Compare(ctx context.Context, a, b []byte) (Comparison, error)
}

// Change is a value that differs. A or B is nil where one side has none.
type Change struct {
	Path string // dotted
	A, B any
	// Delta is the difference of two numbers relative to A; nil where it means
	// nothing.
	Delta *float64
}

// Document is the JSON form of a change.
func (c Change) Document() document.Object {
	doc := document.Object{"path": c.Path, "a": c.A, "b": c.B}
	if c.Delta != nil {
		doc["relative"] = *c.Delta
	}
	return doc
}

func changeDocuments(changes []Change) []any {
	out := make([]any, len(changes))
	for i, c := range changes {
		out[i] = c.Document()
	}
	return out
}

// Hidden stands for values that must not be shown.
const Hidden = "(hidden)"

var secretName = lazyregexp.New(`(?i)passw|secret|token|credential|api_?key|access_?key|private_?key|\bauth`)

// shown is value, or Hidden where its name or its text says that it is secret.
func shown(path string, value any) any {
	if value == nil {
		return nil
	}
	if secretName.MatchString(path) {
		return Hidden
	}
	switch v := value.(type) {
	case document.Object:
		out := make(document.Object, len(v))
		for key, item := range v {
			out[key] = shown(key, item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = shown("", item)
		}
		return out
	case string:
		return hideURL(v)
	}
	return value
}

var (
	urlUser  = lazyregexp.New(`(://[^/:@\s]*):[^/@\s]+@`)
	urlQuery = lazyregexp.New(`(?i)([?&][^=&\s]*(?:sig|signature|token|key|secret|password|credential)=)[^&\s#]+`)
)

// hideURL hides passwords and signatures of URLs in text.
func hideURL(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return urlQuery.ReplaceAllString(urlUser.ReplaceAllString(text, "${1}:"+Hidden+"@"), "${1}"+Hidden)
}

// compareValues lists where two values differ, objects field by field.
func compareValues(path string, a, b any) []Change {
	left, ok1 := a.(document.Object)
	right, ok2 := b.(document.Object)
	if (ok1 || a == nil) && (ok2 || b == nil) && (ok1 || ok2) {
		keys := map[string]bool{}
		for key := range left {
			keys[key] = true
		}
		for key := range right {
			keys[key] = true
		}
		var out []Change
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			at := key
			if path != "" {
				at = path + "." + key
			}
			out = append(out, compareValues(at, left[key], right[key])...)
		}
		return out
	}
	if empty(a) && empty(b) || same(a, b) {
		return nil
	}
	if empty(a) {
		a = nil
	}
	if empty(b) {
		b = nil
	}
	return []Change{{Path: path, A: shown(path, a), B: shown(path, b), Delta: relative(path, a, b)}}
}

// empty says whether a value is what leaving it out means.
func empty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case document.Object:
		return len(v) == 0
	}
	return false
}

func same(a, b any) bool {
	return string(document.Canonical(a)) == string(document.Canonical(b))
}

func relative(path string, a, b any) *float64 {
	x, ok1 := document.ToFloat(a)
	y, ok2 := document.ToFloat(b)
	if !ok1 || !ok2 || x == 0 || secretName.MatchString(path) {
		return nil
	}
	d := (y - x) / math.Abs(x)
	if math.IsNaN(d) || math.IsInf(d, 0) {
		return nil
	}
	return &d
}

// Unified is the unified diff of two texts with three lines of context, "" when
// they are equal.
func Unified(nameA, nameB string, a, b string) string {
	if a == b {
		return ""
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: lines(a), B: lines(b), FromFile: nameA, ToFile: nameB, Context: 3})
	if err != nil {
		panic("diff: writing to memory failed: " + err.Error()) // it has no other error
	}
	return text
}

// lines are those of a text, each with its end; a missing last one is said as
// diff says it.
func lines(text string) []string {
	out := strings.SplitAfter(text, "\n")
	if last := len(out) - 1; out[last] == "" {
		return out[:last]
	}
	out[len(out)-1] += "\n\\ No newline at end of file\n"
	return out
}
