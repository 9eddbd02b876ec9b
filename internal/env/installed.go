package env

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Installed lists the packages that are installed for the interpreter itself, as
// "name-version", sorted: what its folders of packages say, without starting it.
func (i Interpreter) Installed() []string {
	var out []string
	for _, folder := range i.folders() {
		for _, name := range list(folder) {
			for _, suffix := range []string{".dist-info", ".egg-info", ".egg-link"} {
				if stem, ok := strings.CutSuffix(name, suffix); ok {
					out = append(out, stem)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// folders are those in which the interpreter looks for packages.
func (i Interpreter) folders() []string {
	short := fmt.Sprintf("python%d.%d", i.Version.Major, i.Version.Minor)
	if i.FreeThreaded() {
		short += "t"
	}
	var folders []string
	prefix, system := filepath.Dir(filepath.Dir(i.Executable)), true
	if settings, err := os.ReadFile(filepath.Join(prefix, "pyvenv.cfg")); err == nil { // a virtual environment
		folders = append(folders, filepath.Join(prefix, "lib", short, "site-packages"), filepath.Join(prefix, "lib64", short, "site-packages"))
		system = withSystem.Match(settings)
	}
	if !system {
		return folders
	}
	prefix = filepath.Dir(filepath.Dir(i.Real))
	folders = append(folders,
		filepath.Join(prefix, "lib", short, "site-packages"), filepath.Join(prefix, "lib", short, "dist-packages"),
		filepath.Join(prefix, "local", "lib", short, "dist-packages"), filepath.Join(prefix, "lib", "python3", "dist-packages"),
	)
	if home, err := os.UserHomeDir(); err == nil {
		folders = append(folders, filepath.Join(home, ".local", "lib", short, "site-packages"))
	}
	return folders
}

var withSystem = lazyregexp.New(`(?im)^\s*include-system-site-packages\s*=\s*true\s*$`)

func list(folder string) []string {
	dir, err := os.Open(folder)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	return names
}

// Linked lists the folders and files elsewhere from which the interpreter imports
// packages as they are now (editable installs, lines of .pth files), sorted. Their
// names and versions say nothing about their content.
func (i Interpreter) Linked() []string {
	var out []string
	for _, folder := range i.folders() {
		for _, name := range list(folder) {
			switch path := filepath.Join(folder, name); {
			case strings.HasSuffix(name, ".pth"), strings.HasSuffix(name, ".egg-link"):
				for line := range strings.Lines(text(path)) {
					out = append(out, linked(folder, strings.TrimSpace(line))...)
				}
			case strings.HasPrefix(name, "__editable__") && strings.HasSuffix(name, "_finder.py"):
				for line := range strings.Lines(text(path)) {
					if strings.HasPrefix(line, "MAPPING") || strings.HasPrefix(line, "NAMESPACES") {
						for _, match := range quoted.FindAllStringSubmatch(line, -1) {
							out = append(out, linked("/", match[1])...)
						}
					}
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// quoted is an absolute path in a literal of Python.
var quoted = lazyregexp.New(`['"](/[^'"]+)['"]`)

// linked is the place that a line of a .pth file adds; a line that imports adds what
// it names itself.
func linked(folder, line string) []string {
	if line == "" || line == "." || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "import ") || strings.HasPrefix(line, "import\t") {
		return nil
	}
	if !filepath.IsAbs(line) {
		line = filepath.Join(folder, line)
	}
	for _, place := range []string{line, line + ".py"} { // a finder names a module without its ending
		if _, err := os.Stat(place); err == nil {
			return []string{filepath.Clean(place)}
		}
	}
	return nil
}

// maxText bounds what is read of a file that names folders.
const maxText = 1 << 20

func text(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	data, _ := io.ReadAll(io.LimitReader(file, maxText))
	return string(data)
}

// Loose describes the modules that lie in the interpreter's folders of packages by
// themselves, with size and time: most belong to a package, the others have no version.
func (i Interpreter) Loose() []string {
	var out []string
	for _, folder := range i.folders() {
		for _, name := range list(folder) {
			if ext := filepath.Ext(name); ext != ".py" && ext != ".so" && ext != ".pth" {
				continue
			}
			if info, err := os.Stat(filepath.Join(folder, name)); err == nil {
				out = append(out, fmt.Sprintf("%s %d %d", name, info.Size(), info.ModTime().UnixNano()))
			}
		}
	}
	slices.Sort(out)
	return out
}

// keep writes down the lines of a lock under their digest, so that the environment
// can be built again after it was removed.
func (m *Manager) keep(env Environment) error {
	if env.LockDigest == "" {
		return nil
	}
	path := m.lockedPath(env.LockDigest)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep resolved requirements: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return fmt.Errorf("keep resolved requirements: %w", err)
	}
	defer os.Remove(temp.Name())
	if _, err := temp.WriteString(strings.Join(env.Lock, "\n")); err != nil {
		_ = temp.Close()
		return fmt.Errorf("keep resolved requirements: %w", err)
	}
	if err := temp.Close(); err != nil {
		return fmt.Errorf("keep resolved requirements: %w", err)
	}
	return os.Rename(temp.Name(), path)
}

func (m *Manager) lockedPath(digest string) string {
	return filepath.Join(m.dir, "locked", strings.TrimPrefix(digest, "sha256:")+".txt")
}

// Locked returns the lines of the lock with this digest. fault.CodePrecondition
// when no environment with it was ever used on this machine.
func (m *Manager) Locked(digest string) ([]string, error) {
	name := strings.TrimPrefix(digest, "sha256:")
	if len(name) != 64 || strings.Trim(name, "0123456789abcdef") != "" {
		return nil, fault.Invalid("%.80q is not the digest of resolved requirements", digest)
	}
	data, err := os.ReadFile(m.lockedPath(digest))
	if err != nil || lockDigest(strings.Split(string(data), "\n")) != digest {
		return nil, fault.Precondition("the resolved requirements %s are not known on this machine, so the environment cannot be rebuilt; repeat the run on the machine that executed it", digest)
	}
	return strings.Split(string(data), "\n"), nil
}
