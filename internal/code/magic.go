package code

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// magicConfig collects what the %nuclio magics of a notebook ask for.
type magicConfig struct {
	ref      string
	getenv   func(string) string
	document document.Object // set by %nuclio config, in the shape of a Nuclio function
	commands []any
	env      [][2]string
	volumes  []any
	mounts   []any
}

var (
	cellMagic     = lazyregexp.New(`\A[ \t]*%%(\w+)`)
	commentMagic  = lazyregexp.New(`\A[ \t]*#.*%nuclio`)
	commentLine   = lazyregexp.New(`\A[ \t]*#`)
	keepComment   = lazyregexp.New(`\A[ \t]*#[ \t]*(?:nuclio|mlrun):`)
	shellLine     = lazyregexp.New(`\A([ \t]+)!([^=].*)\z`)
	shellAssign   = lazyregexp.New(`\A([ \t]*[\w., \t\[\]'"]+=[ \t]*)!(.*)\z`)
	droppedLine   = lazyregexp.New(`\A(?:!(?:[^=]|\z)|%(?:[\w%]|\z))`) // not "!=" or "% x", which go on with an expression
	magicAssign   = lazyregexp.New(`\A([ \t]*[\w., \t\[\]'"]+=[ \t]*)%(\w+)[ \t]*(.*)\z`)
	helpLine      = lazyregexp.New(`\A([ \t]*)(?:\?\??([\w.*]+)|([\w.*]+)\?\??)[ \t]*\z`)
	returnMark    = lazyregexp.New(`#[ \t]*nuclio:[ \t]*return`)
	configPattern = lazyregexp.New(`\A([^\s=+]+)\s*(\+?=)\s*(.+)\z`)
)

// otherLanguage are the cell magics whose body is not Python.
var otherLanguage = []string{"bash", "sh", "script", "cmd", "html", "HTML", "javascript", "js", "latex", "markdown", "svg", "SVG", "perl", "ruby", "sql", "R", "julia"}

// magics takes the magics and shell lines out of a cell and returns its Python.
func (m *magicConfig) magics(c cell) (piece, error) {
	p := piece{cell: c.number}
	inside := insideString(c.lines)
	nuclio := false
	for i, line := range c.lines {
		at := func(err error) error { return fault.Invalid("%s: cell %d, line %d: %w", m.ref, c.number, i+1, err) }
		switch {
		case strings.HasPrefix(strings.TrimLeft(line, " \t"), "%%nuclio") && !inside[i]:
			rest := strings.TrimLeft(line, " \t")
			return m.cellMagic(piece{cell: c.number, lines: c.lines[i:], numbers: numbers(i+1, len(c.lines))}, strings.TrimPrefix(rest, "%%nuclio"))
		case strings.Contains(line, "%nuclio") && !inside[i]:
			if commentMagic.MatchString(line) {
				continue
			}
			if !strings.HasPrefix(line, "%nuclio") {
				return p, at(fault.Invalid("%%nuclio must stand at the beginning of its line"))
			}
			if err := m.line(strings.TrimPrefix(line, "%nuclio")); err != nil {
				return p, at(err)
			}
			nuclio = true
		default:
			p.lines, p.numbers = append(p.lines, line), append(p.numbers, i+1)
		}
	}
	return plainMagics(p, nuclio), nil
}

func numbers(from, to int) []int {
	var out []int
	for ; from <= to; from++ {
		out = append(out, from)
	}
	return out
}

// plainMagics handles what is not %nuclio: shell lines and magics of IPython. In a
// cell that had %nuclio lines comments go too, but not annotations.
func plainMagics(p piece, nuclio bool) piece {
	out := piece{cell: p.cell}
	inside := insideString(p.lines)
	code := false // a line of code was seen
	for i, line := range p.lines {
		keep := func(line string) {
			out.lines, out.numbers = append(out.lines, line), append(out.numbers, p.numbers[i])
		}
		if inside[i] {
			keep(line)
			continue
		}
		if m := cellMagic.FindStringSubmatch(line); m != nil && !code {
			if slices.Contains(otherLanguage, m[1]) {
				return piece{cell: p.cell}
			}
			continue
		}
		if strings.TrimSpace(line) != "" && !commentLine.MatchString(line) {
			code = true
		}
		switch {
		case droppedLine.MatchString(line):
		case nuclio && commentLine.MatchString(line) && !keepComment.MatchString(line):
		default:
			keep(ipython(line))
		}
	}
	return out
}

