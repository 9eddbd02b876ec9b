package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/lineage"
	"github.com/millrace/millrace/internal/render"
)

// lineageOptions are the flags of `lineage`.
type lineageOptions struct {
	of             string
	up, down, both bool
	depth, nodes   int
	fan            int
	output, file   string
}

func newLineage(e *env) *cobra.Command {
	var o lineageOptions
	cmd := &cobra.Command{
		Use:   "lineage X",
		Short: "Show what made something, and what it touched",
		Long: `Show what an artifact, a run, a function or data was made from, and what was made with it:
functions, runs, artifacts, iterations, reruns and data, as far as the limits go.

X is the store:// address or the KEY[:TAG] of an artifact, a run's uid (at least 4 characters
from its beginning) or name, [PROJECT/]NAME[:TAG][@HASH] of a function, or the URL of data. Where
a name means several of these, write artifact:…, run:… or function:… as -o json shows them.

-o text is a tree, svg a drawing, json the nodes and edges.`,
		Example: `  millrace lineage store://models/demo/train_model
  millrace lineage 3f2a9c81 --up
  millrace lineage demo/trainer:v2 --down --depth 3
  millrace lineage train_model -o svg --file lineage.svg`,
		Args: arguments(1, 1, "one X: an artifact, a run, a function or data"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.of = args[0]
			return e.lineage(o)
		},
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&o.up, "up", false, "only what it was made from")
	flags.BoolVar(&o.down, "down", false, "only what was made with it")
	flags.BoolVar(&o.both, "both", false, "both (default)")
	flags.IntVar(&o.depth, "depth", lineage.DefaultDepth, "edges from X, at most 100")
	flags.IntVar(&o.nodes, "nodes", lineage.DefaultNodes, "nodes in all, at most 2000")
	flags.IntVar(&o.fan, "fan", lineage.DefaultFan, "neighbours of one node in one direction, at most 500")
	flags.StringVarP(&o.output, "output", "o", "text", "text, json, yaml or svg")
	flags.StringVar(&o.file, "file", "", "write to this file instead of standard output")
	registerWords(cmd, "output", "text", "json", "yaml", "svg")
	return cmd
}

func (e *env) lineage(o lineageOptions) error {
	if err := checkOutput(o.output, "text", "json", "yaml", "svg"); err != nil {
		return err
	}
	q := lineage.Question{Direction: lineage.Both, Depth: o.depth, Nodes: o.nodes, Fan: o.fan}
	switch {
	case o.up && o.down, o.up && o.both, o.down && o.both:
		return usagef("--up, --down and --both exclude each other")
	case o.up:
		q.Direction = lineage.Up
	case o.down:
		q.Direction = lineage.Down
	}
	for name, value := range map[string]int{"--depth": o.depth, "--nodes": o.nodes, "--fan": o.fan} {
		if value < 1 {
			return usagef("%s %d must be at least 1", name, value)
		}
	}
	if err := q.Validate(); err != nil {
		return usagef("%s", err)
	}
	return e.with(func(connection *Connection) error {
		doc, err := e.askLineage(connection.Client, o.of, q)
		if err != nil {
			return err
		}
		out, err := e.renderLineage(doc, o)
		if err != nil {
			return err
		}
		if o.file == "" {
			_, err = e.Stdout.Write(out)
			return err
		}
		return e.writeWhole(o.file, out)
	})
}

// askLineage asks for the graph around what name means; the beginning of a uid and
// the name of a run are looked up here.
func (e *env) askLineage(c *client.Client, name string, q lineage.Question) (document.Object, error) {
	project, _ := e.project()
	query := client.LineageQuery{Of: name, Direction: string(q.Direction), Depth: q.Depth, Nodes: q.Nodes, Fan: q.Fan}
	reference, asked := strings.CutPrefix(name, "run:")
	if asked && strings.Contains(reference, "/") {
		asked = false
	}
	if asked || isUID(name) || isUIDPrefix(name) {
		doc, err := e.findRun(c, reference)
		switch {
		case err == nil:
			key := keyOf(doc)
			query.Of = lineage.RunID(key.Project, key.UID, 0)
		case asked:
			return nil, err
		}
	}
	answer, err := c.Lineage(e.soft, project, query)
	if err == nil || query.Of != name || strings.Contains(name, ":") || strings.Contains(name, "/") {
		return answer, err
	}
	doc, otherwise := e.findRun(c, name)
	if otherwise != nil {
		return nil, err // it says what else a name may be
	}
	key := keyOf(doc)
	query.Of = lineage.RunID(key.Project, key.UID, 0)
	return c.Lineage(e.soft, project, query)
}

func (e *env) renderLineage(doc document.Object, o lineageOptions) ([]byte, error) {
	switch o.output {
	case "json":
		return renderJSON(doc), nil
	case "yaml":
		return renderYAML(doc)
	case "svg":
		return lineage.FromDocument(doc).SVG(), nil
	}
	palette := e.palette(e.Stdout)
	width, _ := e.terminal(e.Stdout)
	if o.file != "" {
		palette, width = render.Palette{}, 0
	}
	styles := map[lineage.Kind]render.Style{lineage.Run: render.Cyan, lineage.Artifact: render.Green, lineage.Data: render.Yellow, lineage.Function: render.Bold}
	return []byte(lineage.FromDocument(doc).Text(func(n lineage.Node, before, text string) string {
		style := styles[n.Kind]
		if n.State != "" && n.State != "completed" {
			style = render.StateStyle(n.State)
		}
		before, text = render.StripEscapes(before), render.StripEscapes(text)
		if width <= 0 {
			return before + palette.Paint(style, text)
		}
		room := width - render.Width(before)
		if room < 2 { // a deep tree on a narrow terminal
			return render.Cut(before+text, width)
		}
		return before + palette.Paint(style, render.Cut(text, room))
	})), nil
}

// writeWhole writes a file so that it is there whole or not at all.
func (e *env) writeWhole(name string, data []byte) error {
	path := e.path(name)
	file, err := os.CreateTemp(filepath.Dir(path), ".millrace-*")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
