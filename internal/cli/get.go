package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/tune"
)

// objectKind is a kind of thing that `get` lists.
type objectKind string

const (
	kindFunctions objectKind = "functions"
	kindRuns      objectKind = "runs"
	kindArtifacts objectKind = "artifacts"
	kindProjects  objectKind = "projects"

	kindEnvironments objectKind = "environments"
	kindDeployments  objectKind = "deployments"
	kindIterations   objectKind = "iterations"
)

// kindWords are the words for each kind; the first is its name.
var kindWords = map[objectKind][]string{
	kindFunctions: {"functions", "function", "funcs", "func", "fn"},
	kindRuns:      {"runs", "run"},
	kindArtifacts: {"artifacts", "artifact", "art"},
	kindProjects:  {"projects", "project", "proj"},

	kindDeployments:  {"deployments", "deployment", "deploy", "dep"},
	kindIterations:   {"iterations", "iteration", "iter", "iters"},
	kindEnvironments: {"environments", "environment", "envs", "env"},
}

func parseKind(word string) (objectKind, error) {
	for kind, words := range kindWords {
		if slices.Contains(words, strings.ToLower(word)) {
			return kind, nil
		}
	}
	return "", usagef("there is no kind %q; it must be functions, deployments, runs, iterations, artifacts, projects or environments", word)
}

// getOptions are the flags of `get`.
type getOptions struct {
	kind        objectKind
	name        string
	output      string
	allProjects bool
	states      []string
	labels      []string
	limit       int
	match       string
	tag         string
	versions    bool
	category    string
	since       string
	sort        string
}

const outputHelp = "table, wide, json, yaml or name; of iterations also csv"

func newGet(e *env) *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "List functions, deployments, runs, artifacts, projects or environments, or show one",
		Long: `List functions, deployments, runs, artifacts, projects or environments, or show the one that
is named. Deployments are real-time functions that serve, or should; -o yaml shows the revisions
of one. Environments are what requirements became: virtual environments, shared by all projects.

A run is named by its uid, at least 4 characters from its beginning, or by its name (the
latest of that name); a function by [PROJECT/]NAME[:TAG][@HASH], a deployment by
[PROJECT/]NAME[:TAG]; an artifact by KEY[:TAG].

get iterations RUN lists the iterations of an iterative task, with their parameters and
results: in the order of their numbers, or that of --sort.

-o json and yaml print a list of documents, or with NAME one document. -o name prints one
name a line: the uid of a run, NAME:TAG of a function, KEY of an artifact. An empty list is
no error. On a terminal tables are cut to its width, elsewhere they are not.`,
		Example: `  millrace get runs --state error --since 24h
  millrace get run 3f2a9c -o yaml
  millrace get functions -A -o json
  millrace get artifacts --label framework=sklearn
  millrace get iterations 3f2a9c --sort -output.accuracy --limit 10
  millrace get iterations trainer-train --state error -o json
  millrace get deployments -A -o wide
  millrace get environments -o wide`,
		Args: arguments(1, 2, "a KIND (functions, deployments, runs, iterations, artifacts, projects, environments) and at most one NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := parseKind(args[0])
			if err != nil {
				return err
			}
			o.kind = kind
			if len(args) == 2 {
				o.name = args[1]
			}
			return runGet(e, o)
		},
		ValidArgsFunction: e.completeKinds("functions", "deployments", "runs", "iterations", "artifacts", "projects", "environments"),
	}
	e.addGlobal(cmd)
	e.addProject(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&o.output, "output", "o", "table", outputHelp)
	flags.BoolVarP(&o.allProjects, "all-projects", "A", false, "of all projects")
	flags.StringArrayVar(&o.states, "state", nil, "only in this state (may be repeated)")
	flags.StringArrayVarP(&o.labels, "label", "l", nil, "only with this label, NAME or NAME=VALUE (may be repeated)")
	flags.IntVar(&o.limit, "limit", 0, "at most so many (default: all; of runs on a terminal 50)")
	flags.StringVar(&o.match, "name", "", "only with this name; ~TEXT for names that contain TEXT")
	flags.StringVar(&o.tag, "tag", "", "functions and artifacts: only with this tag")
	flags.BoolVar(&o.versions, "versions", false, "functions: all versions, not just the tagged")
	flags.StringVar(&o.category, "category", "", "artifacts: only model, dataset, document, llm-prompt or other")
	flags.StringVar(&o.since, "since", "", "runs: only started within this time, such as 30m, 24h or 7d")
	flags.StringVar(&o.sort, "sort", "", "iterations: by iter, param.NAME or output.NAME, with - before it from the largest")
	registerWords(cmd, "output", "table", "wide", "json", "yaml", "name", "csv")
	registerWords(cmd, "category", artifact.Categories...)
	return cmd
}