// ipython rewrites the syntax that only IPython knows as IPython itself does. Such
// a line fails when it is reached outside IPython; the rest of the code works.
func ipython(line string) string {
	const shell = "get_ipython()"
	if m := shellLine.FindStringSubmatch(line); m != nil {
		return m[1] + shell + ".system(" + quotePython(m[2]) + ")"
	}
	if m := shellAssign.FindStringSubmatch(line); m != nil {
		return m[1] + shell + ".getoutput(" + quotePython(m[2]) + ")"
	}
	if m := magicAssign.FindStringSubmatch(line); m != nil {
		return m[1] + shell + ".run_line_magic(" + quotePython(m[2]) + ", " + quotePython(m[3]) + ")"
	}
	if m := helpLine.FindStringSubmatch(line); m != nil {
		return m[1] + shell + `.run_line_magic("pinfo", ` + quotePython(m[2]+m[3]) + ")"
	}
	return line
}

// cellMagic handles a cell from its %%nuclio line on.
func (m *magicConfig) cellMagic(p piece, header string) (piece, error) {
	none := piece{cell: p.cell}
	word, flags, rest := splitMagic(header)
	at := func(i int, err error) error {
		return fault.Invalid("%s: cell %d, line %d: %w", m.ref, p.cell, p.numbers[i], err)
	}
	switch word {
	case "verbose":
		return none, nil
	case "handler":
		return wrapHandler(p.slice(1, len(p.lines)), rest), nil
	case "cmd", "env", "env_file", "config", "mount", "add", "build", "deploy", "help", "show":
	default:
		return none, at(0, fault.Invalid("%%%%nuclio %s is not known; use cmd, env, env_file, config or mount", word))
	}
	for i, line := range p.lines[1:] {
		text := strings.TrimSpace(line)
		if text == "" || text[0] == '#' {
			continue
		}
		if err := m.command(word, flags, text); err != nil {
			return none, at(i+1, err)
		}
	}
	return none, nil
}

func (m *magicConfig) line(text string) error {
	word, flags, rest := splitMagic(text)
	return m.command(word, flags, rest)
}

// splitMagic takes "cmd -c pip install x" apart.
func splitMagic(text string) (word string, flags []string, rest string) {
	word, rest, _ = strings.Cut(strings.TrimSpace(text), " ")
	rest = strings.TrimSpace(rest)
	if word == "config" {
		return word, nil, rest
	}
	for _, known := range []string{"--config-only", "--local-only", "-c", "-l"} {
		if after, ok := strings.CutPrefix(rest, known); ok && (after == "" || after[0] == ' ') {
			flags, rest = append(flags, known), strings.TrimSpace(after)
		}
	}
	return word, flags, rest
}

// command handles one magic of the given word.
func (m *magicConfig) command(word string, flags []string, text string) error {
	local := slices.Contains(flags, "-l") || slices.Contains(flags, "--local-only")
	switch word {
	case "cmd":
		if text != "" && !local {
			m.commands = append(m.commands, m.expand(text))
		}
	case "env":
		if !local {
			return m.setEnv(text)
		}
	case "env_file":
		return m.envFile(text)
	case "config":
		return m.config(text)
	case "mount":
		return m.mount(text)
	case "add", "build", "deploy", "help", "show":
	default:
		return fault.Invalid("%%nuclio %s is not known; use cmd, env, env_file, config or mount", word)
	}
	return nil
}

var variablePattern = lazyregexp.New(`\$(?:(\w+)|\{([^}]*)\})`)

// expand fills environment variables that are set; the others stay as written.
func (m *magicConfig) expand(text string) string {
	if m.getenv == nil {
		return text
	}
	return variablePattern.ReplaceAllStringFunc(text, func(match string) string {
		if value := m.getenv(strings.Trim(match, "${}")); value != "" {
			return value
		}
		return match
	})
}

func (m *magicConfig) setEnv(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if key = strings.TrimSpace(key); !ok || key == "" {
		return fault.Invalid("%q is not KEY=VALUE", text)
	}
	pair := [2]string{key, strings.TrimSpace(value)}
	if at := slices.IndexFunc(m.env, func(other [2]string) bool { return other[0] == key }); at >= 0 {
		m.env[at] = pair
	} else {
		m.env = append(m.env, pair)
	}
	return nil
}

// envFile reads KEY=VALUE lines of a file beside the notebook.
func (m *magicConfig) envFile(name string) error {
	if name == "" {
		return fault.Invalid("env_file needs the path of a file")
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(m.ref), name)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return fault.Invalid("env_file %s cannot be read: %w", name, err)
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			if err := m.setEnv(line); err != nil {
				return fault.Invalid("env_file %s: %w", name, err)
			}
		}
	}
	return nil
}

// config handles path = value and path += value.
func (m *magicConfig) config(text string) error {
	parts := configPattern.FindStringSubmatch(text)
	if parts == nil {
		return fault.Invalid("%q is not PATH = VALUE", text)
	}
	value, err := document.Decode([]byte(parts[3]))
	if err != nil {
		return fault.Invalid("the value of %s must be JSON (a string in double quotes): %w", parts[1], err)
	}
	if m.document == nil {
		m.document = document.Object{}
	}
	path := strings.Split(parts[1], ".")
	if parts[2] == "+=" {
		if value, err = added(document.Get(m.document, path...), value); err != nil {
			return fault.Invalid("%s += %s: %w", parts[1], parts[3], err)
		}
	}
	document.Set(m.document, value, path...)
	return nil
}

