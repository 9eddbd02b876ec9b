package api

import (
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// What this server does not do is refused with a sentence, and lists of it are
// empty: clients ask for them in passing.

// refuses answers 501 and says what is missing and what to do.
func refuses(format string, args ...any) func(*call) error {
	err := fault.NotSupported(format, args...)
	return func(*call) error { return err }
}

// always answers a fixed document: a list that is truly empty here.
func always(doc any) func(*call) error {
	body := document.Encode(doc)
	return func(c *call) error {
		writeJSON(c.w, 200, body)
		return nil
	}
}

// missing answers 404 for one of the things that cannot exist here.
func missing(what string) func(*call) error {
	return func(c *call) error {
		return fault.NotFound("%s %q not found in project %s", what, clip(c.path("name")), clip(c.path("project")))
	}
}

// nothing answers 204: there is nothing to delete.
func nothing(c *call) error {
	c.discard()
	return c.silent(204)
}

// authorize answers whether the caller may do something; whoever got here may.
func authorize(c *call) error {
	if _, err := c.object(); err != nil {
		return err
	}
	return c.json(200, nil)
}

// resourceKinds are the kinds whose runs are executed by the server.
var resourceKinds = []string{"dask", "job", "spark", "remote-spark", "mpijob", "databricks"}

// resource is one execution that the server has in hand.
type resource struct {
	project, kind, uid string
	doc                document.Object
}

// resources lists what runs here: one element for each live run of a kind that
// the server executes.
func (c *call) resources() ([]resource, error) {
	kind, err := c.enum("kind", "")
	if err != nil {
		return nil, err
	}
	filter := store.RunFilter{
		Project: c.path("project"), Unsorted: true,
		States: []string{string(run.Pending), string(run.Running), string(run.Aborting), string(run.PendingRetry)},
	}
	if filter.Labels, err = selector(c.str("label-selector")); err != nil {
		return nil, err
	}
	object := c.str("object-id")
	if object != "" {
		filter.UIDs = []string{object}
	}
	docs, _, err := c.s.opts.Store.RunList(c.ctx(), filter)
	if err != nil {
		return nil, err
	}
	var out []resource
	for _, doc := range docs {
		labels := document.Strings(doc, "metadata", "labels")
		is := labels["kind"]
		if kind != "" && is != kind || !slices.Contains(resourceKinds, is) {
			continue
		}
		project, uid := document.String(doc, "metadata", "project"), document.String(doc, "metadata", "uid")
		phase := "Running"
		if state := run.State(document.String(doc, "status", "state")); state == run.Pending || state == run.PendingRetry {
			phase = "Pending"
		}
		all := document.Object{"mlrun/class": is, "mlrun/project": project, "mlrun/uid": uid, "mlrun/name": document.String(doc, "metadata", "name")}
		for key, value := range labels {
			all[key] = value
		}
		out = append(out, resource{project, is, uid, document.Object{
			"name": document.String(doc, "metadata", "name") + "-" + uid, "labels": all, "status": document.Object{"phase": phase},
		}})
	}
	return out, nil
}

// selector reads the equalities of a Kubernetes label selector: k=v, k==v and k.
func selector(text string) ([]store.LabelFilter, error) {
	var out []store.LabelFilter
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		if strings.ContainsAny(part, "!()") || strings.Contains(part, " in ") {
			return nil, fault.Invalid("parameter label-selector: %q is not KEY or KEY=VALUE, the only forms read here", clip(part))
		}
		key, value, has := strings.Cut(strings.ReplaceAll(part, "==", "="), "=")
		f := store.LabelFilter{Key: strings.TrimSpace(key), Value: strings.TrimSpace(value), HasValue: has}
		if f.Key == "" {
			return nil, fault.Invalid("parameter label-selector: %q has no key", clip(part))
		}
		out = append(out, f)
	}
	return out, nil
}

func runtimeResources(c *call) error {
	group, err := c.enum("group-by", "")
	if err != nil {
		return err
	}
	found, err := c.resources()
	if err != nil {
		return err
	}
	switch group {
	case "job":
		return c.json(200, grouped(found, func(r resource) []string { return []string{r.project, r.uid} }))
	case "project":
		return c.json(200, grouped(found, func(r resource) []string { return []string{r.project, r.kind} }))
	}
	byKind := grouped(found, func(r resource) []string { return []string{r.kind} })
	out := []any{}
	for _, kind := range resourceKinds {
		if resources := byKind[kind]; resources != nil {
			out = append(out, document.Object{"kind": kind, "resources": resources})
		}
	}
	return c.json(200, out)
}

// grouped nests resources under the keys of each.
func grouped(found []resource, keys func(resource) []string) document.Object {
	out := document.Object{}
	for _, r := range found {
		at := document.Ensure(out, keys(r)...)
		pods, _ := at["pod_resources"].([]any)
		at["pod_resources"], at["crd_resources"] = append(pods, r.doc), []any{}
	}
	return out
}

// deleteRuntimeResources aborts live runs when force is given. Without it only
// what is left of finished runs would go, and nothing is left of those.
func deleteRuntimeResources(c *call) error {
	force, err := c.bool("force", false)
	if err != nil {
		return err
	}
	if _, err := c.int("grace-period", 0); err != nil {
		return err
	}
	c.discard()
	found, err := c.resources()
	if err != nil {
		return err
	}
	if !force {
		return c.done()
	}
	control, err := c.controller()
	if err != nil {
		return err
	}
	for _, r := range found {
		updates := document.Object{"status.status_text": "the runtime resources of the run were deleted"}
		if _, err := control.Abort(c.ctx(), run.Key{Project: r.project, UID: r.uid}, updates); err != nil && !fault.Is(err, fault.CodeNotFound) {
			return err
		}
	}
	return c.json(200, grouped(found, func(r resource) []string { return []string{r.project, r.kind} }))
}
