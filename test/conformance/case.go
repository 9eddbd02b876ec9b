// Package conformance holds what a function object does when it is run: cases
// as data, and a runner that gives each of them to a Target.
//
// A case is a function (a source file, or a function document with its code), a
// task (handler, parameters, inputs) and the outcome: state, results, labels,
// artifacts, log, exit status and the error sentence. A case knows nothing of
// how it is executed, so the same files judge every backend: a new backend is
// one more Target and no new case. What a backend cannot do by its nature is
// named in Case.Needs, and a target says which of those it offers.
package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Case is one function, one task and the outcome they must have.
type Case struct {
	// Name says the situation; it is unique in its file and the name of the test.
	Name string `yaml:"name"`
	// Files are written into the case's folder before the run, by relative path.
	// A first line "#!" makes a file executable.
	Files map[string]string `yaml:"files"`
	// Notebooks are files too; each is a list of cells.
	Notebooks map[string][]Cell `yaml:"notebooks"`
	// Function, when present, is written to function.yaml, which is then the source.
	Function *Function `yaml:"function"`
	// Source is what is run, relative to the folder. Default: function.yaml when
	// there is a Function, main.py otherwise.
	Source string `yaml:"source"`
	Task   Task   `yaml:"task"`
	// AbortWhenLog asks the target to abort the run as soon as its log contains this.
	AbortWhenLog string `yaml:"abort_when_log"`
	// Needs are abilities without which the case says nothing; see Target.Lacks.
	Needs  []string `yaml:"needs"`
	Expect Expect   `yaml:"expect"`

	topic string
}

// Cell is one cell of a notebook; exactly one of Code and Markdown is set.
type Cell struct {
	Code     string   `yaml:"code"`
	Markdown string   `yaml:"markdown"`
	Tags     []string `yaml:"tags"`
}

// Function is a function document without the parts every case would repeat.
type Function struct {
	Kind string         `yaml:"kind"`
	Spec map[string]any `yaml:"spec"`
	// Code becomes spec.build.functionSourceCode.
	Code string `yaml:"code"`
}

// Task is what one run asks of the function.
type Task struct {
	Kind         string            `yaml:"kind"`
	Handler      string            `yaml:"handler"`
	Params       map[string]any    `yaml:"params"`
	Inputs       map[string]string `yaml:"inputs"`
	Requirements []string          `yaml:"requirements"`
}

