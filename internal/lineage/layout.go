package lineage

import (
	"cmp"
	"slices"
)

// The layout is layered drawing after K. Sugiyama, S. Tagawa and M. Toda, "Methods
// for Visual Understanding of Hierarchical System Structures", IEEE Transactions on
// Systems, Man, and Cybernetics 11(2), 1981: cycles broken, nodes on layers by
// longest paths, long edges led through dummy nodes, the order on each layer by
// barycentres, and positions drawn towards those of the neighbours.

// place is a node of the drawing, or a point that a long edge passes (node < 0).
type place struct {
	node    int
	layer   int
	y       float64 // of its middle
	in, out []int   // places on the layers before and after
}

// layout is where everything is.
type layout struct {
	places []place
	layers [][]int // places of each layer, from top to bottom
	paths  [][]int // of each edge: the places that it passes, first to last
}

// sweeps is how often order and positions are improved; more changes nothing that
// the eye sees.
const sweeps = 12

// arrange lays out n nodes whose edges are pairs of indexes; heights are those of
// the nodes, gap is the least space between two on a layer.
func arrange(n int, edges [][2]int, height func(node int) float64, gap float64) *layout {
	forward := acyclic(n, edges)
	l := &layout{places: make([]place, n), paths: make([][]int, len(edges))}
	for i, layer := range layering(n, forward) {
		l.places[i] = place{node: i, layer: layer}
	}
	for i, e := range forward {
		l.paths[i] = l.lead(e[0], e[1])
		if forward[i] != edges[i] {
			slices.Reverse(l.paths[i])
		}
	}
	for i, p := range l.places {
		for len(l.layers) <= p.layer {
			l.layers = append(l.layers, nil)
		}
		l.layers[p.layer] = append(l.layers[p.layer], i)
	}
	l.order()
	l.position(func(i int) float64 {
		if l.places[i].node < 0 {
			return gap
		}
		return height(l.places[i].node)
	}, gap)
	return l
}

// acyclic turns the edges around that close a cycle, found by depth-first search.
func acyclic(n int, edges [][2]int) [][2]int {
	out := slices.Clone(edges)
	from := make([][]int, n)
	for i, e := range edges {
		from[e[0]] = append(from[e[0]], i)
	}
	const (
		open = 1
		done = 2
	)
	state := make([]int, n)
	var visit func(int)
	visit = func(node int) {
		state[node] = open
		for _, i := range from[node] {
			switch to := edges[i][1]; state[to] {
			case open:
				out[i] = [2]int{to, node}
			case 0:
				visit(to)
			}
		}
		state[node] = done
	}
	for node := range n {
		if state[node] == 0 {
			visit(node)
		}
	}
	return out
}

