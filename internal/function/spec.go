package function

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// EnvSecret is one entry of spec.env whose value is a secret (valueFrom.secretKeyRef).
type EnvSecret struct {
	Name     string // of the variable
	Secret   string // secretKeyRef.name: a group of secrets, "" for the project's own
	Key      string
	Optional bool // a missing secret is no error
}

// EnvVar is one entry of spec.env that has a plain value.
type EnvVar struct{ Name, Value string }

// Spec is the typed view of the fields of spec that execution needs. It is a
// copy: changing it does not change the function.
type Spec struct {
	Command         string
	Args            []string
	Image           string
	Mode            string // "" or "pass"
	Workdir         string
	DefaultHandler  string
	PythonPath      string            // ':'-separated
	PythonVersion   string            // our own field python_version, such as "3.11"; "" means any
	Language        string            // "python", "go", "shell", …; see Function.Language
	Env             []EnvVar          // entries with valueFrom are left out
	EnvSecrets      []EnvSecret       // those with valueFrom.secretKeyRef
	Requests        map[string]string // spec.resources.requests: cpu, memory, nvidia.com/gpu, …
	Limits          map[string]string
	Thresholds      map[string]string // spec.state_thresholds; values are durations, see ParseThreshold
	Retry           Retry
	Code            []byte // the embedded code decoded, nil when absent
	OriginFilename  string
	Source          string // spec.build.source
	LoadSourceOnRun bool
	Requirements    []string // cleaned; see CleanRequirements
	Commands        []string
	BaseImage       string
}

// ModePass is the one value of spec.mode besides "": the command is an argv to
// execute as it is.
const ModePass = "pass"

// LanguageGo and its siblings are values of spec.language.
const (
	LanguagePython = "python"
	LanguageGo     = "go"
	LanguageShell  = "shell"
)

// Spec reads the typed view. Errors carry fault.CodeInvalid and name the field.
func (f *Function) Spec() (Spec, error) {
	r := reader{object: document.Map(f.Doc, "spec")}
	s := Spec{
		Command:        r.text("command"),
		Args:           r.texts("args"),
		Image:          r.text("image"),
		Mode:           r.text("mode"),
		Workdir:        r.text("workdir"),
		DefaultHandler: r.text("default_handler"),
		PythonPath:     r.text("pythonpath"),
		PythonVersion:  r.scalar("python_version"),
		Language:       f.Language(),
		Env:            r.env(),
		EnvSecrets:     r.envSecrets(),
		Requests:       r.scalars("resources", "requests"),
		Limits:         r.scalars("resources", "limits"),
		Thresholds:     r.scalars("state_thresholds"),
		OriginFilename: r.text("build", "origin_filename"),
		Source:         r.text("build", "source"),
		BaseImage:      r.text("build", "base_image"),
		Commands:       r.texts("build", "commands"),
		Requirements:   CleanRequirements(r.texts("build", "requirements")),
	}
	s.LoadSourceOnRun = r.flag("build", "load_source_on_run")
	s.Code = r.code("build", "functionSourceCode")
	if s.Code == nil && f.Kind().Nuclio() { // how older clients keep it
		s.Code = r.code("base_spec", "spec", "build", "functionSourceCode")
	}
	if retry := want[document.Object](&r, "retry"); r.err == nil {
		s.Retry, r.err = ParseRetry(retry)
	}
	return s, r.err
}

// Language returns the language of the function's code: spec.language, else
// spec.nuclio_runtime, else what the name of the file it came from says;
// LanguagePython when nothing says anything.
func (f *Function) Language() string {
	for _, key := range []string{"language", "nuclio_runtime"} {
		switch name := document.String(f.Doc, "spec", key); {
		case name == "":
		case name == "golang":
			return LanguageGo
		case strings.HasPrefix(name, "python"):
			return LanguagePython
		default:
			return name
		}
	}
	switch path.Ext(document.String(f.Doc, "spec", "build", "origin_filename")) {
	case ".go":
		return LanguageGo
	case ".sh", ".bash":
		return LanguageShell
	default:
		return LanguagePython
	}
}

