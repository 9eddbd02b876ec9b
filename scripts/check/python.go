package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/millrace/millrace/test/pyenv"
)

const testFolder = "runtime/python/tests/"

// bridgeTests need the package, or the libraries that come with it.
var bridgeTests = []string{testFolder + "test_mlrun.py", testFolder + "test_packing.py"}

// bridges are the environments for the tests of the runtime beside the MLRun
// package; the releases are those of test/sdk.
var bridges = []struct {
	release string
	pythons []string
}{
	{"mlrun==1.12.1", []string{"3.11"}},
	{"mlrun==1.7.2", []string{"3.9", "3.10", "3.11"}},
}

// python runs the tests of the runtime that need the MLRun package beside it. The
// others run on every interpreter here as a part of the Go tests (runtime/python).
func (c *check) python() {
	for _, bridge := range bridges {
		what := "runtime beside " + bridge.release
		python, ok := pyenv.Find(bridge.pythons...)
		if !ok {
			c.skip(what, fmt.Sprintf("there is none of the Pythons %v", bridge.pythons))
			continue
		}
		bin, err := pyenv.Venv(c.ctx, python, bridge.release, pytest)
		if err != nil {
			c.skip(what, "it cannot be installed: "+err.Error())
			continue
		}
		cmd := c.command(bin, append([]string{"-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"}, bridgeTests...)...)
		cmd.Env = append(cmd.Env, "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+filepath.Dir(testFolder))
		out, err := cmd.CombinedOutput()
		n := pytestCounts(string(out))
		c.total.add(counts{passed: n.passed, failed: n.failed})
		switch {
		case n.failed > 0:
			c.problems = append(c.problems, fmt.Sprintf("failed: %s: %d tests", what, n.failed))
			fmt.Fprintf(c.out, "FAIL  %s\n%s\n", what, indent(string(out)))
		case err != nil || n.passed == 0:
			c.fail(what, fmt.Sprintf("%s\n%v", out, errors.Join(err, errors.New("no test passed"))))
		default:
			fmt.Fprintf(c.out, "ok    %s: %d tests\n", what, n.passed)
		}
		for range n.skipped {
			c.skip(what, "a test of it was skipped:\n"+string(out))
		}
	}
}

// threads runs what executes user code on a Python without a global interpreter lock,
// which is built where there is none.
func (c *check) threads() {
	python, err := pyenv.FreeThreaded(c.ctx)
	switch {
	case errors.Is(err, pyenv.ErrNoSource):
		c.skip(freeThreaded, err.Error())
		return
	case errors.Is(err, pyenv.ErrNoTools): // which .ci/run installs
		c.skip("a build of "+freeThreaded, err.Error())
		return
	case err != nil:
		c.fail(freeThreaded, err.Error())
		return
	}
	c.environ = []string{"MILLRACE_TEST_PYTHON=" + python}
	defer func() { c.environ = nil }()
	c.goTest("-tags", "freethreaded", "-timeout", "15m", "./internal/worker", "./internal/template", "./internal/realtime/processor", "./runtime/python", "./test/threads")
}

// freeThreaded names the step where it cannot run.
const freeThreaded = "free-threaded Python"

var pytestCount = regexp.MustCompile(`(\d+) (passed|failed|errors?|skipped)`)

// pytestCounts reads the closing line of pytest.
func pytestCounts(output string) counts {
	var n counts
	for _, match := range pytestCount.FindAllStringSubmatch(lastLine(output), -1) {
		value, err := strconv.Atoi(match[1])
		if err != nil {
			continue
		}
		switch match[2] {
		case "passed":
			n.passed += value
		case "skipped":
			n.skipped += value
		default:
			n.failed += value
		}
	}
	return n
}
