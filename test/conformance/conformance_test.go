package conformance

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
	"github.com/millrace/millrace/test/pyenv"
)

func TestMain(m *testing.M) { harness.Main(m) }

// caseTime is how long one case may take, an environment build included.
const caseTime = 3 * time.Minute

func load(t *testing.T) []Case {
	t.Helper()
	cases, err := Load(os.DirFS("cases"))
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestThereAreEnoughCases(t *testing.T) {
	t.Parallel()
	if n := len(load(t)); n < 60 {
		t.Errorf("there are %d cases, want at least 60", n)
	}
}

// TestInProcess runs all cases through `millrace run` without a server.
func TestInProcess(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	judge(t, &CLI{
		Binary:        harness.Binary(t),
		Environment:   []string{"MILLRACE_DATA_DIR=" + data, "MILLRACE_URL="},
		AbortBySignal: true,
		Missing:       missing(t),
	})
}

// TestServer runs the same cases through a server.
func TestServer(t *testing.T) {
	t.Parallel()
	server := harness.StartServer(t)
	judge(t, &CLI{
		Binary: harness.Binary(t),
		// A data folder of its own: nothing may be read past the server.
		Environment: []string{"MILLRACE_URL=" + server.URL, "MILLRACE_DATA_DIR=" + t.TempDir()},
		Missing:     missing(t),
	})
}

func judge(t *testing.T, target Target) {
	for _, c := range load(t) {
		t.Run(c.ID(), func(t *testing.T) {
			t.Parallel()
			for _, need := range c.Needs {
				if why := target.Lacks(need); why != "" {
					harness.Skip(t, "this case needs %s: %s", need, why)
				}
			}
			dir := t.TempDir()
			if err := c.Write(dir); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), caseTime)
			defer cancel()
			got, err := target.Run(ctx, c.in(dir), dir)
			if err != nil {
				t.Fatal(err)
			}
			differences := Check(c.in(dir), got)
			for _, difference := range differences {
				t.Error(difference)
			}
			if len(differences) > 0 {
				t.Logf("the log of the run: %s", short(string(got.Log)))
			}
		})
	}
}

// missing finds what this machine does not offer.
func missing(t *testing.T) map[string]string {
	t.Helper()
	lacks := map[string]string{}
	if _, err := exec.LookPath("go"); err != nil {
		lacks[NeedsGo] = "there is no go command"
	}
	if _, ok := pyenv.Find("3.9"); !ok {
		lacks[NeedsPython9] = "there is no Python 3.9"
	}
	all := pyenv.Interpreters()
	if len(all) == 0 {
		lacks[NeedsIndex] = "there is no Python"
	} else if ok, said := pyenv.IndexAnswers(t.Context(), all[len(all)-1]); !ok {
		lacks[NeedsIndex] = "no package index answers: " + strings.TrimSpace(said)
	}
	return lacks
}
