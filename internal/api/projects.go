package api

import (
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/store"
)

func projectCreate(c *call) error {
	if _, err := c.bool("wait-for-completion", true); err != nil {
		return err
	}
	doc, err := c.object()
	if err != nil {
		return err
	}
	stored, err := c.s.opts.Store.ProjectCreate(c.ctx(), doc)
	if err != nil {
		return err
	}
	return c.json(201, stored)
}

func projectPut(c *call) error {
	doc, err := c.object()
	if err != nil {
		return err
	}
	name := c.path("project")
	inside, err := document.Want[string](doc, "metadata", "name")
	if err != nil {
		return err
	}
	if inside != "" && inside != name {
		return fault.Conflict("metadata.name %q differs from project %q in the path; make them equal", clip(inside), name)
	}
	stored, err := c.s.opts.Store.ProjectPut(c.ctx(), name, doc)
	if err != nil {
		return err
	}
	return c.json(200, stored)
}

func projectPatch(c *call) error {
	mode := c.r.Header.Get("X-Mlrun-Patch-Mode")
	if mode != "" && mode != "replace" && mode != "additive" {
		return fault.Invalid("header x-mlrun-patch-mode must be replace or additive, got %q", clip(mode))
	}
	patch, err := c.object()
	if err != nil {
		return err
	}
	stored, err := c.s.opts.Store.ProjectPatch(c.ctx(), c.path("project"), patch, mode == "additive")
	if err != nil {
		return err
	}
	return c.json(200, stored)
}

func projectGet(c *call) error {
	doc, err := c.s.opts.Store.ProjectGet(c.ctx(), c.path("project"))
	if err != nil {
		return err
	}
	return c.json(200, doc)
}

// projectFilter reads the filters shared by lists of projects and summaries.
func (c *call) projectFilter() (store.ProjectFilter, error) {
	labels, err := parseLabels(c.strs("label"))
	return store.ProjectFilter{Owner: c.str("owner"), State: c.str("state"), Labels: labels}, err
}

func projectList(c *call) error {
	format, err := c.enum("format", "full")
	if err != nil {
		return err
	}
	filter, err := c.projectFilter()
	if err != nil {
		return err
	}
	docs, err := c.s.opts.Store.ProjectList(c.ctx(), filter)
	if err != nil {
		return err
	}
	if format == "name_only" {
		names := make([]string, 0, len(docs))
		for _, doc := range docs {
			names = append(names, document.String(doc, "metadata", "name"))
		}
		return c.json(200, document.Object{"projects": names})
	}
	if format == "minimal" {
		for _, doc := range docs {
			for _, key := range []string{"functions", "workflows", "artifacts"} {
				document.Set(doc, nil, "spec", key)
			}
		}
	}
	return c.json(200, document.Object{"projects": list(docs)})
}

// projectDelete answers both versions: v2 with a background task, v1 with 202
// and the same task, which clients of v1 accept too.
func projectDelete(c *call) error {
	name := c.path("project")
	strategy := c.r.Header.Get("X-Mlrun-Deletion-Strategy")
	store := c.s.opts.Store
	switch strategy {
	case "", "restrict", "restricted", "cascade", "cascading", "check":
	default:
		return fault.Invalid("header x-mlrun-deletion-strategy must be restrict, cascade or check, got %q", clip(strategy))
	}
	if _, err := store.ProjectGet(c.ctx(), name); fault.Is(err, fault.CodeNotFound) {
		return c.silent(204)
	} else if err != nil {
		return err
	}
	if !strings.HasPrefix(strategy, "cascad") {
		contents, err := store.ProjectContents(c.ctx(), name)
		if err != nil {
			return err
		}
		if len(contents) > 0 {
			return fault.Precondition("Project %s can not be deleted since related resources found: %s", name, strings.Join(contents, ", "))
		}
	}
	if strategy == "check" {
		return c.silent(204)
	}
	control, err := c.controller()
	if err != nil {
		return err
	}
	task, err := control.DeleteProject(c.ctx(), name)
	if err != nil {
		return err
	}
	return c.json(202, task)
}

func projectSummary(c *call) error {
	name := c.path("project")
	if err := function.ValidateProjectName("project", name); err != nil {
		return err
	}
	summary, err := c.s.opts.Store.ProjectSummary(c.ctx(), name)
	if err != nil {
		return err
	}
	return c.json(200, summary)
}

func projectSummaries(c *call) error {
	filter, err := c.projectFilter()
	if err != nil {
		return err
	}
	docs, err := c.s.opts.Store.ProjectList(c.ctx(), filter)
	if err != nil {
		return err
	}
	out := make([]document.Object, 0, len(docs))
	for _, doc := range docs {
		summary, err := c.s.opts.Store.ProjectSummary(c.ctx(), document.String(doc, "metadata", "name"))
		if fault.Is(err, fault.CodeNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		out = append(out, summary)
	}
	return c.json(200, document.Object{"project_summaries": out})
}

// controller returns the controller of a server that has one.
func (c *call) controller() (Controller, error) {
	if c.s.opts.Controller == nil {
		return nil, fault.NotSupported("this server only keeps records; it cannot start, stop or delete anything")
	}
	return c.s.opts.Controller, nil
}
