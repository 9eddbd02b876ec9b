package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DataFolder checks that the data folder can be written and has room. A folder
// that is not there yet is judged by the one it would be made in.
type DataFolder struct {
	Path string
}

// Below these, runs fail soon or may fail.
const (
	leastSpace = 200 << 20
	goodSpace  = 2 << 30
)

// Name implements Check.
func (DataFolder) Name() string { return "data folder" }

// Check implements Check.
func (c DataFolder) Check(context.Context) Finding {
	const choose = "choose another with --data-dir or MILLRACE_DATA_DIR, or correct its owner and mode"
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return fail(choose, "%v", err)
	}
	existing, missing := path, false
	for {
		info, err := os.Stat(existing)
		if err == nil && !info.IsDir() {
			return fail(choose, "%s is no folder", existing)
		}
		if err == nil {
			break
		}
		if !os.IsNotExist(err) || existing == filepath.Dir(existing) {
			return fail(choose, "%v", err)
		}
		existing, missing = filepath.Dir(existing), true
	}
	probe, err := os.MkdirTemp(existing, ".millrace-doctor-")
	if err != nil {
		return fail(choose, "%s cannot be written: %v", existing, err)
	}
	if err := os.Remove(probe); err != nil {
		return fail(choose, "%v", err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(existing, &stat); err != nil {
		return fail(choose, "ask for free space of %s: %v", existing, err)
	}
	free := int64(stat.Bavail) * int64(stat.Bsize)
	detail := fmt.Sprintf("%s, %s free", path, size(free))
	if missing {
		detail += " (will be made)"
	}
	const space = "free some space, or move the data folder with --data-dir"
	switch {
	case free < leastSpace:
		return fail(space, "%s", detail)
	case free < goodSpace:
		return warn(space, "%s", detail)
	}
	return ok("%s", detail)
}

func size(bytes int64) string {
	const unit = 1024
	value, suffixes := float64(bytes), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for value >= unit && i < len(suffixes)-1 {
		value /= unit
		i++
	}
	return fmt.Sprintf("%.4g %s", value, suffixes[i])
}
