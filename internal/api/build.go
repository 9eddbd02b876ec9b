package api

import (
	"io"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// buildFunction makes a function ready to run and says whether it is.
func buildFunction(c *call) error {
	control, err := c.controller()
	if err != nil {
		return err
	}
	request, err := c.object()
	if err != nil {
		return err
	}
	fn, err := document.Want[document.Object](request, "function")
	if err != nil {
		return runtimeError(err)
	}
	if fn == nil {
		return withReason(fault.Invalid("Runtime error: bad JSON, need to include function"))
	}
	switch kind := function.Kind(document.String(fn, "kind")); {
	case kind == function.KindApplication:
		return c.applicationImage(fn)
	case kind.Nuclio(): // as older clients deploy
		doc, err := c.deploy(request, "", "")
		if err != nil {
			return err
		}
		return c.json(200, document.Object{"data": doc, "ready": false})
	}
	project := document.String(fn, "metadata", "project")
	if project == "" {
		project = defaultProject
		document.Set(fn, project, "metadata", "project")
	}
	if err := c.projectExists(project); err != nil {
		return err
	}
	force, err := document.Want[bool](request, "force_build")
	if err != nil {
		return runtimeError(err)
	}
	status, err := control.Build(c.ctx(), fn, force)
	if err != nil {
		return runtimeError(err)
	}
	if status.Log != nil {
		_ = status.Log.Close()
	}
	built := status.Function
	if built == nil {
		built = fn
	}
	ready := status.State == "ready"
	if ready && status.Image != "" {
		document.Set(built, status.Image, "spec", "image")
	}
	if ready || document.String(built, "status", "state") == "" {
		document.Set(built, status.State, "status", "state")
	}
	return c.json(200, document.Object{"data": built, "ready": ready})
}

// applicationImage answers a client that builds an image before it deploys an
// application: on this machine there is nothing to build, what the application
// requires is made ready when it is deployed.
func (c *call) applicationImage(fn document.Object) error {
	image := document.String(fn, "spec", "image")
	for _, name := range []string{document.String(fn, "spec", "build", "image"), document.String(fn, "spec", "build", "base_image"), function.KindApplication.DefaultImage()} {
		if image == "" {
			image = name
		}
	}
	document.Set(fn, image, "spec", "image")
	document.Set(fn, "ready", "status", "state")
	return c.json(200, document.Object{"data": fn, "ready": true})
}

// buildStatus answers in headers; the body is the build's log from offset on.
func buildStatus(c *call) error {
	name, project := c.str("name"), c.str("project")
	if name == "" {
		return fault.Invalid("parameter name must be given: the function whose build is asked for")
	}
	if project == "" {
		project = defaultProject
	}
	offset, err := c.int("offset", 0)
	if err != nil {
		return err
	}
	withLog, err := c.bool("logs", true)
	if err != nil {
		return err
	}
	control, err := c.controller()
	if err != nil {
		return err
	}
	if doc, err := c.loadFunction(project, name, c.str("tag"), ""); err != nil {
		return err
	} else if function.Kind(document.String(doc, "kind")).Nuclio() && c.s.opts.Deployments != nil {
		after, err := c.timestamp()
		if err != nil {
			return err
		}
		return c.deployStatus(project, name, c.str("tag"), after)
	}
	status, err := control.BuildStatus(c.ctx(), project, function.NormalizeName(name), c.str("tag"))
	if err != nil {
		return err
	}
	if status.Log != nil {
		defer status.Log.Close()
	}
	h := c.w.Header()
	h.Set("X-Mlrun-Function-Status", status.State)
	h.Set("Function_status", status.State)
	h.Set("X-Mlrun-Last-Timestamp", "0.0")
	h.Set("Function_image", status.Image)
	h.Set("Deploy_status_text_kind", "logs")
	h.Set("Builder_pod", "")
	c.startLog()
	if withLog && status.Log != nil {
		if _, err := io.CopyN(io.Discard, status.Log, offset); err == nil {
			c.copyLog(status.Log)
		}
	}
	return nil
}
