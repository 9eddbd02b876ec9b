package cli

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/code"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/secret"
)

// deployOptions are the flags of `deploy`.
type deployOptions struct {
	target string
	args   []string // of an application: the program and its arguments

	handler, kind, name, tag string
	requirements             []string
	requirementsFiles        []string
	env, secrets, limits     []string
	python, workdir          string
	workers, threads, port   int
	minReplicas, maxReplicas int
	keys, users              string // secrets: who may send
	tlsCertificate, tlsKey   string
	cron                     []string
	eventTimeout             string
	canary                   int
	shadow                   bool
	detach, quiet            bool
	output                   string
}

const deployHelp = `Deploy a real-time function: it goes on running, and answers HTTP requests and other events.

FUNCTION is a Python file, a notebook, a function.yaml or a folder, or
[PROJECT/]NAME[:TAG][@HASH] of a stored function; what exists as a file is the file.

A function of kind nuclio is a handler in Python, NAME or MODULE:NAME (default: handler), that
is called as handler(context, event). One of kind application is any program that serves HTTP
on the port in the variable PORT; name it after --, or deploy a Python file that is one.

What serves stays while the new revision starts, and then hands over without losing a request.
A revision that does not become ready gets no requests. With --canary the new revision gets
that share of the requests, with --shadow copies of them; 'millrace deploy' without either, or
'millrace rollback', decides.

The address of the function is printed to standard output, progress to standard error.
A server has to run ('millrace server'); functions go on serving when it is stopped.`

