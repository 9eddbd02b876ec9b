package cli

import "github.com/spf13/cobra"

// newProcessor is the entry of a deployed function's process, which the backend or the
// activator starts.
func newProcessor(e *env) *cobra.Command {
	var inherit string
	cmd := &cobra.Command{
		Use:    "processor DIR",
		Short:  "Serve the deployed function of a folder (started by a backend)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if code := e.system.Processor(e.soft, e.path(args[0]), inherit); code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&inherit, "inherit", "", "names of the open files that the activator has left for it")
	return cmd
}

// newActivator is the entry of the process that holds the sockets of functions which
// nobody calls; processors start it.
func newActivator(e *env) *cobra.Command {
	return &cobra.Command{
		Use:    "activator DATA-DIR",
		Short:  "Start deployed functions with the first request (started by these)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if code := e.system.Activator(e.soft, e.path(args[0])); code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
}
