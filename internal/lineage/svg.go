package lineage

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

// Sizes of the drawing, in pixels.
const (
	boxWidth   = 210.0
	boxHeight  = 50.0
	layerSpace = 96.0
	rowSpace   = 22.0
	margin     = 24.0
	legendRoom = 40.0
	titleChars = 25
)

// svgStyle colours the kinds, for light and for dark surroundings. Each kind has a
// shape of its own too, so the drawing does not depend on colour.
const svgStyle = `
text{font-family:ui-sans-serif,system-ui,"Segoe UI","DejaVu Sans",sans-serif;font-size:13px;fill:#1b1f24}
.sub{font-size:11px;fill:#57606a}
.edge{fill:none;stroke:#8c959f;stroke-width:1.4}
.tip{fill:#8c959f}
.label{font-size:10.5px;fill:#57606a;paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}
.paper{fill:#fff}
.shape{stroke-width:1.6}
.function .shape{fill:#f3e8ff;stroke:#8250df}
.run .shape{fill:#ddf4ff;stroke:#0969da}
.artifact .shape{fill:#dafbe1;stroke:#1a7f37}
.data .shape{fill:#fff4d6;stroke:#9a6700}
.content .shape{fill:#eaeef2;stroke:#57606a}
.failed .shape{fill:#ffebe9;stroke:#cf222e}
.gone .shape{stroke-dasharray:4 3}
.root .shape{stroke-width:3.2}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.sub{fill:#9da7b3}.edge{stroke:#6e7681}.tip{fill:#6e7681}
.label{fill:#9da7b3;stroke:#0d1117}.paper{fill:#0d1117}
.function .shape{fill:#2b1d45;stroke:#a371f7}.run .shape{fill:#0c2d4d;stroke:#4493f8}
.artifact .shape{fill:#12321c;stroke:#3fb950}.data .shape{fill:#3a2d0b;stroke:#d29922}
.content .shape{fill:#21262d;stroke:#8b949e}.failed .shape{fill:#4a1518;stroke:#f85149}}
`

