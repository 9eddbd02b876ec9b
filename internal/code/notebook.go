package code

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// A notebook becomes one Python text: a header line, a blank line, then every kept
// piece of a code cell followed by a blank line. Which cells are kept is said by
// annotations in them:
//
//	# mlrun: ignore                the cell is dropped (as are cells with the tag
//	                               mlrun-ignore); the text counts wherever it stands
//	# mlrun: start-code [name]     code begins after this line
//	# mlrun: end-code [name]       code ends before this line
//
// "nuclio:" does the same. A named section counts for the function of that name,
// in either spelling of it. There is one buffer for nameless sections and one for
// sections of the function's name. A buffer takes everything until its first start,
// which empties it, and nothing after its end but pieces of cells that a mark of
// the other buffer has cut — which is what notebooks in use rely on. The named
// buffer wins if its name was seen, then the nameless one if there was a mark at
// all, else everything is kept.
//
// Two things differ from what other converters do: text inside a multi-line string
// is never touched, and cells in another language (%%bash, %%html, …) are dropped,
// since their text is no Python.

// maxNotebook is the largest notebook file, outputs included, in bytes.
const maxNotebook = 128 << 20

// cell is one code cell with its place among all cells, from 1.
type cell struct {
	number int
	lines  []string
}

// piece is kept text: lines of a cell.
type piece struct {
	cell    int
	lines   []string
	numbers []int // of each line in its cell, from 1
}

// converted is a notebook made Python.
type converted struct {
	source   []byte
	config   *magicConfig
	position []place // of each line of source, from line 1 at index 0
}

// place is a line of a cell; cell 0 means a line that stands in no cell.
type place struct{ cell, line int }

func (o Options) notebook(ctx context.Context, ref string) (*function.Function, error) {
	data, err := readLimited(ref, maxNotebook)
	if err != nil {
		return nil, err
	}
	name := o.Name
	if name == "" {
		name = stem(ref)
	}
	nb, err := convert(ref, data, name, o)
	if err != nil {
		return nil, err
	}
	if o.Kind == function.KindDefault {
		o.Kind = nb.config.kind()
	}
	f, err := o.begin(ref)
	if err != nil {
		return nil, err
	}
	if err := nb.config.apply(f); err != nil {
		return nil, err
	}
	if err := o.finish(f); err != nil { // options win over the notebook
		return nil, err
	}
	err = o.embed(ctx, f, ref, nb.source)
	var syntax *SyntaxError
	if errors.As(err, &syntax) && syntax.Line >= 1 && syntax.Line <= len(nb.position) {
		if at := nb.position[syntax.Line-1]; at.cell > 0 {
			return nil, fault.Invalid("%s: cell %d, line %d: %s", ref, at.cell, at.line, syntax.Message)
		}
	}
	return f, err
}

// Convert makes Python source of a notebook for the function called target, as
// Load does. ref is for messages.
func Convert(ref string, notebook []byte, target string) ([]byte, error) {
	nb, err := convert(ref, notebook, target, Options{})
	if err != nil {
		return nil, err
	}
	return nb.source, nil
}

func convert(ref string, data []byte, target string, o Options) (*converted, error) {
	cells, err := codeCells(ref, data, o.IgnoredTags)
	if err != nil {
		return nil, err
	}
	config := &magicConfig{ref: ref, getenv: o.Getenv}
	sections := sectionReader{ref: ref, target: target}
	for _, c := range cells {
		p, err := config.magics(c)
		if err != nil {
			return nil, err
		}
		if err := sections.add(p); err != nil {
			return nil, err
		}
	}
	out := &converted{config: config, position: make([]place, 2)}
	var text strings.Builder
	text.WriteString("# Converted from " + filepath.Base(ref) + "\n\n")
	for _, p := range sections.result() {
		for i, line := range p.lines {
			text.WriteString(line + "\n")
			out.position = append(out.position, place{p.cell, p.numbers[i]})
		}
		text.WriteByte('\n')
		out.position = append(out.position, place{})
	}
	out.source = []byte(text.String())
	return out, nil
}

