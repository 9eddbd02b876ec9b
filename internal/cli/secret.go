package cli

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/secret"
)

func newSecret(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Set, list, delete and re-encrypt secrets",
		Long: `Set, list, delete and re-encrypt the secrets of a project. They are kept encrypted and never
shown again; a run gets those that its function or task names, and they are masked in its log.

A function names a secret in its environment (spec.env with valueFrom.secretKeyRef), a run
with --secret NAME; the code reads it with context.get_secret("NAME").`,
		Example: `  millrace secret set DB_PASSWORD --project churn
  millrace secret set TOKEN --from-file token.txt
  pass show service | millrace secret set TOKEN
  millrace run job.py --handler main --secret TOKEN
  millrace secret list`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return usagef("%q needs one of set, list, delete and rotate", cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(newSecretSet(e), newSecretList(e), newSecretDelete(e), newSecretRotate(e))
	return cmd
}

func newSecretSet(e *env) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Store a secret",
		Long: `Store a secret, or replace it. The value comes from a file, from standard input, or, on a
terminal, is asked for without being shown. One line end at its end does not belong to it.`,
		Example: `  millrace secret set DB_PASSWORD
  millrace secret set TOKEN --from-file token.txt
  printf %s "$TOKEN" | millrace secret set TOKEN`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && strings.Contains(args[0], "=") {
				return usagef("%q takes the NAME alone: a value on the command line could be read by everybody on this machine; use --from-file or standard input", cmd.CommandPath())
			}
			return arguments(1, 1, "one NAME")(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if err := secret.ValidateName(name); err != nil {
				return err
			}
			value, err := e.secretValue(name, file)
			if err != nil {
				return err
			}
			if err := secret.ValidateValue(name, value); err != nil {
				return err
			}
			project, _ := e.project()
			return e.with(func(connection *Connection) error {
				if err := connection.Client.SetSecret(e.soft, project, name, value); err != nil {
					return err
				}
				e.say("millrace: stored secret %s of project %s", name, project)
				return nil
			})
		},
	}
	e.addSecret(cmd)
	cmd.Flags().StringVar(&file, "from-file", "", "file with the value (- is standard input)")
	return cmd
}

// addSecret declares the flags of all commands on secrets.
func (e *env) addSecret(cmd *cobra.Command) {
	e.addGlobal(cmd)
	e.addProject(cmd)
	e.addSecretKey(cmd)
}

// secretValue reads a value from a file, a person or standard input.
func (e *env) secretValue(name, file string) (string, error) {
	var raw []byte
	var err error
	if file != "" && file != "-" {
		if raw, err = os.ReadFile(e.path(file)); err != nil {
			return "", fault.Invalid("--from-file: %w", err)
		}
	} else if input, ok := e.Stdin.(*os.File); ok && file == "" && term.IsTerminal(int(input.Fd())) {
		_, _ = io.WriteString(e.Stderr, "Value of "+name+" (not shown): ")
		raw, err = term.ReadPassword(int(input.Fd()))
		e.say("")
		if err != nil {
			return "", fault.Invalid("the value of %s could not be read: %w", name, err)
		}
	} else if raw, err = io.ReadAll(io.LimitReader(e.Stdin, secret.MaxValue+3)); err != nil {
		return "", fault.Invalid("the value of %s could not be read from standard input: %w", name, err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r"), nil
}

func newSecretList(e *env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the names of a project's secrets",
		Example: `  millrace secret list
  millrace secret list --project churn -o json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			if err := checkOutput(output, "table", "name", "json", "yaml"); err != nil {
				return err
			}
			project, _ := e.project()
			return e.with(func(connection *Connection) error {
				names, err := connection.Client.Secrets(e.soft, project)
				if err != nil {
					return err
				}
				if output == "json" || output == "yaml" {
					list := make([]any, len(names))
					for i, name := range names {
						list[i] = name
					}
					return e.printDocument(output, document.Object{"project": project, "secrets": list})
				}
				var errs []error
				for _, name := range names {
					errs = append(errs, e.printf("%s\n", name))
				}
				return errors.Join(errs...)
			})
		},
	}
	e.addSecret(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, name, json or yaml")
	return cmd
}

func newSecretDelete(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete secrets",
		Example: `  millrace secret delete TOKEN --project churn
  millrace secret delete OLD_TOKEN OLDER_TOKEN`,
		Args: arguments(1, -1, "at least one NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			project, _ := e.project()
			return e.with(func(connection *Connection) error {
				names, err := connection.Client.Secrets(e.soft, project)
				if err != nil {
					return err
				}
				for _, name := range args {
					if !slices.Contains(names, name) {
						return fault.NotFound("project %s has no secret %s; 'millrace secret list --project %s' lists them", project, name, project)
					}
				}
				for _, name := range args {
					if err := connection.Client.DeleteSecret(e.soft, project, name); err != nil {
						return err
					}
					e.say("millrace: deleted secret %s of project %s", name, project)
				}
				return nil
			})
		},
	}
	e.addSecret(cmd)
	return cmd
}

func newSecretRotate(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Encrypt all secrets with a new key",
		Long: `Make a new key and encrypt the secrets of all projects with it. The new key joins the old one
in the key file, which is dropped when nothing needs it any more; an interrupted rotation loses
nothing and is finished by the next one. A key in MILLRACE_SECRET_KEY is exchanged by you: put
the new one before the old one, separated by a comma, rotate, then take the old one away.

A backup of the database needs the key of its time; keep the key file with it, in another place.`,
		Example: `  millrace secret rotate
  MILLRACE_SECRET_KEY="$NEW,$OLD" millrace secret rotate --data-dir /srv/millrace`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			return e.with(func(connection *Connection) error {
				n, err := connection.Client.RotateSecrets(e.soft)
				if err != nil {
					return err
				}
				e.say("millrace: %d secrets are encrypted with the new key", n)
				return nil
			})
		},
	}
	e.addSecret(cmd)
	return cmd
}
