package tune

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/millrace/millrace/internal/document"
)

// sum is a function of a range, an integer, a list of numbers and a category whose
// least value, 0, is at x=0.7, n=40, k=8, c="b".
func sum(p document.Object) float64 {
	x, _ := document.ToFloat(p["x"])
	n, _ := document.ToFloat(p["n"])
	k, _ := document.ToFloat(p["k"])
	f := math.Pow(x-0.7, 2) + math.Pow((n-40)/50, 2) + math.Pow(math.Log2(k)-3, 2)/10
	if p["c"] != "b" {
		f++
	}
	return f
}

const mixed = `{"x":{"low":0.0,"high":1},"n":{"low":1,"high":100},"k":[1,2,4,8,16,32],"c":["a","b","c"]}`

func minimum(t *testing.T, strategy Strategy, seed uint64) float64 {
	t.Helper()
	best := math.Inf(1)
	s := search(t, Options{Strategy: strategy, Selector: Selector{"f", true}, MaxIterations: 60, Seed: &seed}, mixed)
	all(t, s, func(p document.Object) document.Object {
		f := sum(p)
		best = min(best, f)
		return document.Object{"f": f}
	})
	return best
}

// TestTPELearns compares the medians of 15 seeds: what is learnt has to be worth
// a good part of the distance that random draws leave.
func TestTPELearns(t *testing.T) {
	median := func(strategy Strategy) float64 {
		var found []float64
		for seed := range uint64(15) {
			found = append(found, minimum(t, strategy, seed))
		}
		slices.Sort(found)
		return found[7]
	}
	tpe, random := median(TPE), median(Random)
	if tpe > random/2 {
		t.Errorf("after 60 iterations tpe is at %.4f and random at %.4f", tpe, random)
	}
}

func TestTPEStaysWithinTheValues(t *testing.T) {
	space := `{"a":{"low":0.001,"high":1,"log":true},"b":{"low":1,"high":1000,"log":true},"c":{"low":0,"high":1,"step":0.25},
		"d":{"low":5,"high":5},"e":[3,1,2],"f":["x",null,true],"g":[1],"h":{"low":-2.5,"high":-2.5}}`
	s := search(t, Options{Strategy: TPE, Selector: Selector{"r", false}, MaxIterations: 200}, space)
	rng := rand.New(rand.NewPCG(1, 1))
	seen := map[string]bool{}
	for _, row := range all(t, s, func(document.Object) document.Object { return document.Object{"r": rng.Float64()} }) {
		p := row.Parameters.Object()
		a, _ := document.ToFloat(p["a"])
		b, whole := document.ToInt(p["b"])
		c, _ := document.ToFloat(p["c"])
		if a < 0.001 || a > 1 || !whole || b < 1 || b > 1000 || math.Mod(c, 0.25) != 0 || c < 0 || c > 1 {
			t.Fatalf("outside of the values: %s", document.Encode(p))
		}
		for name, list := range map[string]string{"d": "5", "e": "312", "f": `"x" null true`, "g": "1", "h": "-2.5"} {
			if text := string(document.Encode(p[name])); !contains(list, text) {
				t.Fatalf("%s is %s", name, text)
			}
			seen[name+string(document.Encode(p[name]))] = true
		}
	}
	if len(seen) != 9 {
		t.Errorf("of 9 values of lists %d were tried: %v", len(seen), seen)
	}
}

func contains(list, text string) bool {
	for i := 0; i+len(text) <= len(list); i++ {
		if list[i:i+len(text)] == text {
			return true
		}
	}
	return false
}

