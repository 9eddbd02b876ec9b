package pycompare_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/code/pycompare"
	"github.com/millrace/millrace/internal/fault"
)

// interpreters are the Pythons of this machine, 3.9 or newer, one of each version.
func interpreters(t *testing.T) []string {
	t.Helper()
	candidates := []string{"python3"}
	if home, err := os.UserHomeDir(); err == nil {
		versions, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.*/bin/python3"))
		candidates = append(candidates, versions...)
	}
	var found, versions []string
	for _, candidate := range candidates {
		out, err := exec.Command(candidate, "-I", "-c", "import sys; assert sys.version_info >= (3, 9); print(sys.version_info[:2])").Output()
		if err == nil && !slices.Contains(versions, string(out)) {
			found, versions = append(found, candidate), append(versions, string(out))
		}
	}
	if len(found) == 0 {
		t.Skip("no Python of version 3.9 or newer")
	}
	if testing.Short() || len(found) == 1 {
		return found[:1]
	}
	return []string{found[0], found[len(found)-1]} // each comparison is a process
}

// TestPairs holds the verdicts to labelled edits: no behavioural one may be called
// cosmetic, and those that are labelled cosmetic are recognised.
func TestPairs(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/pairs.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split("\n"+string(data), "\n=== ")[1:]
	count := map[string]int{}
	for _, python := range interpreters(t) {
		comparer := pycompare.New(python)
		for _, c := range cases {
			title, text, _ := strings.Cut(c, "\n")
			label, name, ok := strings.Cut(title, ": ")
			a, b, ok2 := strings.Cut(text+"\n", "\n---\n")
			if !ok || !ok2 || label != "cosmetic" && label != "behavioural" {
				t.Fatalf("testdata/pairs.txt has %q", title)
			}
			count[label]++
			got, err := comparer.Compare(t.Context(), []byte(a+"\n"), []byte(b))
			if err != nil {
				t.Fatal(err)
			}
			if got.Same != (label == "cosmetic") {
				t.Errorf("%s with %s: same is %v (%s), the edit is %s", name, python, got.Same, got.Reason, label)
			}
		}
	}
	if count["cosmetic"] < 40 || count["behavioural"] < 90 {
		t.Errorf("there are only %v pairs", count)
	}
}

func TestHostile(t *testing.T) {
	t.Parallel()
	comparer := pycompare.New(interpreters(t)[0])
	deep := strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000)
	for name, source := range map[string]string{
		"deep": deep, "zeros": "x = 1\x00", "not UTF-8": "x = '\xff'", "chain": "x = " + strings.Repeat("-", 100000) + "1",
		"large number": "x = " + strings.Repeat("9", 10000),
	} {
		got, err := comparer.Compare(t.Context(), []byte(source), []byte(source+"  # more"))
		if err != nil && !fault.Is(err, fault.CodePrecondition) {
			t.Errorf("%s: %v", name, err)
		}
		if got.Same && name == "not UTF-8" {
			t.Errorf("%s: called the same", name)
		}
	}
	if _, err := pycompare.New("/no/such/python").Compare(t.Context(), []byte("a"), []byte("b")); !fault.Is(err, fault.CodePrecondition) {
		t.Errorf("without an interpreter: %v", err)
	}
	executed := filepath.Join(t.TempDir(), "executed")
	source := "open(" + "'" + executed + "', 'w')\n"
	if _, err := comparer.Compare(t.Context(), []byte(source), []byte(source+"# more\n")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(executed); err == nil {
		t.Error("the code was executed")
	}
}
