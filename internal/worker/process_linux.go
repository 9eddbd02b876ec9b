package worker

import (
	"os"
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

// widen lets a pipe hold as much as an ordinary user may have in one, so that a large
// frame is not passed on in many small pieces. Where that is refused it stays as it is.
func widen(pipe *os.File) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for size := uintptr(1 << 20); size > pipeSize; size /= 2 {
			if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_SETPIPE_SZ, size); errno == 0 {
				return
			}
		}
	})
}

func maxRSS(usage *syscall.Rusage) int64 { return usage.Maxrss * 1024 }
