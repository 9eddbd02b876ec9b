package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Clock checks the time: that it is possible at all, that it agrees with that of
// the data folder's file system (another machine's, if it is mounted from one),
// and that something keeps it right.
type Clock struct {
	// Folder is where the data folder is, or will be; a missing one is skipped.
	Folder string
}

// earliest is before any release of this program.
var earliest = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// mostSkew is how far two clocks may be apart before times in lists are confusing.
const mostSkew = 5 * time.Second

// Name implements Check.
func (Clock) Name() string { return "clock" }

// Check implements Check.
func (c Clock) Check(context.Context) Finding {
	const remedy = "set the clock, and let a time service such as chrony keep it"
	now := time.Now()
	if now.Before(earliest) {
		return fail(remedy, "it says %s, which is past", now.UTC().Format(time.RFC3339))
	}
	detail := now.UTC().Format(time.RFC3339)
	skew, err := fileSkew(c.Folder)
	switch {
	case err != nil && !os.IsNotExist(err):
		return warn("correct the data folder", "%s; the file system's clock cannot be asked: %v", detail, err)
	case err == nil && skew.Abs() > mostSkew:
		return warn(remedy, "%s; the data folder's file system is %s apart", detail, skew.Round(time.Millisecond))
	}
	if synchronised, known := clockSynchronised(); known && !synchronised {
		return ok("%s; no time service keeps it right", detail)
	}
	return ok("%s", detail)
}

// fileSkew returns how far the clock that stamps files in folder is ahead.
func fileSkew(folder string) (time.Duration, error) {
	if _, err := os.Stat(folder); err != nil {
		return 0, err
	}
	f, err := os.CreateTemp(folder, ".millrace-doctor-*")
	if err != nil {
		return 0, fmt.Errorf("make a file in %s: %w", filepath.Clean(folder), err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at a file in %s: %w", filepath.Clean(folder), err)
	}
	return time.Until(info.ModTime()), nil
}
