package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/render"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/tune"
)

// shownIterations is how many iterations a terminal shows unless more are asked for.
const shownIterations = 50

// checkIterations refuses what only iterations have, and what they have not.
func (o *getOptions) checkIterations() error {
	switch {
	case o.kind == kindIterations && o.name == "":
		return usagef("of which run? write 'millrace get iterations RUN'")
	case o.kind != kindIterations && o.sort != "":
		return usagef("--sort is for iterations")
	}
	return nil
}

// getIterations lists the iterations of the run that is named.
func (e *env) getIterations(c *client.Client, o getOptions) error {
	doc, err := e.findRun(c, o.name)
	if err != nil {
		return err
	}
	key := keyOf(doc)
	width, terminal := e.terminal(e.Stdout)
	cut := o.limit == 0 && terminal && o.output == "table"
	if cut {
		o.limit = shownIterations
	}
	var items []document.Object
	for item, err := range c.Iterations(e.soft, key, client.IterationQuery{Sort: o.sort, States: o.states, Limit: o.limit}) {
		if err != nil {
			return err
		}
		items = append(items, item)
	}
	switch o.output {
	case "json", "yaml":
		list := make([]any, len(items))
		for i, item := range items {
			list[i] = item
		}
		return e.printDocument(o.output, list)
	case "name":
		for _, item := range items {
			if err := e.printf("%d\n", iterOf(item)); err != nil {
				return err
			}
		}
		return nil
	}
	names, err := e.hyperparameters(c, key)
	if err != nil {
		return err
	}
	if o.output == "csv" {
		return e.printIterationsCSV(items, names)
	}
	if len(items) == 0 {
		e.say("millrace: there are no iterations")
		return nil
	}
	if !terminal || o.output == "wide" {
		width = 0
	}
	if err := iterationTable(items, names, o.output == "wide").Write(e.Stdout, width, e.palette(e.Stdout)); err != nil {
		return err
	}
	if cut && len(items) == o.limit {
		e.say("millrace: the first %d; --limit shows more", o.limit)
	}
	return nil
}

// hyperparameters are the names in the order in which they were written; none for a
// run whose iterations its own code made.
func (e *env) hyperparameters(c *client.Client, key run.Key) ([]string, error) {
	progress, err := c.Search(e.soft, key)
	if fault.Is(err, fault.CodeConflict) || fault.Is(err, fault.CodeNotFound) {
		return nil, nil
	}
	return progress.Names, err
}

func iterOf(item document.Object) int {
	iter, _ := document.Int(item, "iter")
	return int(iter)
}

// rowOf is an iteration as a row of its task's table.
func rowOf(item document.Object, names []string) tune.Row {
	return tune.Row{
		Iter: iterOf(item), State: document.String(item, "state"),
		Parameters: tune.PointOf(document.Map(item, "parameters"), names), Results: document.Map(item, "results"),
	}
}

// printIterationsCSV writes the columns of the artifact iteration_results.
func (e *env) printIterationsCSV(items []document.Object, names []string) error {
	var summary tune.Summary
	for _, item := range items {
		summary.Scan(rowOf(item, names))
	}
	if len(items) == 0 {
		return nil
	}
	summary.Begin(e.Stdout, len(items), 0, 0)
	for _, item := range items {
		if err := summary.Add(rowOf(item, names)); err != nil {
			return fmt.Errorf("write the table of iterations: %w", err)
		}
	}
	return summary.Flush()
}

// iterationTable is what a person sees.
func iterationTable(items []document.Object, names []string, wide bool) *render.Table {
	var summary tune.Summary
	for _, item := range items {
		summary.Scan(rowOf(item, names))
	}
	summary.Begin(io.Discard, len(items), len(items), 0)
	for _, item := range items {
		_ = summary.Add(rowOf(item, names)) // nothing is written anywhere
	}
	table := summary.Table()
	t := &render.Table{Headers: []string{"ITER", "STATE", "TOOK"}, Flexible: -1}
	for _, name := range table.Header[2:] {
		t.Headers = append(t.Headers, strings.ToUpper(name))
	}
	failed := slices.ContainsFunc(items, func(item document.Object) bool {
		return document.String(item, "error") != "" || document.String(item, "reason") != ""
	})
	if failed {
		t.Headers = append(t.Headers, "ERROR")
		t.Flexible = len(t.Headers) - 1
	}
	for i, cells := range table.Rows {
		item := items[i]
		row := []string{strconv.Itoa(iterOf(item)), document.String(item, "state"), tookText(item)}
		for _, cell := range cells[2:] {
			text := ""
			if cell != nil {
				text = shortValue(cell)
			}
			row = append(row, text)
		}
		if failed {
			text := oneLine(document.String(item, "error"))
			if text == "" {
				text = document.String(item, "reason")
			}
			if !wide {
				text = render.Cut(text, 60)
			}
			row = append(row, text)
		}
		t.Rows = append(t.Rows, row)
	}
	t.Styles = func(row, column int) render.Style {
		if column == 1 {
			return render.StateStyle(t.Rows[row][column])
		}
		return render.Plain
	}
	return t
}

// tookText is how long an iteration ran, "" while it does.
func tookText(item document.Object) string {
	start, err := document.ParseTime(document.String(item, "start_time"))
	if err != nil {
		return ""
	}
	end, err := document.ParseTime(document.String(item, "end_time"))
	if err != nil || end.Before(start) {
		return ""
	}
	return render.Duration(end.Sub(start))
}
