package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/code/pycompare"
	"github.com/millrace/millrace/internal/diff"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/render"
)

// diffOptions are the flags of `diff`.
type diffOptions struct {
	a, b      string
	output    string
	behaviour bool
}

func newDiff(e *env) *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Show how two functions, or two runs, differ",
		Long: `Show how two functions, or two runs, differ.

Functions are paths, or [PROJECT/]NAME[:TAG][@HASH] of stored ones. Their code is shown as a unified
diff, with a verdict: identical; cosmetic, when the syntax trees say that no execution can tell
the two apart (the code is read, not executed); or behaviour may differ. The other fields are
shown by what they are about: behaviour, resources, placement, metadata.

Runs are named by uid, at least 4 characters from its beginning, or by name (the latest of that
name). Compared are code, parameters, inputs, environment, seed, machine, state, results,
artifacts and duration; machine and duration alone make no difference.

Values of fields that are called like a secret are compared and not shown.

Exit status: 0 nothing differs, 1 something does, 2 the command line is wrong or there is no answer.
With --behaviour, functions that do the same for certain count as equal.`,
		Example: `  millrace diff train.py demo/trainer:latest
  millrace diff demo/trainer:v1 demo/trainer:v2 --behaviour
  millrace diff 3f2a9c81 77b0e4d2
  millrace diff 3f2a9c81 77b0e4d2 -o json`,
		Args: arguments(2, 2, "two functions or two runs"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.a, o.b = args[0], args[1]
			return trouble(e.diff(o))
		},
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	cmd.Flags().StringVarP(&o.output, "output", "o", "text", "text, json or yaml")
	cmd.Flags().BoolVar(&o.behaviour, "behaviour", false, "functions: what can not change behaviour is no difference to the exit status")
	registerWords(cmd, "output", "text", "json", "yaml")
	return cmd
}

// comparison is what `diff` prints.
type comparison interface{ Document() document.Object }

func (e *env) diff(o diffOptions) error {
	if err := checkOutput(o.output, "text", "json", "yaml"); err != nil {
		return err
	}
	var result comparison
	var text string
	var equal bool
	err := e.diffSides(o, func(a, b *side) error {
		if a.run != nil {
			if o.behaviour {
				return usagef("--behaviour is about functions, and these are runs")
			}
			left, right := diff.RunSide{Doc: a.run, Packages: e.lockedPackages(a.run)}, diff.RunSide{Doc: b.run, Packages: e.lockedPackages(b.run)}
			if left.Packages == nil || right.Packages == nil {
				left.Packages, right.Packages = nil, nil // then the digests of the locks are compared
			}
			d := diff.CompareRuns(left, right)
			result, text, equal = d, runsText(d, e.palette(e.Stdout)), d.Equal()
			return nil
		}
		comparer := pycompare.New(cmp.Or(e.Getenv("MILLRACE_PYTHON"), "python3"))
		d, err := diff.CompareFunctions(e.soft, o.a, o.b, a.function, b.function, comparer)
		if err != nil {
			return err
		}
		result, text, equal = d, functionsText(d, e.palette(e.Stdout)), d.Equal() || o.behaviour && d.SameBehaviour()
		return nil
	})
	if err != nil {
		return err
	}
	if o.output != "text" {
		err = e.printDocument(o.output, result.Document())
	} else {
		err = e.printf("%s", text)
	}
	if err == nil && !equal {
		err = exitError(ExitFailed)
	}
	return err
}

// side is one of the two things compared: a run or a function.
type side struct {
	run      document.Object
	function *function.Function
}

func (s *side) kind() string {
	if s.run != nil {
		return "a run"
	}
	return "a function"
}

// diffSides finds what is compared; files alone need no connection.
func (e *env) diffSides(o diffOptions, compare func(a, b *side) error) error {
	both := func(c *client.Client) error {
		a, err := e.side(c, o.a)
		if err != nil {
			return err
		}
		b, err := e.side(c, o.b)
		if err != nil {
			return err
		}
		if a.kind() != b.kind() {
			return usagef("%s is %s and %s is %s; two of a kind can be compared", o.a, a.kind(), o.b, b.kind())
		}
		return compare(a, b)
	}
	if e.isPath(o.a) && e.isPath(o.b) {
		return both(nil)
	}
	return e.with(func(connection *Connection) error { return both(connection.Client) })
}

