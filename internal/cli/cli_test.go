package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// testProcess is a process without a terminal, in a folder of its own.
func testProcess(t testing.TB, args ...string) (Process, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	dir := t.TempDir()
	return Process{
		Args: args, Getenv: func(string) string { return "" }, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Dir: dir, HomeDir: dir,
		Version: func() string { return "1.2.3" },
	}, &stdout, &stderr
}

func BenchmarkVersion(b *testing.B) {
	for b.Loop() {
		p, _, _ := testProcess(b, "version")
		if Main(b.Context(), p, nil) != 0 {
			b.Fatal("it failed")
		}
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	signals := make(chan os.Signal)
	watch := watchSignals(t.Context(), signals)
	defer watch.stop()
	signals <- os.Interrupt
	<-watch.soft.Done()
	if watch.hard.Err() != nil || context.Cause(watch.soft) != errInterrupted {
		t.Errorf("after one signal: soft %v, hard %v", context.Cause(watch.soft), watch.hard.Err())
	}
	signals <- os.Interrupt
	<-watch.hard.Done()
	if context.Cause(watch.hard) != errKilled {
		t.Errorf("after two signals: %v", context.Cause(watch.hard))
	}
}

func TestSignalsStop(t *testing.T) {
	t.Parallel()
	signals := make(chan os.Signal)
	close(signals)
	watch := watchSignals(t.Context(), signals)
	done := make(chan struct{})
	go func() { defer close(done); watch.stop() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("stop does not return")
	}
	if exitStatus(context.Cause(watch.soft)) != ExitAborted {
		t.Errorf("a stopped watch has the cause %v", context.Cause(watch.soft))
	}
}

// eachCommand visits all commands.
func eachCommand(t *testing.T, visit func(*cobra.Command)) {
	t.Helper()
	p, _, _ := testProcess(t)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		visit(cmd)
		for _, sub := range cmd.Commands() {
			if !sub.Hidden {
				walk(sub)
			}
		}
	}
	walk(newRoot(&env{Process: p, soft: t.Context(), hard: t.Context()}))
}

// TestHelp: every command says what it does, with two or three examples, and
// nothing is wider than a page.
func TestHelp(t *testing.T) {
	t.Parallel()
	eachCommand(t, func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.CommandPath())
		}
		if cmd.HasParent() && strings.Count(cmd.Example, "millrace ") < 2 {
			t.Errorf("%s has fewer than two examples", cmd.CommandPath())
		}
		for line := range strings.SplitSeq(cmd.Long+"\n"+cmd.Example, "\n") {
			if len(line) > 100 {
				t.Errorf("%s: a line of its help is %d wide: %s", cmd.CommandPath(), len(line), line)
			}
		}
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			if flag.Usage == "" {
				t.Errorf("%s: --%s has no help", cmd.CommandPath(), flag.Name)
			}
		})
	})
}

// TestDocument: docs/cli.md names every command and every flag.
func TestDocument(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	eachCommand(t, func(cmd *cobra.Command) {
		if !strings.Contains(text, cmd.Name()) {
			t.Errorf("docs/cli.md does not name %s", cmd.CommandPath())
		}
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			if cmd.HasParent() && !flag.Hidden && flag.Name != "help" && !strings.Contains(text, "`--"+flag.Name+"`") {
				t.Errorf("docs/cli.md does not name --%s of %s", flag.Name, cmd.CommandPath())
			}
		})
	})
	for _, status := range []int{ExitOK, ExitFailed, ExitUsage, ExitUnreachable, ExitAborted} {
		if !strings.Contains(text, fmt.Sprintf("| %d | ", status)) {
			t.Errorf("docs/cli.md does not explain exit status %d", status)
		}
	}
}

