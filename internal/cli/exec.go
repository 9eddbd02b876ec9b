package cli

import "github.com/spf13/cobra"

// newExec is the runner's entry: the backend starts it beside the user's code.
func newExec(e *env) *cobra.Command {
	var spool string
	cmd := &cobra.Command{
		Use:    "exec --spool DIR",
		Short:  "Execute the run of a spool folder (started by a backend)",
		Hidden: true,
		Args:   noArguments,
		RunE: func(*cobra.Command, []string) error {
			if spool == "" {
				return usagef("--spool is required")
			}
			if code := e.system.Exec(e.soft, e.path(spool)); code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&spool, "spool", "", "spool folder")
	return cmd
}
