package limits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Adopt makes this process the parent of what its children leave behind, in place
// of init, so that KillAdopted finds it. It holds for the life of the process.
func Adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of orphans: %w", err)
	}
	return nil
}

// KillAdopted kills and reaps the children of this process that have the entry
// key=value in their environment, and what they leave in turn, until there are
// none. It is what ends the background processes of an execution that has no
// group; after Adopt it costs a few small files, where KillTagged reads those of
// every process of the machine.
func KillAdopted(ctx context.Context, key, value string) error {
	tag := []byte(key + "=" + value)
	for {
		found := false
		for _, pid := range children() {
			if !hasEntry(pid, tag) {
				continue
			}
			found = true
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
			var status unix.WaitStatus
			_, _ = unix.Wait4(pid, &status, 0, nil)
		}
		if !found {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill processes with %s=%s: %w", key, value, context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
}

// children lists the child processes of this process.
func children() []int {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil
	}
	var pids []int
	for _, list := range lists {
		raw, err := os.ReadFile(list)
		if err != nil {
			continue // the thread is gone
		}
		for _, word := range strings.Fields(string(raw)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
