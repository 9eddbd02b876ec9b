package cli

import (
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/render"
)

// environments lists the virtual environments, those whose name begins with prefix.
func (e *env) environments(c *client.Client, prefix string, limit int) ([]document.Object, error) {
	all, err := c.Environments(e.soft)
	if err != nil {
		return nil, err
	}
	docs := []document.Object{}
	for _, doc := range all {
		if strings.HasPrefix(document.String(doc, "metadata", "name"), prefix) && (limit == 0 || len(docs) < limit) {
			docs = append(docs, doc)
		}
	}
	return docs, nil
}

// environment is the one whose name begins with prefix.
func (e *env) environment(c *client.Client, prefix string) (document.Object, error) {
	if len(prefix) < 4 {
		return nil, fault.Invalid("environment %q: give its name, or at least 4 characters from its beginning", prefix)
	}
	docs, err := e.environments(c, prefix, 0)
	switch {
	case err != nil:
		return nil, err
	case len(docs) == 0:
		return nil, fault.NotFound("there is no environment %.100s; 'millrace get environments' lists them", prefix)
	case len(docs) > 1:
		return nil, fault.Invalid("%d environments begin with %s; give more of the name", len(docs), prefix)
	}
	return docs[0], nil
}

func (e *env) deleteEnvironment(c *client.Client, prefix string) error {
	doc, err := e.environment(c, prefix)
	if err != nil {
		return err
	}
	name := document.String(doc, "metadata", "name")
	if err := c.DeleteEnvironment(e.soft, name); err != nil {
		return err
	}
	e.say("millrace: deleted environment %s", name)
	return nil
}

func (v tableView) environments(docs []document.Object) *render.Table {
	v.all = false
	t := &render.Table{Headers: v.headers([]string{"NAME", "PYTHON", "PACKAGES", "SIZE", "LAST USED"}, "BUILT", "PATH")}
	for _, doc := range docs {
		size, _ := document.Int(doc, "status", "size")
		row := []string{
			v.id(document.String(doc, "metadata", "name"), 12), document.String(doc, "spec", "python"), strconv.Itoa(len(document.List(doc, "spec", "lock"))),
			render.Bytes(size), v.time(document.String(doc, "status", "last_used")),
		}
		t.Rows = append(t.Rows, v.row(doc, row, v.time(document.String(doc, "status", "built")), document.String(doc, "status", "path")))
	}
	return t
}
