package cli

import (
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/fault"
)

type logsOptions struct {
	run     string
	follow  bool
	attempt int
	offset  int64
	tail    int64
}

func newLogs(e *env) *cobra.Command {
	var o logsOptions
	cmd := &cobra.Command{
		Use:   "logs RUN|NAME",
		Short: "Print the log of a run or of a deployed function",
		Long: `Print the log of a run to standard output, byte for byte; with -f until the run is over.

` + runReferenceHelp + `

NAME is [PROJECT/]NAME[:TAG] of a deployed function, which comes before a run of the same name;
its log is what its workers wrote, with -f until interrupted.`,
		Example: `  millrace logs 3f2a9c
  millrace logs trainer-train -f
  millrace logs 3f2a9c --attempt 1
  millrace logs demo/scorer -f --tail 4096`,
		Args: arguments(1, 1, "one RUN"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.run = args[0]
			return runLogs(e, o)
		},
		ValidArgsFunction: e.completeRuns,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&o.follow, "follow", "f", false, "go on until the run is over; for a function until interrupted")
	flags.IntVar(&o.attempt, "attempt", 0, "the log of this attempt of a run with retries, from 1")
	flags.Int64Var(&o.offset, "offset", 0, "first byte to print")
	flags.Int64Var(&o.tail, "tail", 0, "of a deployed function: print only so many bytes from the end, in whole lines")
	return cmd
}

func runLogs(e *env, o logsOptions) error {
	switch {
	case o.attempt < 0:
		return usagef("--attempt %d must be at least 1", o.attempt)
	case o.tail < 0:
		return usagef("--tail %d must not be negative", o.tail)
	case o.offset < 0:
		return usagef("--offset %d must not be negative", o.offset)
	}
	return e.with(func(connection *Connection) error {
		if found, err := e.functionLog(connection.Client, o); found || err != nil {
			return err
		}
		doc, err := e.findRun(connection.Client, o.run)
		if err != nil {
			return err
		}
		key := keyOf(doc)
		q := client.LogQuery{Project: key.Project, UID: key.UID, Offset: o.offset, Attempt: o.attempt}
		write := func(data []byte) error { _, err := e.Stdout.Write(data); return err }
		if o.follow {
			_, err = connection.Client.Follow(e.soft, q, client.Follower{Log: write})
			return err
		}
		q.Size = logChunk
		for {
			data, _, err := connection.Client.Log(e.soft, q)
			if err != nil {
				if fault.Is(err, fault.CodeNotFound) && q.Offset > o.offset {
					return nil // the run was deleted meanwhile
				}
				return err
			}
			if len(data) == 0 {
				return nil
			}
			if err := write(data); err != nil {
				return err
			}
			q.Offset += int64(len(data))
		}
	})
}

// logChunk is how much of a log is asked for at once.
const logChunk = 4 << 20
