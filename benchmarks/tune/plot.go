package main

import (
	"bytes"
	"fmt"
	"math"
)

var colours = map[string]string{"random": "#9a9a9a", "tpe": "#1a66b3", "Optuna": "#d9822b"}

// draw makes one panel for each function: median regret over iterations, on a
// logarithmic scale.
func draw(methods []string, all map[string][]curves, budget int) []byte {
	const width, height, left, top = 300, 190, 46, 26
	var out bytes.Buffer
	rows := (len(problems) + 2) / 3
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", 3*width+20, rows*height+30)
	out.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	for i, p := range problems {
		x0, y0 := float64(i%3*width+left), float64(i/3*height+top)
		w, h := float64(width-left-14), float64(height-top-26)
		low, high := math.Inf(1), math.Inf(-1)
		for _, m := range methods {
			for at := range budget {
				f := math.Log10(math.Max(all[m][i].quantile(at, 0.5), 1e-6))
				low, high = math.Min(low, f), math.Max(high, f)
			}
		}
		low, high = math.Floor(low), math.Ceil(high)
		fmt.Fprintf(&out, `<text x="%.0f" y="%.0f" font-weight="bold">%s</text>`+"\n", x0, y0-8, p.name)
		for e := low; e <= high; e++ {
			y := y0 + h*(high-e)/(high-low)
			fmt.Fprintf(&out, `<path d="M%.0f %.1fH%.0f" stroke="#e4e4e4"/><text x="%.0f" y="%.1f" text-anchor="end" fill="#555">1e%.0f</text>`+"\n", x0, y, x0+w, x0-4, y+4, e)
		}
		fmt.Fprintf(&out, `<text x="%.0f" y="%.0f" text-anchor="end" fill="#555">%d</text>`+"\n", x0+w, y0+h+14, budget)
		for _, m := range methods {
			fmt.Fprintf(&out, `<polyline fill="none" stroke="%s" stroke-width="1.8" points="`, colours[m])
			for at := range budget {
				f := math.Log10(math.Max(all[m][i].quantile(at, 0.5), 1e-6))
				fmt.Fprintf(&out, "%.1f,%.1f ", x0+w*float64(at)/float64(max(budget-1, 1)), y0+h*(high-f)/(high-low))
			}
			out.WriteString(`"/>` + "\n")
		}
	}
	for k, m := range methods {
		x, y := left+k*120, rows*height+16
		fmt.Fprintf(&out, `<path d="M%d %dh22" stroke="%s" stroke-width="2.5"/><text x="%d" y="%d">%s</text>`+"\n", x, y-4, colours[m], x+28, y, m)
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}
