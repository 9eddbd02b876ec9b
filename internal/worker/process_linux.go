package worker

import (
	"syscall"
	"unsafe"
)

// processAttr makes the child the leader of a new group and ties its life to the
// thread that starts it.
func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// waitUntilExited blocks until pid is a zombie, without reaping it.
func waitUntilExited(pid int) {
	const (
		pPID    = 1
		wExited = 0x4
		wNoWait = 0x1000000
	)
	var info [128]byte // siginfo_t
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), uintptr(unsafe.Pointer(&info[0])), wExited|wNoWait, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

func maxRSS(usage *syscall.Rusage) int64 { return usage.Maxrss * 1024 }
