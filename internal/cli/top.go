package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/realtime/metrics"
	"github.com/millrace/millrace/internal/render"
)

type topOptions struct {
	names       []string
	allProjects bool
	interval    string
	once        bool
	output      string
}

func newTop(e *env) *cobra.Command {
	var o topOptions
	cmd := &cobra.Command{
		Use:   "top [NAME…]",
		Short: "Watch deployed functions: rate, errors, latency, queue, workers, CPU, memory",
		Long: `Show what deployed functions do, the busiest first, and again every second until q is pressed.
Without a terminal, or with --once or -o json, measure for one interval, print that and end.

REQ/S and ERR/S are events a second; P50 and P99 are latencies of the interval, from the arrival
of an event to its answer, estimated from a histogram; QUEUE is events that wait for a worker;
WORKERS is busy/ready; CPU is cores and MEMORY resident memory of all processes of the function.

` + deploymentReferenceHelp,
		Example: `  millrace top
  millrace top scorer demo/tagger --interval 5s
  millrace top -A -o json`,
		RunE: func(_ *cobra.Command, args []string) error {
			o.names = args
			return e.top(o)
		},
		ValidArgsFunction: e.completeFunctions,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&o.allProjects, "all-projects", "A", false, "functions of all projects")
	flags.StringVar(&o.interval, "interval", "1s", "how long to measure, and how often to show it")
	flags.BoolVar(&o.once, "once", false, "measure once, print it and end")
	flags.StringVarP(&o.output, "output", "o", "", "json: measure once and print a document for each function")
	registerWords(cmd, "output", "json")
	return cmd
}

func (e *env) top(o topOptions) error {
	if o.output != "" && o.output != "json" {
		return usagef("-o %q must be json", o.output)
	}
	interval, err := function.ParseDuration(o.interval)
	if err != nil || interval < 100*time.Millisecond {
		return usagef("--interval %q must be a duration of 100ms or more", o.interval)
	}
	connection, err := e.serving()
	if err != nil {
		return err
	}
	defer connection.Client.Close()
	w := watcher{env: e, client: connection.Client, options: o, interval: interval}
	before, err := w.look(e.soft)
	if err != nil {
		return err
	}
	_, terminal := e.terminal(e.Stdout)
	input, keys := e.Stdin.(*os.File)
	if o.once || o.output != "" || !terminal || !keys || !term.IsTerminal(int(input.Fd())) || e.Getenv("TERM") == "dumb" {
		return w.once(before)
	}
	return w.live(before, input)
}

// watcher measures deployed functions.
type watcher struct {
	*env
	client   *client.Client
	options  topOptions
	interval time.Duration
}

// look is what all functions say now.
type look struct {
	at        time.Time
	functions []seen
}

type seen struct {
	project, name, state string
	silent               bool // its processor does not answer
	reading              metrics.Reading
}

// maxAsked bounds how many functions are asked at a time.
const maxAsked = 16

func (w *watcher) look(ctx context.Context) (look, error) {
	docs, err := w.deployments(ctx)
	if err != nil {
		return look{}, err
	}
	out := look{functions: make([]seen, len(docs))}
	var asking sync.WaitGroup
	turns := make(chan struct{}, maxAsked)
	for i, doc := range docs {
		s := &out.functions[i]
		s.project, s.name = document.String(doc, "metadata", "project"), document.String(doc, "metadata", "name")
		s.state = document.String(doc, "status", "state")
		turns <- struct{}{}
		asking.Go(func() {
			defer func() { <-turns }()
			raw, err := w.client.DeploymentMetrics(ctx, s.project, s.name)
			s.silent, s.reading = err != nil, metrics.Read(raw)
		})
	}
	asking.Wait()
	out.at = time.Now()
	return out, ctx.Err()
}

// deployments are those that the arguments name, or all.
func (w *watcher) deployments(ctx context.Context) ([]document.Object, error) {
	var out []document.Object
	for _, name := range w.options.names {
		doc, err := w.deploymentOf(w.client, name)
		if err != nil {
			return nil, err
		}
		out = append(out, doc)
	}
	if len(out) > 0 {
		return out, nil
	}
	project := ""
	if !w.options.allProjects {
		project, _ = w.project()
	}
	return w.client.Deployments(ctx, project)
}

// row is a function between two looks.
type row struct {
	seen
	rates metrics.Rates
}

// compare makes the rows of a table, the busiest first.
func compare(before, after look) []row {
	out := make([]row, 0, len(after.functions))
	for _, s := range after.functions {
		r := row{seen: s}
		for _, old := range before.functions {
			if old.project == s.project && old.name == s.name && !old.silent && !s.silent {
				r.rates = s.reading.Since(old.reading, after.at.Sub(before.at))
			}
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b row) int {
		switch {
		case a.rates.Events != b.rates.Events:
			return int(max(min(b.rates.Events-a.rates.Events, 1), -1) * 2)
		case a.project != b.project:
			return strings.Compare(a.project, b.project)
		}
		return strings.Compare(a.name, b.name)
	})
	return out
}

