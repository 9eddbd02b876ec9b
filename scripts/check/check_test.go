package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGoTestIsCounted runs the real `go test` on a module with tests of every
// outcome and looks at what is counted and shown.
func TestGoTestIsCounted(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"go.mod": "module example.org/x\n\ngo 1.24\n",
		"a/a_test.go": `package a
import "testing"
func TestPasses(t *testing.T) {}
func TestParent(t *testing.T) {
	t.Run("one", func(t *testing.T) {})
	t.Run("two", func(t *testing.T) { t.Error("two is wrong") })
}
func TestSkipped(t *testing.T) { t.Skip("no such machine") }
`,
		"b/b_test.go": "package b\nimport \"testing\"\nfunc TestDies(t *testing.T) { panic(\"at once\") }\n",
		"c/c_test.go": "package c\nfunc broken( {\n",
		"d/d.go":      "package d\n",
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, require := range []bool{false, true} {
		var out bytes.Buffer
		c := &check{ctx: t.Context(), out: &out, require: require}
		c.goTest("./...")
		// Passed: TestPasses and TestParent/one. Failed: TestParent/two, the panic, the build.
		want := counts{passed: 2, failed: 3, skipped: 1}
		if require {
			want = counts{passed: 2, failed: 4}
		}
		got := c.total
		// A panic fails its test and its package; both may be counted.
		if got.failed > want.failed && got.failed <= want.failed+1 {
			got.failed = want.failed
		}
		if got != want {
			t.Errorf("require=%v: counted %+v, want %+v; problems: %q", require, c.total, want, c.problems)
		}
		for _, part := range []string{"two is wrong", "at once", "no such machine", "c_test.go:2"} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("require=%v: the output lacks %q:\n%s", require, part, out.String())
			}
		}
	}
}

func TestThatNothingRanIsNoSuccess(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.org/x\n\ngo 1.24\n", "x.go": "package x\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	c := &check{ctx: t.Context(), out: &bytes.Buffer{}, require: true}
	c.goTest("./...")
	if c.total.failed != 1 {
		t.Errorf("counted %+v, want a failure", c.total)
	}
}

func TestPytestIsCounted(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]counts{
		"12 passed in 0.10s":                     {passed: 12},
		"...\n3 failed, 12 passed in 0.1s":       {passed: 12, failed: 3},
		"1 passed, 2 skipped, 1 error in 0.1s":   {passed: 1, failed: 1, skipped: 2},
		"no tests ran in 0.01s":                  {},
		"== 4 passed, 1 warning in 0.10 seconds": {passed: 4},
	} {
		if got := pytestCounts(line); got != want {
			t.Errorf("%q is counted as %+v, want %+v", line, got, want)
		}
	}
}

func TestAVulnerabilityIsNoUnreachableDatabase(t *testing.T) {
	t.Parallel()
	if unreachable("Vulnerability #1: GO-2026-0001\n  More info: …") {
		t.Error("a finding is taken for an unreachable database")
	}
	if !unreachable("govulncheck: fetching vulnerabilities: Get …: dial tcp: lookup …: no such host") {
		t.Error("an unreachable database is taken for a finding")
	}
}
