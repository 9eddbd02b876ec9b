package sdk

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/tune"
	"github.com/millrace/millrace/test/harness"
)

// task is an iterative task as a client writes it: raw JSON, since the order of
// the names counts.
type task struct {
	name    string
	values  string // of hyperparams
	options string
	file    string // content of the param_file
	suffix  string
	results []document.Object
}

// TestGenerators compares the iterations of this module with those that the
// package makes of the same task by itself.
func TestGenerators(t *testing.T) {
	cases := append(fixedTasks(), randomTasks(150)...)
	folder := t.TempDir()
	var input bytes.Buffer
	for i := range cases {
		c := &cases[i]
		options := c.options
		if c.suffix != "" {
			path := filepath.Join(folder, fmt.Sprintf("p%d%s", i, c.suffix))
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			options = strings.TrimSuffix(options, "}")
			if options != "{" {
				options += ","
			}
			options += `"param_file":` + string(document.Encode(path)) + "}"
			c.options = options
		}
		values := c.values
		if values == "" {
			values = "null"
		}
		results := []any{}
		for _, r := range c.results {
			results = append(results, r)
		}
		fmt.Fprintf(&input, `{"spec":{"parameters":{},"hyperparams":%s,"hyper_param_options":%s},"results":%s}`+"\n", values, options, document.Encode(results))
	}
	for _, release := range releases {
		t.Run(release.version, func(t *testing.T) {
			python := install(t, release)
			cmd := exec.CommandContext(t.Context(), python, "-W", "ignore", filepath.Join(harness.Root(), "test", "sdk", "generators.py"))
			cmd.Stdin = bytes.NewReader(input.Bytes())
			cmd.Dir = folder
			cmd.Env = append(os.Environ(), "MLRUN_DBPATH=", "HOME="+folder)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			output, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			lines := bufio.NewScanner(bytes.NewReader(output))
			lines.Buffer(nil, 16<<20)
			for _, c := range cases {
				if !lines.Scan() {
					t.Fatalf("no answer for %s", c.name)
				}
				theirs, err := document.DecodeObject(lines.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				compare(t, c, theirs)
			}
		})
	}
}

func compare(t *testing.T, c task, theirs document.Object) {
	t.Helper()
	if said := document.String(theirs, "error"); said != "" {
		t.Errorf("%s: the package says %s; the case compares nothing\n%s %s", c.name, said, c.values, c.options)
		return
	}
	options, err := document.DecodeObject([]byte(c.options))
	if err != nil {
		t.Fatal(err)
	}
	o, err := tune.ParseOptions(document.Object{"spec": document.Object{"hyper_param_options": options}})
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	var values *tune.Values
	if c.suffix != "" {
		values, err = tune.ParseFile("p"+c.suffix, []byte(c.file))
	} else {
		values, err = tune.ParseValues([]byte(c.values), "hyperparams")
	}
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	search, err := tune.New(o, values, 0)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	var parameters []any
	var rows []tune.Row
	for {
		trial, ok := search.Next()
		if !ok {
			break
		}
		parameters = append(parameters, trial.Point.Object())
		if len(c.results) >= trial.Iter {
			results := c.results[trial.Iter-1]
			rows = append(rows, tune.Row{Iter: trial.Iter, State: "completed", Parameters: trial.Point, Results: results})
			search.Tell(tune.Outcome{Iter: trial.Iter, State: "completed", Results: results})
		}
	}
	want := document.List(theirs, "parameters")
	if o.Strategy == tune.Random {
		if len(want) != len(parameters) {
			t.Errorf("%s: %d iterations, the package %d", c.name, len(parameters), len(want))
		}
		return
	}
	if !same(want, parameters) {
		t.Errorf("%s: %s %s\nhere        %s\nthe package %s", c.name, c.values, c.file, document.Encode(parameters), document.Encode(want))
	}
	if len(rows) == 0 {
		return
	}
	if best, _ := document.Int(theirs, "best"); int(best) != search.Best().Iter {
		t.Errorf("%s: best iteration %d, the package %d", c.name, search.Best().Iter, best)
	}
	if table := tune.NewTable(rows).Document(); !same(document.List(theirs, "table"), table) {
		t.Errorf("%s: table\nhere        %s\nthe package %s", c.name, document.Encode(table), document.Encode(document.List(theirs, "table")))
	}
}

// same compares values as Python does, with a missing value as NaN or None: the
// package turns integers into floats here and there.
func same(a, b any) bool {
	if a == nil || b == nil {
		return missing(a) && missing(b)
	}
	switch x := a.(type) {
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !same(x[i], y[i]) {
				return false
			}
		}
		return true
	case document.Object:
		y, ok := b.(document.Object)
		if !ok || len(x) != len(y) {
			return false
		}
		for key := range x {
			if _, there := y[key]; !there || !same(x[key], y[key]) {
				return false
			}
		}
		return true
	case string, bool:
		return a == b
	}
	x, okX := document.ToFloat(a)
	y, okY := document.ToFloat(b)
	return missing(a) && missing(b) || okX && okY && x == y
}

