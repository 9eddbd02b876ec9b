package env

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/fault"
)

// TestExplain reads what pip and compilers print where a test cannot bring the
// situation about; TestEnsureFailures has those that it can.
func TestExplain(t *testing.T) {
	t.Parallel()
	failed := exec.Command("false").Run()
	cases := map[string]struct {
		output string
		code   fault.Code
		want   string
	}{
		"disk":        {"Collecting torch\nERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", fault.CodeUnavailable, "disk is full"},
		"compiler":    {"Building wheels for collected packages: ujson\n  error: command 'gcc' failed: No such file or directory\n  ERROR: Failed building wheel for ujson\n", fault.CodePrecondition, "ujson has no ready-made wheel for Python 3.12.1 and needs a C compiler"},
		"header":      {"  src/x.c:1:10: fatal error: Python.h: No such file or directory\n  ERROR: Failed building wheel for spam\n", fault.CodePrecondition, "header Python.h"},
		"rust":        {"Collecting tokenizers\n  error: can't find Rust compiler\n  ERROR: Failed building wheel for tokenizers\n", fault.CodePrecondition, "Rust"},
		"certificate": {"WARNING: Retrying after SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))\nERROR: Could not find a version that satisfies the requirement six (from versions: none)\nERROR: No matching distribution found for six\n", fault.CodeUnavailable, "PIP_CERT"},
		"names":       {"WARNING: Retrying after connection broken by 'NameResolutionError(x)'\nERROR: Could not find a version that satisfies the requirement six (from versions: none)\n", fault.CodeUnavailable, "cannot be reached"},
		"denied":      {"WARNING: 401 Client Error: Unauthorized for url: https://host/simple/six/\nERROR: Could not find a version that satisfies the requirement six (from versions: none)\n", fault.CodePrecondition, "credentials"},
		"python":      {"ERROR: Ignored the following versions that require a different python version: 2.0 Requires-Python >=3.13\nERROR: Could not find a version that satisfies the requirement numpy>=2 (from versions: none)\n", fault.CodeInvalid, "no version of numpy fits Python 3.12.1"},
		"git":         {"ERROR: Error [Errno 2] No such file or directory: 'git'\nERROR: Cannot find command 'git' - do you have 'git' installed and in your PATH?\n", fault.CodePrecondition, "command git is not installed"},
		"venv":        {"/usr/bin/python3: No module named venv\n", fault.CodePrecondition, "python3-venv"},
		"unknown":     {"ERROR: something new\n", fault.CodeInvalid, "something new"},
		"silent":      {"", fault.CodeInvalid, "printed nothing"},
	}
	for name, c := range cases {
		var f failure
		for line := range strings.Lines(c.output) {
			f.add(line)
		}
		err := f.explain("installing them", Interpreter{Executable: "/usr/bin/python3", Version: Version{3, 12, 1, ""}}, failed, "/log")
		if !fault.Is(err, c.code) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v (%s), want %q", name, err, fault.CodeOf(err), c.want)
		}
	}
	if err := (&failure{}).explain("x", Interpreter{}, errAbandoned, ""); err != errAbandoned { //nolint:errorlint // it has to come back as it is
		t.Errorf("a cancelled build is explained as %v", err)
	}
}

func TestFailureKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var f failure
	for range 5 * keptLines {
		f.add("filling")
	}
	f.add("ERROR: the end")
	if len(f.lines) > keptLines || f.find(reError) == nil {
		t.Errorf("%d lines are kept, the last %q", len(f.lines), f.lines[len(f.lines)-1])
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	got := named("Cannot install -r /tmp/a/requirements.txt (line 2) and x", []string{"--pre", "six==1"})
	if got != "Cannot install six==1 and x" {
		t.Errorf("got %q", got)
	}
	if got := named("-r /t/requirements.txt (line 9)", nil); got != "-r /t/requirements.txt (line 9)" {
		t.Errorf("got %q", got)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	req, err := ParseRequirements([]string{"a @ git+https://u:secret@host/a.git", "b @ https://other/b-1-py3-none-any.whl"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := withCredentials("git+https://host/a.git@0123", req.packages); got != "git+https://u:secret@host/a.git@0123" {
		t.Errorf("got %q", got)
	}
	if got := withCredentials("https://other/b-1.whl", req.packages); got != "https://other/b-1.whl" {
		t.Errorf("got %q", got)
	}
	if got := redact("see https://u:secret@host/x and git+ssh://git@h/y"); strings.Contains(got, "secret") {
		t.Errorf("got %q", got)
	}
}
