package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/test/pyenv"
)

// What the events of the row threads do: the same work for every interpreter, about 0.2 s of
// the ordinary one, beside 64 MiB that were loaded before.
const (
	heavyHandler = `
def init_context(context):
    context.user_data.model = bytearray(b"x") * (64 << 20)

def work(rounds):
    total = 0
    for i in range(rounds):
        total += i * i
    return total

def handler(context, event):
    return str(work(%d))
`
	calibration = `
import time
exec(open(%q).read())
work(200_000)
best = 1e9
for _ in range(5):
    begin = time.process_time()
    work(1_000_000)
    best = min(best, time.process_time() - begin)
print(int(0.2 / best * 1_000_000), end="")
`
	heavyEvents = 8
	heavyAtOnce = 4
)

// threads measures events that compute, in the threads of one process and in processes.
func (b *bench) threads() error {
	free, err := pyenv.FreeThreaded(context.Background())
	if err != nil {
		return err
	}
	rounds, err := b.calibrate()
	if err != nil {
		return err
	}
	code := fmt.Sprintf(heavyHandler, rounds)
	trigger := func(workers, threads int) realtime.Trigger {
		return realtime.Trigger{Name: "http", Kind: realtime.TriggerHTTP, Workers: workers, Threads: threads}
	}
	all := []struct {
		name, python string
		trigger      realtime.Trigger
		took, used   time.Duration
		memory       int64
	}{
		{name: "one process", python: b.python, trigger: trigger(1, 1)},
		{name: "four processes", python: b.python, trigger: trigger(heavyAtOnce, 1)},
		{name: "four processes, free-threaded", python: free, trigger: trigger(heavyAtOnce, 1)},
		{name: "four threads of one process, free-threaded", python: free, trigger: trigger(1, heavyAtOnce)},
	}
	for range b.rounds {
		for i := range all {
			c := &all[i]
			took, used, memory, err := b.compute(c.python, code, c.trigger)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if c.took == 0 || took < c.took {
				c.took, c.memory = took, memory
			}
			if c.used == 0 || used < c.used {
				c.used = used
			}
		}
	}
	version, err := exec.Command(free, "-c", "import platform; print(platform.python_version(), end='')").Output()
	if err != nil {
		return err
	}
	fmt.Printf("%d events at once of %d rounds each, 64 MiB loaded; free-threaded is %s\n", heavyEvents, rounds, version)
	for _, c := range all {
		fmt.Printf("  %-44s %6.0f ms  × %.2f   CPU an event %4.0f ms  × %.2f   %5.0f MiB  × %.2f\n", c.name, ms(c.took), float64(c.took)/float64(all[1].took),
			ms(c.used), float64(c.used)/float64(all[1].used), float64(c.memory)/(1<<20), float64(c.memory)/float64(all[1].memory))
	}
	fmt.Println()
	return nil
}

// calibrate returns how many rounds take the ordinary interpreter 0.2 s.
func (b *bench) calibrate() (int, error) {
	path := filepath.Join(b.dir, "heavy.py")
	if err := os.WriteFile(path, []byte(fmt.Sprintf(heavyHandler, 0)), 0o600); err != nil {
		return 0, err
	}
	out, err := exec.Command(b.python, "-c", fmt.Sprintf(calibration, path)).Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", b.python, err)
	}
	return strconv.Atoi(string(out))
}

// compute returns the time until all events are answered, the processor time of each, and
// the memory of the workers.
func (b *bench) compute(python, code string, trigger realtime.Trigger) (best, used time.Duration, memory int64, err error) {
	s, err := b.deploy(python, code, trigger)
	if err != nil {
		return 0, 0, 0, err
	}
	defer s.stop()
	const turns = 3
	before, _ := s.cpu()
	for range turns {
		failures := make([]error, heavyEvents)
		var events sync.WaitGroup
		begin := time.Now()
		for i := range heavyEvents {
			events.Go(func() {
				c := newClient(s.address, "/", 0)
				defer c.close()
				status, _, err := c.do()
				if err == nil && status != 200 {
					err = fmt.Errorf("status %d", status)
				}
				failures[i] = err
			})
		}
		events.Wait()
		if err := errors.Join(failures...); err != nil {
			return 0, 0, 0, err
		}
		if took := time.Since(begin); best == 0 || took < best {
			best = took
		}
	}
	after, _ := s.cpu()
	memory, err = memoryBelow(s.cmd.Process.Pid)
	return best, (after - before) / (turns * heavyEvents), memory, err
}

// memoryBelow is the memory of the processes that root has started, each page that some share
// divided among them.
func memoryBelow(root int) (int64, error) {
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", root))
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, path := range children {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for pid := range strings.FieldsSeq(string(raw)) {
			rollup, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
			if err != nil {
				return 0, err
			}
			_, after, _ := strings.Cut(string(rollup), "\nPss:")
			kib, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("memory of the process %s: %w", pid, err)
			}
			total += kib << 10
		}
	}
	return total, nil
}
