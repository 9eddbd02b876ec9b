package render

import (
	"bufio"
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

// Table is rows below headers. Columns are padded to their widest cell and stand
// two blanks apart; an empty cell is written as "-".
type Table struct {
	Headers []string
	Rows    [][]string
	// Flexible is the column that is cut first when the table is wider than the
	// terminal; -1 for none.
	Flexible int
	// Styles, if not nil, gives the style of a cell.
	Styles func(row, column int) Style
}

// Write writes the table. width is that of the terminal, 0 when there is none or
// nothing is to be cut.
func (t *Table) Write(w io.Writer, width int, palette Palette) error {
	widths := t.widths()
	t.fit(widths, width)
	out := bufio.NewWriter(w)
	if len(t.Headers) > 0 {
		t.line(out, widths, t.Headers, func(int) Style { return Bold }, palette)
	}
	for number, row := range t.Rows {
		t.line(out, widths, row, func(column int) Style {
			if t.Styles == nil {
				return Plain
			}
			return t.Styles(number, column)
		}, palette)
	}
	return out.Flush()
}

const gap = 2

func (t *Table) columns() int {
	n := len(t.Headers)
	for _, row := range t.Rows {
		n = max(n, len(row))
	}
	return n
}

func (t *Table) widths() []int {
	widths := make([]int, t.columns())
	for i, header := range t.Headers {
		widths[i] = runewidth.StringWidth(header)
	}
	for _, row := range t.Rows {
		for i, text := range row {
			widths[i] = max(widths[i], runewidth.StringWidth(cell(text)))
		}
	}
	return widths
}

// fit narrows the columns to width: the flexible one first, then the widest.
func (t *Table) fit(widths []int, width int) {
	if width <= 0 {
		return
	}
	const least = 8
	over := -width
	for _, w := range widths {
		over += w + gap
	}
	over -= gap
	if at := t.Flexible; over > 0 && at >= 0 && at < len(widths) && widths[at] > least {
		cut := min(over, widths[at]-least)
		widths[at] -= cut
		over -= cut
	}
	for over > 0 {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		if len(widths) == 0 || widths[widest] <= least {
			return
		}
		widths[widest]--
		over--
	}
}

func (t *Table) line(out *bufio.Writer, widths []int, row []string, style func(int) Style, palette Palette) {
	for i, text := range row {
		text = Cut(cell(text), widths[i])
		_, _ = out.WriteString(palette.Paint(style(i), text))
		if i < len(row)-1 {
			_, _ = out.WriteString(strings.Repeat(" ", widths[i]-runewidth.StringWidth(text)+gap))
		}
	}
	_ = out.WriteByte('\n')
}

// cell is the one line that a cell's text becomes.
func cell(text string) string {
	if strings.ContainsAny(text, "\r\n") {
		text = strings.Join(strings.Fields(text), " ")
	}
	if text = StripEscapes(text); text == "" {
		return "-"
	}
	return text
}
