package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
)

type importOptions struct {
	path, name, tag, kind, handler, image string
	requirements                          []string
	output                                string
}

func newImport(e *env) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import PATH",
		Short: "Store a function from a file or folder",
		Long: `Store a function from a function.yaml, a Python file, a notebook, a folder, a script, an
executable or a Go main package, as a new version, and print its URI. Nothing is executed.`,
		Example: `  millrace import function.yaml --project demo
  millrace import train.py --handler train --requirement scikit-learn --tag v2
  millrace import notebook.ipynb --name trainer`,
		Args: arguments(1, 1, "one PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.path = args[0]
			return runImport(e, o)
		},
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.name, "name", "", "name of the function (default: its own, else that of the file)")
	flags.StringVar(&o.tag, "tag", "", `tag of the version (default: its own, else "latest")`)
	flags.StringVar(&o.kind, "kind", "", "kind of the function (default: its own, else job)")
	flags.StringVar(&o.handler, "handler", "", "its default handler")
	flags.StringVar(&o.image, "image", "", "container image")
	flags.StringArrayVarP(&o.requirements, "requirement", "r", nil, "package that it needs (may be repeated)")
	flags.StringVarP(&o.output, "output", "o", "", "json or yaml: print the stored function")
	registerWords(cmd, "output", "json", "yaml")
	return cmd
}

func runImport(e *env, o importOptions) error {
	if err := checkOutput(o.output, "json", "yaml"); err != nil {
		return err
	}
	dataDir, err := e.dataDir()
	if err != nil {
		return err
	}
	options := code.Options{
		Name: o.name, Tag: o.tag, Kind: function.Kind(o.kind), Image: o.image, Requirements: o.requirements,
		Handler: o.handler, Describer: e.describer(dataDir),
	}
	f, err := e.load(o.path, dataDir, options)
	if err != nil {
		return err
	}
	project, named := e.project()
	if own := f.Project(); own != "" && !named {
		project = own
	}
	if err := function.ValidateProjectName("--project", project); err != nil {
		return err
	}
	f.SetProject(project)
	return e.with(func(connection *Connection) error {
		c := connection.Client
		if err := c.EnsureProject(e.soft, project); err != nil {
			return err
		}
		if err := e.upload(c, dataDir, f.Doc); err != nil {
			return err
		}
		hash, err := c.StoreFunction(e.soft, project, f.Name(), f.Tag(), true, f.Doc)
		if err != nil {
			return err
		}
		uri := function.URI{Project: project, Name: f.Name(), Tag: f.Tag(), Hash: hash}
		if o.output == "" {
			return e.printf("%s\n", uri)
		}
		doc, err := c.Function(e.soft, project, f.Name(), "", hash)
		if err != nil {
			return err
		}
		return e.printDocument(o.output, document.Object(doc))
	})
}

// isFolder reports whether path is a folder.
func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
