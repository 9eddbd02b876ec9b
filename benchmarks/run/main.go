// Command run measures how long a tracked `millrace run` of an empty Python
// handler takes as a whole process, beside a bare Python script on the same
// interpreter, alternating in one run.
//
//	go run ./benchmarks/run [-n 40]
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	n := flag.Int("n", 40, "measurements of each command")
	python := flag.String("python", "", "interpreter; empty means the real executable of python3")
	flag.Parse()
	if err := measure(*n, *python); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func measure(n int, python string) error {
	dir, err := os.MkdirTemp("", "millrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "millrace")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", binary, "./cmd/millrace").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	if python == "" {
		out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
		if err != nil {
			return err
		}
		python = strings.TrimSpace(string(out))
	}
	script := filepath.Join(dir, "empty.py")
	if err := os.WriteFile(script, []byte("def handler(context):\n    pass\n"), 0o600); err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	tracked := func(data string) []string {
		return []string{binary, "run", script, "--handler", "handler", "--data-dir", data, "--python", python}
	}
	cold := 0
	cases := []*series{
		{name: "python3 -S -I empty.py", command: func() []string { return []string{python, "-S", "-I", script} }},
		{name: "python3 empty.py (with site)", command: func() []string { return []string{python, script} }},
		{name: "millrace run, warm", command: func() []string { return tracked(data) }},
		{name: "millrace run, cold (new data directory)", command: func() []string {
			cold++
			return tracked(fmt.Sprintf("%s-%d", data, cold))
		}},
	}
	for i := range n + 3 {
		for _, s := range cases {
			took, err := once(s.command())
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if i >= 3 { // the first rounds fill the page cache
				s.times = append(s.times, took)
			}
		}
	}
	bare, site := cases[0].median(), cases[1].median()
	fmt.Printf("%-42s %9s %9s %9s %12s %12s\n", "command", "median", "p10", "p90", "x bare -S", "x with site")
	for _, s := range cases {
		fmt.Printf("%-42s %7.1fms %7.1fms %7.1fms %11.2fx %11.2fx\n", s.name, ms(s.median()), ms(s.at(0.1)), ms(s.at(0.9)),
			float64(s.median())/float64(bare), float64(s.median())/float64(site))
	}
	return nil
}

type series struct {
	name    string
	command func() []string
	times   []time.Duration
}

func (s *series) at(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s.times))
	return sorted[int(q*float64(len(sorted)-1))]
}

func (s *series) median() time.Duration { return s.at(0.5) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func once(argv []string) (time.Duration, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out)
	}
	return time.Since(start), nil
}