// TestDensities integrates: kernels whose mass is not 1 compare wrongly.
func TestDensities(t *testing.T) {
	mass := func(axis kernels, kernel int, from, to, step float64, at func(float64) float64) (total float64) {
		for v := from; v < to; v += step {
			total += axis.density(at(v), kernel)
		}
		return total
	}
	same := func(x float64) float64 { return x }
	for _, observed := range [][]float64{nil, {0}, {-3, -3, 5}, {1, 1.001, 4}} {
		line := (&Range{Low: -3, High: 5}).numeric()
		for i := range len(observed) + 1 {
			const step = 1.0 / 16384
			if total := mass(newParzen(&line, observed), i, -3+step/2, 5, step, same) * step; math.Abs(total-1) > 1e-6 {
				t.Errorf("%v, kernel %d: mass %v", observed, i, total)
			}
		}
	}
	for _, r := range []Range{{Low: 2, High: 9, Step: 1, Int: true}, {Low: 1, High: 30, Log: true, Int: true}, {Low: 0, High: 1, Step: 0.125}} {
		line := r.numeric()
		axis := newParzen(&line, []float64{line.to(r.Low), line.to(r.High)})
		step := r.Step
		if step == 0 {
			step = 1
		}
		for i := range 3 {
			if total := mass(axis, i, r.Low, r.High+step/2, step, line.to); math.Abs(total-1) > 1e-6 {
				t.Errorf("%+v, kernel %d: mass %v", r, i, total)
			}
		}
	}
	axis := categorical{[]float64{0, 2, 2}, 4}
	for i := range 4 {
		if total := mass(axis, i, 0, 4, 1, same); math.Abs(total-1) > 1e-9 {
			t.Errorf("categories, kernel %d: mass %v", i, total)
		}
	}
	if axis.density(2, 1) <= axis.density(1, 1) || axis.density(1, 1) <= 0 {
		t.Error("the observed category is not the likeliest, or another is impossible")
	}
}

// TestASHA sends configurations of known quality up the rungs: few go far, and the
// best is among them.
func TestASHA(t *testing.T) {
	p := NewPruner(EarlyStopping{Rule: "asha", Metric: Selector{"acc", false}, Min: 1, Reduction: 3})
	order := rand.New(rand.NewPCG(3, 4)).Perm(81)
	steps, reached := 0, map[int]int{}
	for iter, quality := range order {
		for step := 1; step <= 27; step++ {
			steps++
			reached[quality] = step
			if !p.Report(iter+1, step, float64(quality)*(1-1/float64(step+1))) {
				break
			}
		}
	}
	if reached[80] != 27 {
		t.Errorf("the best was stopped at step %d", reached[80])
	}
	if reached[0] > 3 {
		t.Errorf("the worst went to step %d", reached[0])
	}
	if steps > 81*27/2 {
		t.Errorf("%d of %d steps were executed", steps, 81*27)
	}
}

func TestMedianRule(t *testing.T) {
	for _, c := range []struct {
		against string
		fourth  []bool // of an iteration whose losses are 2.5, 2.3, 2.3, 2.3: whether it goes on after each
	}{
		// The three that have completed go from 3 down to their number: their averages at the
		// second step are 2, 2.5 and 3, later less, their values 1, 2 and 3.
		{Averages, []bool{true, true, true, false}},
		{AtStep, []bool{true, false}},
	} {
		p := NewPruner(EarlyStopping{Rule: "median", Metric: Selector{"loss", true}, Min: 2, Others: 3, Against: c.against})
		for iter := 1; iter <= 3; iter++ {
			for step := 1; step <= 4; step++ {
				loss := float64(iter)
				if step == 1 {
					loss = 3
				}
				if !p.Report(iter, step, loss) {
					t.Fatalf("iteration %d was stopped with fewer than 3 others", iter)
				}
			}
			p.End(iter, true)
		}
		// Neither one that failed nor one that was ended is compared with.
		for iter := 4; iter <= 20; iter++ {
			for step := 1; step <= 4 && p.Report(iter, step, 100); step++ {
			}
			p.End(iter, false)
		}
		for i, want := range c.fourth {
			loss := 2.3
			if i == 0 {
				loss = 2.5
			}
			if got := p.Report(21, i+1, loss); got != want {
				t.Errorf("%s: after step %d a bad one goes on: %v", c.against, i+1, got)
			}
		}
		if p.Report(21, len(c.fourth)+1, 0) || len(p.End(21, true)) > 0 {
			t.Errorf("%s: one that was told to end goes on, or is compared with", c.against)
		}
		for step := 1; step <= 4; step++ {
			if !p.Report(22, step, 1.5) {
				t.Errorf("%s: a good one was stopped at step %d", c.against, step)
			}
		}
		if p.Report(23, 1, math.NaN()); p.Report(23, 2, math.NaN()) {
			t.Errorf("%s: NaN goes on", c.against)
		}
	}
}

