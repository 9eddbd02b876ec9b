package cli

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/render"
)

// printList writes a list in the format asked for.
func (e *env) printList(o getOptions, docs []document.Object) error {
	switch o.output {
	case "json", "yaml":
		list := make([]any, len(docs))
		for i, doc := range docs {
			list[i] = doc
		}
		return e.printDocument(o.output, list)
	case "name":
		for _, doc := range docs {
			if err := e.printf("%s\n", nameOf(o.kind, doc)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(docs) == 0 {
		return nil
	}
	width, terminal := e.terminal(e.Stdout)
	view := tableView{now: time.Now(), wide: o.output == "wide", all: o.allProjects, short: terminal && o.output != "wide"}
	if !view.short {
		width = 0
	}
	return view.table(o.kind, docs).Write(e.Stdout, width, e.palette(e.Stdout))
}

// nameOf is what -o name prints: a name that the other commands take.
func nameOf(kind objectKind, doc document.Object) string {
	switch kind {
	case kindRuns:
		return document.String(doc, "metadata", "uid")
	case kindFunctions:
		name := document.String(doc, "metadata", "name")
		if tag := document.String(doc, "metadata", "tag"); tag != "" {
			return name + ":" + tag
		}
		return name + "@" + document.String(doc, "metadata", "hash")
	case kindArtifacts:
		return dbKey(doc)
	}
	return document.String(doc, "metadata", "name")
}

func dbKey(doc document.Object) string {
	if key := document.String(doc, "spec", "db_key"); key != "" {
		return key
	}
	return document.String(doc, "metadata", "key")
}

// tableView says how tables look: short cuts uids and hashes, as a terminal wants
// it; times are ages on a terminal and times elsewhere.
type tableView struct {
	now              time.Time
	wide, all, short bool
}

func (v tableView) table(kind objectKind, docs []document.Object) *render.Table {
	switch kind {
	case kindRuns:
		return v.runs(docs)
	case kindFunctions:
		return v.functions(docs)
	case kindArtifacts:
		return v.artifacts(docs)
	case kindDeployments:
		return v.deployments(docs)
	case kindEnvironments:
		return v.environments(docs)
	}
	return v.projects(docs)
}

func (v tableView) runs(docs []document.Object) *render.Table {
	t := &render.Table{Headers: v.headers([]string{"UID", "NAME", "STATE", "STARTED", "TOOK", "RESULTS"}, "KIND", "LABELS", "ERROR")}
	for _, doc := range docs {
		took := ""
		if d, ok := elapsed(doc, v.now); ok {
			took = render.Duration(d)
		}
		row := []string{
			v.id(document.String(doc, "metadata", "uid"), 8), document.String(doc, "metadata", "name"), document.String(doc, "status", "state"),
			v.time(document.String(doc, "status", "start_time")), took, inlineResults(document.Map(doc, "status", "results")),
		}
		labels := document.Strings(doc, "metadata", "labels")
		kind := labels["kind"]
		delete(labels, "kind")
		t.Rows = append(t.Rows, v.row(doc, row, kind, inlineLabels(labels), document.String(doc, "status", "error")))
	}
	first := v.first()
	t.Flexible = first + 5
	t.Styles = func(row, column int) render.Style {
		if column == first+2 {
			return render.StateStyle(t.Rows[row][column])
		}
		return render.Plain
	}
	return t
}

func (v tableView) functions(docs []document.Object) *render.Table {
	t := &render.Table{Headers: v.headers([]string{"NAME", "TAG", "KIND", "HANDLER", "HASH", "UPDATED"}, "STATE", "LABELS", "DESCRIPTION")}
	for _, doc := range docs {
		row := []string{
			document.String(doc, "metadata", "name"), document.String(doc, "metadata", "tag"), document.String(doc, "kind"),
			document.String(doc, "spec", "default_handler"), v.id(document.String(doc, "metadata", "hash"), 8), v.time(document.String(doc, "metadata", "updated")),
		}
		t.Rows = append(t.Rows, v.row(doc, row, document.String(doc, "status", "state"), inlineLabels(document.Strings(doc, "metadata", "labels")), document.String(doc, "spec", "description")))
	}
	t.Flexible = v.first()
	return t
}

func (v tableView) artifacts(docs []document.Object) *render.Table {
	t := &render.Table{Headers: v.headers([]string{"KEY", "KIND", "TAG", "ITER", "RUN", "SIZE", "UPDATED", "PATH"}, "LABELS")}
	for _, doc := range docs {
		size, iter := "", "0"
		if n, ok := document.Int(doc, "spec", "size"); ok {
			size = render.Bytes(n)
		}
		if n, ok := document.Int(doc, "metadata", "iter"); ok {
			iter = strconv.FormatInt(n, 10)
		}
		kind := document.String(doc, "kind")
		if kind == "" {
			kind = "artifact"
		}
		row := []string{
			dbKey(doc), kind, document.String(doc, "metadata", "tag"), iter, v.id(document.String(doc, "metadata", "tree"), 8), size,
			v.time(document.String(doc, "metadata", "updated")), document.String(doc, "spec", "target_path"),
		}
		t.Rows = append(t.Rows, v.row(doc, row, inlineLabels(document.Strings(doc, "metadata", "labels"))))
	}
	t.Flexible = v.first() + 7
	return t
}

func (v tableView) projects(docs []document.Object) *render.Table {
	v.all = false
	t := &render.Table{Headers: v.headers([]string{"NAME", "STATE", "OWNER", "CREATED", "DESCRIPTION"}, "LABELS"), Flexible: 4}
	for _, doc := range docs {
		row := []string{
			document.String(doc, "metadata", "name"), document.String(doc, "status", "state"), document.String(doc, "spec", "owner"),
			v.time(document.String(doc, "metadata", "created")), document.String(doc, "spec", "description"),
		}
		t.Rows = append(t.Rows, v.row(doc, row, inlineLabels(document.Strings(doc, "metadata", "labels"))))
	}
	t.Styles = func(row, column int) render.Style {
		if column == 1 {
			return render.StateStyle(t.Rows[row][column])
		}
		return render.Plain
	}
	return t
}

// headers puts PROJECT in front when all projects are listed, and adds the columns
// of the wide form.
func (v tableView) headers(base []string, wide ...string) []string {
	var out []string
	if v.all {
		out = append(out, "PROJECT")
	}
	out = append(out, base...)
	if v.wide {
		out = append(out, wide...)
	}
	return out
}

func (v tableView) row(doc document.Object, base []string, wide ...string) []string {
	var out []string
	if v.all {
		out = append(out, document.String(doc, "metadata", "project"))
	}
	out = append(out, base...)
	if v.wide {
		out = append(out, wide...)
	}
	return out
}

// first is the index of a row's first own column.
func (v tableView) first() int {
	if v.all {
		return 1
	}
	return 0
}

func (v tableView) id(text string, length int) string {
	if v.short && len(text) > length {
		return text[:length]
	}
	return text
}

func (v tableView) time(text string) string {
	t, err := document.ParseTime(text)
	if err != nil {
		return ""
	}
	if v.short {
		return render.Duration(v.now.Sub(t).Truncate(time.Second)) + " ago"
	}
	return t.UTC().Format(time.RFC3339)
}

func inlineResults(results document.Object) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(results)) {
		parts = append(parts, name+"="+shortValue(results[name]))
	}
	return strings.Join(parts, " ")
}

func inlineLabels(labels map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, name+"="+labels[name])
	}
	return strings.Join(parts, ",")
}
