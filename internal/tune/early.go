package tune

import (
	"math"
	"slices"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// EarlyStopping ends iterations that report a metric as they go and do badly:
//
//   - asha: asynchronous successive halving (L. Li et al., "A System for Massively
//     Parallel Hyperparameter Tuning", MLSys 2020) in its stopping form: at the steps
//     Min, Min·Reduction, Min·Reduction²… an iteration goes on if it is among the
//     best 1/Reduction of those that have come so far.
//   - median: the median rule (D. Golovin et al., "Google Vizier", KDD 2017): from step
//     Min on an iteration ends if its best value is worse than the median of the
//     others' running averages up to the same step.
type EarlyStopping struct {
	Rule      string   // asha or median
	Metric    Selector // the reported result
	Min       int      // first step at which an iteration may end
	Reduction int      // of asha
	Others    int      // of median: how many others must have come as far
}

func parseEarlyStopping(value any) (*EarlyStopping, error) {
	const at = "spec.hyper_param_options.early_stopping"
	if value == nil {
		return nil, nil
	}
	doc, ok := value.(document.Object)
	if !ok {
		return nil, fault.Invalid(`%s must be an object such as {"rule": "asha", "metric": "max.accuracy"}, got %s`, at, document.TypeName(value))
	}
	e := &EarlyStopping{Min: 1, Reduction: 4, Others: 5}
	for name := range doc {
		if !slices.Contains([]string{"rule", "metric", "min", "reduction", "others"}, name) {
			return nil, fault.Invalid("%s.%s is not known; it has rule, metric, min, reduction and others", at, name)
		}
	}
	var err error
	if e.Rule, err = document.Want[string](doc, "rule"); err != nil || e.Rule != "asha" && e.Rule != "median" {
		return nil, fault.Invalid("%s.rule must be asha or median, got %s", at, document.Encode(doc["rule"]))
	}
	metric, err := document.Want[string](doc, "metric")
	if err != nil || metric == "" {
		return nil, fault.Invalid("%s.metric must name the result that is reported as an iteration goes, for instance max.accuracy", at)
	}
	if e.Metric, err = ParseSelector(metric); err != nil {
		return nil, err
	}
	for name, field := range map[string]*int{"min": &e.Min, "reduction": &e.Reduction, "others": &e.Others} {
		if doc[name] == nil {
			continue
		}
		n, ok := document.ToInt(doc[name])
		if !ok || n < 1 || n > 1<<30 || name == "reduction" && n < 2 {
			return nil, fault.Invalid("%s.%s must be a whole number from %d on, got %s", at, name, map[string]int{"reduction": 2, "min": 1, "others": 1}[name], document.Encode(doc[name]))
		}
		*field = int(n)
	}
	return e, nil
}

// Pruner decides, report by report, which iterations go on.
type Pruner struct {
	rule  EarlyStopping
	rungs map[int][]float64 // asha: step → losses that reached it
	runs  map[int]*progress // median
}

type progress struct {
	best     float64
	sum      float64
	averages []float64 // after each step
}

// NewPruner returns one that has seen nothing.
func NewPruner(rule EarlyStopping) *Pruner {
	return &Pruner{rule: rule, rungs: map[int][]float64{}, runs: map[int]*progress{}}
}

// Report tells the metric of an iteration at a step, from 1 on and one after the
// other, and returns whether the iteration goes on. NaN ends it: it will not get
// better by itself.
func (p *Pruner) Report(iter, step int, value float64) (goOn bool) {
	loss := p.rule.Metric.Loss(value)
	if math.IsNaN(loss) {
		return step < p.rule.Min
	}
	if p.rule.Rule == "asha" {
		return p.asha(step, loss)
	}
	return p.median(iter, step, loss)
}

func (p *Pruner) asha(step int, loss float64) bool {
	rung := p.rule.Min
	for rung < step {
		rung *= p.rule.Reduction
	}
	if rung != step {
		return true
	}
	losses := p.rungs[step]
	i, _ := slices.BinarySearch(losses, loss)
	losses = slices.Insert(losses, i, loss)
	p.rungs[step] = losses
	if len(losses) < p.rule.Reduction {
		return true // too few to tell
	}
	return loss <= losses[len(losses)/p.rule.Reduction-1]
}

func (p *Pruner) median(iter, step int, loss float64) bool {
	run := p.runs[iter]
	if run == nil {
		run = &progress{best: math.Inf(1)}
		p.runs[iter] = run
	}
	run.best = math.Min(run.best, loss)
	run.sum += loss
	run.averages = append(run.averages, run.sum/float64(len(run.averages)+1))
	if step < p.rule.Min {
		return true
	}
	var others []float64
	for id, other := range p.runs {
		if id != iter && len(other.averages) >= step {
			others = append(others, other.averages[step-1])
		}
	}
	if len(others) < p.rule.Others {
		return true
	}
	slices.Sort(others)
	middle := len(others) / 2
	median := others[middle]
	if len(others)%2 == 0 {
		median = (median + others[middle-1]) / 2
	}
	return run.best <= median
}
