package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/millrace/millrace/test/pyenv"
)

const runtimeTests = "runtime/python/tests"

// python runs the tests of the runtime on each interpreter here; the runtime
// promises to work on all of them.
func (c *check) python() {
	all := pyenv.Interpreters()
	if len(all) == 0 {
		c.skip("tests of the Python runtime", "there is no Python 3.9 or newer")
		return
	}
	if _, err := os.Stat(runtimeTests); err != nil {
		c.skip("tests of the Python runtime", err.Error())
		return
	}
	for _, python := range all {
		what := "runtime on Python " + python.Version
		bin, err := pyenv.Venv(c.ctx, python, pytest)
		if err != nil {
			c.skip(what, "pytest cannot be installed: "+err.Error())
			continue
		}
		cmd := c.command(bin, "-m", "pytest", "-q", "-p", "no:cacheprovider", runtimeTests)
		cmd.Env = append(cmd.Env, "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+filepath.Dir(runtimeTests))
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
			c.skip(what, "a test of it was skipped")
		}
	}
}

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
