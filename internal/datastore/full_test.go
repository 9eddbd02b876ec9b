package datastore_test

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/internal/fault"
)

// fullVariable makes the test binary a writer whose files may not grow: it holds
// what to write with, a colon, and a folder.
const fullVariable = "MILLRACE_TEST_FULL"

// TestNoRoom: content that does not fit is not there in part, and fits later.
func TestNoRoom(t *testing.T) {
	data := random(4 << 20)
	if way, dir, ok := strings.Cut(os.Getenv(fullVariable), ":"); ok {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		refusedForRoom(t, way, dir, data)
		return
	}
	disk := smallDisk(t)
	for way, store := range storing {
		root := filepath.Join(t.TempDir(), way)
		if err := os.MkdirAll(root, 0o700); err != nil {
			t.Fatal(err)
		}
		child := exec.Command(os.Args[0], "-test.run=^TestNoRoom$")
		child.Env = append(os.Environ(), fullVariable+"="+way+":"+root)
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", way, err, out)
		}
		roots := []string{root}
		if disk != "" {
			root := filepath.Join(disk, way)
			ballast := root + ".ballast"
			if err := errors.Join(os.Mkdir(root, 0o700), os.WriteFile(ballast, random(6<<20), 0o600)); err != nil {
				t.Fatal(err)
			}
			refusedForRoom(t, way, root, data)
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			roots = append(roots, root)
		}
		for _, root := range roots {
			if _, err := store(root, data); err != nil || len(whole(t, root, data)) != 1 {
				t.Errorf("%s: with room: %v, %q", way, err, whole(t, root, data))
			}
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func refusedForRoom(t *testing.T, way, dir string, data []byte) {
	t.Helper()
	if _, err := storing[way](dir, data); !fault.Is(err, fault.CodeUnavailable) || !strings.Contains(err.Error(), "no room") {
		t.Errorf("%s: %v", way, err)
	}
	for _, dir := range []string{dir, dir + ".inbox"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				t.Errorf("%s: there is %s", way, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}

// smallDisk is a file system of 8 MiB; "" where none may be mounted: limits on the
// size of files say the same there.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Log("without a small disk:", err)
		return ""
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
