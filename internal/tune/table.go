package tune

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
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
}

// NewTable makes the table of iterations: state, iter, then param.* and output.* in
// the order in which they are first seen, nested objects flattened with dots, rows
// by iteration. The results of one iteration are taken in alphabetical order,
// since documents do not keep theirs.
func NewTable(rows []Row) Table {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Row) int { return a.Iter - b.Iter })
	b := tableBuilder{column: map[string]int{}}
	b.index("state")
	b.index("iter")
	for _, row := range rows {
		for i, name := range row.Parameters.Names {
			b.scan("param."+name, row.Parameters.Values[i])
		}
		b.scanObject("output", row.Results)
	}
	out := Table{Header: b.header}
	for _, row := range rows {
		cells := make([]any, len(b.header))
		cells[0], cells[1] = row.State, row.Iter
		for i, name := range row.Parameters.Names {
			b.fill(cells, "param."+name, row.Parameters.Values[i])
		}
		for name, value := range row.Results {
			b.fill(cells, "output."+name, value)
		}
		out.Rows = append(out.Rows, cells)
	}
	return out
}

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
