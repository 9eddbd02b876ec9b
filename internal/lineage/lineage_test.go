package lineage

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/fault"
)

// memory is a graph in memory.
type memory struct{ edges []Edge }

func (m memory) Nodes(_ context.Context, ids []string) (out []Node, err error) {
	for _, id := range ids {
		ref, err := ParseID(id)
		if err != nil {
			return nil, err
		}
		out = append(out, Node{ID: id, Kind: ref.Kind, Title: ref.Name})
	}
	return out, nil
}

func (m memory) Neighbours(_ context.Context, ids []string, to Direction, limit int) ([]Around, error) {
	out := make([]Around, len(ids))
	for i, id := range ids {
		for _, e := range m.edges {
			if to == Up && e.To == id || to == Down && e.From == id {
				out[i].Edges = append(out[i].Edges, e)
			}
		}
		out[i].More = len(out[i].Edges) > limit
		out[i].Edges = out[i].Edges[:min(limit, len(out[i].Edges))]
	}
	return out, nil
}

func edges(pairs ...string) []Edge {
	var out []Edge
	for _, pair := range pairs {
		from, to, _ := strings.Cut(pair, " ")
		out = append(out, Edge{From: "data:" + from, To: "data:" + to, Role: RoleInput, Name: "x"})
	}
	return out
}

func TestWalk(t *testing.T) {
	t.Parallel()
	diamond := edges("a b", "a c", "b d", "c d", "d e", "x c")
	for _, c := range []struct {
		name  string
		edges []Edge
		q     Question
		nodes string
		n     int // edges
		cut   string
	}{
		{"up", diamond, Question{Root: "data:d", Direction: Up}, "d b c a x", 5, ""},
		{"down", diamond, Question{Root: "data:a", Direction: Down}, "a b c d e", 5, ""},
		{"both does not turn", diamond, Question{Root: "data:b", Direction: Both}, "b a d e", 3, ""},
		{"depth", diamond, Question{Root: "data:a", Direction: Down, Depth: 1}, "a b c", 2, "b c"},
		{"depth that suffices", diamond, Question{Root: "data:a", Direction: Down, Depth: 3}, "a b c d e", 5, ""},
		{"nodes", diamond, Question{Root: "data:a", Direction: Down, Nodes: 2}, "a b", 1, "a b"},
		{"fan", diamond, Question{Root: "data:a", Direction: Down, Fan: 1}, "a b d e", 3, "a"},
		{"a cycle", edges("a b", "b c", "c a"), Question{Root: "data:a", Direction: Both}, "a c b", 3, ""},
		{"an edge to itself", edges("a a", "a b"), Question{Root: "data:a"}, "a b", 1, ""},
		{"alone", nil, Question{Root: "data:a"}, "a", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g, err := Walk(t.Context(), memory{c.edges}, c.q)
			if err != nil {
				t.Fatal(err)
			}
			var nodes, cut []string
			for _, n := range g.Nodes {
				nodes = append(nodes, n.Title)
			}
			for id := range g.Cut {
				cut = append(cut, strings.TrimPrefix(id, "data:"))
			}
			slices.Sort(cut)
			if strings.Join(nodes, " ") != c.nodes || len(g.Edges) != c.n || strings.Join(cut, " ") != c.cut {
				t.Errorf("nodes %v, %d edges, cut %v", nodes, len(g.Edges), cut)
			}
			again := FromDocument(g.Document())
			if diff := cmp.Diff(g, again); diff != "" {
				t.Errorf("the document is not the graph: %s", diff)
			}
			wellFormed(t, g.SVG())
		})
	}
}

func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the drawing is no XML: %v", err)
		}
	}
}

// TestLargeDrawings: as many nodes as an answer may have, in few layers and in many.
func TestLargeDrawings(t *testing.T) {
	t.Parallel()
	for _, fan := range []int{1000, 30, 2} {
		g := &Graph{Root: "run:p/u0", Direction: Down, Nodes: []Node{{ID: "run:p/u0", Kind: Run, Title: "u0"}}}
		for i := 1; i < 1000; i++ {
			id := fmt.Sprint("run:p/u", i)
			g.Nodes = append(g.Nodes, Node{ID: id, Kind: Run, Title: fmt.Sprint("step ", i), State: "completed", URI: strings.Repeat("0", 32)})
			g.Edges = append(g.Edges, Edge{From: fmt.Sprint("run:p/u", (i-1)/fan), To: id, Role: RoleInput, Name: "data"})
		}
		svg := g.SVG()
		wellFormed(t, svg)
		for i := range 1000 {
			if title := fmt.Sprintf(">%s<", g.Nodes[i].Title); !strings.Contains(string(svg), title) {
				t.Fatalf("fan %d: there is no %q", fan, title)
			}
		}
		if len(svg) > 1<<20 {
			t.Errorf("fan %d: %d bytes", fan, len(svg))
		}
	}
}

