package render

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// Live keeps a status area at the bottom of a terminal while other output scrolls
// above it. Out and Status are usually the two streams of one terminal; the order
// of writes to them is the order on the screen.
//
// A last line of output that is not finished yet is shown as part of the status
// area (so a progress bar that rewrites its line with "\r" can be watched) and
// written for good when its end comes.
//
// All methods may be called by several goroutines.
type Live struct {
	out    io.Writer
	status io.Writer
	width  func() int

	mu      sync.Mutex
	lines   []string // the status area wanted
	drawn   int      // lines of it on the screen
	partial []byte   // unfinished last line of output
	closed  bool
}

// NewLive makes a status area on status; width is asked whenever it is drawn.
func NewLive(out, status io.Writer, width func() int) *Live {
	return &Live{out: out, status: status, width: width}
}

// maxPartial is how long an unfinished line may become before it is written.
const maxPartial = 64 << 10

// Write passes output on above the status area.
func (l *Live) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.out.Write(data)
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	if end == 0 && len(l.partial)+len(data) <= maxPartial {
		l.partial = append(l.partial, data...)
		l.redraw()
		return len(data), nil
	}
	if end == 0 {
		end = len(data)
	}
	l.erase()
	whole := append(l.partial, data[:end]...)
	_, err := l.out.Write(whole)
	l.partial = append(whole[:0], data[end:]...)
	l.redraw()
	return len(data), err
}

// Set changes the lines of the status area; plain text or styled, without line
// breaks. No lines mean no area.
func (l *Live) Set(lines ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.lines = lines
	l.redraw()
}

// Close removes the status area and writes what is left. Output written later
// passes through.
func (l *Live) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.erase()
	if len(l.partial) == 0 {
		return nil
	}
	_, err := l.out.Write(append(l.partial, '\n'))
	return err
}

// erase removes the area from the screen; the cursor is where it began.
func (l *Live) erase() {
	if l.drawn == 0 {
		return
	}
	_, _ = io.WriteString(l.status, eraseLines(l.drawn))
	l.drawn = 0
}

func eraseLines(n int) string {
	return "\r\x1b[K" + strings.Repeat("\x1b[A\r\x1b[K", n-1)
}

// redraw replaces the area on the screen in one write.
func (l *Live) redraw() {
	var b strings.Builder
	if l.drawn > 0 {
		b.WriteString(eraseLines(l.drawn))
	}
	width := l.width()
	if width <= 0 {
		width = 80
	}
	lines := make([]string, 0, len(l.lines)+1)
	if text := lastStretch(l.partial); text != "" {
		lines = append(lines, Cut(StripEscapes(text), width-1))
	}
	for _, line := range l.lines {
		if Width(line) > width-1 {
			line = Cut(StripEscapes(line), width-1)
		}
		lines = append(lines, line)
	}
	b.WriteString(strings.Join(lines, "\n"))
	l.drawn = len(lines)
	_, _ = io.WriteString(l.status, b.String())
}

// lastStretch is what a terminal would show of an unfinished line: the text after
// the last carriage return that has any.
func lastStretch(line []byte) string {
	line = bytes.TrimRight(line, "\r")
	if at := bytes.LastIndexByte(line, '\r'); at >= 0 {
		line = line[at+1:]
	}
	return string(line)
}
