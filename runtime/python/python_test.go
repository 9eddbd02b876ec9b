package python_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// interpreters finds one Python of each version on this machine: those in the
// PATH, and those that pyenv has installed.
func interpreters() map[string]string {
	found := map[string]string{}
	var candidates []string
	for _, version := range []string{"3.9", "3.10", "3.11", "3.12", "3.13", "3.14"} {
		candidates = append(candidates, "python"+version)
	}
	candidates = append(candidates, "python3", "/usr/bin/python3")
	if home, err := os.UserHomeDir(); err == nil {
		more, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.*/bin/python3"))
		candidates = append(candidates, more...)
	}
	const script = `import sys; assert sys.version_info >= (3, 9); print("%d.%d" % sys.version_info[:2], end="")`
	for _, candidate := range candidates {
		path, err := exec.LookPath(candidate)
		if err != nil {
			continue
		}
		version, err := exec.Command(path, "-c", script).Output()
		if err == nil && found[string(version)] == "" {
			found[string(version)] = path
		}
	}
	return found
}

// TestRuntime runs the tests in tests/ with every interpreter version there is,
// or only with that named by MILLRACE_TEST_PYTHON.
func TestRuntime(t *testing.T) {
	t.Parallel()
	found := interpreters()
	if only := os.Getenv("MILLRACE_TEST_PYTHON"); only != "" {
		found = map[string]string{filepath.Base(only): only}
	}
	if len(found) == 0 {
		t.Skip("no Python 3.9 or newer on this machine")
	}
	versions := make([]string, 0, len(found))
	for version := range found {
		versions = append(versions, version)
	}
	slices.Sort(versions)
	if testing.Short() {
		versions = versions[:1]
	}
	for _, version := range versions {
		// One after the other: each starts hundreds of processes.
		t.Run(version, func(t *testing.T) {
			output, err := exec.Command(found[version], filepath.Join("tests", "run.py")).CombinedOutput()
			if err != nil {
				t.Errorf("%s tests/run.py: %v\n%s", found[version], err, output)
			}
		})
	}
}
