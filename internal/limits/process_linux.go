package limits

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What rlimits can do on this system. They cannot bound the processes of the
// superuser.
const rlimitMemory = true

var rlimitPids = os.Geteuid() != 0

func selfPID() int { return os.Getpid() }

// setRlimits bounds a running process and its future children.
func setRlimits(pid int, l Limits) error {
	set := func(resource int, value uint64) error {
		err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("limit process %d: %w", pid, err)
		}
		return nil
	}
	var failed error
	if l.Memory > 0 {
		failed = errors.Join(failed, set(unix.RLIMIT_DATA, uint64(l.Memory)))
	}
	if l.Pids > 0 {
		failed = errors.Join(failed, set(unix.RLIMIT_NPROC, uint64(userTasks()+l.Pids)))
	}
	return failed
}

// userTasks counts the threads of this user, which RLIMIT_NPROC includes.
func userTasks() int {
	uid := os.Getuid()
	count := 0
	for _, pid := range processes() {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		info, err := os.Stat(dir)
		if err != nil {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != uid {
			continue
		}
		tasks, err := os.ReadDir(filepath.Join(dir, "task"))
		if err == nil {
			count += len(tasks)
		}
	}
	return count
}

func processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// killProcessGroup ends pid's process group if pid leads one, else pid alone.
func killProcessGroup(pid int) error {
	target := pid
	if group, err := unix.Getpgid(pid); err == nil && group == pid {
		target = -pid
	}
	if err := unix.Kill(target, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

// KillTagged ends every process of this user that was started with the variable
// key set to value, wherever it went since, and returns how many. It stops them
// all before it kills, so that they cannot make others meanwhile, and looks
// again until there is none. This process is left out. key is not empty.
func KillTagged(ctx context.Context, key, value string) (int, error) {
	if key == "" || strings.ContainsAny(key, "=\x00") {
		return 0, fmt.Errorf("find processes: %q is no name of a variable", key)
	}
	tag := []byte(key + "=" + value)
	killed := map[int]bool{}
	for {
		found := tagged(tag)
		if len(found) == 0 {
			return len(killed), nil
		}
		for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
			for _, pid := range found {
				if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
					return len(killed), fmt.Errorf("kill process %d: %w", pid, err)
				}
				killed[pid] = true
			}
		}
		select {
		case <-ctx.Done():
			return len(killed), fmt.Errorf("kill processes with %s=%s: %w", key, value, context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// tagged returns the processes whose environment at their start has the entry. A
// dead one that nobody has waited for has none any more.
func tagged(entry []byte) []int {
	var out []int
	for _, pid := range processes() {
		if pid == selfPID() {
			continue
		}
		if hasEntry(pid, entry) {
			out = append(out, pid)
		}
	}
	return out
}

// hasEntry reports whether the environment of a process has the entry; one that
// is gone, or somebody else's, has not.
func hasEntry(pid int, entry []byte) bool {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return false
	}
	for item := range bytes.SplitSeq(data, []byte{0}) {
		if bytes.Equal(item, entry) {
			return true
		}
	}
	return false
}