func (w *watcher) once(before look) error {
	select {
	case <-time.After(w.interval):
	case <-w.soft.Done():
		return w.soft.Err()
	}
	after, err := w.look(w.soft)
	if err != nil {
		return err
	}
	rows := compare(before, after)
	if w.options.output == "json" {
		docs := make([]any, len(rows))
		for i, r := range rows {
			docs[i] = r.document()
		}
		return w.printDocument("json", docs)
	}
	return w.table(rows).Write(w.Stdout, 0, w.palette(w.Stdout))
}

// live shows a table and again until q, Ctrl-C or the end of the input.
func (w *watcher) live(before look, input *os.File) error {
	state, err := term.MakeRaw(int(input.Fd()))
	if err != nil {
		return fault.Invalid("the terminal cannot be read key by key: %w; use --once", err)
	}
	defer func() { _ = term.Restore(int(input.Fd()), state) }()
	fmt.Fprint(w.Stdout, "\x1b[?1049h\x1b[?25l") // another screen, no cursor
	defer fmt.Fprint(w.Stdout, "\x1b[?25h\x1b[?1049l")
	quit := make(chan struct{})
	go func() { // ends with a key, or with the process: a terminal cannot be read with a deadline
		defer close(quit)
		key := make([]byte, 1)
		for {
			if n, err := input.Read(key); err != nil || n == 1 && (key[0] == 'q' || key[0] == 'Q' || key[0] == 3) {
				return
			}
		}
	}()
	w.draw(compare(before, before), 0)
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	for {
		select {
		case <-quit:
			return nil
		case <-w.soft.Done():
			return nil
		case <-ticker.C:
		}
		after, err := w.look(w.soft)
		if err != nil {
			return err
		}
		w.draw(compare(before, after), after.at.Sub(before.at))
		before = after
	}
}

// draw replaces what is on the screen.
func (w *watcher) draw(rows []row, passed time.Duration) {
	width, _ := w.terminal(w.Stdout)
	var text bytes.Buffer
	title := fmt.Sprintf("%d functions, measured over %s; q quits", len(rows), render.Duration(passed))
	if passed == 0 {
		title = fmt.Sprintf("%d functions, measuring…", len(rows))
	}
	fmt.Fprintf(&text, "%s\n\n", title)
	_ = w.table(rows).Write(&text, width, w.palette(w.Stdout)) // into memory
	lines := strings.ReplaceAll(text.String(), "\n", "\x1b[K\r\n")
	_, _ = io.WriteString(w.Stdout, "\x1b[H"+lines+"\x1b[J")
}

func (w *watcher) table(rows []row) *render.Table {
	t := &render.Table{Headers: []string{"NAME", "STATE", "REQ/S", "ERR/S", "P50", "P99", "QUEUE", "WORKERS", "RESTARTS", "CPU", "MEMORY"}, Flexible: 0}
	for _, r := range rows {
		name := r.name
		if w.options.allProjects {
			name = r.project + "/" + name
		}
		cells := []string{name, r.state, "", "", "", "", "", "", "", "", ""}
		if !r.silent {
			cells = []string{
				name, r.state, decimal(r.rates.Events), decimal(r.rates.Errors), latency(r.rates.P50), latency(r.rates.P99),
				strconv.Itoa(r.reading.Waiting), fmt.Sprintf("%d/%d", r.reading.Busy, r.reading.Workers),
				strconv.FormatFloat(r.reading.Restarts, 'f', 0, 64), decimal(r.rates.CPU), render.Bytes(r.reading.Memory),
			}
		}
		t.Rows = append(t.Rows, cells)
	}
	t.Styles = func(row, column int) render.Style {
		if column == 1 {
			return deployStyle(t.Rows[row][column])
		}
		return render.Plain
	}
	return t
}

// decimal shows a number with the places that matter.
func decimal(value float64) string {
	switch {
	case value == 0:
		return "0"
	case value < 10:
		return strconv.FormatFloat(value, 'f', 2, 64)
	case value < 100:
		return strconv.FormatFloat(value, 'f', 1, 64)
	}
	return strconv.FormatFloat(value, 'f', 0, 64)
}

func latency(d time.Duration) string {
	if d == 0 {
		return ""
	}
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func (r *row) document() document.Object {
	out := document.Object{"project": r.project, "name": r.name, "state": r.state}
	if r.silent {
		return out
	}
	maps.Copy(out, document.Object{
		"events_per_second": r.rates.Events, "errors_per_second": r.rates.Errors, "p50_seconds": r.rates.P50.Seconds(), "p99_seconds": r.rates.P99.Seconds(),
		"waiting": int64(r.reading.Waiting), "workers": int64(r.reading.Workers), "busy": int64(r.reading.Busy), "restarts": int64(r.reading.Restarts),
		"events": int64(r.reading.Events), "errors": int64(r.reading.Errors), "cpu_cores": r.rates.CPU, "memory_bytes": r.reading.Memory,
		"processes": int64(r.reading.Processes),
	})
	return out
}
