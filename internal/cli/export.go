package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

type exportOptions struct {
	target string
	file   string
	format string
	full   bool
	force  bool
	lock   bool
}

func newExport(e *env) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export FUNCTION",
		Short: "Write a function as function.yaml",
		Long: `Write a function with its code as a file that 'millrace import' and 'millrace run' take, here
or elsewhere. What belongs to this place (project, hash, labels, status, mounts, resources) is
left out, unless --full asks for the whole document.

With --lock its requirements are what they have become here, exact versions with the digests
of their files, and the version of Python is that of their environment: wherever the file is
imported, for the same kind of machine, the same packages are installed or none. The function has
to have been run here, or on the server, before.

FUNCTION is [PROJECT/]NAME[:TAG][@HASH] of a stored function, or a path.`,
		Example: `  millrace export demo/trainer:v2 --file function.yaml
  millrace export demo/trainer --lock --file locked.yaml
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
	flags.BoolVar(&o.lock, "lock", false, "with the exact versions that the requirements have become here")
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
	if o.lock {
		if err := e.lock(f); err != nil {
			return err
		}
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

// lock replaces what a function requires by what that has become where it runs.
func (e *env) lock(f *function.Function) error {
	return e.with(func(connection *Connection) error {
		lock, err := connection.Client.LockEnvironment(e.soft, f.Doc)
		if err != nil {
			return err
		}
		version := strings.SplitN(document.String(lock, "python"), ".", 3)
		if len(version) < 2 {
			return fault.Invalid("the server names no version of Python with the lock")
		}
		f.SetSpec(document.List(lock, "requirements"), "build", "requirements")
		f.SetSpec(version[0]+"."+version[1], "python_version")
		return nil
	})
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
