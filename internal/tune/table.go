package tune

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/millrace/millrace/internal/document"
)

// Row is one iteration of the table.
type Row struct {
	Iter       int
	State      string
	Parameters Point
	Results    document.Object
}

// Table is status.iterations of a task: a header, and a row for each iteration.
type Table struct {
	Header []string
	Rows   [][]any // as long as the header; nil where an iteration has no such value
	Total  int     // rows that there are; more than len(Rows) when this is a sample of them
}

// NewTable makes the table of iterations: state, iter, then param.* and output.* in
// the order in which they are first seen, nested objects flattened with dots, rows
// by iteration. The results of one iteration are taken in alphabetical order,
// since documents do not keep theirs.
func NewTable(rows []Row) Table {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Row) int { return a.Iter - b.Iter })
	var s Summary
	for _, row := range rows {
		s.Scan(row)
	}
	s.Begin(io.Discard, len(rows), len(rows), 0)
	for _, row := range rows {
		_ = s.Add(row) // nothing is written anywhere
	}
	return s.Table()
}

// Summary makes a table of any size row by row: each is shown to it twice, first to
// Scan, then to Add, by iteration. What it keeps does not grow with the table.
type Summary struct {
	b     tableBuilder
	table Table
	csv   *csv.Writer
	text  []string // the record that is being written
	best  int
	step  float64 // of rows of which one is kept
	next  float64
	seen  int
}

// Scan takes the columns of a row into the header.
func (s *Summary) Scan(row Row) {
	if s.b.column == nil {
		s.b.column = map[string]int{}
		s.b.index("state")
		s.b.index("iter")
	}
	for i, name := range row.Parameters.Names {
		s.b.scan("param."+name, row.Parameters.Values[i])
	}
	s.b.scanObject("output", row.Results)
}

// Begin ends the scan of total rows. The text of iteration_results (see Table.CSV)
// goes to w. Of more than keep rows the table has a sample, with that of the best
// iteration, as large as a plot draws.
func (s *Summary) Begin(w io.Writer, total, keep, best int) {
	s.table = Table{Header: s.b.header, Total: total}
	s.best, s.step = best, 1
	if total > keep {
		s.step = max(1, float64(total)/drawnIterations)
	}
	s.csv, s.text = csv.NewWriter(w), make([]string, len(s.b.header))
	_ = s.csv.Write(s.b.header) // an error is there again at the end
}

// Add writes a row. An error is the writer's.
func (s *Summary) Add(row Row) error {
	cells := make([]any, len(s.b.header))
	cells[0], cells[1] = row.State, row.Iter
	for i, name := range row.Parameters.Names {
		s.b.fill(cells, "param."+name, row.Parameters.Values[i])
	}
	for name, value := range row.Results {
		s.b.fill(cells, "output."+name, value)
	}
	drawn := float64(s.seen) >= s.next
	if drawn {
		s.next += s.step
	}
	s.seen++
	if drawn || s.best > 0 && row.Iter == s.best {
		s.table.Rows = append(s.table.Rows, cells)
	}
	for i, cell := range cells {
		s.text[i] = cellText(cell)
	}
	return s.csv.Write(s.text)
}

// Flush writes what is left of the text.
func (s *Summary) Flush() error {
	s.csv.Flush()
	return s.csv.Error()
}

// Table is the table, or a sample of it.
func (s *Summary) Table() Table { return s.table }

type tableBuilder struct {
	header []string
	column map[string]int
}

func (b *tableBuilder) index(name string) int {
	i, ok := b.column[name]
	if !ok {
		i = len(b.header)
		b.column[name] = i
		b.header = append(b.header, name)
	}
	return i
}

func (b *tableBuilder) scan(name string, value any) {
	if object, ok := value.(document.Object); ok {
		b.scanObject(name, object)
		return
	}
	b.index(name)
}

func (b *tableBuilder) scanObject(name string, object document.Object) {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		b.scan(name+"."+key, object[key])
	}
}

func (b *tableBuilder) fill(cells []any, name string, value any) {
	if object, ok := value.(document.Object); ok {
		for key, inner := range object {
			b.fill(cells, name+"."+key, inner)
		}
		return
	}
	if f, ok := value.(float64); ok && math.IsNaN(f) {
		value = nil
	}
	cells[b.column[name]] = value
}

// Document returns the table as status.iterations holds it.
func (t Table) Document() []any {
	out := make([]any, 0, len(t.Rows)+1)
	header := make([]any, len(t.Header))
	for i, name := range t.Header {
		header[i] = name
	}
	out = append(out, header)
	for _, row := range t.Rows {
		out = append(out, slices.Clone(row))
	}
	return out
}

// CSV returns the text of the artifact iteration_results: the header and the rows,
// missing values empty, booleans as Python writes them, lists as JSON.
func (t Table) CSV() []byte {
	var out bytes.Buffer
	w := csv.NewWriter(&out) // a bytes.Buffer does not fail
	_ = w.Write(t.Header)
	record := make([]string, len(t.Header))
	for _, row := range t.Rows {
		for i, cell := range row {
			record[i] = cellText(cell)
		}
		_ = w.Write(record)
	}
	w.Flush()
	return out.Bytes()
}

func cellText(cell any) string {
	switch v := cell.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		if v {
			return "True"
		}
		return "False"
	case json.Number:
		return string(v)
	}
	return string(document.Encode(cell))
}

// ErrorText is the error of a task of which some iterations failed, "" when none
// did. ran counts those that were executed.
func ErrorText(failed, ran int) string {
	if failed == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d tasks failed, check logs in db for details", failed, ran)
}