func missing(v any) bool {
	f, ok := v.(float64)
	return v == nil || ok && f != f
}

func fixedTasks() []task {
	return []task{
		{name: "two keys", values: `{"p2":[2,1,3],"p3":[10,20]}`, options: `{}`},
		{name: "names against the alphabet", values: `{"z":[1,2],"a":[3,4],"m":[5,6]}`, options: `{"strategy":"grid"}`},
		{name: "nested values", values: `{"net":[[1,2],{"a":[3]},null],"s":["x",""]}`, options: `{}`},
		{name: "random, default count", values: `{"a":[1,2,3]}`, options: `{"strategy":"random"}`},
		{name: "random, capped", values: `{"a":[1,2,3]}`, options: `{"strategy":"random","max_iterations":17}`},
		{name: "list", values: `{"a":[1,2],"b":["x","y"]}`, options: `{"strategy":"list"}`},
		{name: "list of integers and floats", values: `{"a":[1,2],"b":[0.5,1.5]}`, options: `{"strategy":"list"}`},
		{name: "CSV", suffix: ".csv", file: "p1,p2,s\n1,2.5,\"a,b\"\n3,4,c\n", options: `{}`},
		{name: "CSV with a byte-order mark", suffix: ".csv", file: "\ufeffp1,p2\n1,x\n2,y\n", options: `{"strategy":"list"}`},
		{name: "CSV with missing cells", suffix: ".csv", file: "i,f,b,s\n1,0.5,True,x\n,NA,,\n3,inf,False,NaN\n", options: `{}`},
		{name: "CSV of types", suffix: ".csv", file: "i,f,b,m,big,e\n1,1.0,true,True,9007199254740993,1e3\n-2,-.5,FALSE,x,2,2\n", options: `{}`},
		{name: "JSON file", suffix: ".json", file: `{"b":[1,2],"a":[3,4]}`, options: `{}`},
		{name: "JSON file, random", suffix: ".json", file: `{"b":[1,2],"a":[3,4]}`, options: `{"strategy":"random","max_iterations":3}`},
		{name: "table", values: `{"a":[1,2,3]}`, options: `{"selector":"max.acc"}`, results: []document.Object{
			{"acc": 0.5, "m": document.Object{"x": 1}}, {"acc": 0.9, "t": "v"}, {"acc": 0.9},
		}},
		{name: "nested parameters in the table", values: `{"a":[{"k":1,"l":{"m":2}},{"k":3}],"b":["x"]}`, options: `{"selector":"min.loss"}`, results: []document.Object{
			{"loss": 2.5}, {"loss": "1.5"},
		}},
	}
}

// randomTasks makes tasks of many shapes, the same ones each time.
func randomTasks(n int) []task {
	rng := rand.New(rand.NewPCG(1, 2))
	integers := func() string { return fmt.Sprint(rng.IntN(200) - 100) }
	floats := func() string { b, _ := json.Marshal(float64(rng.IntN(4000))/64 + 1.0/128); return string(b) }
	texts := func() string {
		return string(document.Encode([]string{"x", "", "ü", "a,b", "1", "true"}[rng.IntN(6)]))
	}
	booleans := func() string { return []string{"true", "false"}[rng.IntN(2)] }
	objects := func() string {
		return []string{`{"k":` + integers() + `}`, `[` + integers() + `,"y"]`, `[]`}[rng.IntN(3)]
	}
	kinds := []func() string{integers, floats, texts, booleans, objects}
	var out []task
	for i := range n {
		strategy := []string{"grid", "list"}[rng.IntN(2)]
		rows := 1 + rng.IntN(4)
		var fields []string
		for k, at := range rng.Perm(5)[:1+rng.IntN(4)] {
			if strategy == "grid" {
				rows = 1 + rng.IntN(4)
			}
			kind := kinds[rng.IntN(len(kinds))]
			var list []string
			for range rows {
				list = append(list, kind())
			}
			fields = append(fields, fmt.Sprintf(`"%c%d":[%s]`, 'e'-rune(at), k, strings.Join(list, ",")))
		}
		c := task{name: fmt.Sprintf("random task %d (%s)", i, strategy), values: "{" + strings.Join(fields, ",") + "}"}
		op := []string{"max", "min"}[rng.IntN(2)]
		c.options = fmt.Sprintf(`{"strategy":%q,"selector":"%s.r"}`, strategy, op)
		for range 1 + rng.IntN(5) {
			c.results = append(c.results, document.Object{"r": float64(1+rng.IntN(4)) / 2})
		}
		out = append(out, c)
	}
	return out
}
