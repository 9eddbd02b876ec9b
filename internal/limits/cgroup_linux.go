package limits

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/fault"
)

// cgroup is one control group of version 2, or one of version 1 in each
// hierarchy that was to be had.
type cgroup struct {
	v2      string            // folder, "" for version 1
	v1      map[string]string // controller → folder
	ordered []string          // controllers of v1, in the order they are joined
}

const cpuPeriod = 100_000 // microseconds

func (c *cgroup) mechanism() string {
	if c.v2 != "" {
		return MechanismV2
	}
	return MechanismV1
}

func (c *cgroup) folders() []string {
	if c.v2 != "" {
		return []string{c.v2}
	}
	out := make([]string, len(c.ordered))
	for i, controller := range c.ordered {
		out[i] = c.v1[controller]
	}
	return out
}

// String is "v2:folder" or "v1:controller=folder:…"; no folder of a control
// group has a colon that we made, and hosts' do not either.
func (c *cgroup) String() string {
	if c.v2 != "" {
		return "v2:" + c.v2
	}
	parts := []string{"v1"}
	for _, controller := range c.ordered {
		parts = append(parts, controller+"="+c.v1[controller])
	}
	return strings.Join(parts, ":")
}

// createCgroup makes the group as far as the machine allows and returns the
// limits that it holds; nil when none can be made.
func createCgroup(name string, l Limits) (*cgroup, Limits, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, Limits{}, err
	}
	if folder, controllers, ok := makeV2(mounts, name, wanted(l)); ok {
		c := &cgroup{v2: folder}
		held, err := c.limitV2(only(l, controllers))
		if err == nil {
			return c, held, nil
		}
		return nil, Limits{}, errors.Join(err, c.remove())
	}
	c := &cgroup{v1: map[string]string{}}
	for _, controller := range []string{"pids", "memory", "cpu"} {
		if !slices.Contains(append(wanted(l), "pids"), controller) { // pids also stops forks at the end
			continue
		}
		parent, ok := mounts.folder(controller)
		if !ok {
			continue
		}
		folder := filepath.Join(parent, name)
		if makeFolder(folder) == nil {
			c.v1[controller] = folder
			c.ordered = append(c.ordered, controller)
		}
	}
	if len(c.ordered) == 0 {
		return nil, Limits{}, nil
	}
	held, err := c.limitV1(l)
	if err != nil {
		return nil, Limits{}, errors.Join(err, c.remove())
	}
	return c, held, nil
}

// wanted returns the controllers that limits need.
func wanted(l Limits) []string {
	var out []string
	if l.Memory > 0 {
		out = append(out, "memory")
	}
	if l.CPU > 0 {
		out = append(out, "cpu")
	}
	if l.Pids > 0 {
		out = append(out, "pids")
	}
	return out
}

// only returns what of l the controllers enforce.
func only(l Limits, controllers []string) Limits {
	if !slices.Contains(controllers, "memory") {
		l.Memory = 0
	}
	if !slices.Contains(controllers, "cpu") {
		l.CPU = 0
	}
	if !slices.Contains(controllers, "pids") {
		l.Pids = 0
	}
	return l
}

func makeFolder(folder string) error {
	if err := os.Mkdir(folder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make control group: %w", err)
	}
	return nil
}

func (c *cgroup) limitV2(l Limits) (Limits, error) {
	write := func(name, value string) error { return writeControl(filepath.Join(c.v2, name), value) }
	if l.Memory > 0 {
		if err := write("memory.max", strconv.FormatInt(l.Memory, 10)); err != nil {
			return Limits{}, err
		}
		// Neither is everywhere, and the limit holds without them: swap would only
		// soften it, and one killed process of several is reported all the same.
		_ = write("memory.swap.max", "0")
		_ = write("memory.oom.group", "1")
	}
	if l.CPU > 0 {
		if err := write("cpu.max", fmt.Sprintf("%d %d", quota(l.CPU), cpuPeriod)); err != nil {
			return Limits{}, err
		}
	}
	if l.Pids > 0 {
		if err := write("pids.max", strconv.Itoa(l.Pids)); err != nil {
			return Limits{}, err
		}
	}
	return l, nil
}

func quota(cpu float64) int64 {
	return int64(math.Min(math.Max(cpu*cpuPeriod, 1000), math.MaxInt32))
}

func (c *cgroup) limitV1(l Limits) (Limits, error) {
	var held Limits
	if folder := c.v1["memory"]; folder != "" && l.Memory > 0 {
		if err := writeControl(filepath.Join(folder, "memory.limit_in_bytes"), strconv.FormatInt(l.Memory, 10)); err != nil {
			return Limits{}, err
		}
		// Absent where swap is not accounted; the limit holds for memory then.
		_ = writeControl(filepath.Join(folder, "memory.memsw.limit_in_bytes"), strconv.FormatInt(l.Memory, 10))
		held.Memory = l.Memory
	}
	if folder := c.v1["cpu"]; folder != "" && l.CPU > 0 {
		if err := writeControl(filepath.Join(folder, "cpu.cfs_period_us"), strconv.Itoa(cpuPeriod)); err != nil {
			return Limits{}, err
		}
		if err := writeControl(filepath.Join(folder, "cpu.cfs_quota_us"), strconv.FormatInt(quota(l.CPU), 10)); err != nil {
			return Limits{}, err
		}
		held.CPU = l.CPU
	}
	if folder := c.v1["pids"]; folder != "" && l.Pids > 0 {
		if err := writeControl(filepath.Join(folder, "pids.max"), strconv.Itoa(l.Pids)); err != nil {
			return Limits{}, err
		}
		held.Pids = l.Pids
	}
	return held, nil
}

