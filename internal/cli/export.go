package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

type exportOptions struct {
	target string
	file   string
	format string
	full   bool
	force  bool
}

func newExport(e *env) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export FUNCTION",
		Short: "Write a function as function.yaml",
		Long: `Write a function with its code as a file that 'millrace import' and 'millrace run' take, here
or elsewhere. What belongs to this place (project, hash, labels, status, mounts, resources) is
left out, unless --full asks for the whole document.

FUNCTION is [PROJECT/]NAME[:TAG][@HASH] of a stored function, or a path.`,
		Example: `  millrace export demo/trainer:v2 --file function.yaml
  millrace export train.py > function.yaml
  millrace export demo/trainer --format json --full`,
		Args: arguments(1, 1, "one FUNCTION"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.target = args[0]
			return runExport(e, o)
		},
		ValidArgsFunction: e.completeFunctionOrFile,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&o.file, "file", "f", "", "file to write (default: standard output)")
	flags.StringVar(&o.format, "format", "", "yaml or json (default: as the file's name ends, else yaml)")
	flags.BoolVar(&o.full, "full", false, "the whole document, with project, labels, resources and status")
	flags.BoolVar(&o.force, "force", false, "replace a file that exists")
	registerWords(cmd, "format", "yaml", "json")
	return cmd
}

func runExport(e *env, o exportOptions) error {
	format := o.format
	if format == "" {
		format = "yaml"
		if strings.EqualFold(filepath.Ext(o.file), ".json") {
			format = "json"
		}
	}
	if format != "yaml" && format != "json" {
		return usagef("--format %q must be yaml or json", o.format)
	}
	f, err := e.functionOf(o.target)
	if err != nil {
		return err
	}
	kind := function.YAML
	if format == "json" {
		kind = function.JSON
	}
	raw, err := f.Export(kind, !o.full)
	if err != nil {
		return err
	}
	if o.file == "" {
		_, err := e.Stdout.Write(raw)
		return err
	}
	if err := writeWhole(e.path(o.file), raw, o.force); err != nil {
		return err
	}
	e.say("millrace: wrote %s", o.file)
	return nil
}

// writeWhole writes a file so that it has either all of data or what it had.
func writeWhole(path string, data []byte, replace bool) error {
	if _, err := os.Lstat(path); err == nil && !replace {
		return fault.Conflict("%s exists; --force replaces it", path)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fault.Invalid("cannot write %s: %w", path, err)
	}
	defer os.Remove(temp.Name()) // gone already after the rename
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Chmod(0o644)
	}
	if closing := temp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fault.Invalid("cannot write %s: %w", path, err)
	}
	return nil
}
