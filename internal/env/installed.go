package env

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// Installed lists the packages that are installed for the interpreter itself, as
// "name-version", sorted: what its folders of packages say, without starting it.
func (i Interpreter) Installed() []string {
	short := fmt.Sprintf("python%d.%d", i.Version.Major, i.Version.Minor)
	prefix := filepath.Dir(filepath.Dir(i.Real))
	folders := []string{
		filepath.Join(prefix, "lib", short, "site-packages"), filepath.Join(prefix, "lib", short, "dist-packages"),
		filepath.Join(prefix, "local", "lib", short, "dist-packages"), filepath.Join(prefix, "lib", "python3", "dist-packages"),
	}
	if home, err := os.UserHomeDir(); err == nil {
		folders = append(folders, filepath.Join(home, ".local", "lib", short, "site-packages"))
	}
	var out []string
	for _, folder := range folders {
		dir, err := os.Open(folder)
		if err != nil {
			continue
		}
		names, _ := dir.Readdirnames(-1)
		_ = dir.Close()
		for _, name := range names {
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