func newDeploy(e *env) *cobra.Command {
	var o deployOptions
	cmd := &cobra.Command{
		Use:   "deploy FUNCTION [flags] [-- PROGRAM ARG...]",
		Short: "Deploy a real-time function",
		Long:  deployHelp,
		Example: `  millrace deploy scorer.py --handler score --requirement scikit-learn --workers 4
  millrace deploy scorer.py --handler score --canary 10
  millrace deploy app/ --kind application -- uvicorn main:app --port 8050
  millrace deploy demo/scorer@3f2a9c81 --max-replicas 8 -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which function? name a file, a folder or a stored function")
			}
			o.target, o.args = args[0], args[1:]
			if dash := cmd.ArgsLenAtDash(); len(o.args) > 0 && dash != 1 {
				return usagef("one function at a time, got %q too; put the program of an application after --", o.args[0])
			}
			return runDeploy(e, o)
		},
		ValidArgsFunction: e.completeFunctionOrFile,
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.handler, "handler", "", "what is called for each event: NAME or MODULE:NAME (default: the function's own, else handler)")
	flags.StringVar(&o.kind, "kind", "", "nuclio or application (default: what the function says, else nuclio)")
	flags.StringVar(&o.name, "name", "", "name of the function (default: its own, else that of the file)")
	flags.StringVar(&o.tag, "tag", "", `tag of the version (default: its own, else "latest"); each tag is deployed beside the others`)
	flags.StringArrayVarP(&o.requirements, "requirement", "r", nil, "package to install, as pip takes it (may be repeated)")
	flags.StringArrayVar(&o.requirementsFiles, "requirements-file", nil, "file with packages to install (may be repeated)")
	flags.StringArrayVar(&o.env, "env", nil, "environment variable NAME=VALUE, or NAME to pass on (may be repeated)")
	flags.StringArrayVar(&o.secrets, "secret", nil, "secret of the project that the function may read, as a variable of its name (may be repeated)")
	flags.StringArrayVar(&o.limits, "limit", nil, "limit of all workers together NAME=QUANTITY: cpu, memory, pids (may be repeated)")
	flags.StringVar(&o.python, "python", "", "Python version, such as 3.11")
	flags.StringVar(&o.workdir, "workdir", "", "working directory of the code")
	flags.IntVar(&o.workers, "workers", 0, "workers for HTTP requests of one replica (default: the function's own, else 1)")
	flags.IntVar(&o.threads, "threads", 0, "events that a worker of free-threaded Python (--python 3.14t) handles at once; other Pythons have as many more workers")
	flags.IntVar(&o.minReplicas, "min-replicas", -1, "replicas at least; 0 lets all workers end while there is nothing to do")
	flags.IntVar(&o.maxReplicas, "max-replicas", -1, "replicas at most, as the load asks for")
	flags.IntVar(&o.port, "port", 0, "port of the function's own address (default: a free one, which stays)")
	flags.Lookup("min-replicas").DefValue, flags.Lookup("max-replicas").DefValue = "0", "0" // -1 is nobody's default: the function's own is
	flags.StringVar(&o.keys, "keys", "", "secret of the project with a key on each line, one of which requests have to show")
	flags.StringVar(&o.users, "users", "", "secret of the project with USER:PASSWORD on each line, for basic authentication")
	flags.StringVar(&o.tlsCertificate, "tls-certificate", "", "file with the certificate of the function's own address, which then speaks TLS alone")
	flags.StringVar(&o.tlsKey, "tls-key", "", "file with the key of --tls-certificate")
	flags.StringArrayVar(&o.cron, "cron", nil, "call the handler at these times: five fields of cron, @hourly, or @every 30s (may be repeated)")
	flags.StringVar(&o.eventTimeout, "event-timeout", "", "give up an event after this long, such as 30s")
	flags.IntVar(&o.canary, "canary", 0, "percent of the requests for the new revision, the rest goes where it went")
	flags.BoolVar(&o.shadow, "shadow", false, "give the new revision copies of the requests, and drop its answers")
	flags.BoolVarP(&o.detach, "detach", "d", false, "do not wait until it serves")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "do not show the progress")
	flags.StringVarP(&o.output, "output", "o", "", "print the deployment: json, yaml or name")
	registerWords(cmd, "output", "json", "yaml", "name")
	registerWords(cmd, "kind", "nuclio", "application")
	return cmd
}

func (o *deployOptions) check() error {
	switch {
	case o.kind != "" && o.kind != "nuclio" && o.kind != "remote" && o.kind != "application":
		return usagef("--kind %q cannot be deployed; it must be nuclio or application", o.kind)
	case o.canary < 0 || o.canary > 99:
		return usagef("--canary %d must be from 1 to 99 percent", o.canary)
	case o.canary > 0 && o.shadow:
		return usagef("--canary and --shadow exclude each other")
	case o.threads < 0 || o.threads > 256:
		return usagef("--threads %d must be from 1 to 256", o.threads)
	case o.workers < 0 || o.workers > 1024:
		return usagef("--workers %d must be from 1 to 1024", o.workers)
	case o.port < 0 || o.port > 65535:
		return usagef("--port %d must be from 1 to 65535", o.port)
	case (o.tlsCertificate == "") != (o.tlsKey == ""):
		return usagef("--tls-certificate and --tls-key belong together")
	case o.handler != "" && len(o.args) > 0:
		return usagef("a program after -- has no handler %q", o.handler)
	}
	return checkOutput(o.output, "json", "yaml", "name")
}

// serving connects to the server; without one nothing can be deployed.
func (e *env) serving() (*Connection, error) {
	server := e.server()
	dir, err := e.dataDir()
	if err != nil {
		return nil, err
	}
	if server == "" {
		server = e.system.Running(dir)
	}
	if server == "" {
		return nil, fault.Unavailable("real-time functions are served by a server that goes on running, and none runs on %s; start one in another terminal: millrace server (or name one with --server)", dir)
	}
	return e.dial(server)
}

func runDeploy(e *env, o deployOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	connection, err := e.serving()
	if err != nil {
		return err
	}
	defer connection.Client.Close()
	c := connection.Client
	f, err := e.deployable(c, o)
	if err != nil {
		return err
	}
	if err := c.EnsureProject(e.soft, f.Project()); err != nil {
		return err
	}
	dataDir, err := e.dataDir()
	if err != nil {
		return err
	}
	if err := e.upload(c, dataDir, f.Doc); err != nil {
		return err
	}
	// What was said before belongs to earlier deployments.
	before, err := c.DeployStatus(e.soft, f.Project(), f.Name(), f.Tag(), "")
	if err != nil && !fault.Is(err, fault.CodeNotFound) && !fault.Is(err, fault.CodeInvalid) {
		return err
	}
	if _, err := c.Deploy(e.soft, client.Deploy{Function: f.Doc, Canary: o.canary, Shadow: o.shadow}); err != nil {
		return err
	}
	return e.awaitDeployment(c, deployed{project: f.Project(), name: f.Name(), tag: f.Tag(), last: before.Last}, o)
}

// deployed names a deployment that is waited for.
type deployed struct{ project, name, tag, last string }

// id is the name under which it is deployed.
func (d deployed) id() string {
	if d.tag == "" || d.tag == "latest" {
		return d.name
	}
	return d.name + "-" + d.tag
}

const deployLook = 100 * time.Millisecond

// awaitDeployment follows a deployment until it serves or fails, and prints it.
func (e *env) awaitDeployment(c *client.Client, d deployed, o deployOptions) error {
	state := client.DeployState{State: "building", Last: d.last}
	for !o.detach {
		var err error
		if state, err = c.DeployStatus(e.soft, d.project, d.name, d.tag, state.Last); err != nil {
			if e.soft.Err() != nil {
				e.say("millrace: %s/%s goes on being deployed; 'millrace get deployments' shows how far it is", d.project, d.id())
			}
			return err
		}
		if !o.quiet {
			for line := range strings.Lines(state.Log) {
				_, text, _ := strings.Cut(strings.TrimRight(line, "\n"), "  ")
				e.say("%s", e.palette(e.Stderr).Paint(deployStyle(text), text))
			}
		}
		if slices.Contains([]string{"ready", "error", "unhealthy"}, state.State) {
			break
		}
		select {
		case <-e.soft.Done():
		case <-time.After(deployLook):
		}
	}
	doc, err := c.Deployment(e.soft, d.project, d.id())
	if err != nil {
		return err
	}
	switch o.output {
	case "json", "yaml":
		err = e.printDocument(o.output, doc)
	case "name":
		err = e.printf("%s\n", d.id())
	default:
		if address := document.String(doc, "status", "address"); address != "" && state.State == "ready" {
			err = e.printf("http://%s\n", address)
		}
	}
	if err != nil {
		return err
	}
	if state.State == "error" || state.State == "unhealthy" {
		return fault.Precondition("%s/%s is not served as asked for: %s", d.project, d.id(), cmp.Or(document.String(doc, "status", "error"), "see 'millrace logs "+d.id()+"'"))
	}
	return nil
}

// deployable is the function that the flags describe.
func (e *env) deployable(c *client.Client, o deployOptions) (*function.Function, error) {
	f, err := e.deployed(c, o)
	if err != nil {
		return nil, err
	}
	return f, e.shape(o, f)
}

// deployed loads the function, from a path or from the store.
func (e *env) deployed(c *client.Client, o deployOptions) (*function.Function, error) {
	project, named := e.project()
	if !e.isPath(o.target) {
		doc, err := e.storedFunction(c, o.target)
		if err != nil {
			return nil, err
		}
		delete(doc, "status")
		f, err := function.Parse(doc)
		if err == nil && o.name != "" {
			f.SetName(o.name)
		}
		return f, err
	}
	requirements, err := e.readRequirements(runOptions{requirements: o.requirements, requirementsFiles: o.requirementsFiles})
	if err != nil {
		return nil, err
	}
	dataDir, err := e.dataDir()
	if err != nil {
		return nil, err
	}
	options := code.Options{Name: o.name, Tag: o.tag, Kind: function.Kind(o.kind), Requirements: requirements}
	switch {
	case isFolder(e.path(o.target)):
		if o.handler != "" {
			options.Handler = strings.Replace(o.handler, ":", ".", 1) // says which module of the folder is meant
		}
		if options.Kind == "" && !hasDefinition(e.path(o.target)) {
			options.Kind = function.KindNuclio
		}
	case options.Kind == "" && !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(o.target))):
		options.Kind = function.KindNuclio
	}
	f, err := e.load(o.target, dataDir, options)
	if err != nil {
		return nil, err
	}
	if own := f.Project(); own != "" && !named {
		project = own
	}
	f.SetProject(project)
	return f, function.ValidateProjectName("--project", project)
}

func hasDefinition(folder string) bool {
	for _, name := range []string{"function.yaml", "function.yml", "function.json"} {
		if matches, _ := filepath.Glob(filepath.Join(folder, name)); len(matches) > 0 {
			return true
		}
	}
	return false
}

// shape applies the flags to the function.
func (e *env) shape(o deployOptions, f *function.Function) error {
	if o.kind != "" {
		f.SetKind(function.Kind(o.kind))
	}
	if o.tag != "" {
		f.SetTag(o.tag)
	}
	if o.handler != "" && f.Kind() != function.KindApplication {
		f.SetSpec(o.handler, "function_handler")
	}
	if f.Kind() == function.KindApplication && len(o.args) > 0 {
		f.SetSpec("", "command")
		f.SetSpec([]any{document.Object{"name": f.Name(), "command": anyWords(o.args)}}, "config", "spec.sidecars")
	} else if len(o.args) > 0 {
		return usagef("a program after -- is deployed with --kind application")
	}
	variables, err := e.parseEnv(o.env)
	if err != nil {
		return err
	}
	for _, item := range variables {
		entry := item.(document.Object)
		f.SetEnv(document.String(entry, "name"), document.String(entry, "value"))
	}
	for _, name := range o.secrets {
		if err := secret.ValidateName(name); err != nil {
			return err
		}
		entry := document.Object{"name": secret.Variable(name), "valueFrom": document.Object{"secretKeyRef": document.Object{"key": name}}}
		f.SetSpec(append(document.List(f.Doc, "spec", "env"), entry), "env")
	}
	limits, err := parseStrings("limit", o.limits)
	if err != nil {
		return err
	}
	for name, value := range limits {
		f.SetSpec(value, "resources", "limits", name)
	}
	if !e.isPath(o.target) && len(o.requirements)+len(o.requirementsFiles) > 0 {
		return fault.Invalid("--requirement would change the stored function %s; export it ('millrace export'), change the file and deploy that", o.target)
	}
	if o.python != "" {
		f.SetSpec(o.python, "python_version")
	}
	if o.workdir != "" {
		f.SetSpec(o.workdir, "workdir")
	}
	if o.eventTimeout != "" {
		f.SetSpec(o.eventTimeout, "config", "spec.eventTimeout")
	}
	if o.minReplicas >= 0 {
		f.SetSpec(o.minReplicas, "min_replicas")
	}
	if o.maxReplicas >= 0 {
		f.SetSpec(o.maxReplicas, "max_replicas")
	}
	for _, path := range []*string{&o.tlsCertificate, &o.tlsKey} {
		if *path != "" {
			*path = e.path(*path) // the function's process reads it
		}
	}
	shapeTriggers(o, f)
	return f.Validate()
}

// shapeTriggers changes the trigger for HTTP and adds those for times.
func shapeTriggers(o deployOptions, f *function.Function) {
	key := "spec.triggers.http"
	for name, trigger := range document.Map(f.Doc, "spec", "config") {
		if object, ok := trigger.(document.Object); ok && strings.HasPrefix(name, "spec.triggers.") && document.String(object, "kind") == "http" {
			key = name
		}
	}
	if o.workers > 0 || o.threads > 0 || o.port > 0 || o.keys != "" || o.users != "" || o.tlsKey != "" {
		http := document.Map(f.Doc, "spec", "config", key)
		if http == nil {
			http = document.Object{"kind": "http", "attributes": document.Object{}}
		}
		if o.workers > 0 {
			delete(http, "maxWorkers")
			http["numWorkers"] = o.workers
		}
		if o.threads > 0 {
			document.Set(http, o.threads, "attributes", "threads")
		}
		if o.port > 0 {
			document.Set(http, o.port, "attributes", "port")
		}
		for name, value := range map[string]string{"keys": o.keys, "basic": o.users} {
			if value != "" {
				document.Set(http, value, "attributes", "auth", name)
			}
		}
		if o.tlsKey != "" {
			document.Set(http, document.Object{"certificate": o.tlsCertificate, "key": o.tlsKey}, "attributes", "tls")
		}
		f.SetSpec(http, "config", key)
	}
	for i, schedule := range o.cron {
		name := "spec.triggers.cron"
		if i > 0 {
			name += "-" + string(rune('1'+i))
		}
		attributes := document.Object{"schedule": schedule}
		f.SetSpec(document.Object{"kind": "cron", "attributes": attributes}, "config", name)
	}
}

func anyWords(words []string) []any {
	out := make([]any, len(words))
	for i, word := range words {
		out[i] = word
	}
	return out
}
