package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/render"
)

// deploymentReferenceHelp says how commands name a deployed function.
const deploymentReferenceHelp = `NAME is [PROJECT/]NAME[:TAG] of a deployed function.`

// deploymentName reads how a person names a deployed function: its project, and
// the name under which it is deployed.
func (e *env) deploymentName(text string) (deployed, error) {
	uri, err := e.functionURI(text)
	if err != nil {
		return deployed{}, err
	}
	if uri.Hash != "" {
		return deployed{}, fault.Invalid("%s names a version; a deployed function is named by its name and tag", text)
	}
	return deployed{project: uri.Project, name: uri.Name, tag: uri.Tag}, nil
}

// deploymentOf finds the deployment that text names.
func (e *env) deploymentOf(c *client.Client, text string) (document.Object, error) {
	d, err := e.deploymentName(text)
	if err != nil {
		return nil, err
	}
	doc, err := c.Deployment(e.soft, d.project, d.id())
	if fault.Is(err, fault.CodeNotFound) {
		return nil, fault.NotFound("no function %s is deployed in project %s; 'millrace get deployments --project %s' lists what is", d.id(), d.project, d.project)
	}
	return doc, err
}

func (e *env) deleteDeployment(c *client.Client, name string) error {
	doc, err := e.deploymentOf(c, name)
	if err != nil {
		return err
	}
	project, id := document.String(doc, "metadata", "project"), document.String(doc, "metadata", "name")
	if err := c.Undeploy(e.soft, project, id); err != nil {
		return err
	}
	e.say("millrace: %s/%s is not deployed any more; the function is kept", project, id)
	return nil
}

func (v tableView) deployments(docs []document.Object) *render.Table {
	t := &render.Table{Headers: v.headers([]string{"NAME", "STATE", "REVISION", "TRAFFIC", "ADDRESS", "UPDATED"}, "KIND", "ERROR"), Flexible: -1}
	for _, doc := range docs {
		revision, _ := document.Int(doc, "spec", "revision")
		row := []string{
			document.String(doc, "metadata", "name"), document.String(doc, "status", "state"), strconv.FormatInt(revision, 10), traffic(doc),
			document.String(doc, "status", "address"), v.time(document.String(doc, "metadata", "updated")),
		}
		t.Rows = append(t.Rows, v.row(doc, row, document.String(doc, "spec", "kind"), document.String(doc, "status", "error")))
	}
	state := v.first() + 1
	t.Styles = func(row, column int) render.Style {
		if column == state {
			return deployStyle(t.Rows[row][column])
		}
		return render.Plain
	}
	return t
}

// traffic says which revisions get which share of the requests.
func traffic(doc document.Object) string {
	var parts []string
	for _, item := range document.List(doc, "status", "serving") {
		route, _ := item.(document.Object)
		revision, _ := document.Int(route, "revision")
		weight, _ := document.Int(route, "weight")
		text := fmt.Sprintf("%d: %d %%", revision, weight)
		if document.Bool(route, "shadow") {
			text = fmt.Sprintf("%d: copies", revision)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// deployStyle is how a state, or a line that tells one, looks.
func deployStyle(text string) render.Style {
	switch {
	case strings.Contains(text, "error"), strings.Contains(text, "unhealthy"):
		return render.StateStyle("error")
	case strings.HasSuffix(text, "ready"):
		return render.StateStyle("completed")
	}
	return render.Plain
}

func newRollback(e *env) *cobra.Command {
	var o deployOptions
	cmd := &cobra.Command{
		Use:   "rollback NAME [REVISION|HASH]",
		Short: "Serve an earlier version of a deployed function",
		Long: `Deploy an earlier version of a deployed function again, as a new revision: that of a revision
by its number, one by its hash or the beginning of it, or without either the version that was
deployed before the one that is now. 'millrace get deployment NAME -o yaml' lists revisions.

It is built and started as any revision is, and gets the requests once it is ready.

` + deploymentReferenceHelp,
		Example: `  millrace rollback scorer
  millrace rollback scorer 3
  millrace rollback demo/scorer 5c5f2e1a`,
		Args: arguments(1, 2, "a NAME and at most one REVISION or HASH"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(o.output, "json", "yaml", "name"); err != nil {
				return err
			}
			to := ""
			if len(args) == 2 {
				to = args[1]
			}
			return e.rollback(args[0], to, o)
		},
		ValidArgsFunction: e.completeFunctions,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&o.detach, "detach", "d", false, "do not wait until it serves")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "do not show the progress")
	flags.StringVarP(&o.output, "output", "o", "", "print the deployment: json, yaml or name")
	registerWords(cmd, "output", "json", "yaml", "name")
	return cmd
}

func (e *env) rollback(name, to string, o deployOptions) error {
	connection, err := e.serving()
	if err != nil {
		return err
	}
	defer connection.Client.Close()
	c := connection.Client
	d, err := e.deploymentName(name)
	if err != nil {
		return err
	}
	doc, err := e.deploymentOf(c, name)
	if err != nil {
		return err
	}
	d.name, d.tag = document.String(doc, "spec", "function"), document.String(doc, "spec", "tag")
	before, err := c.DeployStatus(e.soft, d.project, d.name, d.tag, "")
	if err != nil {
		return err
	}
	d.last = before.Last
	if _, err := c.Rollback(e.soft, d.project, d.id(), to); err != nil {
		return err
	}
	return e.awaitDeployment(c, d, o)
}

// functionLog prints the log of a deployed function; found is false when none of
// that name is deployed.
func (e *env) functionLog(c *client.Client, o logsOptions) (found bool, err error) {
	if isUID(o.run) {
		return false, nil
	}
	d, err := e.deploymentName(o.run)
	if err != nil {
		return false, nil //nolint:nilerr // it may name a run
	}
	log, err := c.DeploymentLog(e.soft, d.project, d.id(), o.offset, o.tail, o.follow)
	if fault.Is(err, fault.CodeNotFound) {
		if _, gone := c.Deployment(e.soft, d.project, d.id()); gone == nil {
			return true, err // it is deployed and has none yet
		}
		return false, nil
	}
	if err != nil {
		return !fault.Is(err, fault.CodeNotSupported), err
	}
	defer log.Close()
	_, err = io.Copy(e.Stdout, log)
	if e.soft.Err() != nil && errors.Is(err, e.soft.Err()) {
		err = nil
	}
	return true, err
}
