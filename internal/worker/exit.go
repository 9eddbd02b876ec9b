package worker

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// Exit is how a process ended: with a status, or by a signal.
type Exit struct {
	Code    int            // the exit status; -1 when a signal ended it
	Signal  syscall.Signal // 0 when it exited by itself
	Core    bool           // it left a core file
	Unknown bool           // it is gone, and nobody can say how: the template that it was forked from was killed
	Killed  bool           // Kill or Terminate had been called
	User    time.Duration  // processor time of the process and the children it waited for
	System  time.Duration
	MaxRSS  int64 // bytes, the largest of any single process of them; 0 if unknown
}

// Success reports whether the process ended by itself with status 0.
func (e Exit) Success() bool { return e.Code == 0 && e.Signal == 0 }

// SignalName returns the name of the signal such as "SIGSEGV", "" without one.
func (e Exit) SignalName() string {
	if e.Signal == 0 {
		return ""
	}
	return signalName(e.Signal)
}

// String says how it ended, as the end of a sentence that begins with "the
// process": "exited with status 3", "was killed by signal SIGSEGV (segmentation
// fault)".
func (e Exit) String() string {
	if e.Unknown {
		return "ended, and how is not known: the template that it was forked from was killed"
	}
	if e.Signal == 0 {
		return fmt.Sprintf("exited with status %d", e.Code)
	}
	meaning := signalMeaning[e.Signal]
	if e.Signal == syscall.SIGKILL && !e.Killed {
		meaning = "from outside; usually because the memory was used up"
	}
	if meaning == "" {
		return "was killed by signal " + signalName(e.Signal)
	}
	return fmt.Sprintf("was killed by signal %s (%s)", signalName(e.Signal), meaning)
}

func exitOf(state *os.ProcessState, err error) Exit {
	if state == nil {
		return Exit{Code: -1}
	}
	exit := Exit{Code: state.ExitCode(), User: state.UserTime(), System: state.SystemTime()}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		exit.Signal, exit.Core = status.Signal(), status.CoreDump()
	}
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		exit.MaxRSS = maxRSS(usage)
	}
	return exit
}

var signalMeaning = map[syscall.Signal]string{
	syscall.SIGSEGV: "segmentation fault",
	syscall.SIGABRT: "aborted, usually by a failed assertion of a native library",
	syscall.SIGBUS:  "bus error",
	syscall.SIGFPE:  "arithmetic error",
	syscall.SIGILL:  "illegal instruction",
	syscall.SIGTERM: "terminated",
	syscall.SIGINT:  "interrupted",
	syscall.SIGXCPU: "the limit of processor time was reached",
	syscall.SIGXFSZ: "the limit of file size was reached",
	syscall.SIGHUP:  "hung up",
	syscall.SIGPIPE: "wrote to a closed pipe",
}

var signalNames = map[syscall.Signal]string{
	syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGILL: "SIGILL",
	syscall.SIGTRAP: "SIGTRAP", syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE",
	syscall.SIGKILL: "SIGKILL", syscall.SIGUSR1: "SIGUSR1", syscall.SIGSEGV: "SIGSEGV", syscall.SIGUSR2: "SIGUSR2",
	syscall.SIGPIPE: "SIGPIPE", syscall.SIGALRM: "SIGALRM", syscall.SIGTERM: "SIGTERM", syscall.SIGXCPU: "SIGXCPU",
	syscall.SIGXFSZ: "SIGXFSZ", syscall.SIGVTALRM: "SIGVTALRM", syscall.SIGPROF: "SIGPROF", syscall.SIGSYS: "SIGSYS",
}

func signalName(s syscall.Signal) string {
	if name, ok := signalNames[s]; ok {
		return name
	}
	return strings.ToUpper(fmt.Sprintf("SIG%d", int(s)))
}
