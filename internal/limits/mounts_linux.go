package limits

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mounts is where control groups are mounted and which of them this process is in.
type mounts struct {
	mounted map[string]mount  // by controller, "" for version 2
	own     map[string]string // likewise: the path within the hierarchy
}

type mount struct{ root, point string }

func readMounts() (mounts, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mounts{}, fmt.Errorf("find control groups: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if os.IsNotExist(err) { // a kernel without control groups
		return mounts{}, nil
	}
	if err != nil {
		return mounts{}, fmt.Errorf("find control groups: %w", err)
	}
	return parseMounts(string(info), string(own)), nil
}

// parseMounts reads the two files of /proc/self.
func parseMounts(mountinfo, cgroups string) mounts {
	m := mounts{mounted: map[string]mount{}, own: map[string]string{}}
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			continue
		}
		at := mount{root: unescape(left[3]), point: unescape(left[4])}
		switch right[0] {
		case "cgroup2":
			if _, there := m.mounted[""]; !there {
				m.mounted[""] = at
			}
		case "cgroup":
			for option := range strings.SplitSeq(right[2], ",") {
				if _, there := m.mounted[option]; !there && option != "" {
					m.mounted[option] = at
				}
			}
		}
	}
	for line := range strings.Lines(cgroups) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			m.own[controller] = parts[2]
		}
	}
	return m
}

// unescape undoes the octal escapes of blanks in mountinfo.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// folder returns the folder of this process's own group in a hierarchy.
func (m mounts) folder(controller string) (string, bool) {
	at, mounted := m.mounted[controller]
	own, member := m.own[controller]
	if !mounted || !member {
		return "", false
	}
	// A container may see only a part of the hierarchy, from root on.
	rel, err := filepath.Rel(at.root, own)
	if err != nil || !filepath.IsLocal(rel) {
		rel = "."
	}
	folder := filepath.Join(at.point, rel)
	if _, err := os.Stat(folder); err != nil {
		return at.point, true
	}
	return folder, true
}

// makeV2 makes the group name as near as possible to this process's own group,
// from there upwards, with the controllers; where they are not all to be had
// (users are seldom given cpu), with fewer.
func makeV2(m mounts, name string, controllers []string) (folder string, have []string, ok bool) {
	own, ok := m.folder("")
	if !ok {
		return "", nil, false
	}
	top := m.mounted[""].point
	without := func(drop ...string) []string {
		return slices.DeleteFunc(slices.Clone(controllers), func(c string) bool { return slices.Contains(drop, c) })
	}
	for _, have := range [][]string{controllers, without("cpu"), without("cpu", "pids")} {
		// Beside version 1, version 2 without controllers only tracks; version 1
		// serves better then.
		if _, v1 := m.mounted["pids"]; len(have) == 0 && v1 {
			return "", nil, false
		}
		for parent := own; ; parent = filepath.Dir(parent) {
			if enabled(parent, have) && joinable(parent) && makeFolder(filepath.Join(parent, name)) == nil {
				return filepath.Join(parent, name), have, true
			}
			if parent == top || parent == filepath.Dir(parent) {
				break
			}
		}
	}
	return "", nil, false
}

// enabled reports whether children of folder have the controllers, switching
// them on where that is possible.
func enabled(folder string, controllers []string) bool {
	read := func(name string) []string {
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return nil
		}
		return strings.Fields(string(data))
	}
	available, on := read("cgroup.controllers"), read("cgroup.subtree_control")
	for _, c := range controllers {
		if !slices.Contains(available, c) {
			return false
		}
		// A group that has processes of its own refuses: its parent is tried next.
		if !slices.Contains(on, c) && writeControl(filepath.Join(folder, "cgroup.subtree_control"), "+"+c) != nil {
			return false
		}
	}
	return true
}

// joinable reports whether this process may move processes below folder: it has
// to be allowed to write the list of the nearest common group.
func joinable(folder string) bool {
	f, err := os.OpenFile(filepath.Join(folder, "cgroup.procs"), os.O_WRONLY, 0)
	return err == nil && f.Close() == nil
}
