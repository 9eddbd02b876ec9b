package cli

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/fault"
)

// globalOptions are the flags of every command that talks to a system.
type globalOptions struct {
	server      string
	dataDir     string
	databaseURL string
	secretKey   string // path of the file
	tokenFile   string
	project     string
}

const rootHelp = `Serverless functions for machine learning: run, track and look at Python (and any other) code.

A function is code with what it needs to run. A run is one execution of it, with its
parameters, results, log and artifacts. Without a server, commands work on the data
directory; with one (--server, MILLRACE_URL, or started on the same data directory)
they talk to it.

Environment:
  MILLRACE_URL        the server to talk to, as --server
  MILLRACE_DATA_DIR   the data directory, as --data-dir (default ~/.millrace)
  MILLRACE_TOKEN      the token that the server asks for
  MILLRACE_PROJECT    the project, as --project (default "default")
  NO_COLOR            no colour on terminals

Exit status:
  0    done; of run: the run completed
  1    the run failed, or what was asked could not be done; of diff: the two differ
  2    the command line is wrong; of diff also: there is no answer
  3    no server answers, or it cannot take the request now
  130  the run was aborted, or the command was interrupted`

// commands are all commands, in the order of nothing: help sorts them.
var commands = []struct {
	name string
	make func(*env) *cobra.Command
}{
	{"exec", newExec}, {"run", newRun}, {"server", newServer}, {"get", newGet}, {"logs", newLogs}, {"abort", newAbort},
	{"rerun", newRerun}, {"resume", newResume}, {"steer", newSteer}, {"doc", newDoc}, {"export", newExport}, {"import", newImport}, {"delete", newDelete}, {"project", newProject},
	{"lineage", newLineage}, {"diff", newDiff}, {"secret", newSecret}, {"doctor", newDoctor}, {"version", newVersion}, {"completion", newCompletion},
	{"artifact", newArtifact}, {"deploy", newDeploy}, {"invoke", newInvoke}, {"rollback", newRollback}, {"processor", newProcessor}, {"activator", newActivator}, {"top", newTop},
}

// newRoot builds the command tree, or of it what the arguments need.
func newRoot(e *env) *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:           "millrace",
		Short:         "Serverless functions for machine learning",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 0:
				return unknownCommand(cmd, args[0])
			case version:
				return e.printVersion("")
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVar(&version, "version", false, "print the version")
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	root.SetIn(e.Stdin)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{message: err.Error()} })
	for _, command := range commands {
		// Making all of them takes longer than `version` does, so the one that is
		// asked for is made alone.
		if len(e.Args) > 0 && e.Args[0] == command.name {
			root.AddCommand(command.make(e))
			return root
		}
	}
	for _, command := range commands {
		root.AddCommand(command.make(e))
	}
	return root
}

func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return usagef("unknown command %q; did you mean %s?", name, strings.Join(near, " or "))
	}
	return usagef("unknown command %q", name)
}

// addGlobal declares the flags that say where the system is.
func (e *env) addGlobal(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&e.global.server, "server", "", "URL of the server to talk to (MILLRACE_URL)")
	e.addDataDir(cmd)
	flags.StringVar(&e.global.tokenFile, "token-file", "", "file with the token that the server asks for (or MILLRACE_TOKEN)")
}

func (e *env) addDataDir(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&e.global.dataDir, "data-dir", "", "folder that keeps everything (MILLRACE_DATA_DIR; default ~/.millrace)")
	flags.StringVar(&e.global.databaseURL, "database-url", "", "PostgreSQL database instead of SQLite in the data directory (MILLRACE_DATABASE_URL)")
}

// addProject declares --project.
func (e *env) addProject(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.global.project, "project", "", `project (MILLRACE_PROJECT; default "default")`)
}

// server is the server that was named, "" when none was.
func (e *env) server() string { return cmp.Or(e.global.server, e.Getenv("MILLRACE_URL")) }

// project is the project that was named; named tells whether one was.
func (e *env) project() (name string, named bool) {
	if name := cmp.Or(e.global.project, e.Getenv("MILLRACE_PROJECT")); name != "" {
		return name, true
	}
	return "default", false
}

// dataDir is the data directory, absolute.
func (e *env) dataDir() (string, error) {
	dir := cmp.Or(e.global.dataDir, e.Getenv("MILLRACE_DATA_DIR"))
	if dir == "" {
		if e.HomeDir == "" {
			return "", fault.Invalid("there is no home directory to keep data in; give --data-dir or MILLRACE_DATA_DIR")
		}
		return filepath.Join(e.HomeDir, ".millrace"), nil
	}
	return e.path(dir), nil
}

// path makes a path of the command line absolute.
func (e *env) path(path string) string {
	if e.HomeDir != "" && (path == "~" || strings.HasPrefix(path, "~/")) {
		return filepath.Join(e.HomeDir, path[1:])
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(e.Dir, path)
}

// token is the token to show to a server, "" for none.
func (e *env) token() (string, error) {
	if e.global.tokenFile == "" {
		return e.Getenv("MILLRACE_TOKEN"), nil
	}
	raw, err := os.ReadFile(e.path(e.global.tokenFile))
	if err != nil {
		return "", fault.Invalid("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" {
		return "", fault.Invalid("--token-file %s is empty; put the token into it", e.global.tokenFile)
	}
	return token, nil
}

// connectOptions are the options for System.Connect.
func (e *env) connectOptions() (ConnectOptions, error) {
	dir, err := e.dataDir()
	if err != nil {
		return ConnectOptions{}, err
	}
	token, err := e.token()
	if err != nil {
		return ConnectOptions{}, err
	}
	return ConnectOptions{
		DataDir: dir, Token: token, SecretKey: e.Getenv("MILLRACE_SECRET_KEY"), SecretKeyFile: e.secretKeyFile(), DatabaseURL: cmp.Or(e.global.databaseURL, e.Getenv("MILLRACE_DATABASE_URL")), Python: e.Getenv("MILLRACE_PYTHON"),
	}, nil
}

// secretKeyFile is the file with the keys of secrets, "" for that of the data
// directory.
func (e *env) secretKeyFile() string {
	if file := cmp.Or(e.global.secretKey, e.Getenv("MILLRACE_SECRET_KEY_FILE")); file != "" {
		return e.path(file)
	}
	return ""
}

// addSecretKey declares --secret-key-file.
func (e *env) addSecretKey(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.global.secretKey, "secret-key-file", "", "file with the key that secrets are encrypted with (MILLRACE_SECRET_KEY_FILE, or the key in MILLRACE_SECRET_KEY; default: secret.key in the data directory)")
}

// connect opens the way to the API: the server that was named, else what the data
// directory has.
func (e *env) connect() (*Connection, error) {
	if server := e.server(); server != "" {
		return e.dial(server)
	}
	options, err := e.connectOptions()
	if err != nil {
		return nil, err
	}
	return e.system.Connect(e.soft, options)
}

// dial connects to a server over HTTP.
func (e *env) dial(server string) (*Connection, error) {
	token, err := e.token()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Options{URL: server, Token: token, UserAgent: "millrace/" + e.version()})
	if err != nil {
		return nil, err
	}
	return &Connection{Client: c, Server: server, Close: func() error { c.Close(); return nil }}, nil
}

// with runs work over a connection and closes it.
func (e *env) with(work func(*Connection) error) error {
	connection, err := e.connect()
	if err != nil {
		return err
	}
	err = work(connection)
	if connection.Close != nil {
		if closing := connection.Close(); err == nil {
			err = closing
		}
	}
	return err
}
