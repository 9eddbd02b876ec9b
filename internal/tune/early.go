package tune

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strconv"

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
//     Min on an iteration ends if its best value so far is worse than the median of the
//     running averages, up to the same step, of the iterations that have completed.
//     Against values it is compared with their values at the step, as Optuna does.
type EarlyStopping struct {
	Rule      string   // asha or median
	Metric    Selector // the reported result
	Min       int      // first step at which an iteration may end
	Reduction int      // of asha
	Others    int      // of median: how many must have completed with as many steps
	Against   string   // of median: averages or values
}

// The things that the median rule compares with.
const (
	Averages = "averages"
	AtStep   = "values"
)

func parseEarlyStopping(value any) (*EarlyStopping, error) {
	const at = "spec.hyper_param_options.early_stopping"
	if value == nil {
		return nil, nil
	}
	doc, ok := value.(document.Object)
	if !ok {
		return nil, fault.Invalid(`%s must be an object such as {"rule": "asha", "metric": "max.accuracy"}, got %s`, at, document.TypeName(value))
	}
	e := &EarlyStopping{Min: 1, Reduction: 4, Others: 5, Against: Averages}
	for name := range doc {
		if !slices.Contains([]string{"rule", "metric", "min", "reduction", "others", "against"}, name) {
			return nil, fault.Invalid("%s.%s is not known; it has rule, metric, min, reduction, others and against", at, name)
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
	against, err := document.Want[string](doc, "against")
	if err != nil || against != "" && against != Averages && against != AtStep {
		return nil, fault.Invalid("%s.against must be averages or values, got %s", at, document.Encode(doc["against"]))
	}
	e.Against = cmp.Or(against, Averages)
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

// Pruner decides, report by report, which iterations go on. It knows what was
// reported at the steps at which its rule decides, the rungs: for asha those given
// above, for median every step up to 128 and then 64 until they have doubled, so that
// an iteration of any length has few.
type Pruner struct {
	rule  EarlyStopping
	rungs map[int][]float64 // step → in order, what an iteration is compared with there
	runs  map[int]*reports  // iterations that run
}

// reports are those of an iteration that runs.
type reports struct {
	best, sum float64
	count     int
	due       int       // the next rung
	kept      []float64 // what others are compared with: one for each rung it came to
	over      bool      // it was told to end
}

// NewPruner returns one that has seen nothing.
func NewPruner(rule EarlyStopping) *Pruner {
	return &Pruner{rule: rule, rungs: map[int][]float64{}, runs: map[int]*reports{}}
}

// next is the rung behind a rung.
func (e EarlyStopping) next(rung int) int {
	if e.Rule == "asha" {
		return rung * e.Reduction
	}
	stride := max(1, 1<<bits.Len(uint(rung))/128)
	return (rung/stride + 1) * stride
}

// Report tells the metric of an iteration at a step, from 1 on and one after the
// other, and returns whether the iteration goes on. NaN ends it: it will not get
// better by itself. What an iteration reports after it was told to end changes
// nothing.
func (p *Pruner) Report(iter, step int, value float64) (goOn bool) {
	run := p.runs[iter]
	if run == nil || step == 1 {
		run = &reports{best: math.Inf(1), due: p.rule.Min}
		p.runs[iter] = run
	}
	if run.over {
		return false
	}
	loss := p.rule.Metric.Loss(value)
	if math.IsNaN(loss) {
		run.over = step >= p.rule.Min
		return !run.over
	}
	run.best, run.sum, run.count = math.Min(run.best, loss), run.sum+loss, run.count+1
	if step != run.due {
		return true
	}
	run.due = p.rule.next(step)
	if p.rule.Rule == "asha" {
		run.kept = append(run.kept, loss)
		run.over = !p.asha(step, loss)
		return !run.over
	}
	if p.rule.Against != AtStep {
		loss = run.sum / float64(run.count)
	}
	run.kept = append(run.kept, loss)
	run.over = !p.median(step, run.best)
	return !run.over
}

func (p *Pruner) asha(step int, loss float64) bool {
	p.insert(step, loss)
	losses := p.rungs[step]
	if len(losses) < p.rule.Reduction {
		return true // too few to tell
	}
	return loss <= losses[len(losses)/p.rule.Reduction-1]
}

func (p *Pruner) median(step int, best float64) bool {
	others := p.rungs[step]
	if len(others) < p.rule.Others {
		return true
	}
	middle := len(others) / 2
	median := others[middle]
	if len(others)%2 == 0 {
		median = (median + others[middle-1]) / 2
	}
	return best <= median
}

func (p *Pruner) insert(step int, loss float64) {
	losses := p.rungs[step]
	i, _ := slices.BinarySearch(losses, loss)
	p.rungs[step] = slices.Insert(losses, i, loss)
}

// End tells that an iteration has ended, and whether it has completed. It returns
// what Restore needs of it in a later attempt, nil when that is nothing.
func (p *Pruner) End(iter int, completed bool) []any {
	run := p.runs[iter]
	delete(p.runs, iter)
	switch {
	case run == nil:
		return nil
	case p.rule.Rule == "asha": // the rungs have it
	case !completed || run.over:
		return nil
	default:
		p.climb(run.kept)
	}
	return lossesDocument(run.kept)
}

// Restore brings in an iteration that ended in an earlier attempt, by what End
// returned of it.
func (p *Pruner) Restore(kept []any) { p.climb(parseLosses(kept)) }

func (p *Pruner) climb(kept []float64) {
	rung := p.rule.Min
	for _, loss := range kept {
		p.insert(rung, loss)
		rung = p.rule.next(rung)
	}
}

// lossesDocument writes infinities as texts, because JSON has none; there is no NaN.
func lossesDocument(losses []float64) []any {
	var out []any
	for _, loss := range losses {
		if math.IsInf(loss, 0) {
			out = append(out, strconv.FormatFloat(loss, 'g', -1, 64))
			continue
		}
		out = append(out, loss)
	}
	return out
}

// parseLosses reads what lossesDocument writes, up to what is none of it.
func parseLosses(list []any) []float64 {
	var out []float64
	for _, item := range list {
		loss, ok := number(item)
		if !ok || math.IsNaN(loss) {
			break
		}
		out = append(out, loss)
	}
	return out
}
