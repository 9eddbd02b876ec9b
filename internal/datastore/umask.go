package datastore

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// umask is that of this process, read without changing it; 022 where it cannot be
// read.
var umask = sync.OnceValue(func() os.FileMode {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0o022
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, "Umask:"); ok {
			if mask, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32); err == nil {
				return os.FileMode(mask)
			}
		}
	}
	return 0o022
})