// codeCells reads a notebook of format 4 and returns the code cells that are not
// ignored.
func codeCells(ref string, data []byte, ignoredTags []string) ([]cell, error) {
	doc, err := document.DecodeObject(data)
	if err != nil {
		return nil, fault.Invalid("%s is not a notebook: %w", ref, err)
	}
	format, ok := document.Int(doc, "nbformat")
	if !ok {
		return nil, fault.Invalid("%s is not a notebook: it has no nbformat", ref)
	}
	if format != 4 {
		return nil, fault.Invalid("%s is a notebook of format %d; convert it to format 4 (jupyter nbconvert --to notebook)", ref, format)
	}
	for _, path := range [][]string{{"metadata", "kernelspec", "language"}, {"metadata", "language_info", "name"}} {
		if language := document.String(doc, path...); language != "" && !strings.HasPrefix(strings.ToLower(strings.TrimPrefix(language, "i")), "python") {
			return nil, fault.Invalid("%s is a notebook in %s; only Python notebooks become functions", ref, language)
		}
	}
	list, ok := doc["cells"].([]any)
	if !ok {
		return nil, fault.Invalid("%s is not a notebook: it has no list of cells", ref)
	}
	var out []cell
	for i, item := range list {
		object, ok := item.(document.Object)
		if !ok {
			return nil, fault.Invalid("%s: cell %d must be an object, got %s", ref, i+1, document.TypeName(item))
		}
		text, err := cellText(object)
		if err != nil {
			return nil, fault.Invalid("%s: cell %d: %w", ref, i+1, err)
		}
		if document.String(object, "cell_type") == "code" && !ignored(object, text, ignoredTags) {
			out = append(out, cell{number: i + 1, lines: strings.Split(text, "\n")})
		}
	}
	return out, nil
}

func cellText(object document.Object) (string, error) {
	var text strings.Builder
	switch source := object["source"].(type) {
	case nil:
	case string:
		text.WriteString(source)
	case []any:
		for _, line := range source {
			s, ok := line.(string)
			if !ok {
				return "", fault.Invalid("source must be a list of strings, got %s in it", document.TypeName(line))
			}
			text.WriteString(s)
		}
	default:
		return "", fault.Invalid("source must be a string or a list of strings, got %s", document.TypeName(source))
	}
	if strings.Contains(text.String(), "\x00") {
		return "", fault.Invalid("source has a zero byte; it is not code")
	}
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text.String()), nil
}

var ignorePattern = lazyregexp.New(`[ \t]*#[ \t]*(?:nuclio|mlrun):[ \t]*ignore`)

func ignored(object document.Object, text string, tags []string) bool {
	if strings.TrimSpace(text) == "" || ignorePattern.MatchString(text) {
		return true
	}
	for _, tag := range document.List(object, "metadata", "tags") {
		if name, ok := tag.(string); ok && (name == "nuclio-ignore" || name == "mlrun-ignore" || slices.Contains(tags, name)) {
			return true
		}
	}
	return false
}

// mark is a start-code or end-code annotation that fills a line.
var mark = lazyregexp.New(`\A[ \t]*#[ \t]*(?:nuclio|mlrun):[ \t]*(start|end)-code[ \t]*([^ \t]*)`)

// sectionReader is the buffers that cells go through.
type sectionReader struct {
	ref, target     string
	nameless, named buffer
}

type buffer struct {
	pieces               []piece
	seen, started, ended bool
}

