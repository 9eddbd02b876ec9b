package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
)

func newCompletion(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a completion script for bash, zsh, fish or powershell",
		Long: `Print a completion script. It completes commands, flags, and the names of runs, functions,
artifacts and projects.`,
		Example: `  source <(millrace completion bash)
  millrace completion zsh > "${fpath[1]}/_millrace"
  millrace completion fish > ~/.config/fish/completions/millrace.fish`,
		Args:      arguments(1, 1, "one SHELL: bash, zsh, fish or powershell"),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(e.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(e.Stdout)
			case "fish":
				return root.GenFishCompletion(e.Stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(e.Stdout)
			}
			return usagef("there is no completion for %q; SHELL must be bash, zsh, fish or powershell", args[0])
		},
	}
}

// completionTime is how long a completion may look things up.
const completionTime = 2 * time.Second

// names completes with what list yields; a system that cannot be reached
// completes nothing.
func (e *env) names(list func(ctx context.Context, c *client.Client) []string) ([]string, cobra.ShellCompDirective) {
	var out []string
	_ = e.with(func(connection *Connection) error {
		ctx, cancel := context.WithTimeout(e.soft, completionTime)
		defer cancel()
		out = list(ctx, connection.Client)
		return nil
	})
	return out, cobra.ShellCompDirectiveNoFileComp
}

const completed = 200 // names at most

func (e *env) completeRuns(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return e.names(func(ctx context.Context, c *client.Client) []string {
		var out []string
		for doc, err := range c.Runs(ctx, e.runScope(), client.RunQuery{Limit: completed}) {
			if err != nil {
				break
			}
			out = append(out, document.String(doc, "metadata", "uid")+"\t"+document.String(doc, "metadata", "name")+" "+document.String(doc, "status", "state"))
		}
		return out
	})
}

func (e *env) completeFunctions(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return e.names(func(ctx context.Context, c *client.Client) []string {
		project, _ := e.project()
		var out []string
		for doc, err := range c.Functions(ctx, project, client.FunctionQuery{Tag: "*", Limit: completed}) {
			if err != nil {
				break
			}
			out = append(out, project+"/"+nameOf(kindFunctions, doc)+"\t"+document.String(doc, "kind"))
		}
		return out
	})
}

func (e *env) completeFunctionOrFile(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	out, _ := e.completeFunctions(cmd, args, text)
	return out, cobra.ShellCompDirectiveDefault
}

func (e *env) completeProjects(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return e.names(func(ctx context.Context, c *client.Client) []string {
		var out []string
		for doc, err := range c.Projects(ctx, client.ProjectQuery{}) {
			if err != nil {
				break
			}
			out = append(out, document.String(doc, "metadata", "name"))
		}
		return out
	})
}

func (e *env) completeArtifacts(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return e.names(func(ctx context.Context, c *client.Client) []string {
		project, _ := e.project()
		var out []string
		for doc, err := range c.Artifacts(ctx, project, client.ArtifactQuery{Tag: "latest", Limit: completed}) {
			if err != nil {
				break
			}
			out = append(out, dbKey(doc)+"\t"+document.String(doc, "kind"))
		}
		return out
	})
}

// completeKinds completes a kind, then names of that kind.
func (e *env) completeKinds(words ...string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return words, cobra.ShellCompDirectiveNoFileComp
		}
		kind, err := parseKind(args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		switch kind {
		case kindRuns, kindIterations:
			return e.completeRuns(cmd, args, text)
		case kindFunctions:
			return e.completeFunctions(cmd, args, text)
		case kindArtifacts:
			return e.completeArtifacts(cmd, args, text)
		}
		return e.completeProjects(cmd, nil, text)
	}
}

// registerWords completes a flag with fixed words.
func registerWords(cmd *cobra.Command, flag string, words ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	})
}
