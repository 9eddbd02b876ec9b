// Command tune judges the strategies tpe and random beside Optuna's TPE sampler at
// its defaults: the same functions, the same budget, seeds 0 to 29; with -parallel
// several iterations are out at once, Optuna then with its constant liar. It prints a
// table of the regret (how far the best value found is from the function's least:
// median and quartiles over the seeds) and draws it over the budget.
//
// With -pruning it judges the rules of early stopping beside Optuna's, see prune.
//
//	go run ./benchmarks/tune -python PYTHON-WITH-OPTUNA [-plot docs/tune-regret.svg]
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
)

func main() {
	python := flag.String("python", "", "an interpreter that has optuna; without one it is left out")
	budget := flag.Int("budget", 100, "iterations of a search")
	seeds := flag.Int("seeds", 30, "searches for each function")
	parallel := flag.Int("parallel", 1, "iterations that are out at once; they end in the order in which they began")
	plot := flag.String("plot", "", "SVG file to write")
	pruning := flag.Bool("pruning", false, "judge early stopping instead of the strategies")
	flag.Parse()
	if err := run(*python, *budget, *seeds, *parallel, *pruning, *plot); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// curves is, for each seed, the regret after each iteration.
type curves [][]float64

func run(python string, budget, seeds, parallel int, pruning bool, plot string) error {
	methods := []string{"random", "tpe"}
	var rival *rival
	if python != "" {
		var err error
		if rival, err = startRival(python); err != nil {
			return err
		}
		defer rival.close()
		methods = append(methods, "Optuna")
	}
	if pruning {
		return prune(rival, seeds)
	}
	all := map[string][]curves{}
	fmt.Printf("regret after %d iterations, median (quartiles) of %d seeds\n\n| function |", budget, seeds)
	for _, m := range methods {
		fmt.Printf(" %s |", m)
	}
	fmt.Println("\n| --- |" + string(bytes.Repeat([]byte(" --- |"), len(methods))))
	for _, p := range problems {
		fmt.Printf("| %s |", p.name)
		for _, m := range methods {
			var c curves
			for seed := range seeds {
				search, err := values(rival, m, p, budget, seed, parallel)
				if err != nil {
					return err
				}
				c = append(c, search)
			}
			all[m] = append(all[m], c)
			fmt.Printf(" %s (%s–%s) |", short(c.quantile(budget-1, 0.5)), short(c.quantile(budget-1, 0.25)), short(c.quantile(budget-1, 0.75)))
		}
		fmt.Println()
	}
	if plot == "" {
		return nil
	}
	return os.WriteFile(plot, draw(methods, all, budget), 0o644)
}

func short(f float64) string { return fmt.Sprintf("%.2g", f) }

func (c curves) quantile(at int, q float64) float64 {
	column := make([]float64, len(c))
	for i := range c {
		column[i] = c[i][at]
	}
	slices.Sort(column)
	x := q * float64(len(column)-1)
	low := int(x)
	high := min(low+1, len(column)-1)
	return column[low] + (x-float64(low))*(column[high]-column[low])
}

// values makes one search and returns its regret after each iteration.
func values(r *rival, method string, p problem, budget, seed, parallel int) ([]float64, error) {
	regret, best := make([]float64, 0, budget), math.Inf(1)
	try := func(point document.Object) float64 {
		f := p.value(point)
		best = min(best, f)
		regret = append(regret, best-p.least)
		return f
	}
	if method == "Optuna" {
		err := r.search(p, budget, seed, parallel, try)
		return regret, err
	}
	space, err := tune.ParseValues([]byte(p.space), p.name)
	if err != nil {
		return nil, err
	}
	own := uint64(seed)
	s, err := tune.New(tune.Options{
		Strategy: tune.Strategy(method), Selector: tune.Selector{Result: "f", Minimise: true}, MaxIterations: budget, Seed: &own, ParallelRuns: parallel,
	}, space, 0)
	if err != nil {
		return nil, err
	}
	var out []tune.Outcome
	for {
		trial, ok := s.Next()
		if ok {
			out = append(out, tune.Outcome{Iter: trial.Iter, State: "completed", Results: document.Object{"f": try(trial.Point.Object())}})
		}
		if !ok && len(out) == 0 {
			return regret, nil
		}
		if !ok || len(out) == parallel {
			s.Tell(out[0])
			out = out[1:]
		}
	}
}

// rival is the process that asks Optuna.
type rival struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startRival(python string) (*rival, error) {
	_, source, _, _ := runtime.Caller(0)
	cmd := exec.Command(python, filepath.Join(filepath.Dir(source), "rival.py"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &rival{cmd, in, bufio.NewReader(out)}, cmd.Start()
}

func (r *rival) close() {
	_ = r.in.Close()
	_ = r.cmd.Wait()
}

func (r *rival) search(p problem, budget, seed, parallel int, try func(document.Object) float64) error {
	fmt.Fprintf(r.in, `{"space":%s,"budget":%d,"seed":%d,"parallel":%d}`+"\n", p.space, budget, seed, parallel)
	for range budget {
		line, err := r.out.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("%s, seed %d: optuna: %w", p.name, seed, err)
		}
		point, err := document.DecodeObject(line)
		if err != nil {
			return err
		}
		value, err := json.Marshal(try(point))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(r.in, "%s\n", value); err != nil {
			return err
		}
	}
	return nil
}