// add takes one cell.
func (r *sectionReader) add(p piece) error {
	start, startName := r.find(p, "start")
	end, endName := r.find(p, "end")
	if start >= 0 {
		b := r.buffer(startName)
		if b.started && !b.ended {
			return fault.Invalid("%s: cell %d, line %d: start-code without an end-code after the one before; add the end-code", r.ref, p.cell, p.numbers[start])
		}
		if !b.started {
			b.pieces = nil
		}
		b.seen, b.started, b.ended = true, true, false
	}
	if end >= 0 {
		b := r.buffer(endName)
		if end < start {
			return fault.Invalid("%s: cell %d, line %d: end-code stands before start-code in one cell; split the cell", r.ref, p.cell, p.numbers[end])
		}
		if b.ended {
			return fault.Invalid("%s: cell %d, line %d: end-code a second time without a start-code between; remove one", r.ref, p.cell, p.numbers[end])
		}
		b.seen, b.ended = true, true
	}
	if start < 0 && end < 0 {
		r.whole(p)
		return nil
	}
	if end < 0 {
		end = len(p.lines)
	}
	cut := p.slice(start+1, end)
	r.nameless.append(cut)
	r.named.append(cut)
	return nil
}

// whole takes a cell without a mark that counts; marks of other functions vanish.
func (r *sectionReader) whole(p piece) {
	var kept piece
	kept.cell = p.cell
	inside := insideString(p.lines)
	for i, line := range p.lines {
		if inside[i] || !mark.MatchString(line) {
			kept.lines, kept.numbers = append(kept.lines, line), append(kept.numbers, p.numbers[i])
		}
	}
	for _, b := range []*buffer{&r.nameless, &r.named} {
		if !b.ended {
			b.append(kept)
		}
	}
}

// find returns the index of the first line with a mark of the kind whose name
// counts here, -1 when there is none.
func (r *sectionReader) find(p piece, kind string) (int, string) {
	inside := insideString(p.lines)
	for i, line := range p.lines {
		if m := mark.FindStringSubmatch(line); m != nil && !inside[i] && m[1] == kind && r.accepts(m[2]) {
			return i, m[2]
		}
	}
	return -1, ""
}

func (r *sectionReader) accepts(name string) bool {
	return name == "" || name == r.target || function.NormalizeName(name) == function.NormalizeName(r.target)
}

func (r *sectionReader) buffer(name string) *buffer {
	if name == "" {
		return &r.nameless
	}
	return &r.named
}

func (r *sectionReader) result() []piece {
	if r.named.seen {
		return r.named.pieces
	}
	return r.nameless.pieces
}

// append adds a piece without blank lines around it, or nothing when nothing is left.
func (b *buffer) append(p piece) {
	first, last := 0, len(p.lines)
	for first < last && strings.TrimSpace(p.lines[first]) == "" {
		first++
	}
	for last > first && strings.TrimSpace(p.lines[last-1]) == "" {
		last--
	}
	if first < last {
		b.pieces = append(b.pieces, p.slice(first, last))
	}
}

func (p piece) slice(from, to int) piece {
	return piece{cell: p.cell, lines: p.lines[from:to], numbers: p.numbers[from:to]}
}

// insideString says of each line whether it begins inside a triple-quoted string.
func insideString(lines []string) []bool {
	out := make([]bool, len(lines))
	quote := "" // of the string that is open
	for n, line := range lines {
		out[n] = len(quote) == 3
		if len(quote) == 1 {
			quote = "" // a plain string ends with its line
		}
		for i := 0; i < len(line); {
			switch c := line[i]; {
			case quote != "" && c == '\\':
				i += 2
			case quote != "" && strings.HasPrefix(line[i:], quote):
				i += len(quote)
				quote = ""
			case quote == "" && c == '#':
				i = len(line)
			case quote == "" && (c == '\'' || c == '"'):
				quote = line[i : i+1]
				if triple := strings.Repeat(quote, 3); strings.HasPrefix(line[i:], triple) {
					quote = triple
				}
				i += len(quote)
			default:
				i++
			}
		}
	}
	return out
}

// quotePython writes text as a Python string literal.
func quotePython(text string) string {
	quoted, _ := json.Marshal(text)
	return string(quoted)
}
