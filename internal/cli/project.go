package cli

import (
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

func newProject(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "project",
		Short: "Create, show and delete projects",
		Long: `Create, show and delete projects. A project holds functions, runs and artifacts; commands
work in the one of --project or MILLRACE_PROJECT, else in "default".`,
		Example: `  millrace project create churn --description "who will leave"
  millrace project list
  millrace project delete churn --cascade`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return usagef("%q needs one of create, list, get and delete", cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(newProjectCreate(e), newProjectList(e), newProjectGet(e), newProjectDelete(e))
	return cmd
}

func newProjectCreate(e *env) *cobra.Command {
	var description, owner, output string
	var labels []string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a project",
		Example: `  millrace project create churn
  millrace project create churn --description "who will leave" --label team=growth`,
		Args: arguments(1, 1, "one NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := function.ValidateProjectName("the project name", args[0]); err != nil {
				return err
			}
			if err := checkOutput(output, "json", "yaml", "name"); err != nil {
				return err
			}
			metadata := document.Object{"name": args[0]}
			set, err := parseStrings("label", labels)
			if err != nil {
				return err
			}
			if len(set) > 0 {
				metadata["labels"] = set
			}
			spec := document.Object{}
			if description != "" {
				spec["description"] = description
			}
			if owner != "" {
				spec["owner"] = owner
			}
			return e.with(func(connection *Connection) error {
				doc, err := connection.Client.CreateProject(e.soft, document.Object{"kind": "project", "metadata": metadata, "spec": spec})
				if err != nil {
					return err
				}
				switch output {
				case "json", "yaml":
					return e.printDocument(output, doc)
				case "name":
					return e.printf("%s\n", args[0])
				}
				e.say("millrace: created project %s", args[0])
				return nil
			})
		},
	}
	e.addGlobal(cmd)
	flags := cmd.Flags()
	flags.StringVar(&description, "description", "", "what it is for")
	flags.StringVar(&owner, "owner", "", "whose it is")
	flags.StringArrayVar(&labels, "label", nil, "label NAME=VALUE (may be repeated)")
	flags.StringVarP(&output, "output", "o", "", "json, yaml or name")
	return cmd
}

func newProjectList(e *env) *cobra.Command {
	o := getOptions{kind: kindProjects}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List projects (as 'get projects')",
		Example: `  millrace project list
  millrace project list -o name`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return runGet(e, o) },
	}
	e.addGlobal(cmd)
	cmd.Flags().StringArrayVar(&o.labels, "label", nil, "only with this label, NAME or NAME=VALUE (may be repeated)")
	cmd.Flags().StringVarP(&o.output, "output", "o", "table", outputHelp)
	return cmd
}

func newProjectGet(e *env) *cobra.Command {
	o := getOptions{kind: kindProjects}
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Show a project (as 'get project NAME')",
		Example: `  millrace project get churn
  millrace project get churn -o yaml`,
		Args: arguments(1, 1, "one NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			o.name = args[0]
			return runGet(e, o)
		},
		ValidArgsFunction: e.completeProjects,
	}
	e.addGlobal(cmd)
	cmd.Flags().StringVarP(&o.output, "output", "o", "table", outputHelp)
	return cmd
}

func newProjectDelete(e *env) *cobra.Command {
	var cascade bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a project",
		Long: `Delete a project and wait until it is gone. One that holds functions, runs or artifacts is
refused, unless --cascade says that all of that goes too.`,
		Example: `  millrace project delete churn
  millrace project delete churn --cascade`,
		Args: arguments(1, 1, "one NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			return e.with(func(connection *Connection) error {
				if _, err := connection.Client.Project(e.soft, args[0]); err != nil {
					return err
				}
				err := connection.Client.DeleteProject(e.soft, args[0], cascade)
				if fault.Is(err, fault.CodePrecondition) && !cascade {
					return fault.Precondition("%w; --cascade deletes them too", err)
				}
				if err != nil {
					return err
				}
				e.say("millrace: deleted project %s", args[0])
				return nil
			})
		},
		ValidArgsFunction: e.completeProjects,
	}
	e.addGlobal(cmd)
	cmd.Flags().BoolVar(&cascade, "cascade", false, "delete what the project holds too")
	return cmd
}