func added(old, value any) (any, error) {
	switch v := old.(type) {
	case nil:
		if _, list := value.([]any); list {
			return value, nil
		}
		return []any{value}, nil
	case []any:
		if list, ok := value.([]any); ok {
			return append(slices.Clone(v), list...), nil
		}
		return append(slices.Clone(v), value), nil
	case string:
		if s, ok := value.(string); ok {
			return v + s, nil
		}
	case json.Number:
		a, okA := document.ToInt(v)
		if b, okB := document.ToInt(value); okA && okB {
			return a + b, nil
		}
	}
	return nil, fault.Invalid("%s cannot be added to %s", document.TypeName(value), document.TypeName(old))
}

// mount handles "<local> <remote> [--type pvc|secret|configMap]".
func (m *magicConfig) mount(text string) error {
	words, kind := strings.Fields(text), "v3io"
	if at := slices.Index(words, "--type"); at >= 0 && at+1 < len(words) {
		kind = words[at+1]
		words = slices.Delete(words, at, at+2)
	}
	if len(words) != 2 {
		return fault.Invalid("mount needs a source and a path: mount NAME PATH --type pvc")
	}
	source := document.Object{}
	switch kind {
	case "pvc":
		source["persistentVolumeClaim"] = document.Object{"claimName": words[0]}
	case "secret":
		source["secret"] = document.Object{"secretName": words[0]}
	case "configMap":
		source["configMap"] = document.Object{"name": words[0]}
	default:
		return fault.Invalid("mounts of type %s are not supported; use --type pvc, secret or configMap", kind)
	}
	source["name"] = "vol-" + function.NormalizeName(strings.Map(func(r rune) rune {
		if r == '/' || r == '.' {
			return '-'
		}
		return r
	}, words[0]))
	m.volumes = append(m.volumes, source)
	m.mounts = append(m.mounts, document.Object{"name": source["name"], "mountPath": words[1]})
	return nil
}

// kind is the kind that the notebook asks for, "" when it says nothing.
func (m *magicConfig) kind() function.Kind {
	return function.Kind(strings.ToLower(document.String(m.document, "kind")))
}

// fields are the paths of a Nuclio configuration that a function takes over.
var fields = []struct{ from, to string }{
	{"spec.image", "image"}, {"spec.description", "description"},
	{"spec.build.baseImage", "build.base_image"}, {"spec.build.image", "build.image"}, {"spec.build.secret", "build.secret"},
	{"spec.build.commands", "build.commands"}, {"spec.build.extra", "build.extra"}, {"spec.build.extra_args", "build.extra_args"},
	{"spec.build.builder_env", "build.builder_env"}, {"spec.build.requirements", "build.requirements"}, {"spec.env", "env"},
	{"spec.resources", "resources"},
}

// apply writes what was collected into f.
func (m *magicConfig) apply(f *function.Function) error {
	for _, field := range fields {
		if value := document.Get(m.document, strings.Split(field.from, ".")...); value != nil {
			f.SetSpec(value, strings.Split(field.to, ".")...)
		}
	}
	if len(m.commands) > 0 {
		f.SetSpec(append(document.List(f.Doc, "spec", "build", "commands"), m.commands...), "build", "commands")
	}
	if err := f.Validate(); err != nil { // before SetEnv, which needs a list
		return fault.Invalid("%s: %%nuclio config: %w", m.ref, err)
	}
	for _, pair := range m.env {
		f.SetEnv(pair[0], pair[1])
	}
	if len(m.volumes) > 0 && f.Kind().Pod() {
		f.SetSpec(m.volumes, "volumes")
		f.SetSpec(m.mounts, "volume_mounts")
	}
	return nil
}

// wrapHandler makes a function of a cell's lines; the marked line, else the last
// one, is its return value.
func wrapHandler(p piece, name string) piece {
	if name == "" {
		name = "handler"
	}
	out := piece{cell: p.cell, lines: []string{"def " + name + "(context, event):"}, numbers: []int{1}}
	last := -1
	for i, line := range p.lines {
		if returnMark.MatchString(line) {
			last = i
			break
		}
		if strings.TrimSpace(line) != "" && !commentLine.MatchString(line) {
			last = i
		}
	}
	inside := insideString(p.lines)
	for i, line := range p.lines {
		if i == last {
			indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
			line = indent + "return " + strings.TrimSpace(returnMark.ReplaceAllString(line, ""))
		}
		if strings.TrimSpace(line) != "" && !inside[i] {
			line = "    " + line
		}
		out.lines, out.numbers = append(out.lines, line), append(out.numbers, p.numbers[i])
	}
	return out
}
