package tune

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// newGenerator chooses and checks the generator of a task.
func newGenerator(o Options, v *Values, seed uint64) (generator, error) {
	if v == nil || len(v.Names) == 0 {
		return nil, fault.Invalid("there are no values to iterate over; give spec.hyperparams or a param_file")
	}
	strategy := o.Strategy
	if strategy == "" {
		strategy = Grid
		if v.rows {
			strategy = List
		}
	}
	if v.rows && strategy != List {
		return nil, tableMisused(strategy)
	}
	count := o.MaxIterations
	if count == 0 {
		count = DefaultMaxIterations
		if strategy == TPE {
			count = DefaultTPEIterations
		}
	}
	switch strategy {
	case Grid:
		return newGrid(v)
	case List:
		return newList(v)
	case Random:
		return &random{values: v, seed: seed, count: count}, nil
	case TPE:
		return newTPE(v, seed, count)
	}
	return nil, fault.Invalid("strategy %s has nothing to generate", strategy)
}

// passive is a generator that learns nothing.
type passive struct{}

func (passive) learns(int) bool      { return false }
func (passive) given(int, Point)     {}
func (passive) observe(int, float64) {}

func (*grid) limit(int)       {}
func (*list) limit(int)       {}
func (r *random) limit(n int) { r.count = n }

type grid struct {
	passive
	names []string
	lists [][]any
	size  int
}

func newGrid(v *Values) (*grid, error) {
	g := &grid{names: v.Names, size: 1}
	for _, name := range v.Names {
		list, err := v.By[name].enumerate(name)
		if err != nil {
			return nil, err
		}
		if len(list) > maxPoints/g.size {
			return nil, fault.Invalid("the grid has more than %d points; give fewer values, or use strategy random", maxPoints)
		}
		g.size *= len(list)
		g.lists = append(g.lists, list)
	}
	return g, nil
}

func (g *grid) total() int { return g.size }

func (g *grid) at(i, _ int) Point {
	p := Point{Names: g.names, Values: make([]any, len(g.lists))}
	for k, list := range g.lists {
		p.Values[k] = list[i%len(list)]
		i /= len(list)
	}
	return p
}

type list struct {
	passive
	names []string
	lists [][]any
}

func newList(v *Values) (*list, error) {
	l := &list{names: v.Names}
	for _, name := range v.Names {
		values, err := v.By[name].enumerate(name)
		if err != nil {
			return nil, err
		}
		if len(l.lists) > 0 && len(values) != len(l.lists[0]) {
			return nil, fault.Invalid("strategy list takes the n-th value of every name, but %s has %d values and %s has %d; make them equally long",
				v.Names[0], len(l.lists[0]), name, len(values))
		}
		l.lists = append(l.lists, values)
	}
	return l, nil
}

func (l *list) total() int { return len(l.lists[0]) }

func (l *list) at(i, _ int) Point {
	p := Point{Names: l.names, Values: make([]any, len(l.lists))}
	for k, values := range l.lists {
		p.Values[k] = values[i]
	}
	return p
}

// random draws every point from its own stream of the seed, so that the i-th is
// the same whichever were drawn before.
type random struct {
	passive
	values *Values
	seed   uint64
	count  int
}

func (r *random) total() int { return r.count }

func (r *random) at(i, _ int) Point {
	rng := rand.New(rand.NewPCG(r.seed, uint64(i)))
	p := Point{Names: r.values.Names, Values: make([]any, len(r.values.Names))}
	for k, name := range p.Names {
		p.Values[k] = r.values.By[name].draw(rng)
	}
	return p
}

func (d Domain) draw(rng *rand.Rand) any {
	if d.Range == nil {
		return d.List[rng.IntN(len(d.List))]
	}
	n := d.Range.numeric()
	return d.Range.value(n.back(n.low + rng.Float64()*(n.high-n.low)))
}

// enumerate lists a domain; a range has to have steps for it.
func (d Domain) enumerate(name string) ([]any, error) {
	if d.Range == nil {
		return d.List, nil
	}
	r := d.Range
	if r.Step == 0 {
		return nil, fault.Invalid("%s is a range without steps, which has no end of values; give it a step, or use strategy random or tpe", name)
	}
	steps := r.steps()
	if steps > 1<<20 {
		return nil, fault.Invalid("%s has %.0f values, more than %d; give it a larger step", name, steps, 1<<20)
	}
	out := make([]any, 0, int(steps))
	for i := range int(steps) {
		out = append(out, r.value(r.Low+float64(i)*r.Step))
	}
	return out, nil
}

// steps counts the values of a range with steps.
func (r *Range) steps() float64 { return math.Floor((r.High-r.Low)/r.Step+1e-9) + 1 }

// value renders a number of the range as the parameter's value.
func (r *Range) value(f float64) any {
	if r.Int {
		return json.Number(strconv.FormatFloat(math.Round(f), 'f', 0, 64))
	}
	if r.Step > 0 { // 0.1+2*0.1 is 0.3, not 0.30000000000000004
		f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'g', 12, 64), 64)
	}
	return json.Number(document.PythonFloat(f))
}

// numeric is a range as the strategies see it: continuous, in logarithms if so
// asked, half a step wider at both ends if it has steps.
type numeric struct {
	low, high float64
	r         *Range
}

func (r *Range) numeric() numeric {
	switch {
	case r.Log && r.Int:
		return numeric{math.Log(math.Max(r.Low-0.5, 0.5)), math.Log(r.High + 0.5), r}
	case r.Log:
		return numeric{math.Log(r.Low), math.Log(r.High), r}
	case r.Step > 0:
		return numeric{r.Low - r.Step/2, r.Low + (r.steps()-0.5)*r.Step, r}
	}
	return numeric{r.Low, r.High, r}
}

// back turns a position into a number of the range.
func (n numeric) back(x float64) float64 {
	r := n.r
	if r.Log {
		x = math.Exp(x)
		if r.Int {
			x = math.Round(x)
		}
		return math.Min(math.Max(x, r.Low), r.High)
	}
	if r.Step > 0 {
		i := math.Round((x - r.Low) / r.Step)
		return r.Low + math.Min(math.Max(i, 0), r.steps()-1)*r.Step
	}
	return math.Min(math.Max(x, r.Low), r.High)
}

// to turns a number of the range into its position.
func (n numeric) to(f float64) float64 {
	if n.r.Log {
		return math.Log(math.Max(f, math.SmallestNonzeroFloat64))
	}
	return f
}

// number reads a result or a value as a number: booleans count 1 and 0 and texts
// are converted, as the SDK does.
func number(value any) (float64, bool) {
	switch v := value.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return f, err == nil
	}
	return document.ToFloat(value)
}
