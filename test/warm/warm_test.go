// Package warm looks at the workers of a real server's runs: whether they are
// forked from templates, and whether those leave anything behind.
package warm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// code leaves a process that has left its group and its parent, and was not executed.
const code = `import os, sys, time, logging

def main(context, name="x"):
    print("template", "template" in open("/proc/%d/cmdline" % os.getppid()).read(), flush=True)
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
        os.write(write, str(pid).encode())
        os._exit(0)
    context.log_result("left", int(os.read(read, 100)))
    context.log_result("hashed", hash("text"))
    return logging.INFO
`

type fixture struct {
	t      *testing.T
	server *harness.Server
	file   string
}

func (f *fixture) run(arguments ...string) (log string, results map[string]any) {
	f.t.Helper()
	argv := append([]string{"run", f.file, "--handler", "main", "--server", f.server.URL, "-o", "json"}, arguments...)
	cmd := exec.Command(harness.Binary(f.t), argv...)
	cmd.Dir = f.t.TempDir()
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		f.t.Fatalf("run: %v\n%s%s", err, out.Bytes(), said.Bytes())
	}
	var doc struct {
		Status struct {
			Results map[string]any `json:"results"`
		} `json:"status"`
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		f.t.Fatalf("%v in %s", err, out.Bytes())
	}
	return said.String(), doc.Status.Results
}

// templates are the processes of the server's templates.
func (f *fixture) templates() []int {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []int
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err == nil && bytes.Contains(raw, []byte("\x00template\x00"+f.server.DataDir)) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			out = append(out, pid)
		}
	}
	return out
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}

func TestRunsAreForkedFromTemplates(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t}
	t.Cleanup(func() { // after the server's end
		eventually(t, "the templates end with the server", func() bool { return len(f.templates()) == 0 })
	})
	f.server = harness.StartServer(t, "--log-level", "debug")
	f.file = filepath.Join(t.TempDir(), "f.py")
	if err := os.WriteFile(f.file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	hashes := map[string]bool{}
	gone := func(results map[string]any) {
		t.Helper()
		hashes[fmt.Sprint(results["hashed"])] = true
		left := int(results["left"].(float64))
		eventually(t, fmt.Sprintf("what the run left behind, process %d, is killed", left), func() bool { return syscall.Kill(left, 0) != nil })
	}
	_, results := f.run()
	gone(results)
	eventually(t, "a template of what the code imports is started", func() bool {
		log, _ := f.logged()
		return strings.Count(log, `msg="template ready"`) >= 2
	})
	for range 3 {
		log, results := f.run()
		if !strings.Contains(log, "template True") {
			log, _ := f.logged()
			t.Fatalf("the worker was not forked from a template; the server's log:\n%s", log)
		}
		gone(results)
	}
	if len(hashes) != 1 {
		t.Errorf("runs from a template have the hashes %v", hashes)
	}
	// A run with a seed needs an interpreter of its own, and the log says so.
	log, results := f.run("--seed", "7")
	gone(results)
	if !strings.Contains(log, "template False") {
		t.Errorf("log = %q", log)
	}
	if text, err := f.logged(); err != nil || !strings.Contains(text, "the run has a hash seed of its own") {
		t.Errorf("the server's log does not say why the process was a fresh one: %v\n%s", err, text)
	}
	if len(f.templates()) == 0 {
		t.Error("there is no template")
	}
}

func (f *fixture) logged() (string, error) {
	raw, err := os.ReadFile(filepath.Join(f.server.DataDir, "server.log"))
	return string(raw), err
}
