package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/test/pyenv"
)

// The tools and their versions; raising one is a change of its own.
const (
	staticcheck = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"
	govulncheck = "golang.org/x/vuln/cmd/govulncheck@v1.9.0"
	ruff        = "ruff==0.17.6"
	mypy        = "mypy==2.4.1"
	pytest      = "pytest==8.4.2" // the last that runs on Python 3.9
)

// excused are the things that may be left out even where everything has to run,
// each because no machine of ours can do it; the value says so to the reader.
var excused = map[string]string{
	freeThreaded:  "it is built from the source that Debian's mirrors have, which not every machine reaches",
	"govulncheck": "the database of vulnerabilities is a service of its own, not a package index",
}

func excuse(what string) string { return excused[what] }

// goTool installs a Go command into the cache, once for each version, and
// returns its path.
func (c *check) goTool(module string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path, version, _ := strings.Cut(module, "@")
	dir := filepath.Join(cache, "millrace-test", filepath.Base(path)+"-"+version)
	binary := filepath.Join(dir, filepath.Base(path))
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := c.command("go", "install", module)
	cmd.Env = append(cmd.Env, "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s: %w\n%s", module, err, out)
	}
	return binary, nil
}

// pythonTool returns the Python of an environment with the requirements, on the
// newest interpreter here.
func (c *check) pythonTool(requirements ...string) (string, error) {
	all := pyenv.Interpreters()
	if len(all) == 0 {
		return "", errors.New("there is no Python 3.9 or newer")
	}
	return pyenv.Venv(c.ctx, all[len(all)-1], requirements...)
}

func (c *check) lint() {
	out, err := c.output("gofmt", "-l", ".")
	if err == nil && strings.TrimSpace(out) != "" {
		err = errors.New("these files are not formatted; run gofmt -w on them")
	}
	c.verdict("gofmt", out, err)
	out, err = c.output("go", "vet", "./...")
	c.verdict("go vet", out, err)
	out, err = c.output("go", "mod", "tidy", "-diff")
	c.verdict("go.mod is tidy", out, err)
	binary, err := c.goTool(staticcheck)
	if err != nil {
		c.skip("staticcheck", "it cannot be installed: "+err.Error())
		return
	}
	out, err = c.output(binary, "./...")
	c.verdict("staticcheck", out, err)
}

// vulns asks the database of known vulnerabilities. Without that database nothing
// is known, so it counts as left out, never as passed.
func (c *check) vulns() {
	binary, err := c.goTool(govulncheck)
	if err != nil {
		c.skip("govulncheck", "it cannot be installed: "+err.Error())
		return
	}
	out, err := c.output(binary, "./...")
	if err != nil && unreachable(out) {
		c.skip("govulncheck", "the database of vulnerabilities cannot be reached, so NOTHING WAS CHECKED: "+lastLine(out))
		return
	}
	c.verdict("govulncheck", out, err)
}

// unreachable reports whether govulncheck failed to fetch its database, rather
// than found something.
func unreachable(output string) bool {
	for _, sign := range []string{"fetching vulnerabilities", "dial tcp", "no such host", "connection refused", "Client.Timeout"} {
		if strings.Contains(output, sign) {
			return true
		}
	}
	return false
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func (c *check) pythonLint() {
	python, err := c.pythonTool(ruff, mypy)
	if err != nil {
		c.skip("ruff and mypy", "they cannot be installed: "+err.Error())
		return
	}
	folders := existing("runtime/python", "examples", "test/sdk/flows", "benchmarks")
	out, err := c.output(python, append([]string{"-m", "ruff", "check"}, folders...)...)
	c.verdict("ruff check", out, err)
	out, err = c.output(python, append([]string{"-m", "ruff", "format", "--check"}, folders...)...)
	c.verdict("ruff format", out, err)
	out, err = c.output(python, "-m", "mypy", "--config-file", "runtime/python/pyproject.toml", "runtime/python/millrace", "runtime/python/boot.py")
	c.verdict("mypy of the runtime", out, err)
}

func existing(paths ...string) []string {
	var list []string
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			list = append(list, path)
		}
	}
	return list
}
