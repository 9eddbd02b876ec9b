package cli

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/lineage"
	"github.com/millrace/millrace/internal/render"
)

// TestLineageOnNarrowTerminals: no line is wrapped, and names that users gave send the
// terminal nothing.
func TestLineageOnNarrowTerminals(t *testing.T) {
	t.Parallel()
	g := &lineage.Graph{Root: "run:p/u0", Direction: lineage.Up, Nodes: []lineage.Node{{ID: "run:p/u0", Kind: lineage.Run, Title: "train", State: "completed", URI: strings.Repeat("0", 32)}}}
	for i := range 40 {
		id := fmt.Sprint("run:p/u", i+1)
		g.Nodes = append(g.Nodes, lineage.Node{ID: id, Kind: lineage.Run, Title: "ü世界", State: "error", URI: strings.Repeat("f", 32)})
		g.Edges = append(g.Edges, lineage.Edge{From: id, To: fmt.Sprint("run:p/u", i), Role: lineage.RoleInput, Name: "in\x1b[2Jput\n"})
	}
	for _, width := range []int{0, 20, 40, 80} {
		p, _, _ := testProcess(t)
		p.Terminal = func(io.Writer) (int, bool) { return width, width > 0 }
		out, err := (&env{Process: p}).renderLineage(g.Document(), lineageOptions{output: "text"})
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(out), "\n")
		for _, line := range lines {
			if width > 0 && render.Width(line) > width {
				t.Errorf("width %d: %q", width, line)
			}
		}
		if len(lines) != 44 || strings.Contains(string(out), "\x1b[2J") || width == 0 && strings.Count(string(out), strings.Repeat("f", 32)) != 40 {
			t.Errorf("width %d: %d lines\n%s", width, len(lines), out)
		}
	}
}
