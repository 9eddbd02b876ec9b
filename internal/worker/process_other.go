//go:build !linux

package worker

import (
	"os"
	"syscall"
)

// processAttr makes the child the leader of a new group. Without a death signal,
// a worker notices the end of this process when it next reads its pipe.
func processAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// waitUntilExited returns at once: cmd.Wait does the waiting. A signal sent just
// after the process ended can then reach a new group of the same number.
func waitUntilExited(int) {}

// widen does nothing: the size of pipes is the kernel's.
func widen(*os.File) {}

func maxRSS(usage *syscall.Rusage) int64 { return usage.Maxrss }