func writeControl(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set limit: %w", err)
	}
	_, err = f.WriteString(value)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("set limit to %s: %w", value, err)
	}
	return nil
}

// openCgroup reads what String wrote, and accepts only folders of ours on a file
// system of control groups.
func openCgroup(path string) (*cgroup, error) {
	kind, rest, _ := strings.Cut(path, ":")
	c := &cgroup{}
	switch {
	case kind == "v2" && rest != "":
		c.v2 = rest
	case kind == "v1" && rest != "":
		c.v1 = map[string]string{}
		for part := range strings.SplitSeq(rest, ":") {
			controller, folder, ok := strings.Cut(part, "=")
			if !ok || c.v1[controller] != "" {
				return nil, fault.Invalid("%q does not name a group of processes", path)
			}
			c.v1[controller] = folder
			c.ordered = append(c.ordered, controller)
		}
	default:
		return nil, fault.Invalid("%q does not name a group of processes", path)
	}
	there := false
	for _, folder := range c.folders() {
		if !filepath.IsAbs(folder) || filepath.Clean(folder) != folder || !strings.HasPrefix(filepath.Base(folder), groupPrefix) {
			return nil, fault.Invalid("%q does not name a group of processes", path)
		}
		var stat unix.Statfs_t
		switch err := unix.Statfs(folder, &stat); {
		case errors.Is(err, unix.ENOENT):
		case err != nil:
			return nil, fmt.Errorf("open control group: %w", err)
		case int64(stat.Type) != unix.CGROUP_SUPER_MAGIC && int64(stat.Type) != unix.CGROUP2_SUPER_MAGIC:
			return nil, fault.Invalid("%q does not name a group of processes", path)
		default:
			there = true
		}
	}
	if !there {
		return nil, fault.NotFound("the group of processes %s is not there any more", path)
	}
	return c, nil
}

func (c *cgroup) add(pid int) error {
	for _, folder := range c.folders() {
		err := writeControl(filepath.Join(folder, "cgroup.procs"), strconv.Itoa(pid))
		if errors.Is(err, syscall.ESRCH) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("limit process %d: %w", pid, err)
		}
	}
	return nil
}

// members returns the processes of all folders, this one left out.
func (c *cgroup) members() ([]int, error) {
	seen := map[int]bool{selfPID(): true}
	var out []int
	for _, folder := range c.folders() {
		data, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list control group: %w", err)
		}
		for field := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 && !seen[pid] {
				seen[pid] = true
				out = append(out, pid)
			}
		}
	}
	return out, nil
}

// kill ends the members. Forks are stopped first (no more processes are
// allowed), so each round leaves fewer.
func (c *cgroup) kill(ctx context.Context) error {
	pidsFolder := c.v2
	if pidsFolder == "" {
		pidsFolder = c.v1["pids"]
	}
	if pidsFolder != "" {
		// Where it cannot be set, the rounds below have to win the race.
		_ = writeControl(filepath.Join(pidsFolder, "pids.max"), "0")
	}
	pause := time.Millisecond
	for {
		if c.v2 != "" {
			_ = writeControl(filepath.Join(c.v2, "cgroup.kill"), "1") // since Linux 5.14; else by the rounds
		}
		pids, err := c.members()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill control group: %d processes are left: %w", len(pids), context.Cause(ctx))
		case <-time.After(pause):
		}
		pause = min(2*pause, 50*time.Millisecond)
	}
}

// remove deletes the folders and whatever empty groups the processes made in
// them. The kernel needs a moment after the last process.
func (c *cgroup) remove() error {
	var failed error
	for _, folder := range c.folders() {
		pause := time.Millisecond
		for {
			err := removeFolder(folder)
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EBUSY) || pause > 500*time.Millisecond {
				failed = errors.Join(failed, fmt.Errorf("remove control group: %w", err))
				break
			}
			time.Sleep(pause)
			pause *= 2
		}
	}
	return failed
}

func removeFolder(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeFolder(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// oomKilled asks the kernel's counters.
func (c *cgroup) oomKilled() bool {
	file := filepath.Join(c.v2, "memory.events")
	if c.v2 == "" {
		if c.v1["memory"] == "" {
			return false
		}
		file = filepath.Join(c.v1["memory"], "memory.oom_control")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == "oom_kill" {
			n, err := strconv.Atoi(value)
			return err == nil && n > 0
		}
	}
	return false
}
