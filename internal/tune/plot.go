package tune

import (
	"bytes"
	_ "embed" // the page
	"strings"

	"github.com/millrace/millrace/internal/document"
)

//go:embed parallel.html
var parallelPage string

// drawnIterations bounds the lines of the plot; more could neither be told apart
// nor drawn at once.
const drawnIterations = 5000

// ParallelCoordinates returns the page of the artifact parallel_coordinates: an
// interactive plot that needs nothing but a browser. Of very many iterations it
// draws some, evenly chosen, and always the best.
func (t Table) ParallelCoordinates(s Selector, best int) []byte {
	rows := t.Rows
	if len(rows) > drawnIterations {
		rows = make([][]any, 0, drawnIterations+1)
		step := float64(len(t.Rows)) / drawnIterations
		next := 0.0
		for i, row := range t.Rows {
			iter, _ := document.ToInt(row[1])
			drawn := float64(i) >= next
			if drawn {
				next += step
			}
			if drawn || best > 0 && iter == int64(best) {
				rows = append(rows, row)
			}
		}
	}
	list := make([]any, len(rows))
	for i, row := range rows {
		list[i] = row
	}
	data := document.Encode(document.Object{
		"header": t.Header, "rows": list, "best": best, "output": s.Result, "total": max(t.Total, len(t.Rows)), "shown": len(rows),
	})
	// Within a script element nothing may look like its end, or like a comment.
	data = bytes.ReplaceAll(data, []byte("<"), []byte(`\u003c`))
	return []byte(strings.Replace(parallelPage, "{{.}}", string(data), 1))
}
