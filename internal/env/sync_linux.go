package env

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncTree brings the file system that folder is on to disk, so that a marker
// written afterwards never survives what it vouches for.
func syncTree(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return fmt.Errorf("open folder: %w", err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", folder, err)
	}
	return nil
}
