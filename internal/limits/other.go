//go:build !linux

package limits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/millrace/millrace/internal/fault"
)

// Elsewhere than on Linux there are no control groups and no way to limit a
// running process: Applied says that nothing is enforced.
const (
	rlimitMemory = false
	rlimitPids   = false
)

type cgroup struct{}

func (*cgroup) mechanism() string          { return "none" }
func (*cgroup) folders() []string          { return nil }
func (*cgroup) String() string             { return "" }
func (*cgroup) add(int) error              { return nil }
func (*cgroup) members() ([]int, error)    { return nil, nil }
func (*cgroup) kill(context.Context) error { return nil }
func (*cgroup) remove() error              { return nil }
func (*cgroup) oomKilled() bool            { return false }

func createCgroup(string, Limits) (*cgroup, Limits, error) { return nil, Limits{}, nil }

func openCgroup(path string) (*cgroup, error) {
	return nil, fault.NotFound("the group of processes %s is not there: this system has no control groups", path)
}

func selfPID() int                 { return os.Getpid() }
func userTasks() int               { return 0 }
func setRlimits(int, Limits) error { return nil }

func killProcessGroup(pid int) error {
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process group %d: %w", pid, err)
	}
	return nil
}

// KillTagged cannot look into other processes here and reports none.
func KillTagged(context.Context, string, string) (int, error) { return 0, nil }

// Adopt does nothing here.
func Adopt() error { return nil }

// KillAdopted finds nothing here: what leaves its process group lives on.
func KillAdopted(context.Context, string, string) error { return nil }
