// Package render writes what people read: tables, durations, styled words and a
// status area that stays below scrolling output on a terminal.
//
// Everything has two forms. On a terminal text is cut to its width and may be
// styled; anywhere else nothing is cut, coloured or rewritten, so that what is
// piped is stable and complete.
package render

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// Style is a way to show a word on a terminal.
type Style string

// The styles: escape sequences that every terminal knows.
const (
	Plain  Style = ""
	Bold   Style = "\x1b[1m"
	Dim    Style = "\x1b[2m"
	Red    Style = "\x1b[31m"
	Green  Style = "\x1b[32m"
	Yellow Style = "\x1b[33m"
	Cyan   Style = "\x1b[36m"
)

const reset = "\x1b[0m"

// Palette styles text, or leaves it alone when it is not Colour.
type Palette struct{ Colour bool }

// Paint returns text in a style.
func (p Palette) Paint(style Style, text string) string {
	if !p.Colour || style == Plain || text == "" {
		return text
	}
	return string(style) + text + reset
}

// StateStyle is how the state of a run or function is shown.
func StateStyle(state string) Style {
	switch state {
	case "completed", "ready", "online", "succeeded":
		return Green
	case "error", "failed":
		return Red
	case "aborted", "aborting", "skipped", "pendingRetry":
		return Yellow
	case "running", "pending", "created":
		return Cyan
	}
	return Plain
}

// Width is how many columns text takes on a terminal; escape sequences take none.
func Width(text string) int { return runewidth.StringWidth(StripEscapes(text)) }

// Cut shortens plain text to at most width columns, the last of which is "…" when
// something is missing. A width of 0 or less means no limit.
func Cut(text string, width int) string {
	if width <= 0 || runewidth.StringWidth(text) <= width {
		return text
	}
	return runewidth.Truncate(text, width, "…")
}

// StripEscapes removes terminal escape sequences and control characters other
// than tabs, which become blanks.
func StripEscapes(text string) string {
	clean := true
	for i := 0; i < len(text); i++ {
		if text[i] < 0x20 || text[i] == 0x7f {
			clean = false
			break
		}
	}
	if clean && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		if text[i] == 0x1b {
			i += escapeLength(text[i:])
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case r < 0x20 || r == 0x7f:
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

// escapeLength is the length of the escape sequence that text begins with.
func escapeLength(text string) int {
	if len(text) < 2 {
		return len(text)
	}
	switch text[1] {
	case '[': // CSI: parameters, then one byte from @ to ~
		for i := 2; i < len(text); i++ {
			if text[i] >= 0x40 && text[i] <= 0x7e {
				return i + 1
			}
		}
		return len(text)
	case ']': // OSC: ends with BEL or ESC \
		for i := 2; i < len(text); i++ {
			if text[i] == 0x07 {
				return i + 1
			}
			if text[i] == 0x1b && i+1 < len(text) && text[i+1] == '\\' {
				return i + 2
			}
		}
		return len(text)
	}
	return 2
}

// Duration writes d for people: 850 ms, 3.2 s, 1m05s, 2h03m.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Bytes writes a size for people: 812 B, 1.4 MiB.
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < 4 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", value, [...]string{"KiB", "MiB", "GiB", "TiB", "PiB"}[unit])
}

// Bar draws done of total in width columns.
func Bar(done, total, width int) string {
	if total <= 0 || width <= 0 {
		return ""
	}
	full := min(max(done, 0), total) * width / total
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}
