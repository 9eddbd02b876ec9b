package tune

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// ParseFile reads a parameter file: rows of values when its name ends in .csv,
// else a JSON object as ParseValues takes it. A byte-order mark is skipped.
func ParseFile(name string, content []byte) (*Values, error) {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	where := path.Base(strings.TrimRight(name, "/"))
	if isTable(name) {
		return parseCSV(content, where)
	}
	v, err := ParseValues(content, where)
	if err == nil && len(v.Names) == 0 {
		return nil, fault.Invalid("%s has no values", where)
	}
	return v, err
}

// isTable reports whether a parameter file has rows, which its name tells.
func isTable(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".csv") }

// parseCSV reads a table: a header with the names, then a row for each iteration.
// A column of whole numbers gives integers, one of numbers floats, one of true and
// false booleans, any other texts; a missing cell is null whatever its column.
func parseCSV(content []byte, where string) (*Values, error) {
	reader := csv.NewReader(bytes.NewReader(content))
	reader.FieldsPerRecord = -1
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, fault.Invalid("%s is empty; its first line has the names of the parameters", where)
	}
	if err != nil {
		return nil, fault.Invalid("%s: %w", where, err)
	}
	v := &Values{By: map[string]Domain{}, rows: true}
	for _, name := range header {
		if _, twice := v.By[name]; twice {
			return nil, fault.Invalid("%s: the column %q stands twice in the first line", where, name)
		}
		if strings.TrimSpace(name) == "" {
			return nil, fault.Invalid("%s: a column in the first line has no name", where)
		}
		v.Names, v.By[name] = append(v.Names, name), Domain{}
	}
	columns := make([][]string, len(header))
	for {
		row, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fault.Invalid("%s: %w", where, err)
		}
		if len(row) != len(header) {
			line, _ := reader.FieldPos(0)
			return nil, fault.Invalid("%s, line %d: %d cells where the first line has %d", where, line, len(row), len(header))
		}
		for i, cell := range row {
			columns[i] = append(columns[i], cell)
		}
	}
	if len(columns[0]) == 0 {
		return nil, fault.Invalid("%s has a first line and no rows, so there would be no iteration", where)
	}
	for i, name := range header {
		v.By[name] = Domain{List: typed(columns[i])}
	}
	return v, nil
}

// missing are the cells that pandas reads as missing.
var missing = map[string]bool{
	"": true, "#N/A": true, "#N/A N/A": true, "#NA": true, "-1.#IND": true, "-1.#QNAN": true, "-NaN": true, "-nan": true, "1.#IND": true,
	"1.#QNAN": true, "<NA>": true, "N/A": true, "NA": true, "NULL": true, "NaN": true, "None": true, "n/a": true, "nan": true, "null": true,
}

func typed(cells []string) []any {
	convert := func(fn func(string) (any, bool)) []any {
		out := make([]any, len(cells))
		for i, cell := range cells {
			if missing[cell] {
				continue
			}
			value, ok := fn(cell)
			if !ok {
				return nil
			}
			out[i] = value
		}
		return out
	}
	for _, fn := range []func(string) (any, bool){integer, float, boolean} {
		if out := convert(fn); out != nil {
			return out
		}
	}
	return convert(func(cell string) (any, bool) { return cell, true })
}

func integer(cell string) (any, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(cell), 10, 64)
	return json.Number(strconv.FormatInt(n, 10)), err == nil
}

// float takes decimal notation and infinities, not the hexadecimal and underscored
// numbers that Go reads as well.
func float(cell string) (any, bool) {
	cell = strings.TrimSpace(cell)
	if strings.ContainsAny(cell, "_xXpP") {
		return nil, false
	}
	f, err := strconv.ParseFloat(cell, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, false
	}
	if f-f != 0 { // an infinity
		return f, true
	}
	return json.Number(document.PythonFloat(f)), true
}

func boolean(cell string) (any, bool) {
	switch cell {
	case "True", "TRUE", "true":
		return true, true
	case "False", "FALSE", "false":
		return false, true
	}
	return nil, false
}

func integerLiteral(value any) bool {
	switch v := value.(type) {
	case json.Number:
		return !strings.ContainsAny(string(v), ".eE")
	case int, int64:
		return true
	}
	return false
}
