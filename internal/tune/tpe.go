package tune

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/millrace/millrace/internal/document"
)

// tpe is the tree-structured Parzen estimator: J. Bergstra, R. Bardenet, Y. Bengio,
// B. Kégl, "Algorithms for Hyper-Parameter Optimization", NIPS 2011. Of what has
// been tried, the best part gives one density and the rest another; of some draws from
// the former the one is taken that is most likely under it relative to the latter.
// The first points are drawn at random. The densities are over all parameters at
// once, which S. Falkner, A. Klein, F. Hutter, "BOHB", ICML 2018, found to be better
// than one for each parameter. Older observations weigh less, and bandwidths have a floor that shrinks with the
// number of observations, as J. Bergstra, D. Yamins, D. D. Cox, "Making a Science
// of Model Search", ICML 2013, describe.
//
// A point that is not known the outcome of counts among the rest, so that those that are tried
// at once differ: the constant liar of D. Ginsbourger, R. Le Riche, L. Carraro,
// "Kriging Is Well-Suited to Parallelize Optimization", 2010.
//
// A list of different numbers is searched as an ordered scale; any other list as
// categories.
type tpe struct {
	names   []string
	scales  []scale
	seed    uint64
	count   int
	history []observation
	sorted  bool
}

// observation is an iteration: where its values lie on the scales, and how it ended.
type observation struct {
	iter  int
	at    []float64
	loss  float64 // NaN for none
	ended bool
}

const (
	tpeStartup    = 10 // points drawn at random before the estimator is used
	tpeCandidates = 24
	tpeRecent     = 25 // observations of full weight
)

// scale places one parameter's values on a line (a numeric range, or positions in
// a sorted list of numbers), or gives each its own category.
type scale struct {
	domain     Domain
	line       *numeric
	values     []any // of an ordered list or of categories
	categories int
}

func newScale(d Domain) scale {
	if d.Range != nil {
		n := d.Range.numeric()
		return scale{domain: d, line: &n}
	}
	var numbers []float64
	for _, value := range d.List {
		f, ok := document.ToFloat(value)
		if !ok || math.IsNaN(f) || slices.Contains(numbers, f) {
			return scale{domain: d, values: d.List, categories: len(d.List)}
		}
		numbers = append(numbers, f)
	}
	values := slices.Clone(d.List)
	slices.SortFunc(values, func(a, b any) int {
		x, _ := document.ToFloat(a)
		y, _ := document.ToFloat(b)
		return cmp.Compare(x, y)
	})
	index := &Range{Low: 0, High: float64(len(values) - 1), Step: 1, Int: true}
	n := index.numeric()
	return scale{domain: d, line: &n, values: values}
}

// value is what stands at a position.
func (s scale) value(x float64) any {
	switch {
	case s.categories > 0:
		return s.values[int(x)]
	case s.values != nil:
		return s.values[int(s.line.back(x))]
	}
	return s.domain.Range.value(s.line.back(x))
}

// position is where a value stands; false when it is none of the parameter's.
func (s scale) position(value any) (float64, bool) {
	if s.values != nil {
		text := string(document.Encode(value))
		i := slices.IndexFunc(s.values, func(v any) bool { return string(document.Encode(v)) == text })
		return float64(i), i >= 0
	}
	f, ok := document.ToFloat(value)
	if !ok || f < s.domain.Range.Low || f > s.domain.Range.High {
		return 0, false
	}
	return s.line.to(f), true
}

func newTPE(v *Values, seed uint64, count int) (*tpe, error) {
	t := &tpe{names: v.Names, seed: seed, count: count}
	for _, name := range v.Names {
		t.scales = append(t.scales, newScale(v.By[name]))
	}
	return t, nil
}

func (t *tpe) total() int { return t.count }

func (t *tpe) limit(n int) { t.count = n }

// learns implements generator: the first points are drawn at random.
func (t *tpe) learns(i int) bool { return i >= tpeStartup }

