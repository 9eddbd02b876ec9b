package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/millrace/millrace/internal/document"
)

// problem is a function to be minimised over a space.
type problem struct {
	name  string
	space string // as hyperparams
	least float64
	value func(document.Object) float64
}

// cube is a space of n parameters x0, x1, ….
func cube(n int, low, high float64) string {
	var fields []string
	for i := range n {
		fields = append(fields, fmt.Sprintf(`"x%d":{"low":%.1f,"high":%.1f}`, i, low, high))
	}
	return "{" + strings.Join(fields, ",") + "}"
}

func vector(p document.Object) []float64 {
	x := make([]float64, len(p))
	for i := range x {
		x[i], _ = document.ToFloat(p[fmt.Sprintf("x%d", i)])
	}
	return x
}

// The standard functions, in their usual domains.
var problems = []problem{
	{"sphere (5)", cube(5, -5, 5), 0, func(p document.Object) float64 {
		f := 0.0
		for _, x := range vector(p) {
			f += x * x
		}
		return f
	}},
	{"Rosenbrock (2)", cube(2, -2, 2), 0, func(p document.Object) float64 {
		x := vector(p)
		return 100*math.Pow(x[1]-x[0]*x[0], 2) + math.Pow(1-x[0], 2)
	}},
	{"Branin (2)", `{"x0":{"low":-5.0,"high":10.0},"x1":{"low":0.0,"high":15.0}}`, 0.39788735772973816, func(p document.Object) float64 {
		x := vector(p)
		return math.Pow(x[1]-5.1/(4*math.Pi*math.Pi)*x[0]*x[0]+5/math.Pi*x[0]-6, 2) + 10*(1-1/(8*math.Pi))*math.Cos(x[0]) + 10
	}},
	{"Hartmann (6)", cube(6, 0, 1), -3.322368011391339, hartmann},
	{"Rastrigin (3)", cube(3, -5.12, 5.12), 0, func(p document.Object) float64 {
		f := 0.0
		for _, x := range vector(p) {
			f += 10 + x*x - 10*math.Cos(2*math.Pi*x)
		}
		return f
	}},
	{"mixed (5)", `{"rate":{"low":0.00001,"high":1.0,"log":true},"depth":{"low":1,"high":32},"loss":["a","b","c","d"],"norm":[true,false],"drop":{"low":0.0,"high":1.0}}`, 0, blend},
}

func hartmann(p document.Object) float64 {
	alpha := []float64{1, 1.2, 3, 3.2}
	a := [][]float64{{10, 3, 17, 3.5, 1.7, 8}, {0.05, 10, 17, 0.1, 8, 14}, {3, 3.5, 1.7, 10, 17, 8}, {17, 8, 0.05, 10, 0.1, 14}}
	at := [][]float64{
		{.1312, .1696, .5569, .0124, .8283, .5886}, {.2329, .4135, .8307, .3736, .1004, .9991},
		{.2348, .1451, .3522, .2883, .3047, .6650}, {.4047, .8828, .8732, .5743, .1091, .0381},
	}
	f := 0.0
	for i := range alpha {
		inner := 0.0
		for j, x := range vector(p) {
			inner += a[i][j] * math.Pow(x-at[i][j], 2)
		}
		f -= alpha[i] * math.Exp(-inner)
	}
	return f
}

// blend looks like the error of a model: a rate on a logarithmic scale, an integer,
// a share, and two choices, of which one shifts the best rate.
func blend(p document.Object) float64 {
	rate, _ := document.ToFloat(p["rate"])
	depth, _ := document.ToFloat(p["depth"])
	drop, _ := document.ToFloat(p["drop"])
	best, f := -2.0, 0.0
	if p["norm"] != true {
		best, f = -3, 0.2
	}
	f += map[any]float64{"a": 0.5, "b": 0.1, "c": 0, "d": 0.8}[p["loss"]]
	return f + 0.1*math.Pow(math.Log10(rate)-best, 2) + math.Pow((depth-11)/16, 2) + math.Pow(drop-0.3, 2)
}
