package logs

import (
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/spool"
)

// Masker masks what an execution, whose log is at path, may have written of its
// secrets; nil when it has none, or they are masked in the file already.
func (l *Logs) Masker(path string) *secret.Masker {
	folder := filepath.Dir(path)
	if filepath.Dir(folder) != filepath.Clean(l.spools) {
		return nil
	}
	launch, err := (spool.Dir{Path: folder}).Launch()
	if err != nil {
		return nil
	}
	values := make([]string, len(launch.Secrets))
	for i, entry := range launch.Secrets {
		_, values[i], _ = strings.Cut(entry, "=")
	}
	return secret.NewMasker(values)
}
