package cli

import (
	"strings"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/run"
)

// runReferenceHelp says how commands name a run.
const runReferenceHelp = `RUN is the uid of a run, at least 4 characters from its beginning, or the name of a run,
which means the latest run of that name. Without --project all projects are searched.`

// searchedRuns is how many of the newest runs are searched for the beginning of a
// uid.
const searchedRuns = 5000

// runScope is the project that runs are searched in: the one that was named, else
// all of them.
func (e *env) runScope() string {
	if project, named := e.project(); named {
		return project
	}
	return "*"
}

// findRun finds the run that ref names; see runReferenceHelp.
func (e *env) findRun(c *client.Client, ref string) (document.Object, error) {
	scope := e.runScope()
	if isUID(ref) {
		if doc, err := e.firstRun(c, scope, client.RunQuery{UIDs: []string{ref}, Limit: 1}); doc != nil || err != nil {
			return doc, err
		}
	} else if isUIDPrefix(ref) {
		if doc, err := e.runByPrefix(c, scope, ref); doc != nil || err != nil {
			return doc, err
		}
	}
	doc, err := e.firstRun(c, scope, client.RunQuery{Name: ref, Limit: 1})
	if err != nil || doc != nil {
		return doc, err
	}
	where := "in project " + scope
	if scope == "*" {
		where = "in any project"
	}
	return nil, fault.NotFound("there is no run %q %s; 'millrace get runs' lists them", ref, where)
}

func (e *env) firstRun(c *client.Client, project string, q client.RunQuery) (document.Object, error) {
	for doc, err := range c.Runs(e.soft, project, q) {
		return doc, err
	}
	return nil, nil
}

// runByPrefix finds the one run whose uid begins with prefix.
func (e *env) runByPrefix(c *client.Client, project, prefix string) (document.Object, error) {
	var found document.Object
	for doc, err := range c.Runs(e.soft, project, client.RunQuery{Limit: searchedRuns}) {
		if err != nil {
			return nil, err
		}
		uid := document.String(doc, "metadata", "uid")
		if !strings.HasPrefix(uid, prefix) {
			continue
		}
		if found != nil && document.String(found, "metadata", "uid") != uid {
			return nil, fault.Invalid("%q is the beginning of more than one run, %s and %s; give more of the uid", prefix, document.String(found, "metadata", "uid"), uid)
		}
		found = doc
	}
	return found, nil
}

func isUID(text string) bool { return len(text) == 32 && isHex(text) }

func isUIDPrefix(text string) bool { return len(text) >= 4 && len(text) < 32 && isHex(text) }

func isHex(text string) bool { return strings.Trim(text, "0123456789abcdef") == "" }

// keyOf is the identity of a run's document.
func keyOf(doc document.Object) run.Key {
	iter, _ := document.Int(doc, "metadata", "iteration")
	return run.Key{Project: document.String(doc, "metadata", "project"), UID: document.String(doc, "metadata", "uid"), Iter: int(iter)}
}

func over(state string) bool { return run.State(state).Terminal() }

// functionURI reads the name of a stored function; the project is that of the
// name, else the one of --project.
func (e *env) functionURI(text string) (function.URI, error) {
	uri := function.ParseURI(text)
	if err := uri.Check(); err != nil {
		return uri, err
	}
	if uri.Project == "" {
		uri.Project, _ = e.project()
	}
	return uri, nil
}

// storedFunction returns the stored function that text names.
func (e *env) storedFunction(c *client.Client, text string) (document.Object, error) {
	uri, err := e.functionURI(text)
	if err != nil {
		return nil, err
	}
	doc, err := c.Function(e.soft, uri.Project, uri.Name, uri.Tag, uri.Hash)
	if fault.Is(err, fault.CodeNotFound) {
		return nil, fault.NotFound("there is no function %s; 'millrace get functions --project %s' lists them, and a file is named by its path", uri, uri.Project)
	}
	return doc, err
}
