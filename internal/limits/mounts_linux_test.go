package limits

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseMounts(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		mountinfo, cgroups string
		controller         string
		point, root, own   string
	}{
		"unified": {
			"35 24 0:29 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
			"0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n",
			"", "/sys/fs/cgroup", "/", "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope",
		},
		"version 1, combined": {
			"31 23 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n",
			"4:cpu,cpuacct:/system.slice/a.service\n0::/x\n",
			"cpu", "/sys/fs/cgroup/cpu,cpuacct", "/", "/system.slice/a.service",
		},
		"a container": {
			"700 699 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"7:memory:/docker/abc/inner\n",
			"memory", "/sys/fs/cgroup/memory", "/docker/abc", "/docker/abc/inner",
		},
		"a blank in the path": {
			"36 31 0:33 / /mnt/my\\040groups rw - cgroup2 none rw\n", "0::/\n",
			"", "/mnt/my groups", "/", "/",
		},
	}
	for name, c := range cases {
		m := parseMounts("junk\n"+c.mountinfo, c.cgroups+"junk\n")
		if got := m.mounted[c.controller]; got != (mount{c.root, c.point}) || m.own[c.controller] != c.own {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if _, ok := parseMounts("", "").folder("memory"); ok {
		t.Error("found where there is none")
	}
}

// TestMakeV2 walks a tree of plain folders that look like groups of version 2.
func TestMakeV2(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	group := func(path, controllers, subtree string) {
		folder := filepath.Join(top, path)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"cgroup.controllers": controllers, "cgroup.subtree_control": subtree, "cgroup.procs": ""} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	group("", "cpu memory pids", "memory pids")
	group("app", "memory pids", "memory pids")
	group("app/own", "", "")
	m := mounts{mounted: map[string]mount{"": {"/", top}}, own: map[string]string{"": "/app/own"}}
	for _, c := range []struct{ controllers, parent, have string }{
		{"", "app/own", ""},
		{"memory", "app", "memory"},
		{"memory pids", "app", "memory pids"},
		{"memory cpu", "", "memory cpu"}, // only the top can switch it on
		{"memory hugetlb", "", ""},
	} {
		folder, have, ok := makeV2(m, groupPrefix+"x", strings.Fields(c.controllers))
		if c.controllers == "memory hugetlb" {
			if ok {
				t.Errorf("%s: made %s", c.controllers, folder)
			}
			continue
		}
		if !ok || folder != filepath.Join(top, c.parent, groupPrefix+"x") || !slices.Equal(have, strings.Fields(c.have)) {
			t.Errorf("%s: %s with %q, %v", c.controllers, folder, have, ok)
		}
	}
	group("", "memory pids", "memory pids")
	if _, have, ok := makeV2(m, groupPrefix+"x", []string{"memory", "cpu", "pids"}); !ok || !slices.Equal(have, []string{"memory", "pids"}) {
		t.Errorf("without cpu: %q, %v", have, ok)
	}
}