// given takes a point into account unless it lies outside of the values, as a
// point may that somebody asked to be tried.
func (t *tpe) given(iter int, p Point) {
	o := observation{iter: iter, at: make([]float64, len(t.names))}
	for k, name := range t.names {
		i := slices.Index(p.Names, name)
		if i < 0 {
			return
		}
		at, ok := t.scales[k].position(p.Values[i])
		if !ok {
			return
		}
		o.at[k] = at
	}
	t.history, t.sorted = append(t.history, o), false
}

// observe implements generator. Iterations end soon after they begin: theirs are
// among the last.
func (t *tpe) observe(iter int, loss float64) {
	for i := len(t.history) - 1; i >= 0; i-- {
		if o := &t.history[i]; o.iter == iter {
			o.loss, o.ended = loss, true
			return
		}
	}
}

func (t *tpe) at(i, known int) Point {
	rng := rand.New(rand.NewPCG(t.seed, uint64(i)))
	p := Point{Names: t.names, Values: make([]any, len(t.names))}
	if !t.sorted {
		slices.SortFunc(t.history, func(a, b observation) int { return cmp.Compare(a.iter, b.iter) })
		t.sorted = true
	}
	var ranked, out []int
	for i, o := range t.history {
		switch {
		case !o.ended || o.iter > known:
			out = append(out, i)
		case !math.IsNaN(o.loss):
			ranked = append(ranked, i)
		}
	}
	n := len(ranked)
	if !t.learns(i) || n < tpeStartup {
		for k, s := range t.scales {
			p.Values[k] = s.value(s.random(rng))
		}
		return p
	}
	good := min(int(math.Ceil(0.1*float64(n))), 25)
	slices.SortStableFunc(ranked, func(a, b int) int { return cmp.Compare(t.history[a].loss, t.history[b].loss) })
	below, above := ranked[:good], append(ranked[good:], out...)
	slices.Sort(below)
	slices.Sort(above)
	l, g := t.estimate(below), t.estimate(above)
	var best []float64
	bestRatio := math.Inf(-1)
	for range tpeCandidates {
		x := l.draw(rng)
		if ratio := l.logDensity(x) - g.logDensity(x); best == nil || ratio > bestRatio {
			best, bestRatio = x, ratio
		}
	}
	for k, s := range t.scales {
		p.Values[k] = s.value(best[k])
	}
	return p
}

func (t *tpe) column(rows []int, k int) []float64 {
	out := make([]float64, len(rows))
	for i, row := range rows {
		out[i] = t.history[row].at[k]
	}
	return out
}

func (s scale) random(rng *rand.Rand) float64 {
	if s.categories > 0 {
		return float64(rng.IntN(s.categories))
	}
	return s.line.low + rng.Float64()*(s.line.high-s.line.low)
}

// kernels are those of one parameter: one around each observation, and last the
// prior.
type kernels interface {
	draw(rng *rand.Rand, kernel int) float64
	density(x float64, kernel int) float64
}

// mixture is a density over all parameters: a weighted sum of products of their
// kernels.
type mixture struct {
	weights discrete
	axes    []kernels
}

func (t *tpe) estimate(rows []int) mixture {
	m := mixture{weights: append(recent(len(rows)), 1)}
	sum := 0.0
	for _, w := range m.weights {
		sum += w
	}
	for i := range m.weights {
		m.weights[i] /= sum
	}
	for k, s := range t.scales {
		m.axes = append(m.axes, s.kernels(t.column(rows, k)))
	}
	return m
}

func (m mixture) draw(rng *rand.Rand) []float64 {
	kernel := m.weights.draw(rng)
	x := make([]float64, len(m.axes))
	for k, axis := range m.axes {
		x[k] = axis.draw(rng, kernel)
	}
	return x
}

func (m mixture) logDensity(x []float64) float64 {
	total := 0.0
	for i, w := range m.weights {
		for k, axis := range m.axes {
			w *= axis.density(x[k], i)
		}
		total += w
	}
	return math.Log(math.Max(total, 1e-300))
}

func (s scale) kernels(observed []float64) kernels {
	if s.categories > 0 {
		return categorical{observed, s.categories}
	}
	return newParzen(s.line, observed)
}

