// Package sdk runs the stock mlrun package, unmodified and from the package
// index, against a started server: the flows in flows/ are what its users do
// (spec: set_environment, projects, functions, local runs, jobs, lists), each
// with two releases of the package.
package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
	"github.com/millrace/millrace/test/pyenv"
)

// together is how many flows run at once, unless -parallel says. Most of a flow's
// time is the client waiting between its questions, so they are more than processors.
const together = "6"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", together); err != nil {
		panic(err)
	}
	harness.Main(m)
}

// release is a pinned release of the package and the interpreters it installs on.
type release struct {
	version string
	pythons []string
	// extra are packages that the flows use besides, and dependencies whose newest
	// release the pinned one cannot use.
	extra []string
	// hub are the libraries that the functions in flows/hub use, at versions it accepts.
	hub []string
}

// science are the libraries of a function's environment without the package.
var science = []string{
	"pandas==2.1.4", "numpy==1.26.4", "scikit-learn==1.5.2", "plotly==5.24.1", "pyarrow==17.0.0", "cloudpickle==2.2.1",
}

var releases = []release{
	{version: "1.12.1", pythons: []string{"3.11"}, extra: []string{"matplotlib==3.9.2", "plotly==5.24.1"}, hub: science},
	{
		version: "1.7.2", pythons: []string{"3.9", "3.10", "3.11"}, extra: []string{"matplotlib==3.9.2", "plotly==5.24.1"},
		hub: []string{"scikit-learn==1.5.2", "plotly==5.24.1"},
	},
}

// flows are the modules in flows/, each in projects of its own, so that those of
// one server run side by side. Those with inside execute code that imports mlrun in
// the server's runs, so the server's default interpreter must have it.
var flows = []struct {
	module string
	inside bool
}{
	{module: "flow_inside", inside: true},
	{module: "flow_deploy"},
	{module: "flow_iterations"},
	{module: "flow_remote_jobs"},
	{module: "flow_jobs"},
	{module: "flow_artifact_kinds", inside: true},
	{module: "flow_artifacts", inside: true},
	{module: "flow_artifact_records"},
	{module: "flow_same_objects"},
	{module: "flow_local_runs"},
	{module: "flow_gateways"},
	{module: "flow_functions"},
	{module: "flow_projects"},
	{module: "flow_lists"},
	{module: "flow_connect"},
}

const (
	installTime = 20 * time.Minute
	flowTime    = 15 * time.Minute
)

func TestSDK(t *testing.T) {
	t.Parallel()
	for _, release := range releases {
		t.Run(release.version, func(t *testing.T) {
			t.Parallel()
			python := install(t, release)
			plain := harness.StartServer(t)
			inside := harness.StartServer(t, "--python", python)
			for _, flow := range flows {
				t.Run(flow.module, func(t *testing.T) {
					t.Parallel()
					server := plain
					if flow.inside {
						server = inside
					}
					run(t, python, flow.module, server)
				})
			}
		})
	}
}

// TestHub runs functions of the public style by a server whose interpreter has
// the package and by one whose interpreter has not, and compares.
func TestHub(t *testing.T) {
	t.Parallel()
	bare := install(t, release{pythons: []string{"3.11"}, extra: science})
	facade := harness.StartServer(t, "--python", bare)
	for _, r := range releases {
		t.Run(r.version, func(t *testing.T) {
			t.Parallel()
			r.extra = append(r.extra, r.hub...)
			python := install(t, r)
			server := harness.StartServer(t, "--python", python)
			for _, flow := range []string{"flow_hub", "flow_hub_more"} {
				t.Run(flow, func(t *testing.T) {
					t.Parallel()
					run(t, python, flow, server, "MILLRACE_FACADE_URL="+facade.URL)
				})
			}
		})
	}
}

// install returns the Python of an environment with the release, or with its
// extra packages alone if it has no version. Only a machine
// without a package index, or without a fitting interpreter, may skip.
func install(t *testing.T, r release) string {
	t.Helper()
	python, ok := pyenv.Find(r.pythons...)
	if !ok {
		harness.Skip(t, "mlrun %s needs Python %s, and none of them is here", r.version, strings.Join(r.pythons, " or "))
	}
	ctx, cancel := context.WithTimeout(t.Context(), installTime)
	defer cancel()
	packages := slices.Clone(r.extra)
	if r.version != "" {
		packages = append([]string{"mlrun==" + r.version}, packages...)
	}
	bin, err := pyenv.Venv(ctx, python, packages...)
	if err == nil {
		return bin
	}
	if ok, said := pyenv.IndexAnswers(t.Context(), python); !ok {
		harness.Skip(t, "no package index answers: %s", said)
	}
	t.Fatalf("mlrun %s does not install: %v", r.version, err)
	return ""
}

// record is one line of what flows/flow.py reports.
type record struct {
	Test    string `json:"test"`
	Outcome string `json:"outcome"` // pass, fail or skip
	Text    string `json:"text"`
}

// run executes one flow module and turns each of its tests into a subtest.
func run(t *testing.T, python, module string, server *harness.Server, env ...string) {
	ctx, cancel := context.WithTimeout(t.Context(), flowTime)
	defer cancel()
	reports, reporter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reports.Close()
	work := t.TempDir()
	cmd := exec.CommandContext(ctx, python, "-W", "ignore", filepath.Join(harness.Root(), "test", "sdk", "flows", "flow.py"), module)
	cmd.Dir = work
	cmd.Env = append(os.Environ(),
		"MILLRACE_URL="+server.URL, "MILLRACE_BINARY="+harness.Binary(t), "MILLRACE_DATA_DIR="+filepath.Join(work, "data"),
		"HOME="+work, "PYTHONDONTWRITEBYTECODE=1", "MLRUN_DBPATH=")
	cmd.Env = append(cmd.Env, env...)
	cmd.ExtraFiles = []*os.File{reporter}
	cmd.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(errors.Join(err, reporter.Close()))
	}
	_ = reporter.Close()
	count, failed := 0, 0
	lines := bufio.NewScanner(reports)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("report %q: %v", lines.Text(), err)
		}
		count++
		t.Run(r.Test, func(t *testing.T) {
			switch r.Outcome {
			case "pass":
			case "skip":
				harness.Skip(t, "%s", r.Text)
			default:
				failed++
				t.Error(r.Text)
			}
		})
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		t.Errorf("the flow was not over after %v", flowTime)
	}
	if count == 0 {
		t.Error("the flow ran no test")
	}
	if err != nil && failed == 0 {
		t.Errorf("the flow ended with %v without a failed test", err)
	}
	if t.Failed() {
		text := output.String()
		if len(text) > 30000 {
			text = "[…] " + text[len(text)-30000:]
		}
		t.Logf("what the flow printed:\n%s", text)
	}
}
