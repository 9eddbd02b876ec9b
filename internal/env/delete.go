package env

import (
	"context"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/internal/fault"
)

// Delete removes the environment of that name, the base of its path. It is built
// again, from the same packages, by the next run that needs it.
// fault.CodeNotFound when there is none, fault.CodeConflict while something uses it.
func (m *Manager) Delete(_ context.Context, name string) error {
	folder := m.folder(name)
	if !isDigest(name) || !isFile(filepath.Join(folder, markerFile)) {
		return fault.NotFound("there is no environment %.100s; 'millrace get environments' lists them", name)
	}
	removed, err := m.remove(folder, func() bool { return isFile(filepath.Join(folder, markerFile)) })
	if err == nil && !removed {
		err = fault.Conflict("the environment %s is in use; delete it when the runs that use it are over", name)
	}
	return err
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
