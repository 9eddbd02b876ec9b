package cli

import "github.com/spf13/cobra"

// newProcessor is the entry of a deployed function's process, which the backend
// starts.
func newProcessor(e *env) *cobra.Command {
	return &cobra.Command{
		Use:    "processor DIR",
		Short:  "Serve the deployed function of a folder (started by a backend)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if code := e.system.Processor(e.soft, e.path(args[0])); code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
}
