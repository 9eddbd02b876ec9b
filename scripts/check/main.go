// Command check passes the whole repository: format, vet, linters, types, known
// vulnerabilities, every Go test with the fuzz seeds (also under the race
// detector), the Python runtime on every interpreter, and the suites under test/.
//
//	go run ./scripts/check                  what this machine can do; says what it left out
//	go run ./scripts/check --require-all    anything left out is a failure (CI)
//	go run ./scripts/check --only lint,unit some of the steps; --list names them
//
// Tools are installed once into the user's cache folder, at the versions in
// tools.go. The last line counts: "N passed, N failed, N skipped".
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	require := flag.Bool("require-all", false, "fail when something cannot run here")
	only := flag.String("only", "", "comma-separated `steps` to run")
	list := flag.Bool("list", false, "name the steps and end")
	fuzz := flag.Duration("fuzz", 4*time.Second, "how long each fuzz target runs")
	flag.Parse()
	if *list {
		for _, s := range steps() {
			fmt.Printf("%-12s %s\n", s.name, s.about)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &check{ctx: ctx, out: os.Stdout, require: *require, fuzzTime: *fuzz}
	if err := c.run(*only); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(2)
	}
	if c.total.failed > 0 {
		os.Exit(1)
	}
}

// check is one pass over the steps.
type check struct {
	ctx      context.Context // of the whole command
	out      io.Writer
	require  bool
	fuzzTime time.Duration
	environ  []string // on top of this process's
	total    counts
	problems []string // one line for each failure and each thing left out
}

// counts is what the closing line says.
type counts struct{ passed, failed, skipped int }

func (c *counts) add(o counts) {
	c.passed += o.passed
	c.failed += o.failed
	c.skipped += o.skipped
}

// step is one part of the pass; run reports through the check's methods.
type step struct {
	name, about string
	run         func(*check)
	asked       bool // run only when --only names it
}

// steps are in the order of how soon they tell something: cheap ones first.
func steps() []step {
	return []step{
		{"lint", "gofmt, go vet, staticcheck", (*check).lint, false},
		{"python-lint", "ruff on all Python, mypy --strict on the runtime", (*check).pythonLint, false},
		{"vulns", "govulncheck", (*check).vulns, false},
		{"unit", "all Go tests but the suites below", (*check).unit, false},
		{"python", "the Python runtime beside the MLRun package", (*check).python, false},
		{"stories", "user stories as scripts", suite("./test/stories/...", 15*time.Minute), false},
		{"conformance", "what a function object does, on every backend", suite("./test/conformance/...", 20*time.Minute), false},
		{"sdk", "the stock MLRun SDK against a started server", suite("./test/sdk/...", 40*time.Minute), false},
		{"threads", "workers and functions on free-threaded Python", (*check).threads, false},
		{"race", "the Go tests again under the race detector", (*check).race, false},
		{"chaos", "everything killed at random moments, nothing lost", suite("./test/chaos/...", 15*time.Minute), false},
		// A search is not a test: what it finds depends on chance. Its findings become
		// seeds under testdata/fuzz, and those are tests of the unit step.
		{"fuzz", "search on from the seeds of every fuzz target, for --fuzz each; only when asked for", (*check).fuzz, true},
	}
}

func (c *check) run(only string) error {
	selected := steps()
	if only == "" {
		selected = slices.DeleteFunc(selected, func(s step) bool { return s.asked })
	} else {
		names := strings.Split(only, ",")
		for _, name := range names {
			if !slices.ContainsFunc(selected, func(s step) bool { return s.name == name }) {
				return fmt.Errorf("there is no step %q; --list names them", name)
			}
		}
		selected = slices.DeleteFunc(selected, func(s step) bool { return !slices.Contains(names, s.name) })
	}
	for _, s := range selected {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		fmt.Fprintf(c.out, "\n== %s: %s\n", s.name, s.about)
		before, begin := c.total, time.Now()
		s.run(c)
		fmt.Fprintf(c.out, "== %s: %d passed, %d failed, %d skipped in %s\n", s.name,
			c.total.passed-before.passed, c.total.failed-before.failed, c.total.skipped-before.skipped,
			time.Since(begin).Round(time.Second))
	}
	if len(c.problems) > 0 {
		fmt.Fprintf(c.out, "\nWhat did not pass:\n  %s\n", strings.Join(c.problems, "\n  "))
	}
	fmt.Fprintf(c.out, "\n%d passed, %d failed, %d skipped\n", c.total.passed, c.total.failed, c.total.skipped)
	return nil
}

func (c *check) pass(what string) {
	c.total.passed++
	fmt.Fprintf(c.out, "ok    %s\n", what)
}

func (c *check) fail(what, why string) {
	c.total.failed++
	c.problems = append(c.problems, "failed: "+what)
	fmt.Fprintf(c.out, "FAIL  %s\n%s\n", what, indent(why))
}

// skip counts something that could not run here: a failure where everything has to.
func (c *check) skip(what, why string) {
	if c.require && excuse(what) == "" {
		c.fail(what, "it has to run here, but: "+why)
		return
	}
	c.total.skipped++
	if because := excuse(what); because != "" {
		why += " (" + because + ")"
	}
	c.problems = append(c.problems, "skipped: "+what+": "+firstLine(why))
	fmt.Fprintf(c.out, "skip  %s: %s\n", what, why)
}

// verdict passes or fails what by err; output is shown with a failure.
func (c *check) verdict(what, output string, err error) {
	if err != nil {
		c.fail(what, strings.TrimSpace(output+"\n"+err.Error()))
		return
	}
	c.pass(what)
}

func indent(text string) string {
	return "      " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n      ")
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
