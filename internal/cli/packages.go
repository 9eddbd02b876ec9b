package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/document"
)

// lockedPackages are the packages of the environment that a run recorded, by
// name; nil when this machine never had that environment.
func (e *env) lockedPackages(run document.Object) map[string]string {
	name := strings.TrimPrefix(document.String(run, "status", "provenance", "environment", "lock"), "sha256:")
	dataDir, err := e.dataDir()
	if err != nil || len(name) != 64 || !isHex(name) {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(dataDir, "envs", "locked", name+".txt"))
	if err != nil {
		return nil
	}
	packages := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " --hash")
		name, version, ok := strings.Cut(line, "==")
		if !ok {
			name, version, _ = strings.Cut(line, " @ ")
		}
		if name != "" {
			packages[name] = version
		}
	}
	return packages
}
