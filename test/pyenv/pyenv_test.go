package pyenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestInterpretersAnswerForTheirVersion(t *testing.T) {
	t.Parallel()
	all := Interpreters()
	if len(all) == 0 {
		t.Fatal("there is no Python on this machine")
	}
	for _, i := range all {
		out, err := exec.Command(i.Path, "-c", "import platform; print(platform.python_version())").Output()
		if err != nil || strings.TrimSpace(string(out)) != i.Version {
			t.Errorf("%s says %q (%v), want %s", i.Path, out, err, i.Version)
		}
	}
}

func TestVenvIsMadeOnceAndKept(t *testing.T) {
	all := Interpreters()
	if len(all) == 0 {
		t.Fatal("there is no Python on this machine")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	first, err := Venv(t.Context(), all[0])
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(first)), "complete"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := Venv(t.Context(), all[0])
	if err != nil || second != first {
		t.Fatalf("the second call gives %q, %v; want %q", second, err, first)
	}
	after, err := os.Stat(filepath.Join(filepath.Dir(filepath.Dir(first)), "complete"))
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the environment was made again (%v)", err)
	}
	if out, err := exec.Command(first, "-c", "import sys; print(sys.prefix != sys.base_prefix)").Output(); strings.TrimSpace(string(out)) != "True" {
		t.Errorf("it is no virtual environment: %s, %v", out, err)
	}
}
