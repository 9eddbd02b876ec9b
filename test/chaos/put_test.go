package chaos

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// putting are the ways `artifact put` takes.
var putting = map[string]struct {
	server  bool // there is one
	over    bool // which is sent the bytes
	content string
}{
	"alone":               {content: ".bin"},
	"beside the server":   {server: true, content: ".bin"},
	"over HTTP":           {server: true, over: true, content: ".bin"},
	"a folder":            {content: ".dir"},
	"a folder, over HTTP": {server: true, over: true, content: ".dir"},
}

// TestPutKilled kills `artifact put` and the server that takes its bytes at random
// moments: what is listed is whole, and the command given again completes it.
func TestPutKilled(t *testing.T) {
	ctx := t.Context()
	first := newWorld(t)
	content := large(t, t.TempDir(), setting("MILLRACE_CHAOS_MIB", 32))
	for name, way := range putting {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w := &world{t: t, binary: first.binary, data: filepath.Join(dir, "data")}
			t.Cleanup(w.stop)
			own := w.data
			if way.server {
				w.start()
			}
			if way.over {
				own = filepath.Join(dir, "client")
			}
			command := func(arg ...string) *exec.Cmd {
				cmd := exec.CommandContext(ctx, w.binary, arg...)
				cmd.Env = append(os.Environ(), "MILLRACE_DATA_DIR="+own)
				if way.over {
					cmd.Env = append(cmd.Env, "MILLRACE_URL=http://"+w.address)
				}
				return cmd
			}
			put := func() *exec.Cmd { return command("artifact", "put", content+way.content, "--key", "big") }
			list := func() (docs []any) {
				out, err := command("artifact", "ls", "-o", "json").Output()
				if err == nil {
					err = json.Unmarshal(out, &docs)
				}
				if err != nil {
					t.Fatal(err, string(out))
				}
				return docs
			}
			list() // makes the database
			strikes := setting("MILLRACE_CHAOS_STRIKES", 4)
			random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
			took := time.Duration(setting("MILLRACE_CHAOS_MIB", 32)) * 6 * time.Millisecond
			ended := 0
			for i := range strikes {
				cmd := put()
				var said bytes.Buffer
				cmd.Stderr = &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(random.Int64N(int64(took))))
				if way.server && way.over && i%2 == 0 {
					w.killServer()
				} else {
					_ = cmd.Process.Signal(syscall.SIGKILL)
				}
				if cmd.Wait() == nil {
					ended++
				} else if text := strings.TrimSpace(said.String()); strings.Count(text, "\n") > 0 || strings.Contains(text, "goroutine") {
					t.Errorf("it said %q", text)
				}
				if n := len(list()); n != ended && n != ended+1 { // it may have been killed as it said so
					t.Errorf("%d are listed, %d have ended", n, ended)
				} else {
					ended = n
				}
			}
			begun := time.Now()
			if out, err := put().CombinedOutput(); err != nil {
				t.Fatalf("the command given again: %v, %s", err, out)
			}
			t.Logf("%d strikes, %d of them too late; the last took %s", strikes, ended, time.Since(begun).Round(time.Millisecond))
			targets := map[any]bool{}
			for _, doc := range list() {
				targets[at(doc, "spec", "target_path")] = true
			}
			if len(list()) != ended+1 || len(targets) != 1 {
				t.Errorf("%d are listed, at %v", len(list()), targets)
			}
			back := filepath.Join(dir, "back")
			if out, err := command("artifact", "get", "big", back).CombinedOutput(); err != nil {
				t.Fatalf("%v, %s", err, out)
			}
			if out, err := exec.CommandContext(ctx, "diff", "-r", content+way.content, back).CombinedOutput(); err != nil {
				t.Errorf("what comes back: %v, %s", err, out)
			}
			files, parts := below(t, filepath.Join(w.data, "artifacts"), ".millrace-part-")
			if want := map[string]int{".bin": 1, ".dir": 5}[way.content]; files != want {
				t.Errorf("the content is in %d files, not %d", files, want)
			}
			uploads, _ := below(t, filepath.Join(w.data, "cache", "uploads"), "none")
			if parts > strikes || uploads > 0 {
				t.Errorf("%d files of killed writers, %d unfinished uploads are left", parts, uploads)
			}
		})
	}
}