// checkOutput refuses an output format that is not one of words.
func checkOutput(output string, words ...string) error {
	if output == "" || slices.Contains(words, output) {
		return nil
	}
	return usagef("-o %q must be %s", output, strings.Join(words[:len(words)-1], ", ")+" or "+words[len(words)-1])
}

func runGet(e *env, o getOptions) error {
	words := []string{"table", "wide", "json", "yaml", "name"}
	if o.kind == kindIterations {
		words = append(words, "csv")
	}
	if err := checkOutput(o.output, words...); err != nil {
		return err
	}
	if err := o.checkIterations(); err != nil {
		return err
	}
	if o.limit < 0 {
		return usagef("--limit %d must not be negative", o.limit)
	}
	if err := checkCategory(o.category); err != nil {
		return err
	}
	for _, state := range o.states {
		if (o.kind == kindRuns || o.kind == kindIterations) && !run.State(state).Known() {
			return usagef("--state %q is not a state of runs; those are %s", state, stateWords())
		}
	}
	return e.with(func(connection *Connection) error {
		if o.kind == kindIterations {
			return e.getIterations(connection.Client, o)
		}
		if o.name != "" {
			return e.getOne(connection.Client, o)
		}
		return e.getList(connection.Client, o)
	})
}

func checkCategory(category string) error {
	if category == "" || slices.Contains(artifact.Categories, category) {
		return nil
	}
	return usagef("--category %q must be one of %s", category, strings.Join(artifact.Categories, ", "))
}

func stateWords() string {
	var words []string
	for _, state := range run.States() {
		words = append(words, string(state))
	}
	return strings.Join(words, ", ")
}

// getOne shows one object.
func (e *env) getOne(c *client.Client, o getOptions) error {
	doc, err := e.one(c, o)
	if err != nil {
		return err
	}
	switch o.output {
	case "json", "yaml":
		return e.printDocument(o.output, doc)
	case "table", "wide":
		if o.kind == kindRuns {
			result := RunResult{Run: doc}
			if tune.Iterative(doc) && document.List(doc, "status", "iterations") == nil {
				if result.Search, err = e.searchText(c, doc); err != nil {
					return err
				}
			}
			return e.printf("%s", renderSummary(result, e.systemFlags(), e.palette(e.Stdout)))
		}
	}
	return e.printList(o, []document.Object{doc})
}

func (e *env) one(c *client.Client, o getOptions) (document.Object, error) {
	project, _ := e.project()
	switch o.kind {
	case kindRuns:
		doc, err := e.findRun(c, o.name)
		if err != nil {
			return nil, err
		}
		return c.Run(e.soft, keyOf(doc))
	case kindFunctions:
		return e.storedFunction(c, o.name)
	case kindProjects:
		return c.Project(e.soft, o.name)
	case kindEnvironments:
		return e.environment(c, o.name)
	case kindDeployments:
		return e.deploymentOf(c, o.name)
	}
	key, tag, _ := strings.Cut(o.name, ":")
	if tag == "" {
		tag = "latest"
	}
	return c.Artifact(e.soft, project, client.Artifact{Key: key, Tag: tag, Iter: -1})
}

