package api

import (
	"strings"

	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/provenance"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/tune"
)

// provenanceRoutes are about runs that repeat others.
func provenanceRoutes() []*route {
	const named = "/millrace/projects/{project}/runs/{uid}"
	return []*route{
		v1("rerun", "POST", named+"/rerun", "Repeat a run from what was recorded about it", runRepeat, body("Object"), answers(200, "RunAnswer")),
		v1("getVerdict", "GET", named+"/verdict", "Whether a repeated run has the outputs of its original", runVerdict, answers(200, "Object")),
	}
}

// recorded reads a run with its artifacts.
func (c *call) recorded(key run.Key) (document.Object, error) {
	doc, err := c.s.opts.Store.RunGet(c.ctx(), key)
	if err != nil {
		return nil, err
	}
	artifacts, err := c.s.opts.Store.ArtifactsOfRun(c.ctx(), key)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(artifacts))
	for i, artifact := range artifacts {
		list[i] = artifact
	}
	document.Set(doc, list, "status", "artifacts")
	return doc, nil
}

// infer adds to a run that its client executed what this server can tell about it:
// the digest of its code, when the function is stored and holds all of it, and of
// its results. A run that has a record keeps it.
func (c *call) infer(doc document.Object) {
	uri := function.ParseURI(document.String(doc, "spec", "function"))
	if document.Map(doc, "status", "provenance") != nil || uri.Hash == "" {
		return
	}
	stored, err := c.s.opts.Store.FunctionGet(c.ctx(), uri.Project, uri.Name, "", uri.Hash)
	if err != nil {
		return // a run is read whether or not its function is there still
	}
	code, err := function.CodeOf(stored)
	if err != nil || !code.Embedded() {
		return
	}
	document.Set(doc, code.Digest(""), "status", "provenance", "code")
	if run.StateOf(doc).Terminal() {
		provenance.Results(doc)
	}
}

// runRepeat starts a repetition and answers with the new run.
func runRepeat(c *call) error {
	control, err := c.controller()
	if err != nil {
		return err
	}
	request, err := c.object()
	if err != nil {
		return err
	}
	parameters, err := document.Want[document.Object](request, "parameters")
	if err != nil {
		return err
	}
	allow, err := document.Want[bool](request, "allow_changes")
	if err != nil {
		return err
	}
	original, err := c.recorded(run.Key{Project: c.path("project"), UID: c.path("uid")})
	if err != nil {
		return err
	}
	task, reference, err := provenance.Repeat(original, strings.ReplaceAll(uuid.NewString(), "-", ""), provenance.Changes{Parameters: parameters, Allow: allow})
	if err != nil {
		return err
	}
	submission := Submission{Project: c.path("project"), Task: task, AllowLocal: true}
	if tune.Iterative(task) {
		search, err := control.Search(c.ctx(), run.Key{Project: c.path("project"), UID: c.path("uid")})
		if err != nil {
			return err
		}
		submission.Names = search.Names
	}
	if err := c.resolve(&submission, reference, nil); err != nil {
		return err
	}
	doc, err := control.Submit(c.ctx(), submission)
	if err != nil {
		return runtimeError(err)
	}
	return c.json(200, document.Object{"data": doc})
}

// runVerdict compares a repetition with the run that it repeats.
func runVerdict(c *call) error {
	repeated, err := c.recorded(run.Key{Project: c.path("project"), UID: c.path("uid")})
	if err != nil {
		return err
	}
	of := document.String(repeated, "spec", "rerun", "of")
	if of == "" {
		of = document.String(repeated, "status", "provenance", "rerun_of")
	}
	if of == "" {
		return fault.Invalid("run %s repeats no other run; repeat it with POST …/rerun, or compare any two runs by their documents", clip(c.path("uid")))
	}
	if state := run.StateOf(repeated); !state.Terminal() {
		return fault.Conflict("run %s is not over (%s); ask again when it is", clip(c.path("uid")), state)
	}
	original, err := c.recorded(run.Key{Project: c.path("project"), UID: of})
	if err != nil {
		return err
	}
	return c.json(200, provenance.Compare(original, repeated).Document())
}
