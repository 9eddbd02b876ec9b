package cli

import (
	"cmp"
	"slices"

	"github.com/spf13/cobra"
)

func newServer(e *env) *cobra.Command {
	var o ServeOptions
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Serve the API and execute runs",
		Long: `Serve the API and execute runs, until interrupted (SIGINT, SIGTERM).

The server is ready when GET /api/v1/healthz answers 200; its address is then printed to
standard output. Runs go on when it is stopped, and the next server on the same data
directory takes them up again.

On loopback the server is open. On any other address it refuses to start without a token
(--token-file or MILLRACE_TOKEN), unless --insecure says that it may.`,
		Example: `  millrace server
  millrace server --listen 127.0.0.1:9000 --data-dir /srv/millrace --max-runs 4
  millrace server --listen 0.0.0.0:8080 --token-file token --database-url postgres://db/millrace`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			connect, err := e.connectOptions()
			if err != nil {
				return err
			}
			o.DataDir, o.DatabaseURL, o.Token = connect.DataDir, connect.DatabaseURL, connect.Token
			o.SecretKey, o.SecretKeyFile = connect.SecretKey, connect.SecretKeyFile
			o.Python = cmp.Or(o.Python, connect.Python)
			return runServer(e, o)
		},
	}
	e.addDataDir(cmd)
	e.addSecretKey(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.Listen, "listen", "127.0.0.1:8080", "address to serve on, HOST:PORT; port 0 takes a free one")
	flags.StringVar(&o.Backend, "backend", "local", "where runs execute: local")
	flags.IntVar(&o.MaxRuns, "max-runs", 0, "runs executing at once (default: twice the number of cores)")
	flags.IntVar(&o.Templates, "templates", 8, "warm interpreters kept for the environments in use, to fork workers from; 0 for none")
	flags.StringVar(&o.Python, "python", "", "default interpreter, a path or a name (default: the first python3 found)")
	flags.StringVar(&o.ArtifactPath, "artifact-path", "", "default artifact path (default: a folder of the data directory)")
	flags.StringVar(&e.global.tokenFile, "token-file", "", "file with the token that clients have to show (or MILLRACE_TOKEN)")
	flags.BoolVar(&o.Insecure, "insecure", false, "serve beyond loopback without a token")
	flags.StringVar(&o.LogLevel, "log-level", "info", "debug, info, warn or error")
	flags.BoolVar(&o.LogJSON, "log-json", false, "log lines as JSON objects")
	return cmd
}

// logLevels are the words of --log-level.
var logLevels = []string{"debug", "info", "warn", "error"}

func runServer(e *env, o ServeOptions) error {
	switch {
	case o.Backend != "local":
		return usagef("--backend %q is not one that this server has; it must be local", o.Backend)
	case !slices.Contains(logLevels, o.LogLevel):
		return usagef("--log-level %q must be debug, info, warn or error", o.LogLevel)
	case o.Templates < 0:
		return usagef("--templates %d must be at least 0", o.Templates)
	case o.MaxRuns < 0:
		return usagef("--max-runs %d must be at least 1", o.MaxRuns)
	}
	err := e.system.Serve(e.soft, o, func(url string) {
		_ = e.printf("%s\n", url)
		if _, is := e.terminal(e.Stderr); is {
			e.say("millrace serves on %s, data in %s; Ctrl-C stops it", url, o.DataDir)
		}
	})
	if err != nil && interrupted(err) {
		return nil // being told to stop is a clean end
	}
	return err
}

// noArguments refuses arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%q takes no argument, got %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// arguments wants between low and high arguments, named for messages.
func arguments(low, high int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low {
			return usagef("%q needs %s", cmd.CommandPath(), names)
		}
		if high >= 0 && len(args) > high {
			return usagef("%q takes %s and no more, got %q too", cmd.CommandPath(), names, args[high])
		}
		return nil
	}
}
