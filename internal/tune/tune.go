// Package tune is the domain of iterative tasks: one function over many sets of
// parameters. It is pure; who executes the iterations is told by a Search which
// to try next, and tells it how each ended.
//
// # Values
//
// The values of a task come from its hyperparams, from a parameter file (JSON or
// CSV) or from both: then a value given directly replaces the file's of the same
// name in its place, and other names come after the file's. Lists keep their
// types: 1 stays an integer beside 0.5. The order of the names is that of the
// document as it was written, which is why Values are read from its bytes.
//
// # Strategies
//
//   - grid: every combination, the first name varying fastest
//   - list: the n-th iteration takes the n-th value of every name
//   - random: seeded independent draws, with replacement
//   - tpe: the tree-structured Parzen estimator; needs a selector
//   - custom: user code makes its own iterations; there is nothing to generate
//
// Points are made one at a time, each from its number alone (for tpe also from
// what is known by then), so a grid of any size starts at once and the state that
// a search continues from is small.
//
// # Rules
//
//   - The selector never picks a failed iteration, a missing value or NaN; of equal
//     ones the first iteration wins.
//   - A task stops early when its stop condition holds for a completed iteration, or
//     when more than max_errors iterations have failed (3 unless given).
//   - A stop condition that cannot be evaluated for an iteration (a result is missing,
//     a division by zero, a comparison of a text with a number) does not hold for it;
//     the first such failure is kept for the task's status.
//   - A name in the stop condition that no iteration has logged when one has completed
//     with results is an error of the task, which ends; get("name", value) is for those
//     that only some log. So is a selector of tpe that its random points have no
//     number for.
package tune

import (
	"math"
	"slices"

	"github.com/millrace/millrace/internal/document"
)

// Strategy names how points are chosen.
type Strategy string

// The strategies.
const (
	Grid   Strategy = "grid"
	List   Strategy = "list"
	Random Strategy = "random"
	TPE    Strategy = "tpe"
	Custom Strategy = "custom"
)

var strategies = []Strategy{Grid, List, Random, TPE, Custom}

// Point is one set of values: those of the names of a task, in their order.
type Point struct {
	Names  []string
	Values []any
}

// Object returns the point as parameters.
func (p Point) Object() document.Object {
	out := make(document.Object, len(p.Names))
	for i, name := range p.Names {
		out[name] = p.Values[i]
	}
	return out
}

// Over returns base with the point's values laid over it.
func (p Point) Over(base document.Object) document.Object {
	out := document.Clone(base)
	if out == nil {
		out = document.Object{}
	}
	for i, name := range p.Names {
		out[name] = p.Values[i]
	}
	return out
}

// PointOf makes a point of an object, its names as ordered by order and then
// alphabetically.
func PointOf(object document.Object, order []string) Point {
	var p Point
	for _, name := range order {
		if value, ok := object[name]; ok {
			p.Names, p.Values = append(p.Names, name), append(p.Values, value)
		}
	}
	var rest []string
	for name := range object {
		if !slices.Contains(order, name) {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	for _, name := range rest {
		p.Names, p.Values = append(p.Names, name), append(p.Values, object[name])
	}
	return p
}

// generator makes the points of a strategy. at must be safe to call again with the
// same numbers, and depends on nothing but them, the points that were given and
// what was observed of the iterations up to known.
type generator interface {
	// total is how many points there are.
	total() int
	// at returns the point with a number from 0 to total-1.
	at(i, known int) Point
	// learns reports whether the point with a number depends on outcomes.
	learns(i int) bool
	// limit changes how many points there are, where that is not decided by the values.
	limit(n int)
	// given tells of an iteration that begins.
	given(iter int, p Point)
	// observe tells the metric of an iteration that ended; lower is better, NaN is
	// that of one that has none.
	observe(iter int, loss float64)
}

// maxPoints bounds a task: iteration numbers have to be exact in every client.
const maxPoints = math.MaxInt32
