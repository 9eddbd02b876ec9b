package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/run"
)

func newResume(e *env) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "resume RUN",
		Short: "Continue an iterative task that was aborted or lost",
		Long: `Continue an iterative task that was aborted, or whose runner was lost (a machine that went
down, a process that was killed), and follow it. Iterations that have ended are not executed
again; those that were running are. Changes by 'millrace steer' are kept.

` + runReferenceHelp + `

Exit status: as that of 'millrace run'.`,
		Example: `  millrace resume 3f2a9c
  millrace resume trainer-train --detach
  millrace resume 3f2a9c -o json`,
		Args:              arguments(1, 1, "one RUN"),
		RunE:              func(_ *cobra.Command, args []string) error { return runResume(e, o, args[0]) },
		ValidArgsFunction: e.completeRuns,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&o.detach, "detach", "d", false, "do not wait: print the run's uid and return")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "do not show the progress and the summary")
	flags.StringVarP(&o.output, "output", "o", "", "print the final run: json, yaml or name")
	registerWords(cmd, "output", "json", "yaml", "name")
	return cmd
}

func runResume(e *env, o runOptions, ref string) error {
	if err := checkOutput(o.output, "json", "yaml", "name"); err != nil {
		return err
	}
	connect, err := e.connectOptions()
	if err != nil {
		return err
	}
	var key run.Key
	remote := false
	if err := e.with(func(connection *Connection) error {
		doc, err := e.findRun(connection.Client, ref)
		key, remote = keyOf(doc), !connection.InProcess
		return err
	}); err != nil {
		return err
	}
	view := newRunView(e, o)
	var result RunResult
	if remote {
		err = e.with(func(connection *Connection) error {
			result, err = e.resumeRemote(connection.Client, key, o.detach, view)
			return err
		})
	} else {
		result, err = e.system.Resume(e.hard, ResumeRequest{ConnectOptions: connect, Key: key, Detach: o.detach, Abort: e.soft.Done()}, view)
	}
	view.close()
	if err != nil {
		return err
	}
	return e.finishRun(o, result, view)
}

// resumeRemote has a server continue the task, and follows it there from where its
// log was.
func (e *env) resumeRemote(c *client.Client, key run.Key, detach bool, observer Observer) (RunResult, error) {
	size, err := c.LogSize(e.soft, key.Project, key.UID)
	if err != nil {
		return RunResult{}, fmt.Errorf("read the log of run %s: %w", key.UID, err)
	}
	doc, err := c.Resume(e.soft, key)
	if err != nil {
		return RunResult{}, err
	}
	observer.Created(doc)
	if detach {
		return RunResult{Run: doc, Detached: true}, nil
	}
	follower := &follower{env: e, client: c, observer: observer, key: key, offset: size}
	return follower.follow(e.soft.Done())
}
