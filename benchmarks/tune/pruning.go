package main

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

// steps is how often an iteration reports its metric until it has completed.
const steps = 64

// rules are the ways to end iterations early, ours and Optuna's with the same settings.
var rules = []string{"none", "asha", "Optuna's asha", "median", "median of values", "Optuna's median"}

// prune prints how far the best of the completed iterations is from the least value
// when all together have made as many steps as 30 whole ones. The points are the same
// random ones for every rule.
func prune(rival *rival, seeds int) error {
	fmt.Printf("\nregret after %d steps (%d whole iterations), median (quartiles) of %d seeds; iterations begun, median\n\n| function |", 30*steps, 30, seeds)
	for _, rule := range rules {
		if rival != nil || !strings.HasPrefix(rule, "Optuna") {
			fmt.Printf(" %s |", rule)
		}
	}
	fmt.Println()
	for _, p := range problems {
		fmt.Printf("| %s |", p.name)
		for _, rule := range rules {
			if rival == nil && strings.HasPrefix(rule, "Optuna") {
				continue
			}
			var c curves
			for seed := range seeds {
				regret, begun, err := pruned(rival, rule, p, seed)
				if err != nil {
					return err
				}
				c = append(c, []float64{regret, float64(begun)})
			}
			fmt.Printf(" %s (%s–%s); %.0f |", short(c.quantile(0, 0.5)), short(c.quantile(0, 0.25)), short(c.quantile(0, 0.75)), c.quantile(1, 0.5))
		}
		fmt.Println()
	}
	return nil
}

// pruned makes one search by random points under a rule.
func pruned(rival *rival, rule string, p problem, seed int) (regret float64, begun int, err error) {
	space, err := tune.ParseValues([]byte(p.space), p.name)
	if err != nil {
		return 0, 0, err
	}
	own := uint64(seed)
	search, err := tune.New(tune.Options{Strategy: tune.Random, MaxIterations: 30 * steps, Seed: &own}, space, 0)
	if err != nil {
		return 0, 0, err
	}
	early := tune.EarlyStopping{Rule: rule, Metric: tune.Selector{Result: "f", Minimise: true}, Min: 1, Reduction: 4, Others: 5}
	if rule == "median of values" {
		early.Rule, early.Against = "median", tune.AtStep
	}
	pruner := tune.NewPruner(early)
	if name, theirs := strings.CutPrefix(rule, "Optuna's "); theirs {
		if _, err := fmt.Fprintf(rival.in, `{"pruner":%q}`+"\n", name); err != nil {
			return 0, 0, err
		}
	}
	best := math.Inf(1)
	for left := 30 * steps; left > 0; {
		trial, _ := search.Next()
		begun++
		final := p.value(trial.Point.Object())
		curve := learning(final, p, own, trial.Iter)
		step, goOn := 0, true
		for goOn && step < steps && left > 0 {
			step++
			left--
			switch {
			case rule == "none":
			case strings.HasPrefix(rule, "Optuna"):
				goOn, err = rival.judge(step, curve(step), step == steps)
			default:
				goOn = pruner.Report(trial.Iter, step, curve(step))
			}
			if err != nil {
				return 0, 0, err
			}
		}
		pruner.End(trial.Iter, step == steps && goOn)
		if step == steps && goOn {
			best = min(best, final-p.least)
		}
	}
	return best, begun, nil
}

// learning is the curve of an iteration: it comes down to its final value by a power of
// the step, from a height and with a speed of its own, so that curves cross, and with some noise.
func learning(final float64, p problem, seed uint64, iter int) func(step int) float64 {
	rng := rand.New(rand.NewPCG(seed+1, uint64(iter)))
	height := (0.2 + rng.Float64()) * cmp.Or(math.Abs(final-p.least), 1)
	speed := 0.3 + 0.9*rng.Float64()
	noise := 0.02 * height
	return func(step int) float64 {
		x := (math.Pow(float64(step), -speed) - math.Pow(steps, -speed)) / (1 - math.Pow(steps, -speed))
		return final + height*x + noise*rng.NormFloat64()
	}
}

// judge reports a step and returns whether the iteration goes on.
func (r *rival) judge(step int, value float64, last bool) (bool, error) {
	if _, err := fmt.Fprintf(r.in, "%s\n", document.Encode(document.Object{"step": step, "value": value, "last": last})); err != nil {
		return false, err
	}
	line, err := r.out.ReadString('\n')
	return strings.TrimSpace(line) == "true", err
}