// getList lists objects.
func (e *env) getList(c *client.Client, o getOptions) error {
	_, terminal := e.terminal(e.Stdout)
	cut := false
	if o.kind == kindRuns && o.limit == 0 && terminal && (o.output == "table" || o.output == "wide") {
		o.limit, cut = 50, true
	}
	projects, err := e.projectsOf(c, o)
	if err != nil {
		return err
	}
	docs := []document.Object{}
	for _, project := range projects {
		rest := o
		if o.limit > 0 {
			rest.limit = o.limit - len(docs)
		}
		more, err := e.listIn(c, project, rest)
		if err != nil {
			return err
		}
		docs = append(docs, more...)
		if o.limit > 0 && len(docs) >= o.limit {
			break
		}
	}
	if err := e.printList(o, docs); err != nil {
		return err
	}
	switch {
	case len(docs) == 0 && (o.output == "table" || o.output == "wide"):
		e.say("millrace: there are no %s", o.kind)
	case cut && len(docs) == o.limit:
		e.say("millrace: the newest %d; --limit shows more", o.limit)
	}
	return nil
}

// projectsOf is which projects a list spans. Runs of all projects are one list for
// the server; of the rest there is one list a project.
func (e *env) projectsOf(c *client.Client, o getOptions) ([]string, error) {
	project, _ := e.project()
	switch {
	case o.kind == kindProjects, o.kind == kindEnvironments:
		return []string{""}, nil
	case !o.allProjects:
		return []string{project}, nil
	case o.kind == kindRuns:
		return []string{"*"}, nil
	}
	var names []string
	for doc, err := range c.Projects(e.soft, client.ProjectQuery{}) {
		if err != nil {
			return nil, err
		}
		names = append(names, document.String(doc, "metadata", "name"))
	}
	slices.Sort(names)
	return names, nil
}

// listIn lists the objects of one project.
func (e *env) listIn(c *client.Client, project string, o getOptions) ([]document.Object, error) {
	switch o.kind {
	case kindEnvironments:
		return e.environments(c, "", o.limit)
	case kindDeployments:
		docs, err := c.Deployments(e.soft, project)
		return slices.DeleteFunc(docs, func(doc document.Object) bool {
			return len(o.states) > 0 && !slices.Contains(o.states, document.String(doc, "status", "state"))
		}), err
	}
	list := c.Projects(e.soft, client.ProjectQuery{Labels: o.labels, State: strings.Join(o.states, "")})
	switch o.kind {
	case kindRuns:
		q := client.RunQuery{Name: o.match, States: o.states, Labels: o.labels, Limit: o.limit}
		if o.since != "" {
			back, err := function.ParseDuration(o.since)
			if err != nil {
				return nil, usagef("--since %q must be a duration such as 30m, 24h or 7d", o.since)
			}
			q.Since = time.Now().Add(-back)
		}
		list = c.Runs(e.soft, project, q)
	case kindFunctions:
		tag := o.tag
		if tag == "" && !o.versions {
			tag = "*"
		}
		list = c.Functions(e.soft, project, client.FunctionQuery{Name: o.match, Tag: tag, States: o.states, Labels: o.labels, Limit: o.limit})
	case kindArtifacts:
		list = c.Artifacts(e.soft, project, client.ArtifactQuery{Name: o.match, Tag: o.tag, Category: o.category, Labels: o.labels, Limit: o.limit})
	}
	var docs []document.Object
	for doc, err := range list {
		if fault.Is(err, fault.CodeNotFound) && e.allowsMissing(o) {
			return docs, nil
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
		if o.limit > 0 && len(docs) >= o.limit {
			break
		}
	}
	return docs, nil
}

// allowsMissing: with -A a project may go while it is being listed.
func (e *env) allowsMissing(o getOptions) bool { return o.allProjects }
