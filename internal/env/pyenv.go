package env

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// pyenv reads what pyenv would decide. Its shims are shell scripts that take
// longer to run than a whole function; the rules are a few files.
type pyenv struct {
	root    string // "" when there is none
	version string // PYENV_VERSION
	dir     string // where .python-version is looked for, upwards
}

func newPyenv(getenv func(string) string, dir string) pyenv {
	root := getenv("PYENV_ROOT")
	if root == "" {
		home := getenv("HOME")
		if home == "" {
			return pyenv{}
		}
		root = filepath.Join(home, ".pyenv")
	}
	if info, err := os.Stat(filepath.Join(root, "versions")); err != nil || !info.IsDir() {
		return pyenv{}
	}
	if d := getenv("PYENV_DIR"); d != "" {
		dir = d
	}
	return pyenv{root: root, version: getenv("PYENV_VERSION"), dir: dir}
}

func (p pyenv) isShim(path string) bool {
	return p.root != "" && filepath.Dir(path) == filepath.Join(p.root, "shims")
}

// resolve returns the executable that the shim at path would start; false when
// path is no shim or none of the selected versions has the command.
func (p pyenv) resolve(path string) (string, bool) {
	if !p.isShim(path) {
		return "", false
	}
	for _, name := range p.selected() {
		if name == "system" {
			return "", false
		}
		for _, folder := range p.folders(name) {
			target := filepath.Join(folder, "bin", filepath.Base(path))
			if executable(target) {
				return target, true
			}
		}
	}
	return "", false
}

// selected returns the version names in force: PYENV_VERSION, the nearest
// .python-version, the global version file, else "system".
func (p pyenv) selected() []string {
	if p.version != "" {
		return strings.Split(p.version, ":")
	}
	if p.dir != "" {
		for dir := p.dir; ; dir = filepath.Dir(dir) {
			if names := versionFile(filepath.Join(dir, ".python-version")); len(names) > 0 {
				return names
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	if names := versionFile(filepath.Join(p.root, "version")); len(names) > 0 {
		return names
	}
	return []string{"system"}
}

func versionFile(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		for name := range strings.FieldsSeq(line) {
			if !strings.ContainsRune(name, filepath.Separator) && name != ".." {
				names = append(names, name)
			}
		}
	}
	return names
}

// folders returns the version folders that a name stands for: the one of that
// name, else for a prefix such as "3.11" the installed releases, newest first.
func (p pyenv) folders(name string) []string {
	exact := filepath.Join(p.root, "versions", name)
	if info, err := os.Stat(exact); err == nil && info.IsDir() {
		return []string{exact}
	}
	if !bareVersion.MatchString(name) {
		return nil
	}
	matches, err := filepath.Glob(exact + ".*")
	if err != nil {
		return nil
	}
	matches = slices.DeleteFunc(matches, func(m string) bool { return !bareVersion.MatchString(filepath.Base(m)) })
	slices.SortFunc(matches, func(a, b string) int {
		return compareNumbers(numbers(filepath.Base(b)), numbers(filepath.Base(a)))
	})
	return matches
}

// interpreters returns the python3 of every installed version.
func (p pyenv) interpreters() []string {
	if p.root == "" {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(p.root, "versions"))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(p.root, "versions", e.Name(), "bin", "python3")
		if executable(path) {
			out = append(out, path)
		}
	}
	return out
}
