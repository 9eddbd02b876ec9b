package robustness

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// keeper logs an artifact of so many MiB.
const keeper = `
def make(context, mib: int):
    context.log_artifact("big", body=bytes(range(256)) * (4096 * mib))
`

// smallDisk mounts a file system of 48 MiB; "" where the machine lets nobody do that:
// the tests of internal/datastore with limits on the size of files are what there is then.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		if !errors.Is(err, syscall.EPERM) {
			t.Fatal(err)
		}
		t.Log("without a small disk:", err)
		return ""
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// machine gives commands to a system whose data directory is on a small disk.
type machine struct {
	*testing.T
	disk    string
	server  bool // there is one
	environ []string
	files   string // what there is to put: small and big
}

// do gives a command that has to succeed, or has to fail with one sentence that says
// that there is no room.
func (m *machine) do(fits bool, arg ...string) string {
	m.Helper()
	cmd := exec.CommandContext(m.Context(), harness.Binary(m), arg...)
	cmd.Env = append(os.Environ(), m.environ...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	text := strings.TrimSpace(said.String())
	if (err == nil) != fits {
		m.Errorf("%s: %v, %s", strings.Join(arg, " "), err, text)
	}
	if !fits && arg[0] != "run" && (strings.Count(text, "\n") > 0 || !strings.Contains(text, "no room")) {
		m.Errorf("%s: it says %q", strings.Join(arg, " "), text)
	}
	return out.String() + text
}

// fill leaves no room on the disk until what it returns is called.
func (m *machine) fill() (free func()) {
	m.Helper()
	ballast := filepath.Join(m.disk, "ballast")
	file, err := os.Create(ballast)
	if err != nil {
		m.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		m.Fatal(err)
	}
	if err := file.Close(); err != nil {
		m.Fatal(err)
	}
	return func() {
		if err := os.Remove(ballast); err != nil {
			m.Error(err)
		}
	}
}

// large counts the bytes of files on the disk that are larger than a database is here.
func (m *machine) large() (sum int64) {
	m.Helper()
	err := filepath.WalkDir(m.disk, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() >= 4<<20 {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		m.Fatal(err)
	}
	return sum
}

func (m *machine) suite() {
	code := filepath.Join(m.files, "keeper.py")
	small, big := filepath.Join(m.files, "small.bin"), filepath.Join(m.files, "big.bin")
	err := errors.Join(os.WriteFile(code, []byte(keeper), 0o600), os.WriteFile(small, make([]byte, 1000), 0o600),
		os.WriteFile(big, make([]byte, 60<<20), 0o600))
	if err != nil {
		m.Fatal(err)
	}
	m.do(true, "run", code, "--handler", "make", "--param", "mib=5")
	before := m.do(true, "artifact", "ls", "-o", "name")

	// What does not fit is not listed, and what came of it takes no room.
	if text := m.do(false, "run", code, "--handler", "make", "--param", "mib=60"); !strings.Contains(text, "No space left on device: '") {
		m.Errorf("the run says %s", text)
	}
	m.do(false, "artifact", "put", big, "--key", "one")
	if got := m.do(true, "artifact", "ls", "-o", "name"); got != before || m.large() != 5<<20 {
		m.Errorf("%q is listed and was %q; %d bytes are kept", got, before, m.large())
	}

	// Nothing fits: each command says so.
	free := m.fill()
	m.do(false, "artifact", "put", small, "--key", "two")
	m.do(false, "run", code, "--handler", "make", "--param", "mib=1")
	if m.server {
		m.do(false, "artifact", "get", "keeper-make_big", filepath.Join(m.disk, "out"))
		if got := m.do(true, "artifact", "ls", "-o", "name"); got != before {
			m.Errorf("%q is listed", got)
		}
	} else {
		m.do(false, "artifact", "put", small, "--key", "two", "--artifact-path", m.files)
	}
	free()

	// With room again everything goes on.
	m.do(true, "artifact", "put", small, "--key", "two")
	m.do(true, "run", code, "--handler", "make", "--param", "mib=1")
	back := filepath.Join(m.files, "back")
	m.do(true, "artifact", "get", "two", back)
	if raw, err := os.ReadFile(back); err != nil || len(raw) != 1000 {
		m.Errorf("%d bytes came back, %v", len(raw), err)
	}
	if got := m.large(); got != 5<<20 {
		m.Errorf("%d bytes are kept", got)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	t.Run("without a server", func(t *testing.T) {
		disk := smallDisk(t)
		if disk == "" {
			return
		}
		m := &machine{T: t, disk: disk, environ: []string{"MILLRACE_DATA_DIR=" + disk}, files: t.TempDir()}
		m.suite()
	})
	t.Run("of a server", func(t *testing.T) {
		disk := smallDisk(t)
		if disk == "" {
			return
		}
		s := harness.StartServer(t, "--data-dir", disk)
		m := &machine{T: t, disk: disk, server: true, environ: []string{"MILLRACE_DATA_DIR=" + s.DataDir, "MILLRACE_URL=" + s.URL}, files: t.TempDir()}
		m.suite()
		free := m.fill()
		uid := strings.Repeat("d", 32)
		for path, body := range map[string]string{"runs/" + uid: `{"metadata":{"name":"x","uid":"` + uid + `"}}`, "logs/" + uid: "a line"} {
			response, err := http.Post(s.URL+"/api/v1/projects/default/"+path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			_, err = said.ReadFrom(response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(said.String(), "no room") {
				t.Errorf("%s: %s %s %v", path, response.Status, said.String(), err)
			}
		}
		free()
	})
}
