package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/fault"
)

func newDelete(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete KIND NAME...",
		Short: "Delete functions, deployments, runs or environments",
		Long: `Delete functions, deployments, runs or environments: KIND is function, deployment, run or
environment.

A function goes with all its versions and tags, and is not served any more. A deployment ends
when it has answered what it has begun; its function is kept.

A run goes with its log; one that is not over is refused ('millrace abort' ends it).

An environment that a run uses is refused; what was deleted is built again when a run needs it.

A run is named by its uid, an environment by its name, or either by at least 4 characters
from its beginning.`,
		Example: `  millrace delete function trainer --project demo
  millrace delete deployment demo/scorer
  millrace delete run 3f2a9c81
  millrace delete environment 5e0c`,
		Args: arguments(2, -1, "a KIND (function, deployment, run or environment) and at least one NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			kind, err := parseKind(args[0])
			if err != nil || kind != kindFunctions && kind != kindRuns && kind != kindEnvironments && kind != kindDeployments {
				return usagef("%q cannot be deleted; KIND must be function, deployment, run or environment (projects: 'millrace project delete')", args[0])
			}
			return e.with(func(connection *Connection) error {
				var errs []error
				for _, name := range args[1:] {
					remove := e.deleteFunction
					switch kind {
					case kindRuns:
						remove = e.deleteRun
					case kindDeployments:
						remove = e.deleteDeployment
					case kindEnvironments:
						remove = e.deleteEnvironment
					}
					errs = append(errs, remove(connection.Client, name))
				}
				return errors.Join(errs...)
			})
		},
		ValidArgsFunction: e.completeKinds("function", "deployment", "run", "environment"),
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	return cmd
}

func (e *env) deleteFunction(c *client.Client, name string) error {
	uri, err := e.functionURI(name)
	if err != nil {
		return err
	}
	if uri.Tag != "" || uri.Hash != "" {
		return fault.Invalid("%s names one version; a function is deleted with all its versions, so name %s/%s alone", name, uri.Project, uri.Name)
	}
	found := false
	for _, err := range c.Functions(e.soft, uri.Project, client.FunctionQuery{Name: uri.Name, Limit: 1}) {
		if err != nil {
			return err
		}
		found = true
	}
	if !found {
		return fault.NotFound("there is no function %s; 'millrace get functions --project %s' lists them", uri, uri.Project)
	}
	if err := c.DeleteFunction(e.soft, uri.Project, uri.Name); err != nil {
		return err
	}
	e.say("millrace: deleted function %s", uri)
	return nil
}

func (e *env) deleteRun(c *client.Client, ref string) error {
	if !isUID(ref) && !isUIDPrefix(ref) {
		return fault.Invalid("run %q: to delete a run give its uid, or at least 4 characters from its beginning", ref)
	}
	doc, err := e.findRun(c, ref)
	if err != nil {
		return err
	}
	key := keyOf(doc)
	if err := c.DeleteRun(e.soft, key.Project, key.UID); err != nil {
		return err
	}
	e.say("millrace: deleted run %s", key.UID)
	return nil
}