// Validate checks the kind and the types of all modelled fields; see Parse.
func (f *Function) Validate() error {
	kind, err := document.Want[string](f.Doc, "kind")
	if err != nil {
		return err
	}
	if err := Kind(kind).check(); err != nil {
		return err
	}
	top := reader{object: f.Doc}
	for _, key := range []string{"name", "project", "tag", "hash", "namespace"} {
		top.text("metadata", key)
	}
	top.scalars("metadata", "labels")
	for _, path := range [][]string{{"metadata", "annotations"}, {"metadata", "credentials"}, {"status"}, {"spec", "entry_points"}, {"spec", "config"}, {"spec", "base_spec"}, {"spec", "node_selector"}} {
		want[document.Object](&top, path...)
	}
	top.texts("metadata", "categories")
	for _, key := range []string{"volumes", "volume_mounts", "tolerations"} {
		want[[]any](&top, "spec", key)
	}
	top.flag("verbose")
	top.text("spec", "description")
	if top.err != nil {
		return top.err
	}
	if name := f.Name(); name != "" {
		if err := ValidateName("metadata.name", name); err != nil {
			return err
		}
	}
	_, err = f.Spec()
	return err
}

// Check examines the values that a run of the function depends on: mode,
// quantities, durations, retries and the Python version. Errors carry
// fault.CodeInvalid and name the field.
func (s Spec) Check() error {
	if s.Mode != "" && s.Mode != ModePass {
		return fault.Invalid("spec.mode %q is not known; leave it out or use %q", cut(s.Mode), ModePass)
	}
	if _, err := s.ResourceRequests(); err != nil {
		return err
	}
	if _, err := s.ResourceLimits(); err != nil {
		return err
	}
	for _, state := range sortedKeys(s.Thresholds) {
		if _, err := ParseThreshold(s.Thresholds[state]); err != nil {
			return fault.Invalid("spec.state_thresholds.%s: %w", state, err)
		}
		if !slices.Contains(ThresholdStates(), state) {
			return fault.Invalid("spec.state_thresholds has no state %q; use one of %s", cut(state), strings.Join(ThresholdStates(), ", "))
		}
	}
	if _, err := s.Retry.Delay(1); err != nil {
		return err
	}
	if s.PythonVersion != "" && !versionPattern.MatchString(s.PythonVersion) {
		return fault.Invalid("spec.python_version %q is not a version such as 3.11, 3.11.4 or, for free-threaded Python, 3.14t", cut(s.PythonVersion))
	}
	return nil
}

// CleanRequirements reads pip lines as a requirements file has them: white space
// around, blank lines, comment lines, " #" comments and repetitions are dropped.
func CleanRequirements(lines []string) []string {
	var out []string
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " #")
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' && !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

func encodeCode(source []byte) string { return base64.StdEncoding.EncodeToString(source) }

// reader reads typed fields of an object and keeps the first error.
type reader struct {
	object document.Object
	err    error
}

// field names a path for messages; the metadata and spec readers differ only in
// their root.
func (r *reader) fail(path []string, format string, args ...any) {
	if r.err == nil {
		name := strings.Join(path, ".")
		if _, whole := r.object["metadata"]; !whole {
			name = "spec." + name
		}
		r.err = fault.Invalid("%s %s", name, fmt.Sprintf(format, args...))
	}
}

// want reads the value at path as T; null counts as absent, also on the way. A
// value of another type on the way is reported under its own path.
func want[T any](r *reader, path ...string) T {
	var zero T
	var value any = r.object
	for i, key := range path {
		if value == nil {
			return zero
		}
		object, ok := value.(document.Object)
		if !ok {
			r.fail(path[:i], "must be an object, got %s", document.TypeName(value))
			return zero
		}
		value = object[key]
	}
	if value == nil {
		return zero
	}
	typed, ok := value.(T)
	if !ok {
		r.fail(path, "must be %s, got %s", typeName[T](), document.TypeName(value))
	}
	return typed
}

func typeName[T any]() string {
	switch any(*new(T)).(type) {
	case string:
		return "a string"
	case bool:
		return "true or false"
	case document.Object:
		return "an object"
	default:
		return "a list"
	}
}

func (r *reader) text(path ...string) string { return want[string](r, path...) }

func (r *reader) flag(path ...string) bool { return want[bool](r, path...) }