// What is kept of an iteration is small, however long it is, and comes back as it was.
func TestReportsThatAreKept(t *testing.T) {
	for _, c := range []struct {
		rule EarlyStopping
		most int
	}{
		{EarlyStopping{Rule: "median", Min: 1, Others: 1, Against: Averages}, 128 + 64*10},
		{EarlyStopping{Rule: "median", Min: 7, Others: 1, Against: AtStep}, 128 + 64*10},
		{EarlyStopping{Rule: "asha", Min: 1, Reduction: 2}, 18},
	} {
		c.rule.Metric = Selector{"loss", true}
		p := NewPruner(c.rule)
		for step := 1; step <= 100_000; step++ {
			value := 1 / (0.3 + float64(step))
			if step == 10_000 {
				value = math.Inf(-1)
			}
			p.Report(1, step, value)
		}
		kept := p.End(1, true)
		if len(kept) < 16 || len(kept) > c.most {
			t.Errorf("%v: %d values are kept of 100,000", c.rule, len(kept))
		}
		doc, err := document.DecodeObject(document.Encode(document.Object{"reports": kept}))
		if err != nil {
			t.Fatal(err)
		}
		again := NewPruner(c.rule)
		if again.Restore(document.List(doc, "reports")); !reflect.DeepEqual(again.rungs, p.rungs) {
			t.Errorf("%v: restored %d rungs of %d, or others", c.rule, len(again.rungs), len(p.rungs))
		}
		if len(p.runs) != 0 {
			t.Errorf("%v: an iteration that has ended is remembered", c.rule)
		}
	}
}

// TestSeededTPEIsTheSameInParallel has iterations end in any order, some of them
// badly, and kills the task in the middle: the points stay those of another order.
func TestSeededTPEIsTheSameInParallel(t *testing.T) {
	const parallel = 4
	seed := uint64(3)
	options := Options{Strategy: TPE, Selector: Selector{"f", true}, MaxIterations: 60, MaxErrors: 60, ParallelRuns: parallel, Seed: &seed}
	var want []string
	orders := map[string]bool{}
	for order := range uint64(20) {
		rng := rand.New(rand.NewPCG(order, 0))
		s := search(t, options, mixed)
		var out []Trial
		var ended []Outcome
		points, sequence := make([]string, 60), ""
		done := map[int]document.Object{}
		for killed := false; ; {
			for len(out) < parallel {
				trial, ok := s.Next()
				if !ok {
					break
				}
				out = append(out, trial)
			}
			if len(out) == 0 {
				break
			}
			if len(ended) == 30 && !killed && order%2 == 1 {
				killed, out = true, nil
				state := s.State()
				s = search(t, options, mixed)
				rng.Shuffle(len(ended), func(i, k int) { ended[i], ended[k] = ended[k], ended[i] })
				if err := s.Restore(state, ended, func(iter int) document.Object { return done[iter] }); err != nil {
					t.Fatal(err)
				}
				continue
			}
			i := rng.IntN(len(out))
			trial := out[i]
			out = slices.Delete(out, i, i+1)
			p := trial.Point.Object()
			points[trial.Iter-1], done[trial.Iter] = string(document.Encode(p)), p
			sequence += string(rune(trial.Iter))
			o := Outcome{Iter: trial.Iter, State: "completed", Results: document.Object{"f": sum(p)}}
			if trial.Iter%7 == 0 {
				o.State, o.Results = "error", nil
			}
			ended = append(ended, o)
			s.Tell(o)
		}
		if s.Stopped() != Exhausted || len(ended) != 60 {
			t.Fatalf("order %d: %d iterations, stopped by %q", order, len(ended), s.Stopped())
		}
		orders[sequence] = true
		if want == nil {
			want = points
		}
		for i := range points {
			if points[i] != want[i] {
				t.Fatalf("order %d: iteration %d is %s, in another order %s", order, i+1, points[i], want[i])
			}
		}
	}
	if len(orders) != 20 {
		t.Errorf("there were %d orders", len(orders))
	}
}

// TestTPEWithoutASeedWaitsForNothing gives points while the first one is out.
func TestTPEWithoutASeedWaitsForNothing(t *testing.T) {
	s := search(t, Options{Strategy: TPE, Selector: Selector{"f", true}, MaxIterations: 60, ParallelRuns: 2}, mixed)
	s.Next()
	if rows := all(t, s, func(p document.Object) document.Object { return document.Object{"f": sum(p)} }); len(rows) != 59 {
		t.Errorf("%d iterations beside the first", len(rows))
	}
}
