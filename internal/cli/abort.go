package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

func newAbort(e *env) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "abort RUN...",
		Short: "Abort runs and wait for their end",
		Long: `Abort runs and wait for their end. A run that is over already is an error.

` + runReferenceHelp,
		Example: `  millrace abort 3f2a9c
  millrace abort trainer-train --reason "wrong data"`,
		Args: arguments(1, -1, "at least one RUN"),
		RunE: func(_ *cobra.Command, args []string) error {
			return e.with(func(connection *Connection) error {
				var errs []error
				for _, ref := range args {
					errs = append(errs, e.abort(connection, ref, reason))
				}
				return errors.Join(errs...)
			})
		},
		ValidArgsFunction: e.completeRuns,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "text to store with the run")
	return cmd
}

func (e *env) abort(connection *Connection, ref, reason string) error {
	doc, err := e.findRun(connection.Client, ref)
	if err != nil {
		return err
	}
	key := keyOf(doc)
	if state := document.String(doc, "status", "state"); over(state) {
		return fault.Conflict("run %s is over already (%s); there is nothing to abort", key.UID, state)
	}
	if err := connection.Client.Abort(e.soft, key.Project, key.UID, reason); err != nil {
		return err
	}
	e.say("millrace: aborted %s %s", key.UID, document.String(doc, "metadata", "name"))
	return nil
}