// layering puts each node one layer after the last of those before it, and then
// those that nothing leads to right before what they lead to.
func layering(n int, edges [][2]int) []int {
	layer, waiting := make([]int, n), make([]int, n)
	after := make([][]int, n)
	for _, e := range edges {
		if e[0] != e[1] {
			after[e[0]] = append(after[e[0]], e[1])
			waiting[e[1]]++
		}
	}
	source := make([]bool, n)
	var ready []int
	for node, count := range waiting {
		if source[node] = count == 0; source[node] {
			ready = append(ready, node)
		}
	}
	for len(ready) > 0 {
		node := ready[0]
		ready = ready[1:]
		for _, to := range after[node] {
			layer[to] = max(layer[to], layer[node]+1)
			if waiting[to]--; waiting[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
	for node := range n {
		if source[node] && len(after[node]) > 0 {
			next := layer[after[node][0]]
			for _, to := range after[node] {
				next = min(next, layer[to])
			}
			layer[node] = next - 1
		}
	}
	return layer
}

// lead connects two places, through one on each layer between.
func (l *layout) lead(from, to int) []int {
	path := []int{from}
	for at := from; at != to; {
		next := to
		if l.places[at].layer+1 < l.places[to].layer {
			next = len(l.places)
			l.places = append(l.places, place{node: -1, layer: l.places[at].layer + 1})
		}
		l.places[at].out = append(l.places[at].out, next)
		l.places[next].in = append(l.places[next].in, at)
		path = append(path, next)
		at = next
	}
	return path
}

// order sorts each layer by the mean position of the neighbours on the layer
// before, then after, and keeps the order with the fewest crossings.
func (l *layout) order() {
	at := make([]int, len(l.places))
	index := func() {
		for _, layer := range l.layers {
			for i, p := range layer {
				at[p] = i
			}
		}
	}
	index()
	best, fewest := cloneLayers(l.layers), l.crossings(at)
	for sweep := range sweeps {
		down := sweep%2 == 0
		for i := range l.layers {
			layer := l.layers[i]
			if !down {
				layer = l.layers[len(l.layers)-1-i]
			}
			key := make(map[int]float64, len(layer))
			for _, p := range layer {
				near := l.places[p].in
				if !down {
					near = l.places[p].out
				}
				key[p] = float64(at[p])
				if len(near) > 0 {
					sum := 0
					for _, q := range near {
						sum += at[q]
					}
					key[p] = float64(sum) / float64(len(near))
				}
			}
			slices.SortStableFunc(layer, func(a, b int) int { return cmp.Compare(key[a], key[b]) })
			for i, p := range layer {
				at[p] = i
			}
		}
		if n := l.crossings(at); n < fewest {
			best, fewest = cloneLayers(l.layers), n
		}
	}
	l.layers = best
}

func cloneLayers(layers [][]int) [][]int {
	out := make([][]int, len(layers))
	for i, layer := range layers {
		out[i] = slices.Clone(layer)
	}
	return out
}

// crossings counts the pairs of edges between neighbouring layers that cross: the
// inversions of the lower ends in the order of the upper ones.
func (l *layout) crossings(at []int) int {
	total := 0
	for _, layer := range l.layers {
		var ends []int
		for _, p := range layer {
			to := make([]int, 0, len(l.places[p].out))
			for _, q := range l.places[p].out {
				to = append(to, at[q])
			}
			slices.Sort(to)
			ends = append(ends, to...)
		}
		total += inversions(ends)
	}
	return total
}

// inversions sorts list and counts the pairs that stood in the wrong order.
func inversions(list []int) int {
	if len(list) < 2 {
		return 0
	}
	left, right := slices.Clone(list[:len(list)/2]), slices.Clone(list[len(list)/2:])
	total := inversions(left) + inversions(right)
	for i, a, b := 0, 0, 0; i < len(list); i++ {
		if b == len(right) || a < len(left) && left[a] <= right[b] {
			list[i] = left[a]
			a++
			continue
		}
		list[i] = right[b]
		total += len(left) - a
		b++
	}
	return total
}

// position moves places towards the mean of their neighbours, as far as the order
// and the gaps allow.
func (l *layout) position(height func(int) float64, gap float64) {
	for _, layer := range l.layers {
		y := 0.0
		for _, p := range layer {
			l.places[p].y = y + height(p)/2
			y += height(p) + gap
		}
	}
	for sweep := range sweeps * 2 {
		for i := range l.layers {
			layer := l.layers[i]
			if sweep%2 == 1 {
				layer = l.layers[len(l.layers)-1-i]
			}
			want := make([]float64, len(layer))
			for k, p := range layer {
				near := l.places[p].in
				if sweep%2 == 1 || len(near) == 0 {
					near = l.places[p].out
				}
				if sweep >= sweeps*2-2 {
					near = append(slices.Clone(l.places[p].in), l.places[p].out...)
				}
				want[k] = l.places[p].y
				if len(near) > 0 {
					sum := 0.0
					for _, q := range near {
						sum += l.places[q].y
					}
					want[k] = sum / float64(len(near))
				}
			}
			l.settle(layer, want, height, gap)
		}
	}
	least := 0.0
	for i := range l.places {
		least = min(least, l.places[i].y-height(i)/2)
	}
	for i := range l.places {
		l.places[i].y -= least
	}
}

// settle gives the places of a layer the positions nearest to want, in the sense
// of least squares, that keep their order and distance (pool adjacent violators).
func (l *layout) settle(layer []int, want []float64, height func(int) float64, gap float64) {
	type block struct {
		sum   float64 // of want less the offset
		count int
	}
	offset := make([]float64, len(layer))
	var blocks []block
	for i := range layer {
		if i > 0 {
			offset[i] = offset[i-1] + (height(layer[i-1])+height(layer[i]))/2 + gap
		}
		blocks = append(blocks, block{want[i] - offset[i], 1})
		for len(blocks) > 1 {
			a, b := blocks[len(blocks)-2], blocks[len(blocks)-1]
			if a.sum/float64(a.count) <= b.sum/float64(b.count) {
				break
			}
			blocks = append(blocks[:len(blocks)-2], block{a.sum + b.sum, a.count + b.count})
		}
	}
	i := 0
	for _, b := range blocks {
		for range b.count {
			l.places[layer[i]].y = b.sum/float64(b.count) + offset[i]
			i++
		}
	}
}
