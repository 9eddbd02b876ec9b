package template

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// attributes puts a template into a session of its own: what is typed at the
// owner's terminal does not end it, and it may outlive its owner by its workers.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// proportional is the memory of a process in bytes, with its share of what it
// shares; 0 if it is not known.
func proportional(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(raw) {
		if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
			fields := bytes.Fields(rest)
			if len(fields) == 0 {
				return 0
			}
			kib, _ := strconv.ParseInt(string(fields[0]), 10, 64)
			return kib << 10
		}
	}
	return 0
}
