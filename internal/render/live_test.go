package render_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/render"
)

// screen interprets what Live writes as a terminal would: text, line feeds,
// carriage returns, "erase to the end of the line" and "cursor up".
type screen struct {
	lines []string
	row   int
	col   int
}

func (s *screen) Write(data []byte) (int, error) {
	text := string(data)
	for len(text) > 0 {
		switch {
		case strings.HasPrefix(text, "\x1b[K"):
			s.line()
			s.lines[s.row] = string([]rune(s.lines[s.row])[:s.col])
			text = text[3:]
		case strings.HasPrefix(text, "\x1b[A"):
			s.row--
			text = text[3:]
		case text[0] == '\n':
			s.row, s.col = s.row+1, 0
			s.line()
			text = text[1:]
		case text[0] == '\r':
			s.col = 0
			text = text[1:]
		default:
			r := []rune(text)[0]
			s.line()
			line := []rune(s.lines[s.row])
			if s.col < len(line) {
				line[s.col] = r
			} else {
				line = append(line, r)
			}
			s.lines[s.row] = string(line)
			s.col++
			text = text[len(string(r)):]
		}
	}
	return len(data), nil
}

func (s *screen) line() {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, "")
	}
}

func (s *screen) String() string { return strings.TrimRight(strings.Join(s.lines, "\n"), "\n") }

func newLive(s *screen, width int) *render.Live {
	return render.NewLive(s, s, func() int { return width })
}

func TestLiveKeepsTheStatusBelowTheLog(t *testing.T) {
	t.Parallel()
	s := &screen{}
	l := newLive(s, 40)
	l.Set("running 1 s", "  accuracy 0.9")
	_, _ = l.Write([]byte("first\nsecond\n"))
	if diff := cmp.Diff("first\nsecond\nrunning 1 s\n  accuracy 0.9", s.String()); diff != "" {
		t.Error(diff)
	}
	l.Set("running 2 s")
	if diff := cmp.Diff("first\nsecond\nrunning 2 s", s.String()); diff != "" {
		t.Error(diff)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("first\nsecond", s.String()); diff != "" {
		t.Error(diff)
	}
	_, _ = l.Write([]byte("later\n"))
	if diff := cmp.Diff("first\nsecond\nlater", s.String()); diff != "" {
		t.Error(diff)
	}
}

func TestLiveShowsAnUnfinishedLine(t *testing.T) {
	t.Parallel()
	s := &screen{}
	l := newLive(s, 40)
	l.Set("running")
	for i := range 3 {
		_, _ = fmt.Fprintf(l, "\repoch %d of 3", i+1)
	}
	if diff := cmp.Diff("epoch 3 of 3\nrunning", s.String()); diff != "" {
		t.Error(diff)
	}
	_, _ = l.Write([]byte(" done\nnext"))
	if diff := cmp.Diff("epoch 3 of 3 done\nnext\nrunning", s.String()); diff != "" {
		t.Error(diff)
	}
	_ = l.Close()
	if diff := cmp.Diff("epoch 3 of 3 done\nnext", s.String()); diff != "" {
		t.Error(diff)
	}
}

func TestLiveCutsToTheWidth(t *testing.T) {
	t.Parallel()
	s := &screen{}
	l := newLive(s, 10)
	_, _ = l.Write([]byte("a partial line that is long"))
	l.Set("a status that is long")
	if diff := cmp.Diff("a partia…\na status…", s.String()); diff != "" {
		t.Error(diff)
	}
	_ = l.Close()
	if diff := cmp.Diff("a partial line that is long", s.String()); diff != "" {
		t.Error(diff)
	}
}

// TestLiveLosesNothing: whatever the pieces, the bytes of the output come through
// in order.
func TestLiveLosesNothing(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := render.NewLive(&out, &bytes.Buffer{}, func() int { return 80 })
	var want bytes.Buffer
	long := strings.Repeat("x", 100_000)
	for i, piece := range []string{"a", "b\n", "", "c\nd", long, "\n", "\r\r", "e\n", "f"} {
		l.Set(fmt.Sprint("status ", i))
		want.WriteString(piece)
		_, _ = l.Write([]byte(piece))
	}
	_ = l.Close()
	if got := out.String(); got != want.String()+"\n" {
		t.Errorf("%d bytes came through of %d", len(got), want.Len())
	}
}

func TestLiveFromSeveralGoroutines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := render.NewLive(&out, &bytes.Buffer{}, func() int { return 80 })
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for i := range 100 {
				l.Set(fmt.Sprint(i))
				_, _ = l.Write([]byte("line\n"))
			}
		})
	}
	writers.Wait()
	_ = l.Close()
	if got := strings.Count(out.String(), "line\n"); got != 400 {
		t.Errorf("%d lines of 400", got)
	}
}
