package env

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Version is a Python release: its three numbers and, for a pre-release, the
// level ("a", "b", "rc") with its serial. Pre is empty for a final release.
type Version struct {
	Major int    `json:"major"`
	Minor int    `json:"minor"`
	Patch int    `json:"patch"`
	Pre   string `json:"pre,omitempty"`
}

// String returns the usual spelling, such as "3.11.7" or "3.14.0rc1".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d%s", v.Major, v.Minor, v.Patch, v.Pre)
}

// Compare orders versions; a pre-release comes before its final release.
func (v Version) Compare(w Version) int {
	if c := cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch)); c != 0 {
		return c
	}
	switch {
	case v.Pre == w.Pre:
		return 0
	case v.Pre == "":
		return 1
	case w.Pre == "":
		return -1
	}
	return cmp.Compare(v.Pre, w.Pre)
}

// Oldest is the oldest release that the runtime supports; Newest the newest
// minor release that it is tested with (a newer one is tried all the same).
var (
	Oldest = Version{Major: 3, Minor: 9}
	Newest = Version{Major: 3, Minor: 14}
)

// Supported reports whether functions can run on v.
func (v Version) Supported() bool { return v.Major == 3 && v.Minor >= Oldest.Minor }

// Constraint is a set of versions, as asked for by a function.
type Constraint struct {
	text    string
	clauses []clause
	free    bool // only free-threaded builds
}

type clause struct {
	op      string
	numbers []int
}

var (
	bareVersion  = lazyregexp.New(`^(\d{1,9})(\.\d{1,9}){0,2}(\.\*)?(t?)$`)
	clauseSyntax = lazyregexp.New(`^(>=|<=|==|!=|~=|>|<)\s*v?(\d{1,9}(?:\.\d{1,9})*)(\.\*)?((?:a|b|rc)\d+|\.dev\d+|\.post\d+)?$`)
)

// ParseConstraint reads "3", "3.11", "3.11.7", "3.11.*" or comma-separated
// clauses such as ">=3.10,<3.13". The empty string allows every version. A number
// that ends in t, such as "3.14t", asks for a free-threaded build.
//
// A number without an operator, and one after ==, stands for all releases that
// begin with it; the other operators compare as packages' requires-python does,
// so "<=3.12" does not contain 3.12.1. Pre-releases count as the release they
// lead to. A malformed text gives fault.CodeInvalid.
func ParseConstraint(text string) (Constraint, error) {
	text = strings.TrimSpace(text)
	c := Constraint{text: text}
	if text == "" {
		return c, nil
	}
	if bareVersion.MatchString(text) {
		number := strings.TrimSuffix(text, "t")
		c.free = number != text
		c.clauses = []clause{{op: "==", numbers: numbers(strings.TrimSuffix(number, ".*"))}}
		return c, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		m := clauseSyntax.FindStringSubmatch(strings.TrimSpace(part))
		if m == nil {
			return Constraint{}, fault.Invalid("python version %q is not understood: write a version such as 3.11 or a range such as >=3.10,<3.13", text)
		}
		cl := clause{op: m[1], numbers: numbers(m[2])}
		if m[3] != "" && cl.op != "==" && cl.op != "!=" || cl.op == "~=" && len(cl.numbers) < 2 {
			return Constraint{}, fault.Invalid("python version %q is not understood: %q cannot be used with %s", text, strings.TrimPrefix(part, cl.op), cl.op)
		}
		c.clauses = append(c.clauses, cl)
	}
	return c, nil
}

func numbers(text string) []int {
	var out []int
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil { // the patterns admit nine digits at most
			return out
		}
		out = append(out, n)
	}
	return out
}

// String returns the text that the constraint was read from.
func (c Constraint) String() string { return c.text }

// Any reports whether c allows every version.
func (c Constraint) Any() bool { return len(c.clauses) == 0 }

// Fits reports whether functions that ask for c can run on i.
func (c Constraint) Fits(i Interpreter) bool {
	return c.Allows(i.Version) && (!c.free || i.FreeThreaded())
}

// Allows reports whether v is in the set.
func (c Constraint) Allows(v Version) bool {
	have := []int{v.Major, v.Minor, v.Patch}
	for _, cl := range c.clauses {
		if !cl.allows(have) {
			return false
		}
	}
	return true
}

func (cl clause) allows(have []int) bool {
	order := compareNumbers(have, cl.numbers)
	switch cl.op {
	case "==":
		return hasPrefix(have, cl.numbers)
	case "!=":
		return !hasPrefix(have, cl.numbers)
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case "<":
		return order < 0
	}
	return order >= 0 && hasPrefix(have, cl.numbers[:len(cl.numbers)-1]) // ~=
}

func hasPrefix(have, prefix []int) bool {
	for i, n := range prefix {
		if at(have, i) != n {
			return false
		}
	}
	return true
}

func compareNumbers(a, b []int) int {
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(at(a, i), at(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

func at(numbers []int, i int) int {
	if i < len(numbers) {
		return numbers[i]
	}
	return 0
}