// TestUsage: mistakes in the command line end with status 2, name the mistake
// first and show the usage.
func TestUsage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"frobnicate"}, `unknown command "frobnicate"`},
		{[]string{"rum"}, `unknown command "rum"; did you mean run?`},
		{[]string{"run"}, "which function?"},
		{[]string{"run", "a", "b"}, `one function at a time, got "b" too`},
		{[]string{"run", "a", "--nothing"}, "unknown flag: --nothing"},
		{[]string{"run", "a", "-p", "x"}, `--param "x" must be NAME=VALUE`},
		{[]string{"run", "a", "--input", "=x"}, `--input "=x" must be NAME=VALUE`},
		{[]string{"run", "a", "--label", "x"}, `--label "x" must be NAME=VALUE`},
		{[]string{"run", "a", "--timeout", "3ms"}, `--timeout "3ms" must be a duration of at least a second`},
		{[]string{"run", "a", "--retry-delay", "3s"}, "--retry-delay has a meaning only with --retries"},
		{[]string{"get"}, `"millrace get" needs a KIND`},
		{[]string{"get", "pods"}, `there is no kind "pods"`},
		{[]string{"get", "runs", "--limit", "-1"}, "--limit -1 must not be negative"},
		{[]string{"get", "runs", "--limit", "x"}, "invalid argument"},
		{[]string{"get", "artifacts", "--category", "x"}, `--category "x" must be one of model, dataset, document, llm-prompt, other`},
		{[]string{"logs"}, `"millrace logs" needs one RUN`},
		{[]string{"logs", "a", "b"}, `takes one RUN and no more, got "b" too`},
		{[]string{"logs", "a", "--attempt", "-1"}, "--attempt -1"},
		{[]string{"abort"}, "needs at least one RUN"},
		{[]string{"doc"}, "needs one FUNCTION"},
		{[]string{"doc", "x", "-o", "xml"}, `-o "xml" must be text, json or yaml`},
		{[]string{"export", "x", "--format", "xml"}, `--format "xml" must be yaml or json`},
		{[]string{"import"}, "needs one PATH"},
		{[]string{"delete", "project", "x"}, `"project" cannot be deleted`},
		{[]string{"project"}, "needs one of create, list, get and delete"},
		{[]string{"project", "destroy"}, `unknown command "destroy"`},
		{[]string{"server", "x"}, "takes no argument"},
		{[]string{"server", "--backend", "moon"}, `--backend "moon"`},
		{[]string{"server", "--max-runs", "-1"}, "--max-runs -1"},
		{[]string{"exec"}, "--spool is required"},
		{[]string{"completion", "tcsh"}, `no completion for "tcsh"`},
		{[]string{"version", "-o", "table"}, `-o "table" must be json or yaml`},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			p, stdout, stderr := testProcess(t, test.args...)
			if code := Main(t.Context(), p, nil); code != ExitUsage {
				t.Errorf("exit status %d, want %d", code, ExitUsage)
			}
			first, rest, _ := strings.Cut(stderr.String(), "\n")
			if !strings.HasPrefix(first, "millrace: ") || !strings.Contains(first, test.want) {
				t.Errorf("it says %q, want %q", first, test.want)
			}
			if !strings.Contains(rest, "Usage:") {
				t.Errorf("there is no usage: %q", rest)
			}
			if stdout.Len() > 0 {
				t.Errorf("standard output has %q", stdout)
			}
		})
	}
}

// TestRefused: what can be refused without a system is.
func TestRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"run", "hub://describe"}, "functions from a hub are not to be had in this version"},
		{[]string{"run", "none.py"}, "none.py: there is no such file or folder"},
		{[]string{"run", "./none"}, "there is no such file or folder"},
		{[]string{"run", "p/f:v1", "-r", "pandas"}, "--requirement would change the stored function p/f:v1"},
		{[]string{"run", "p/f", "--", "x"}, "arguments after -- would change the stored function p/f"},
		{[]string{"run", "Bad_Project/f"}, "Bad_Project"},
		{[]string{"doc", "none.ipynb"}, "none.ipynb: there is no such file or folder"},
		{[]string{"import", "none.yaml"}, "none.yaml: there is no such file or folder"},
		{[]string{"get", "runs", "--server", "nonsense"}, "is not a URL such as"},
		{[]string{"get", "runs", "--token-file", "none", "--server", "http://127.0.0.1:1"}, "--token-file"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			p, stdout, stderr := testProcess(t, test.args...)
			if code := Main(t.Context(), p, nil); code != ExitFailed {
				t.Errorf("exit status %d, want %d", code, ExitFailed)
			}
			if got := stderr.String(); !strings.HasPrefix(got, "millrace: ") || !strings.Contains(got, test.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("it says %q, want one line with %q", got, test.want)
			}
			if stdout.Len() > 0 {
				t.Errorf("standard output has %q", stdout)
			}
		})
	}
}
