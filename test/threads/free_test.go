//go:build freethreaded

package threads

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
	"github.com/millrace/millrace/test/pyenv"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestRequirementsOfFreeThreads: requirements of a function for free-threaded Python are
// installed as built for it, and its threads handle events at once with them.
// MILLRACE_TEST_PYTHON names the interpreter.
func TestRequirementsOfFreeThreads(t *testing.T) {
	python := os.Getenv("MILLRACE_TEST_PYTHON")
	out, err := exec.Command(python, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])").Output()
	if err != nil {
		t.Fatalf("MILLRACE_TEST_PYTHON=%s: %v", python, err)
	}
	interpreter := pyenv.Interpreter{Path: python, Version: strings.TrimSpace(string(out))}
	version := interpreter.Minor() + "t"
	bin := t.TempDir()
	if err := os.Symlink(python, filepath.Join(bin, "python"+version)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	server := harness.StartServer(t)
	file := filepath.Join(t.TempDir(), "escape.py")
	const code = `
import os, sys, threading
import markupsafe._speedups

barrier = threading.Barrier(4, timeout=60)

def handler(context, event):
    barrier.wait()
    return {"locked": sys._is_gil_enabled(), "file": markupsafe._speedups.__file__, "text": str(markupsafe.escape("<")), "pid": os.getpid()}
`
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	deploy := exec.CommandContext(ctx, harness.Binary(t), "deploy", file, "--handler", "handler", "--python", version, "--threads", "4", "--requirement", "markupsafe==3.0.2")
	deploy.Env = append(os.Environ(), "MILLRACE_URL="+server.URL)
	if out, err := deploy.CombinedOutput(); err != nil {
		if all := pyenv.Interpreters(); len(all) > 0 { // this one has no pip of its own
			if ok, said := pyenv.IndexAnswers(t.Context(), all[len(all)-1]); !ok {
				harness.Skip(t, "no package index answers: %s", said)
			}
		}
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		undo := exec.Command(harness.Binary(t), "delete", "deployment", "escape")
		undo.Env = deploy.Env
		if out, err := undo.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	type answer struct {
		Locked     bool
		File, Text string
		PID        int
	}
	answers := make([]answer, 4)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			response, err := http.Get(server.URL + "/fn/default/escape/")
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			if err := json.NewDecoder(response.Body).Decode(&answers[i]); err != nil {
				t.Error(response.Status, err)
			}
		})
	}
	all.Wait()
	for _, a := range answers {
		if a.Locked || a.Text != "&lt;" || !strings.Contains(filepath.Base(a.File), strings.ReplaceAll(version, ".", "")) || a.PID != answers[0].PID {
			t.Errorf("%+v", a)
		}
	}
}
