package env

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// Limits of what is read as requirements.
const (
	maxRequirements    = 5000
	maxRequirementLine = 16 << 10
	maxRequirementFile = 1 << 20
	maxIncludeDepth    = 8
)

// Requirements are checked and normalised requirement lines. The zero value
// asks for nothing.
type Requirements struct {
	options     []string // normalised pip options, in order
	packages    []requirement
	constraints []requirement
	files       []string // digest of each local file, part of the key
}

// Empty reports whether no package is asked for.
func (r Requirements) Empty() bool { return len(r.packages) == 0 }

// Lines returns the normalised lines as pip reads them, options first, packages
// sorted.
func (r Requirements) Lines() []string {
	lines := slices.Clone(r.options)
	for _, p := range r.packages {
		lines = append(lines, p.String())
	}
	return lines
}

// Names returns the normalised names of the packages asked for, sorted; those
// known only by URL or file are left out.
func (r Requirements) Names() []string {
	var names []string
	for _, p := range r.packages {
		if p.name != "" {
			names = append(names, p.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ParseRequirements reads requirement lines as pip does: comments, blank lines,
// continuation, conditions, -r and -c files, and the options that say where
// packages come from. dir is the folder that relative files are in (never left
// by -r or -c); with dir empty, lines that name files are refused.
//
// Refused with the line named (fault.CodeInvalid): malformed lines, editable
// installs, local folders, and options that change how packages are built or
// where they go.
func ParseRequirements(lines []string, dir string) (Requirements, error) {
	p := requirementReader{dir: dir}
	if err := p.lines(lines, "requirements", dir, false, 0); err != nil {
		return Requirements{}, err
	}
	byLine := func(a, b requirement) int { return strings.Compare(a.String(), b.String()) }
	same := func(a, b requirement) bool { return a.String() == b.String() }
	for _, list := range []*[]requirement{&p.out.packages, &p.out.constraints} {
		slices.SortStableFunc(*list, byLine)
		*list = slices.CompactFunc(*list, same)
	}
	slices.Sort(p.out.files)
	return p.out, nil
}

type requirementReader struct {
	dir  string
	out  Requirements
	read int
}

func (p *requirementReader) lines(lines []string, source, dir string, constraint bool, depth int) error {
	// An item may hold several lines: a client can send a file's text as one.
	var flat []string
	for _, item := range lines {
		item = strings.TrimPrefix(strings.ReplaceAll(item, "\r\n", "\n"), "\ufeff")
		flat = append(flat, strings.Split(item, "\n")...)
	}
	for i := 0; i < len(flat); i++ {
		number := i + 1
		line := flat[i]
		for strings.HasSuffix(line, `\`) && i+1 < len(flat) && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			i++
			line = strings.TrimSuffix(line, `\`) + " " + strings.TrimSpace(flat[i])
			if len(line) > maxRequirementLine {
				break
			}
		}
		bad := func(err error) error {
			return fault.Invalid("%s line %d %q: %w", source, number, shorten(redact(strings.TrimSpace(line))), err)
		}
		if len(line) > maxRequirementLine {
			return bad(fmt.Errorf("it is longer than %d bytes", maxRequirementLine))
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f || r == '\ufffd' }) {
			return bad(fmt.Errorf("it contains a control character or is no UTF-8"))
		}
		line = strings.TrimSpace(cutComment(strings.TrimSuffix(line, `\`)))
		if line == "" {
			continue
		}
		if p.read++; p.read > maxRequirements {
			return fault.Invalid("%s: more than %d lines in all", source, maxRequirements)
		}
		if strings.HasPrefix(line, "-") {
			if err := p.option(line, source, dir, constraint, depth, bad); err != nil {
				return err
			}
			continue
		}
		r, err := parseRequirement(line)
		if err == nil && r.url != "" {
			err = p.localFile(&r, dir)
		}
		if err != nil {
			return bad(err)
		}
		if constraint {
			p.out.constraints = append(p.out.constraints, r)
		} else {
			p.out.packages = append(p.out.packages, r)
		}
	}
	return nil
}

// cutComment removes a comment: '#' at the start or after a blank.
func cutComment(line string) string {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return line[:i]
		}
	}
	return line
}

func shorten(line string) string {
	const most = 120
	if len(line) <= most {
		return line
	}
	return strings.ToValidUTF8(line[:most], "") + "…"
}

// pipOptions are the options that may stand on a line of their own, with the
// spelling pip is given; the value says whether they take an argument.
var pipOptions = map[string]struct {
	name  string
	value bool
}{
	"-i": {"--index-url", true}, "--index-url": {"--index-url", true}, "--pypi-url": {"--index-url", true},
	"--extra-index-url": {"--extra-index-url", true}, "--no-index": {"--no-index", false},
	"-f": {"--find-links", true}, "--find-links": {"--find-links", true},
	"--pre": {"--pre", false}, "--prefer-binary": {"--prefer-binary", false},
	"--no-binary": {"--no-binary", true}, "--only-binary": {"--only-binary", true},
	"--trusted-host": {"--trusted-host", true}, "--require-hashes": {"--require-hashes", false},
}

func (p *requirementReader) option(line, source, dir string, constraint bool, depth int, bad func(error) error) error {
	name, value := splitOption(line)
	switch name {
	case "-r", "--requirement", "-c", "--constraint":
		if value == "" {
			return bad(fmt.Errorf("%s needs the name of a file", name))
		}
		return p.include(value, dir, constraint || name == "-c" || name == "--constraint", depth, bad)
	case "-e", "--editable":
		return bad(fmt.Errorf("editable installs are not possible in a shared environment: name the package, an archive or a git URL"))
	}
	known, ok := pipOptions[name]
	switch {
	case !ok:
		return bad(fmt.Errorf("the option %s is not accepted in requirements", name))
	case known.value && value == "":
		return bad(fmt.Errorf("%s needs a value", name))
	case !known.value && value != "":
		return bad(fmt.Errorf("%s takes no value", name))
	case strings.ContainsAny(value, " \t"):
		return bad(fmt.Errorf("only one option is accepted on a line"))
	}
	if known.name == "--find-links" && !strings.Contains(value, "://") {
		folder, err := p.inside(value, dir)
		if err != nil {
			return bad(err)
		}
		value = folder
	}
	text := known.name
	if known.value {
		text += " " + value
	}
	if !slices.Contains(p.out.options, text) {
		p.out.options = append(p.out.options, text)
	}
	return nil
}

// splitOption separates "--name=value", "--name value" and "-rvalue".
func splitOption(line string) (name, value string) {
	i := strings.IndexAny(line, "= \t")
	if !strings.HasPrefix(line, "--") && len(line) > 2 && (i < 0 || i > 2) {
		return line[:2], strings.TrimSpace(line[2:])
	}
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimSpace(strings.TrimLeft(line[i:], "= \t"))
}

func (p *requirementReader) include(name, dir string, constraint bool, depth int, bad func(error) error) error {
	if strings.Contains(name, "://") {
		return bad(fmt.Errorf("requirements are not read from URLs: keep the file beside the function"))
	}
	if depth >= maxIncludeDepth {
		return bad(fmt.Errorf("files include each other more than %d deep", maxIncludeDepth))
	}
	path, err := p.inside(name, dir)
	if err != nil {
		return bad(err)
	}
	data, err := readLimited(path, maxRequirementFile)
	if err != nil {
		return bad(err)
	}
	return p.lines([]string{string(data)}, name, filepath.Dir(path), constraint, depth+1)
}

// inside resolves a file relative to the including one and refuses whatever is
// outside the function's folder.
func (p *requirementReader) inside(name, dir string) (string, error) {
	if p.dir == "" {
		return "", fmt.Errorf("it names the file %s, but the function has no folder: write the packages themselves", name)
	}
	root, err := filepath.Abs(p.dir)
	if err != nil {
		return "", fmt.Errorf("find the function's folder: %w", err)
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, name)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("the file %s does not exist", name)
	}
	realRoot, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", fmt.Errorf("the function's folder %s does not exist", root)
	}
	if rel, err := filepath.Rel(realRoot, real); err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("the file %s is outside the function's folder", name)
	}
	return real, nil
}

func readLimited(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("the file is larger than %d bytes", most)
	}
	return data, nil
}

// localFile resolves an archive given as a path or file URL and adds its content
// to the key. Other URLs are left alone.
func (p *requirementReader) localFile(r *requirement, dir string) error {
	name := r.url
	if after, ok := strings.CutPrefix(name, "file://"); ok {
		name = strings.TrimPrefix(after, "localhost")
		if plain, err := url.PathUnescape(name); err == nil {
			name = plain
		}
	} else if strings.Contains(name, "://") {
		return nil
	}
	name, fragment, _ := strings.Cut(name, "#")
	if strings.HasPrefix(name, "~") {
		return fmt.Errorf("paths that begin with ~ are not accepted: write a path in the function's folder")
	}
	path, err := p.inside(name, dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || !isArchive(path) {
		return fmt.Errorf("%s is no wheel or source archive: local folders have to be built first (pip wheel)", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("the file cannot be read: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("the file cannot be read: %w", err)
	}
	p.out.files = append(p.out.files, hex.EncodeToString(sum.Sum(nil)))
	r.url = (&url.URL{Scheme: "file", Path: path}).String()
	if fragment != "" {
		r.url += "#" + fragment
	}
	return nil
}
