package cli

import (
	"runtime"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/document"
)

func newVersion(e *env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  millrace version
  millrace version -o json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return e.printVersion(output) },
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml")
	return cmd
}

func (e *env) printVersion(output string) error {
	switch output {
	case "":
		return e.printf("millrace %s\n", e.version())
	case "json", "yaml":
		return e.printDocument(output, document.Object{
			"version": e.version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
		})
	}
	return usagef("-o %q must be json or yaml", output)
}