// recent gives the newest observations full weight and the older ones a ramp.
func recent(n int) []float64 {
	weights := make([]float64, n, n+1)
	ramp := n - tpeRecent
	for i := range weights {
		weights[i] = 1
		if i < ramp {
			weights[i] = 1 / float64(n)
			if ramp > 1 {
				weights[i] += (1 - 1/float64(n)) * float64(i) / float64(ramp-1)
			}
		}
	}
	return weights
}

// discrete are the probabilities of 0, 1, 2, ….
type discrete []float64

func (d discrete) draw(rng *rand.Rand) int {
	u := rng.Float64()
	for i, p := range d {
		if u -= p; u < 0 {
			return i
		}
	}
	return len(d) - 1
}

// categorical are kernels that give the observed category the mass of one and a
// share of the prior's to all.
type categorical struct {
	observed   []float64
	categories int
}

func (c categorical) density(x float64, kernel int) float64 {
	share := 1 / float64(len(c.observed)+1)
	switch {
	case kernel == len(c.observed):
		return 1 / float64(c.categories)
	case c.observed[kernel] == x:
		return (1 + share) / (1 + share*float64(c.categories))
	}
	return share / (1 + share*float64(c.categories))
}

func (c categorical) draw(rng *rand.Rand, kernel int) float64 {
	p := make(discrete, c.categories)
	for x := range p {
		p[x] = c.density(float64(x), kernel)
	}
	return float64(p.draw(rng))
}

// parzen are normal distributions cut off at the ends of a line, as wide as the
// distance to the farther of the two neighbours.
type parzen struct {
	line      *numeric
	mu, sigma []float64
	mass      []float64 // of each kernel within the ends
}

func newParzen(line *numeric, observed []float64) *parzen {
	n := len(observed)
	width := line.high - line.low
	p := &parzen{line: line, mu: append(slices.Clone(observed), line.low+width/2), sigma: make([]float64, n+1), mass: make([]float64, n+1)}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p.mu[a], p.mu[b]) })
	floor := width / math.Min(100, 2+float64(n))
	for rank, i := range order {
		left, right := p.mu[i]-line.low, line.high-p.mu[i]
		if rank > 0 {
			left = p.mu[i] - p.mu[order[rank-1]]
		}
		if rank < n-1 {
			right = p.mu[order[rank+1]] - p.mu[i]
		}
		if n > 1 && rank == 0 { // at an end only the neighbour counts
			left = 0
		}
		if n > 1 && rank == n-1 {
			right = 0
		}
		p.sigma[i] = math.Min(math.Max(math.Max(left, right), floor), width)
	}
	p.sigma[n] = width
	for i := range p.mu {
		if p.sigma[i] == 0 { // a line of one point
			p.sigma[i] = 1
		}
		p.mass[i] = math.Max(p.between(i, line.low, line.high), 1e-300)
	}
	return p
}

func (p *parzen) between(i int, from, to float64) float64 {
	return normalCDF((to-p.mu[i])/p.sigma[i]) - normalCDF((from-p.mu[i])/p.sigma[i])
}

func normalCDF(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }

func (p *parzen) draw(rng *rand.Rand, i int) float64 {
	low := normalCDF((p.line.low - p.mu[i]) / p.sigma[i])
	u := low + rng.Float64()*p.mass[i]
	x := p.mu[i] + p.sigma[i]*math.Sqrt2*math.Erfinv(2*u-1)
	x = math.Min(math.Max(x, p.line.low), p.line.high)
	if p.line.r.Step > 0 || p.line.r.Int {
		x = p.line.to(p.line.back(x))
	}
	return x
}

// density is that at a position, or the mass of the step around it.
func (p *parzen) density(x float64, i int) float64 {
	r := p.line.r
	from, to := x, x
	switch {
	case r.Log && r.Int:
		from, to = math.Log(math.Max(math.Exp(x)-0.5, 0.5)), math.Log(math.Exp(x)+0.5)
	case r.Step > 0:
		from, to = x-r.Step/2, x+r.Step/2
	}
	if from < to {
		return p.between(i, math.Max(from, p.line.low), math.Min(to, p.line.high)) / p.mass[i]
	}
	z := (x - p.mu[i]) / p.sigma[i]
	return math.Exp(-z*z/2) / (p.sigma[i] * math.Sqrt(2*math.Pi) * p.mass[i])
}