// Expect is the outcome. Absent fields are not looked at, but State or Refused
// is always there.
type Expect struct {
	// State is the run's last state.
	State string `yaml:"state"`
	// Refused, instead of State, says that no run may come to be; the sentence
	// shown to the user contains all of these.
	Refused []string `yaml:"refused"`
	// Exit is the exit status of the command that ran it; by default what State implies.
	Exit *int `yaml:"exit"`
	// Results must be there with these values; other results may be, too.
	Results map[string]any `yaml:"results"`
	// NoResults must not be there.
	NoResults   []string          `yaml:"no_results"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
	// Parameters are compared with spec.parameters as Results are.
	Parameters map[string]any `yaml:"parameters"`
	// Log has these parts, in any order, and LogLacks not.
	Log      []string `yaml:"log"`
	LogLacks []string `yaml:"log_lacks"`
	// LogBytes is the least size of the log.
	LogBytes int `yaml:"log_bytes"`
	// Error has these parts; a run that completes has no error at all.
	Error []string `yaml:"error"`
	// ErrorMax is the greatest length of the error in bytes.
	ErrorMax int `yaml:"error_max"`
	// Artifacts by key; the value is text that the stored content contains.
	Artifacts map[string]string `yaml:"artifacts"`
	// Children is the number of child runs in status.iterations.
	Children *int `yaml:"children"`
}

// exitOf is the documented exit status of a run that ended in state.
var exitOf = map[string]int{"completed": 0, "error": 1, "aborted": 130}

// Abilities that a case may need.
const (
	NeedsIndex   = "package-index" // a Python package index answers
	NeedsGo      = "go"            // a Go toolchain
	NeedsMemory  = "memory-limit"  // limits.memory is enforced
	NeedsPids    = "process-limit" // the number of processes is limited
	NeedsPython9 = "python3.9"     // that interpreter is there
)

func knownNeeds() []string {
	return []string{NeedsIndex, NeedsGo, NeedsMemory, NeedsPids, NeedsPython9}
}

// Load reads all cases of the YAML files in fsys, sorted by file and position.
// Unknown keys, duplicate names and cases that expect nothing are errors.
func Load(fsys fs.FS) ([]Case, error) {
	files, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		return nil, err
	}
	var cases []Case
	for _, file := range files {
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			return nil, err
		}
		var list []Case
		dec := yaml.NewDecoder(bytes.NewReader(data))
		dec.KnownFields(true)
		if err := dec.Decode(&list); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		seen := map[string]bool{}
		for _, c := range list {
			c.topic = strings.TrimSuffix(file, path.Ext(file))
			if err := c.validate(); err != nil {
				return nil, fmt.Errorf("%s: case %q: %w", file, c.Name, err)
			}
			if seen[c.Name] {
				return nil, fmt.Errorf("%s: two cases are called %q", file, c.Name)
			}
			seen[c.Name] = true
			cases = append(cases, c)
		}
	}
	return cases, nil
}

func (c *Case) validate() error {
	switch {
	case c.Name == "":
		return errors.New("it has no name")
	case c.Expect.State == "" && len(c.Expect.Refused) == 0:
		return errors.New("it expects neither a state nor a refusal")
	case c.Expect.State != "" && len(c.Expect.Refused) > 0:
		return errors.New("it expects a state and a refusal")
	}
	if c.Expect.State != "" {
		if _, ok := exitOf[c.Expect.State]; !ok {
			return fmt.Errorf("state %q is not the end of a run", c.Expect.State)
		}
	}
	for _, need := range c.Needs {
		if !slices.Contains(knownNeeds(), need) {
			return fmt.Errorf("needs %q, which is none of %s", need, strings.Join(knownNeeds(), ", "))
		}
	}
	if c.Source == "" {
		c.Source = "main.py"
		if c.Function != nil {
			c.Source = "function.yaml"
		}
	}
	return nil
}

// ID is the case's name with its topic, unique among all cases.
func (c *Case) ID() string { return c.topic + "/" + c.Name }

// in returns the case with "{dir}" in its parameters replaced by the folder that
// its files are in.
func (c Case) in(dir string) Case {
	params := map[string]any{}
	for key, value := range c.Task.Params {
		if text, ok := value.(string); ok {
			value = strings.ReplaceAll(text, "{dir}", dir)
		}
		params[key] = value
	}
	c.Task.Params = params
	return c
}

// Write lays out the case's files in dir.
func (c *Case) Write(dir string) error {
	files := map[string][]byte{}
	for name, text := range c.Files {
		files[name] = []byte(text)
	}
	for name, cells := range c.Notebooks {
		data, err := notebook(cells)
		if err != nil {
			return err
		}
		files[name] = data
	}
	if c.Function != nil {
		data, err := c.Function.document(c.topic + "-" + c.Name)
		if err != nil {
			return err
		}
		files["function.yaml"] = data
	}
	for name, data := range files {
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if bytes.HasPrefix(data, []byte("#!")) {
			mode = 0o755
		}
		if err := os.WriteFile(target, data, mode); err != nil {
			return err
		}
	}
	return nil
}

// document renders the function as the YAML that a user would write.
func (f *Function) document(name string) ([]byte, error) {
	spec := map[string]any{}
	for key, value := range f.Spec {
		spec[key] = value
	}
	if f.Code != "" {
		build, _ := spec["build"].(map[string]any)
		merged := map[string]any{"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(f.Code))}
		for key, value := range build {
			merged[key] = value
		}
		spec["build"] = merged
	}
	return yaml.Marshal(map[string]any{
		"kind":     f.Kind,
		"metadata": map[string]any{"name": slug(name)},
		"spec":     spec,
	})
}

// slug makes a function name of a case's name: at most 40 of a-z, 0-9 and "-".
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == 40 {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}

// notebook renders cells as a version 4 notebook.
func notebook(cells []Cell) ([]byte, error) {
	rendered := make([]map[string]any, 0, len(cells))
	for _, cell := range cells {
		meta := map[string]any{}
		if len(cell.Tags) > 0 {
			meta["tags"] = cell.Tags
		}
		if cell.Markdown != "" {
			rendered = append(rendered, map[string]any{
				"cell_type": "markdown", "metadata": meta, "source": strings.SplitAfter(cell.Markdown, "\n"),
			})
			continue
		}
		rendered = append(rendered, map[string]any{
			"cell_type": "code", "metadata": meta, "execution_count": nil, "outputs": []any{},
			"source": strings.SplitAfter(strings.TrimSuffix(cell.Code, "\n"), "\n"),
		})
	}
	return json.MarshalIndent(map[string]any{
		"cells":          rendered,
		"metadata":       map[string]any{"language_info": map[string]any{"name": "python"}},
		"nbformat":       4,
		"nbformat_minor": 5,
	}, "", " ")
}