func TestQuestionRefuses(t *testing.T) {
	t.Parallel()
	for _, q := range []Question{{Direction: "sideways"}, {Depth: -1}, {Depth: MaxDepth + 1}, {Nodes: MaxNodes + 1}, {Fan: MaxFan + 1}} {
		if err := q.Validate(); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]Ref{
		FunctionID("p", "f", "0a", "v1"): {Kind: Function, Project: "p", Name: "f", Version: "0a"},
		FunctionID("p", "f", "", "v1"):   {Kind: Function, Project: "p", Name: "f", Tag: "v1"},
		RunID("p", "u-1", 0):             {Kind: Run, Project: "p", Name: "u-1"},
		RunID("p", "u", 7):               {Kind: Run, Project: "p", Name: "u", Iter: 7},
		ArtifactID("p", "a@b", "0a"):     {Kind: Artifact, Project: "p", Name: "a@b", Version: "0a"},
		DataID("s3://b/k@1#2"):           {Kind: Data, Name: "s3://b/k@1#2"},
		ContentID("sha256:0a"):           {Kind: Content, Name: "sha256:0a"},
	} {
		if got, err := ParseID(id); err != nil || got != want {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	for _, bad := range []string{"", "run", "run:", "run:p", "run:p/", "run:/u", "run:p/u#x", "run:p/u#-1", "artifact:p/k", "artifact:p/k@", "artifact:p/@u", "other:x"} {
		if _, err := ParseID(bad); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestLayout holds drawings of random graphs to what they promise: edges lead to
// later layers, nothing overlaps, every edge has a path through all its layers.
func TestLayout(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
		n := 1 + random.IntN(30)
		var pairs [][2]int
		for range random.IntN(3 * n) {
			if a, b := random.IntN(n), random.IntN(n); a != b {
				pairs = append(pairs, [2]int{a, b})
			}
		}
		const height, gap = 50.0, 20.0
		l := arrange(n, pairs, func(int) float64 { return height }, gap)
		for i, path := range l.paths {
			from, to := l.places[path[0]], l.places[path[len(path)-1]]
			if from.node != pairs[i][0] || to.node != pairs[i][1] || from.layer == to.layer {
				t.Fatalf("seed %d: edge %v has the path %v", seed, pairs[i], path)
			}
			for k := 1; k < len(path); k++ {
				if step := l.places[path[k]].layer - l.places[path[k-1]].layer; step != 1 && step != -1 {
					t.Fatalf("seed %d: edge %v leaps", seed, pairs[i])
				}
			}
		}
		for _, layer := range l.layers {
			for k := 1; k < len(layer); k++ {
				a, b := l.places[layer[k-1]], l.places[layer[k]]
				need := gap
				for _, p := range []place{a, b} {
					if p.node >= 0 {
						need += height / 2
					} else {
						need += gap / 2
					}
				}
				if b.y-a.y < need-1e-6 {
					t.Fatalf("seed %d: places %v and %v overlap", seed, a, b)
				}
			}
		}
	}
}

// TestCrossings looks at a graph that can be drawn without crossings.
func TestCrossings(t *testing.T) {
	t.Parallel()
	l := arrange(6, [][2]int{{0, 5}, {1, 4}, {2, 3}}, func(int) float64 { return 50 }, 20)
	at := make([]int, len(l.places))
	for _, layer := range l.layers {
		for i, p := range layer {
			at[p] = i
		}
	}
	if n := l.crossings(at); n != 0 {
		t.Errorf("%d crossings", n)
	}
	if n := inversions([]int{3, 1, 2, 1}); n != 4 {
		t.Errorf("%d inversions", n)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	g := &Graph{Root: "artifact:p/model@1", Direction: Both, Cut: map[string]bool{"run:p/u2": true}, Nodes: []Node{
		{ID: "artifact:p/model@1", Kind: Artifact, Title: "model", Type: "model", URI: "store://models/p/model@u1"},
		{ID: "run:p/u1", Kind: Run, Title: "train", State: "completed", URI: "u1", Time: time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)},
		{ID: "data:s3://x", Kind: Data, Title: "s3://x", URI: "s3://x"},
		{ID: "function:p/f@1", Kind: Function, Title: "f", Type: "job", URI: "p/f@1", Gone: true},
		{ID: "run:p/u2", Kind: Run, Title: "eval", State: "error", URI: "u2"},
	}, Edges: []Edge{
		{From: "run:p/u1", To: "artifact:p/model@1", Role: RoleOutput, Name: "model"}, {From: "function:p/f@1", To: "run:p/u1", Role: RoleFunction},
		{From: "data:s3://x", To: "run:p/u1", Role: RoleInput, Name: "raw"}, {From: "artifact:p/model@1", To: "run:p/u2", Role: RoleInput, Name: "m"},
	}}
	want := `artifact  model  model  store://models/p/model@u1

made from
└─ run  train  completed  u1  2024-03-01 12:00:00
   ├─ function  f  job  p/f@1  (not stored)
   └─ raw: data  s3://x

led to
└─ m: run  eval  error  u2
   └─ … more; see --depth, --fan and --nodes
`
	if diff := cmp.Diff(want, g.Text(nil)); diff != "" {
		t.Error(diff)
	}
	g.Nodes[0].Title = "<script>&\"\x00\x1b[31m" + strings.Repeat("é", 100)
	svg := string(g.SVG())
	wellFormed(t, []byte(svg))
	if strings.Contains(svg, "<script") || strings.Contains(svg, "\x1b") {
		t.Error("a title is markup")
	}
}
