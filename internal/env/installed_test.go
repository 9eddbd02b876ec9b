package env

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func place(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What code can import is told by the folders of the interpreter that executes it:
// of a virtual environment its own, and those of the system only where it has them.
func TestInstalled(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	base, venv := filepath.Join(dir, "base"), filepath.Join(dir, "venv")
	place(t, filepath.Join(base, "lib/python3.12/site-packages/system-1.dist-info/METADATA"), "")
	place(t, filepath.Join(venv, "lib/python3.12/site-packages/own-2.dist-info/METADATA"), "")
	plain := Interpreter{Executable: filepath.Join(base, "bin/python3"), Real: filepath.Join(base, "bin/python3.12"), Version: Version{Major: 3, Minor: 12}}
	virtual := plain
	virtual.Executable = filepath.Join(venv, "bin/python")
	for _, c := range []struct {
		name        string
		settings    string
		interpreter Interpreter
		want        []string
	}{
		{"plain", "", plain, []string{"system-1"}},
		{"virtual", "home = x\ninclude-system-site-packages = false\n", virtual, []string{"own-2"}},
		{"virtual with those of the system", "include-system-site-packages = true\n", virtual, []string{"own-2", "system-1"}},
	} {
		place(t, filepath.Join(venv, "pyvenv.cfg"), c.settings)
		if got := c.interpreter.Installed(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLinked(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	site := filepath.Join(dir, "base/lib/python3.12/site-packages")
	interpreter := Interpreter{Executable: filepath.Join(dir, "base/bin/python3"), Real: filepath.Join(dir, "base/bin/python3"), Version: Version{Major: 3, Minor: 12}}
	for _, name := range []string{"src/one", "flat/two", "old", "beside"} {
		place(t, filepath.Join(dir, name, "a.py"), "")
	}
	place(t, filepath.Join(dir, "single.py"), "")
	place(t, filepath.Join(site, "__editable__.one-1.pth"), filepath.Join(dir, "src")+"\n")
	place(t, filepath.Join(site, "__editable__.two-1.pth"), "import __editable___two_1_finder; __editable___two_1_finder.install()\n")
	place(t, filepath.Join(site, "__editable___two_1_finder.py"),
		"import sys\nMAPPING: dict[str, str] = {'two': '"+filepath.Join(dir, "flat/two")+"', 'single': '"+filepath.Join(dir, "single")+"'}\nNAMESPACES: dict[str, list[str]] = {}\nX = '/etc'\n")
	place(t, filepath.Join(site, "old.egg-link"), filepath.Join(dir, "old")+"\n.")
	place(t, filepath.Join(site, "more.pth"), "# a comment\n../../../../beside\n"+filepath.Join(dir, "nowhere")+"\nimport sys\n")
	var want []string
	for _, name := range []string{"beside", "flat/two", "old", "single.py", "src"} {
		want = append(want, filepath.Join(dir, name))
	}
	if got := interpreter.Linked(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	before := interpreter.Loose()
	place(t, filepath.Join(site, "loose.py"), "V = 1\n")
	if after := interpreter.Loose(); len(after) != len(before)+1 {
		t.Errorf("%q", after)
	}
}