// scalar reads a string where a bare number is as good, for it is what YAML makes
// of 3.11; the literal is kept.
func (r *reader) scalar(path ...string) string {
	value := want[any](r, path...)
	text, ok := scalarText(value)
	if !ok {
		r.fail(path, "must be a string, got %s", document.TypeName(value))
	}
	return text
}

func scalarText(value any) (string, bool) {
	switch v := value.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case json.Number:
		return string(v), true
	case int, int64, float64:
		return string(document.Encode(v)), true
	}
	return "", false
}

// texts reads a list of strings; numbers in it count as their literal.
func (r *reader) texts(path ...string) []string {
	value := want[any](r, path...)
	list, ok := value.([]any)
	if !ok && value != nil {
		if _, single := value.(string); single {
			r.fail(path, "must be a list of strings, got a string; write it as [%q]", cut(value.(string)))
		} else {
			r.fail(path, "must be a list of strings, got %s", document.TypeName(value))
		}
		return nil
	}
	var out []string
	for i, item := range list {
		text, ok := scalarText(item)
		if !ok || item == nil {
			r.fail(path, "must be a list of strings, got %s at position %d", document.TypeName(item), i)
			return nil
		}
		out = append(out, text)
	}
	return out
}

// scalars reads an object of strings; entries that are null or empty are dropped.
func (r *reader) scalars(path ...string) map[string]string {
	object := want[document.Object](r, path...)
	out := make(map[string]string, len(object))
	for _, key := range sortedKeys(object) {
		text, ok := scalarText(object[key])
		if !ok {
			r.fail(append(slices.Clone(path), key), "must be a string, got %s", document.TypeName(object[key]))
			return nil
		}
		if text != "" || path[len(path)-1] == "labels" {
			out[key] = text
		}
	}
	return out
}

func (r *reader) env() []EnvVar {
	var out []EnvVar
	for i, item := range want[[]any](r, "env") {
		at := []string{fmt.Sprintf("env[%d]", i)}
		entry, ok := item.(document.Object)
		if !ok {
			r.fail(at, "must be an object {name, value}, got %s", document.TypeName(item))
			return nil
		}
		name, ok := entry["name"].(string)
		if !ok || name == "" || strings.ContainsAny(name, "=\x00") {
			r.fail(at, "needs a name: a string that is not empty and has no '='")
			return nil
		}
		if entry["valueFrom"] != nil || entry["value_from"] != nil {
			continue
		}
		value, ok := scalarText(entry["value"])
		if !ok || strings.Contains(value, "\x00") {
			r.fail(at, "(%s) must have a string as its value, got %s; put it in quotes", cut(name), document.TypeName(entry["value"]))
			return nil
		}
		variable := EnvVar{Name: name, Value: value}
		if at := slices.IndexFunc(out, func(v EnvVar) bool { return v.Name == name }); at >= 0 {
			out[at] = variable
		} else {
			out = append(out, variable)
		}
	}
	return out
}

// envSecrets reads the entries of env that name a secret.
func (r *reader) envSecrets() []EnvSecret {
	var out []EnvSecret
	for i, item := range want[[]any](r, "env") {
		entry, _ := item.(document.Object)
		ref := document.Map(entry, "valueFrom", "secretKeyRef")
		if ref == nil {
			ref = document.Map(entry, "value_from", "secret_key_ref")
		}
		if ref == nil {
			continue
		}
		found := EnvSecret{Name: document.String(entry, "name"), Secret: document.String(ref, "name"), Key: document.String(ref, "key"), Optional: document.Bool(ref, "optional")}
		if found.Key == "" {
			r.fail([]string{fmt.Sprintf("env[%d]", i)}, "(%s) needs valueFrom.secretKeyRef.key: the name of the secret", cut(found.Name))
			return nil
		}
		out = append(out, found)
	}
	return out
}

// code decodes base64 in the standard alphabet; line breaks and missing padding,
// which other tools produce and accept, are no error.
func (r *reader) code(path ...string) []byte {
	text := r.text(path...)
	if text == "" {
		return nil
	}
	text = strings.TrimRight(strings.Join(strings.Fields(text), ""), "=")
	code, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		r.fail(path, "is not base64: %v", err)
		return nil
	}
	return code
}
