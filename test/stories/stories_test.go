// Package stories holds what users do, as scripts: each file is one story, with the
// commands, the user's own files and what has to come out. See README.md for the
// words that stories have beside those of testscript.
package stories

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestStories(t *testing.T) {
	t.Parallel()
	binary := harness.Binary(t)
	testscript.Run(t, testscript.Params{
		Dir:                 ".",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("MILLRACE_DATA_DIR", filepath.Join(env.WorkDir, "data"))
			env.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
			return os.MkdirAll(home, 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":  cmdStatus,
			"json":    cmdJSON,
			"capture": cmdCapture,
			"serve":   cmdServe,
			"await":   cmdAwait,
			"signal":  cmdSignal,
		},
		Condition: func(word string) (bool, error) {
			name, ok := strings.CutPrefix(word, "has:")
			if !ok {
				return false, errors.New("unknown condition " + word)
			}
			_, err := exec.LookPath(name)
			return err == nil, nil
		},
	})
}

// cmdStatus runs a program and wants an exit status: status N PROGRAM ARG….
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// cmdJSON looks into a JSON file (stdout and stderr are those of the last
// program): json FILE PATH [VALUE]. PATH is dotted, numbers index lists, and an
// empty one ("") is the whole. Without VALUE something has to be there; "!" turns
// the question around. VALUE is compared as text for strings and as JSON otherwise.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: json FILE PATH [VALUE]")
	}
	value, err := document.Decode([]byte(ts.ReadFile(args[0])))
	if err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	found := true
	for key := range strings.SplitSeq(args[1], ".") {
		if key == "" {
			continue
		}
		if value, found = step(value, key); !found {
			break
		}
	}
	if len(args) == 2 {
		if found == neg {
			ts.Fatalf("%s of %s: found %t", args[1], args[0], found)
		}
		return
	}
	text := string(document.Encode(value))
	if s, ok := value.(string); ok {
		text = s
	}
	if equal := found && text == args[2]; equal == neg {
		ts.Fatalf("%s of %s is %s (found %t), want %q (negated %t)", args[1], args[0], text, found, args[2], neg)
	}
}

func step(value any, key string) (any, bool) {
	switch v := value.(type) {
	case document.Object:
		inner, ok := v[key]
		return inner, ok
	case []any:
		if key == "length" {
			return int64(len(v)), true
		}
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(v) {
			return v[i], true
		}
	}
	return nil, false
}

// cmdCapture puts standard output, without blanks around it, into a variable:
// capture NAME [PATH into JSON].
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: capture NAME [PATH]")
	}
	text := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) == 2 {
		value, err := document.Decode([]byte(text))
		ts.Check(err)
		for key := range strings.SplitSeq(args[1], ".") {
			value, _ = step(value, key)
		}
		var is bool
		if text, is = value.(string); !is && value != nil {
			text = string(document.Encode(value))
		}
	}
	if text == "" {
		ts.Fatalf("there is nothing to capture")
	}
	ts.Setenv(args[0], text)
}

// cmdServe starts a server on the story's data directory and sets SERVER to its
// address; it is ended with the story. Arguments are added to the command; "serve
// again" takes the address of the server before.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: serve ARG...")
	}
	if len(args) > 0 && args[0] == "again" {
		args = append([]string{"--listen", strings.TrimPrefix(ts.Getenv("SERVER"), "http://")}, args[1:]...)
	}
	cmd := exec.Command("millrace", append([]string{"server", "--listen", "127.0.0.1:0"}, args...)...)
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, "millrace"); cmd.Err != nil || cmd.Path == "millrace" {
			if _, err := os.Stat(path); err == nil {
				cmd.Path, cmd.Err = path, nil
			}
		}
	}
	cmd.Dir = ts.MkAbs(".")
	// As in the story's own commands, nothing that programs read at their start is set.
	surroundings := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "LANG") || strings.HasPrefix(entry, "LC_") || strings.HasPrefix(entry, "TZ=") || strings.HasPrefix(entry, "PYTHON")
	})
	cmd.Env = append(surroundings, "HOME="+ts.Getenv("HOME"), "MILLRACE_DATA_DIR="+ts.Getenv("MILLRACE_DATA_DIR"), "MILLRACE_TOKEN="+ts.Getenv("MILLRACE_TOKEN"))
	log, err := os.Create(ts.MkAbs("server.log"))
	ts.Check(err)
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			ts.Logf("the server ended with %v:\n%s", err, ts.ReadFile("server.log"))
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		ts.Fatalf("the server did not start: %v\n%s", err, ts.ReadFile("server.log"))
	}
	ts.Setenv("SERVER", strings.TrimSpace(line))
	ts.Setenv("SERVER_PID", strconv.Itoa(cmd.Process.Pid))
}

// cmdAwait runs a program again and again until its standard output contains a
// text: await TEXT PROGRAM ARG….
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await TEXT PROGRAM ARG...")
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...)
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q did not come within 30 s; the last output was %q", args[0], ts.ReadFile("stdout"))
		}
	}
}

// cmdSignal sends a signal to the process whose id is in a file or given:
// signal INT PID.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
	if neg || len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal INT|TERM|KILL PID")
	}
	pid, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(syscall.Kill(pid, signals[args[0]]))
}
