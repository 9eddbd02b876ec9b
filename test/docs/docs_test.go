// Package docs holds the documents to what the product does: every millrace
// command that README.md, docs/ or examples/ show exists, with the flags shown,
// and every path of the repository that they name is there.
package docs

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// documents returns the Markdown files that are for readers.
func documents(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md"}
	for _, dir := range []string{"docs", "examples", "benchmarks"} {
		err := filepath.WalkDir(filepath.Join(harness.Root(), dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".md") {
				relative, _ := filepath.Rel(harness.Root(), path)
				files = append(files, relative)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// shown is one command line that a document shows.
type shown struct {
	file string
	line int
	args []string
}

var (
	fence   = regexp.MustCompile("^\\s*```")
	command = regexp.MustCompile(`(?:^|\s)(?:\./)?(?:bin/)?millrace((?:\s+[^|;&#]+)?)`)
	word    = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// commands finds the millrace command lines in the code blocks of a document.
func commands(file, text string) []shown {
	var list []shown
	inside := false
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if fence.MatchString(lines[i]) {
			inside = !inside
			continue
		}
		line, at := strings.TrimPrefix(strings.TrimSpace(lines[i]), "$ "), i+1
		for strings.HasSuffix(line, `\`) && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(lines[i])
		}
		if !inside || !(strings.HasPrefix(line, "millrace ") || strings.Contains(line, "/millrace ")) {
			continue
		}
		if found := command.FindStringSubmatch(line); found != nil {
			list = append(list, shown{file: file, line: at, args: strings.Fields(found[1])})
		}
	}
	return list
}

func TestCommandsInDocumentsExist(t *testing.T) {
	binary := harness.Binary(t)
	count := 0
	help := map[string]string{}
	for _, file := range documents(t) {
		text, err := os.ReadFile(filepath.Join(harness.Root(), file))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, c := range commands(file, string(text)) {
			count++
			if len(c.args) == 0 || !word.MatchString(c.args[0]) {
				continue
			}
			// The command path is as many leading words as help knows.
			path := c.args[0]
			if _, ok := help[path]; !ok {
				out, err := exec.Command(binary, path, "--help").CombinedOutput()
				if err != nil || !strings.Contains(string(out), "millrace "+path) {
					t.Errorf("%s:%d shows `millrace %s`, which does not exist: %s", c.file, c.line, path, out)
					help[path] = ""
					continue
				}
				help[path] = string(out)
			}
			for _, arg := range c.args[1:] {
				flag, _, _ := strings.Cut(strings.Trim(arg, "[]…."), "=")
				if strings.HasPrefix(flag, "--") && len(flag) > 2 && help[path] != "" && !hasFlag(help[path], flag) {
					t.Errorf("%s:%d shows `millrace %s %s`, a flag that does not exist", c.file, c.line, path, flag)
				}
			}
		}
	}
	if count == 0 {
		t.Error("the documents show no millrace command at all")
	}
}

func hasFlag(help, flag string) bool {
	return slices.ContainsFunc(strings.Fields(help), func(w string) bool { return strings.Trim(w, ",[]") == flag })
}

var repositoryPath = regexp.MustCompile("`((?:cmd|internal|runtime|docs|examples|test|scripts|benchmarks)/[A-Za-z0-9_./-]*)`")

func TestPathsInDocumentsExist(t *testing.T) {
	for _, file := range documents(t) {
		text, err := os.ReadFile(filepath.Join(harness.Root(), file))
		if err != nil {
			t.Error(err)
			continue
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, found := range repositoryPath.FindAllStringSubmatch(line, -1) {
				if _, err := os.Stat(filepath.Join(harness.Root(), strings.TrimRight(found[1], "/."))); err != nil {
					t.Errorf("%s:%d names `%s`, which is not there", file, i+1, found[1])
				}
			}
		}
	}
}

func TestCommandsAreFound(t *testing.T) {
	t.Parallel()
	text := "text millrace nowhere\n```\n$ millrace run a.py \\\n    --handler h\n  bin/millrace get runs | head\n```\n"
	got := commands("x.md", text)
	if len(got) != 2 || strings.Join(got[0].args, " ") != "run a.py --handler h" || strings.Join(got[1].args, " ") != "get runs" {
		t.Errorf("found %+v", got)
	}
}
