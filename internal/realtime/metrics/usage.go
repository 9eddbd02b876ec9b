package metrics

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// Usage is what the processes of a function use, the processor's own among them.
type Usage struct {
	Processes int
	CPU       time.Duration // of those that live, since they began, and of their ended children
	Memory    int64         // resident, in bytes
}

func (u Usage) write(w io.Writer) {
	if u == (Usage{}) {
		return // this system does not tell
	}
	fmt.Fprintf(w, "# HELP millrace_processes Processes of the function.\n# TYPE millrace_processes gauge\nmillrace_processes %d\n", u.Processes)
	fmt.Fprintf(w, "# HELP millrace_cpu_seconds_total CPU time of the function's processes.\n# TYPE millrace_cpu_seconds_total counter\nmillrace_cpu_seconds_total %g\n", u.CPU.Seconds())
	fmt.Fprintf(w, "# HELP millrace_memory_bytes Resident memory of the function's processes.\n# TYPE millrace_memory_bytes gauge\nmillrace_memory_bytes %d\n", u.Memory)
}

// ticks is what Linux counts CPU time in, whatever the machine.
const ticks = 100

// process is what /proc/PID/stat says of one.
type process struct {
	parent int
	ticks  int64
	pages  int64
}

// Measure looks at the process of number root and all that descend from it.
func Measure(root int) Usage {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return Usage{}
	}
	all := map[int]process{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, ok := look(pid); ok { // it may have ended
			all[pid] = p
		}
	}
	var usage Usage
	for pid, p := range all {
		if !descends(all, pid, root) {
			continue
		}
		usage.Processes++
		usage.CPU += time.Duration(p.ticks) * time.Second / ticks
		usage.Memory += p.pages * int64(os.Getpagesize())
	}
	return usage
}

func descends(all map[int]process, pid, root int) bool {
	for range 64 { // processes that change while we look could form a circle
		if pid == root {
			return true
		}
		p, ok := all[pid]
		if !ok || p.parent == 0 {
			return false
		}
		pid = p.parent
	}
	return false
}

func look(pid int) (p process, ok bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return p, false
	}
	_, raw, ok = cutLast(raw, ')') // the name before it may hold anything
	fields := bytes.Fields(raw)
	if !ok || len(fields) < 22 {
		return p, false
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(string(fields[i]), 10, 64) // the kernel wrote it
		return n
	}
	p.parent = int(number(1))
	p.ticks = number(11) + number(12) + number(13) + number(14)
	p.pages = number(21)
	return p, true
}

func cutLast(text []byte, at byte) (before, after []byte, ok bool) {
	if i := bytes.LastIndexByte(text, at); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, nil, false
}
