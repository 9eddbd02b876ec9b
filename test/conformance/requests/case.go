// Package requests holds what the API answers: cases as data, each a sequence of
// requests in a project of its own, and a runner that sends them to a server.
//
// A case knows nothing of the server but its address and, where the content of
// artifacts matters, the folder that it keeps them in, so the same files judge
// any server that speaks this API.
package requests

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Case is a sequence of steps. Texts in it may name {project} (its project),
// {files} (the folder of the project's artifacts) and what a step kept.
type Case struct {
	// Name says the situation; it is unique in its file and the name of the test.
	Name  string `yaml:"name"`
	Steps []Step `yaml:"steps"`

	topic string
}

// Step is one request with its answer, or one thing done to files (Write, There,
// Gone alone).
type Step struct {
	// Write makes files, by path below {files}, before the request is sent.
	Write map[string]string `yaml:"write"`
	// Send is "METHOD /path?query"; the path is sent as it stands.
	Send    string            `yaml:"send"`
	Headers map[string]string `yaml:"headers"`
	// Body is sent as JSON; Raw, instead of it, as it stands.
	Body any     `yaml:"body"`
	Raw  *string `yaml:"raw"`
	// Announce is the Content-Length of a body that ends before it.
	Announce int `yaml:"announce"`
	// Status of the answer; by default 200. -1 is any of 400 to 499.
	Status int `yaml:"status"`
	// Has is a part of the answer: of objects the members that are named, of all
	// else the whole. Lacks are dotted paths that are not there.
	Has   any      `yaml:"has"`
	Lacks []string `yaml:"lacks"`
	// Says and Hides are texts that the answer contains, and does not.
	Says  []string `yaml:"says"`
	Hides []string `yaml:"hides"`
	// List is the list of the answer.
	List *List `yaml:"list"`
	// Keep gives names to parts of the answer, by dotted path.
	Keep map[string]string `yaml:"keep"`
	// There and Gone are files, by path below {files}, after the request.
	There []string `yaml:"there"`
	Gone  []string `yaml:"gone"`
}

// List says what the items of a list are.
type List struct {
	// At is the dotted path of the list in the answer.
	At string `yaml:"at"`
	// Pick are dotted paths into an item; an item reads as their values with a blank between.
	Pick []string `yaml:"pick"`
	// Are the items, in any order unless Ordered.
	Are     []string `yaml:"are"`
	Ordered bool     `yaml:"ordered"`
}

// ID is the case's name with its topic, unique among all cases.
func (c *Case) ID() string { return c.topic + "/" + c.Name }

// Load reads all cases of the YAML files in fsys, by file and position. Unknown
// keys, duplicate names and steps that look at nothing are errors.
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
		decoder := yaml.NewDecoder(bytes.NewReader(data))
		decoder.KnownFields(true)
		if err := decoder.Decode(&list); err != nil {
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
	if c.Name == "" || len(c.Steps) == 0 {
		return errors.New("it has no name or no steps")
	}
	for i, step := range c.Steps {
		method, target, ok := strings.Cut(step.Send, " ")
		switch {
		case step.Send == "" && len(step.Write)+len(step.There)+len(step.Gone) == 0:
			return fmt.Errorf("step %d does nothing", i+1)
		case step.Send != "" && (!ok || method == "" || !strings.HasPrefix(target, "/")):
			return fmt.Errorf("step %d sends %q, which is not METHOD /path", i+1, step.Send)
		case step.Body != nil && step.Raw != nil:
			return fmt.Errorf("step %d has two bodies", i+1)
		}
	}
	return nil
}
