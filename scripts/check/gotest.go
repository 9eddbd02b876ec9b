package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// event is one line of `go test -json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// suites are run as steps of their own and left out of "unit" and "race".
var suites = []string{"/test/stories", "/test/conformance", "/test/sdk", "/test/chaos"}

// packages lists the packages that are no suite.
func (c *check) packages() ([]string, error) {
	out, err := c.output("go", "list", "./...")
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return slices.DeleteFunc(strings.Fields(out), func(pkg string) bool {
		return slices.ContainsFunc(suites, func(suite string) bool { return strings.Contains(pkg, suite) })
	}), nil
}

func (c *check) unit() {
	packages, err := c.packages()
	if err != nil {
		c.fail("go list", err.Error())
		return
	}
	c.goTest(append([]string{"-timeout", "15m"}, packages...)...)
}

func (c *check) race() {
	packages, err := c.packages()
	if err != nil {
		c.fail("go list", err.Error())
		return
	}
	c.goTest(append([]string{"-race", "-timeout", "25m"}, packages...)...)
}

// suite is a step that runs one suite under test/.
func suite(pattern string, timeout time.Duration) func(*check) {
	return func(c *check) { c.goTest("-timeout", timeout.String(), pattern) }
}

// goTest runs `go test -json` with args and counts its tests. Output of tests
// that pass is not shown; that of the others is, whole.
func (c *check) goTest(args ...string) {
	cmd := c.command("go", append([]string{"test", "-json", "-count=1"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		c.fail("go test", err.Error())
		return
	}
	if err := cmd.Start(); err != nil {
		c.fail("go test", err.Error())
		return
	}
	before := c.total
	c.read(stdout)
	err = cmd.Wait()
	ran := c.total != before
	switch {
	case err != nil && c.total.failed == before.failed:
		c.fail("go test "+strings.Join(args, " "), stderr.String()+err.Error())
	case err == nil && !ran:
		c.skip("go test "+strings.Join(args, " "), "it ran no test")
	}
}

// read counts the events of one `go test -json`.
func (c *check) read(stdout io.Reader) {
	output := map[string]*strings.Builder{}
	builds := map[string]*strings.Builder{}
	parents := map[string]bool{} // tests that have subtests: their verdict is that of those
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil {
			c.event(e, output, builds, parents)
		} else if len(bytes.TrimSpace(line)) > 0 {
			fmt.Fprintf(c.out, "      %s", line)
		}
		if err != nil {
			return
		}
	}
}

func (c *check) event(e event, output, builds map[string]*strings.Builder, parents map[string]bool) {
	name := strings.TrimPrefix(e.Package, modulePath+"/")
	if e.Test != "" {
		name += "." + e.Test
	}
	switch e.Action {
	case "build-output":
		text(builds, e.ImportPath).WriteString(e.Output)
	case "run":
		if i := strings.LastIndex(e.Test, "/"); i > 0 {
			parents[e.Package+"."+e.Test[:i]] = true
		}
	case "output":
		text(output, name).WriteString(e.Output)
	case "pass":
		if e.Test == "" {
			if !strings.Contains(text(output, name).String(), "[no test files]") {
				fmt.Fprintf(c.out, "ok    %s %.1fs\n", name, e.Elapsed)
			}
		} else if !parents[e.Package+"."+e.Test] {
			c.total.passed++
		}
		delete(output, name)
	case "skip":
		if e.Test != "" {
			c.skip(name, reason(text(output, name).String()))
		}
		delete(output, name)
	case "fail":
		switch {
		case e.FailedBuild != "":
			c.fail(name+" (build)", text(builds, e.FailedBuild).String())
		case e.Test == "" && strings.Contains(text(output, name).String(), "FAIL\t") && !died(text(output, name).String()):
			fmt.Fprintf(c.out, "FAIL  %s %.1fs\n", name, e.Elapsed)
		case e.Test != "" && parents[e.Package+"."+e.Test] && !strings.Contains(text(output, name).String(), "_test.go:"):
			// Its subtests have failed and said why.
		default:
			c.fail(name, text(output, name).String())
		}
		delete(output, name)
	}
}

// died reports whether a package's own output tells of a failure outside its tests.
func died(output string) bool {
	for _, sign := range []string{"panic:", "signal:", "DATA RACE", "test timed out", "exit status 2"} {
		if strings.Contains(output, sign) {
			return true
		}
	}
	return false
}

func text(m map[string]*strings.Builder, key string) *strings.Builder {
	if m[key] == nil {
		m[key] = &strings.Builder{}
	}
	return m[key]
}

// reason is what a skipped test gave as its reason.
func reason(output string) string {
	for _, line := range strings.Split(output, "\n") {
		if _, after, ok := strings.Cut(line, "_test.go:"); ok {
			if _, why, ok := strings.Cut(after, ": "); ok {
				return strings.TrimSpace(why)
			}
		}
		if _, after, ok := strings.Cut(line, ".go:"); ok {
			if _, why, ok := strings.Cut(after, ": "); ok {
				return strings.TrimSpace(why)
			}
		}
	}
	return "it gave no reason"
}

// fuzz runs every fuzz target for a short while beyond its seeds.
func (c *check) fuzz() {
	packages, err := c.packages()
	if err != nil {
		c.fail("go list", err.Error())
		return
	}
	for _, pkg := range packages {
		out, err := c.output("go", "test", "-list", "^Fuzz", pkg)
		if err != nil {
			c.fail("go test -list "+pkg, out)
			continue
		}
		for _, target := range strings.Fields(out) {
			if !strings.HasPrefix(target, "Fuzz") {
				continue
			}
			what := strings.TrimPrefix(pkg, modulePath+"/") + "." + target
			out, err := c.output("go", "test", "-run", "^$", "-fuzz", "^"+target+"$", "-fuzztime", c.fuzzTime.String(), pkg)
			c.verdict("fuzz "+what, out, err)
		}
	}
}

const modulePath = "github.com/millrace/millrace"

// command is a command of this pass, in the current folder, that is interrupted
// with it.
func (c *check) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.ctx, name, args...)
	cmd.Env = append(os.Environ(), c.environ...)
	if c.require {
		cmd.Env = append(cmd.Env, "MILLRACE_TEST_REQUIRE=1")
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// output runs a command and returns what it wrote to both streams.
func (c *check) output(name string, args ...string) (string, error) {
	out, err := c.command(name, args...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		err = fmt.Errorf("there is no command %s: %w", name, err)
	}
	return string(out), err
}