// SVG draws the graph from left (what came first) to right.
func (g *Graph) SVG() []byte {
	index := make(map[string]int, len(g.Nodes))
	for i, n := range g.Nodes {
		index[n.ID] = i
	}
	var edges [][2]int
	var names []string
	for _, e := range g.Edges {
		from, ok1 := index[e.From]
		to, ok2 := index[e.To]
		if !ok1 || !ok2 || from == to {
			continue
		}
		edges = append(edges, [2]int{from, to})
		names = append(names, edgeLabel(e))
	}
	l := arrange(len(g.Nodes), edges, func(int) float64 { return boxHeight }, rowSpace)
	bottom := 0.0
	for _, p := range l.places {
		bottom = max(bottom, p.y+boxHeight/2)
	}
	width := margin*2 + float64(len(l.layers))*boxWidth + float64(len(l.layers)-1)*layerSpace
	width = max(width, legendWidth)
	height := margin*2 + bottom + legendRoom
	var b strings.Builder
	root := Node{Title: g.Root}
	if n := g.Node(g.Root); n != nil {
		root = *n
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>Lineage of %s</title>\n<style>%s</style>\n", escape(root.Title), svgStyle)
	fmt.Fprintf(&b, `<rect class="paper" width="100%%" height="100%%"/>`+"\n")
	ports := l.ports()
	for i, path := range l.paths {
		b.WriteString(l.edge(path, names[i], ports[i]))
	}
	for i, p := range l.places {
		if p.node >= 0 {
			g.box(&b, g.Nodes[i], x(p.layer), margin+p.y-boxHeight/2)
		}
	}
	legend(&b, height-margin-12)
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func x(layer int) float64 { return margin + float64(layer)*(boxWidth+layerSpace) }

// edgeLabel is what stands on an edge: which input, or what sort of edge; nothing
// where the ends say it.
func edgeLabel(e Edge) string {
	switch e.Role {
	case RoleInput, RoleContent:
		return e.Name
	case RoleChild:
		return "iteration"
	case RoleRerun:
		return "rerun"
	case RoleCache:
		return "cached"
	}
	return ""
}

// ports spreads the ends of the edges over the side of the node that they lead to,
// in the order in which they come, so that lines and labels keep apart.
func (l *layout) ports() []float64 {
	into := map[int][]int{} // edges by the place where they end
	for i, path := range l.paths {
		into[path[len(path)-1]] = append(into[path[len(path)-1]], i)
	}
	out := make([]float64, len(l.paths))
	for _, edges := range into {
		slices.SortStableFunc(edges, func(a, b int) int { return cmp.Compare(l.before(a), l.before(b)) })
		space := min(15, (boxHeight-16)/float64(len(edges)))
		for i, edge := range edges {
			out[edge] = (float64(i) - float64(len(edges)-1)/2) * space
		}
	}
	return out
}

// before is the height of the last place of an edge before its end.
func (l *layout) before(edge int) float64 {
	path := l.paths[edge]
	return l.places[path[max(0, len(path)-2)]].y
}

// edge draws one through the places of its path, with its label before its end,
// which is port below the middle of the node there.
func (l *layout) edge(path []int, label string, port float64) string {
	type point struct{ x, y float64 }
	var points []point
	for i, at := range path {
		p := l.places[at]
		left, right, y := x(p.layer), x(p.layer)+boxWidth, margin+p.y
		switch {
		case p.node < 0:
			points = append(points, point{left, y}, point{right, y})
		case i == 0:
			points = append(points, point{right, y})
		default:
			points = append(points, point{left - 7, y + port})
		}
	}
	back := len(path) > 1 && l.places[path[0]].layer > l.places[path[len(path)-1]].layer
	if back { // an edge of a cycle: from the left side to the right side
		points[0].x -= boxWidth
		points[len(points)-1].x += boxWidth + 14
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<path class="edge" d="M%.1f %.1f`, points[0].x, points[0].y)
	for i := 1; i < len(points); i++ {
		a, z := points[i-1], points[i]
		middle := (a.x + z.x) / 2
		fmt.Fprintf(&b, " C%.1f %.1f %.1f %.1f %.1f %.1f", middle, a.y, middle, z.y, z.x, z.y)
	}
	b.WriteString(`"/>`)
	end := points[len(points)-1]
	tip := 7.0
	if back {
		tip = -7
	}
	fmt.Fprintf(&b, `<path class="tip" d="M%.1f %.1f l%.1f -4 v8 z"/>`, end.x+tip, end.y, -tip*1.15)
	if label != "" {
		fmt.Fprintf(&b, `<text class="label" text-anchor="end" x="%.1f" y="%.1f">%s</text>`, end.x-3, end.y-4, escape(cut(label, 14)))
	}
	b.WriteByte('\n')
	return b.String()
}

// box draws a node with its kind, title and a line of what else is known.
func (g *Graph) box(b *strings.Builder, n Node, left, top float64) {
	class := string(n.Kind)
	if n.State == "error" || n.State == "aborted" {
		class += " failed"
	}
	if n.Gone {
		class += " gone"
	}
	if n.ID == g.Root {
		class += " root"
	}
	fmt.Fprintf(b, `<g class="%s"><title>%s</title>`, class, escape(n.ID))
	fmt.Fprintf(b, `<path class="shape" d="%s"/>`, shape(n.Kind, left, top, boxWidth, boxHeight))
	if n.Kind == Data {
		top += 4 // below the lid
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f">%s</text>`, left+16, top+21, escape(cut(n.Title, titleChars)))
	fmt.Fprintf(b, `<text class="sub" x="%.1f" y="%.1f">%s</text>`, left+16, top+38, escape(cut(g.sub(n), titleChars+5)))
	if g.Cut[n.ID] {
		fmt.Fprintf(b, `<text class="sub" text-anchor="end" x="%.1f" y="%.1f">+ more</text>`, left+boxWidth-10, top+38)
	}
	b.WriteString("</g>\n")
}

// sub is the second line of a node.
func (g *Graph) sub(n Node) string {
	parts := []string{cmp.Or(n.Type, string(n.Kind))}
	if n.State != "" {
		parts = append(parts, n.State)
	}
	if ref, err := ParseID(n.ID); err == nil && ref.Iter > 0 {
		parts = append(parts, fmt.Sprintf("#%d", ref.Iter))
	}
	if n.Gone {
		parts = append(parts, "not stored")
	}
	if n.Version != "" {
		parts = append(parts, n.Version[:min(8, len(n.Version))])
	}
	return strings.Join(parts, " · ")
}

// shape is the outline of a kind: functions have cut corners, runs are round,
// artifacts a sheet with a folded corner, data a barrel, content a hexagon.
func shape(kind Kind, x, y, w, h float64) string {
	switch kind {
	case Function:
		return fmt.Sprintf("M%.1f %.1f h%.1f l10 10 v%.1f l-10 10 h%.1f l-10 -10 v%.1f z", x+10, y, w-20, h-20, 20-w, 20-h)
	case Run:
		r := h / 2
		return fmt.Sprintf("M%.1f %.1f h%.1f a%.1f %.1f 0 0 1 0 %.1f h%.1f a%.1f %.1f 0 0 1 0 %.1f z", x+r, y, w-2*r, r, r, h, 2*r-w, r, r, -h)
	case Artifact:
		return fmt.Sprintf("M%.1f %.1f h%.1f l14 14 v%.1f h%.1f z M%.1f %.1f v14 h14", x, y, w-14, h-14, -w, x+w-14, y)
	case Data:
		return fmt.Sprintf("M%.1f %.1f a%.1f 6 0 0 1 %.1f 0 v%.1f a%.1f 6 0 0 1 %.1f 0 z M%.1f %.1f a%.1f 6 0 0 0 %.1f 0", x, y+6, w/2, w, h-12, w/2, -w, x, y+6, w/2, w)
	}
	return fmt.Sprintf("M%.1f %.1f h%.1f l12 %.1f l-12 %.1f h%.1f l-12 %.1f z", x+12, y, w-24, h/2, h/2, 24-w, -h/2)
}

const legendWidth = 560.0

// legend says which shape is which.
func legend(b *strings.Builder, y float64) {
	at := margin
	for _, kind := range []Kind{Function, Run, Artifact, Data, Content} {
		fmt.Fprintf(b, `<g class="%s"><path class="shape" d="%s"/></g><text class="sub" x="%.1f" y="%.1f">%s</text>`+"\n", kind, shape(kind, at, y-13, 34, 22), at+42, y+2, kind)
		at += 104
	}
}

func escape(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if r < 0x20 || r == utf8.RuneError || r == 0xFFFE || r == 0xFFFF {
			return ' '
		}
		return r
	}, s))
}

// cut shortens text in its middle, so that both what it begins with and what it
// ends with can be read.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n/2]) + "…" + string(r[len(r)-(n-n/2-1):])
}