// side finds what name means: a path, a run's uid, a stored function, a run's name.
func (e *env) side(c *client.Client, name string) (*side, error) {
	if e.isPath(name) {
		dataDir, err := e.dataDir()
		if err != nil {
			return nil, err
		}
		f, err := e.load(name, dataDir, code.Options{})
		return &side{function: f}, err
	}
	hex := isUID(name) || isUIDPrefix(name)
	if hex {
		doc, err := e.findRun(c, name)
		if err == nil {
			return e.runSide(c, doc)
		}
		if !fault.Is(err, fault.CodeNotFound) {
			return nil, err
		}
	}
	doc, err := e.storedFunction(c, name)
	if err == nil {
		f, err := function.Parse(doc)
		return &side{function: f}, err
	}
	if strings.ContainsAny(name, "/:@") || !fault.Is(err, fault.CodeNotFound) && !fault.Is(err, fault.CodeInvalid) {
		return nil, err
	}
	if !hex {
		if doc, err := e.findRun(c, name); err == nil {
			return e.runSide(c, doc)
		}
	}
	return nil, fault.NotFound("there is no function and no run %q; give a path, a function as [project/]name[:tag][@hash], or a run by its uid", name)
}

// runSide reads a run whole: lists leave out its artifacts.
func (e *env) runSide(c *client.Client, doc document.Object) (*side, error) {
	whole, err := c.Run(e.soft, keyOf(doc))
	return &side{run: whole}, err
}

// functionsText shows how functions differ.
func functionsText(d *diff.Functions, palette render.Palette) string {
	var b strings.Builder
	style := map[diff.Verdict]render.Style{diff.Identical: render.Green, diff.Cosmetic: render.Green, diff.MayDiffer: render.Yellow}[d.Verdict]
	fmt.Fprintf(&b, "code: %s (%s)\n", palette.Paint(style, string(d.Verdict)), oneLine(d.Reason))
	if len(d.Changed) > 0 {
		fmt.Fprintf(&b, "  in %s\n", render.StripEscapes(oneLine(strings.Join(d.Changed, ", "))))
	}
	b.WriteString(colourDiff(d.Code, palette))
	last := diff.Meaning("")
	for _, f := range d.Fields {
		if f.Meaning != last {
			fmt.Fprintf(&b, "%s:\n", f.Meaning)
			last = f.Meaning
		}
		writeChange(&b, f.Change, palette)
	}
	if d.Equal() {
		b.WriteString("the functions are equal\n")
	}
	return b.String()
}

// runsText shows how runs differ.
func runsText(d *diff.Runs, palette render.Palette) string {
	var b strings.Builder
	for _, section := range d.Sections {
		if len(section.Changes) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s:\n", palette.Paint(render.Bold, section.Name))
		for _, c := range section.Changes {
			writeChange(&b, c, palette)
		}
		if section.Name == "code" && d.FunctionA != "" {
			fmt.Fprintf(&b, "  the functions: millrace diff %s %s\n", function.Quote(d.FunctionA), function.Quote(d.FunctionB))
		}
	}
	if d.Equal() {
		b.WriteString("the runs are equal\n")
	}
	return b.String()
}

// writeChange writes a value that differs: path, before, after.
func writeChange(b *strings.Builder, c diff.Change, palette render.Palette) {
	value := func(v any) string {
		if v == nil {
			return "(none)"
		}
		return shortValue(v)
	}
	fmt.Fprintf(b, "  %s: %s -> %s", render.StripEscapes(oneLine(c.Path)), palette.Paint(render.Red, value(c.A)), palette.Paint(render.Green, value(c.B)))
	if c.Delta != nil {
		fmt.Fprintf(b, " (%+.3g%%)", *c.Delta*100)
	}
	b.WriteByte('\n')
}

// colourDiff colours a unified diff; what is in the code never reaches the
// terminal as an escape sequence.
func colourDiff(text string, palette render.Palette) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		style := render.Plain
		switch {
		case strings.HasPrefix(line, "---"), strings.HasPrefix(line, "+++"):
			style = render.Bold
		case strings.HasPrefix(line, "@@"):
			style = render.Cyan
		case strings.HasPrefix(line, "-"):
			style = render.Red
		case strings.HasPrefix(line, "+"):
			style = render.Green
		}
		if palette.Colour {
			line = render.StripEscapes(strings.ReplaceAll(line, "\t", "    "))
		}
		b.WriteString(palette.Paint(style, line) + "\n")
	}
	return b.String()
}
