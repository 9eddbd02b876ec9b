package api

import (
	"context"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
)

// DeployRequest asks for a function to be served.
type DeployRequest struct {
	Function document.Object
	Canary   int  // percent of the events for it, the rest goes where it went; 0 means all
	Shadow   bool // it gets copies of the events only
}

// DeployStatus is how far a deployment is.
type DeployStatus struct {
	State              string // building, ready, error, unhealthy, scaledToZero
	Name               string // of the deployed function: project, name and tag
	Address            string // HOST:PORT, "" while there is none
	Internal, External []string
	Log                string // what was said after the time asked for
	Last               int64  // time of its last line, in milliseconds
}

// Deployments serve real-time functions. A deployment is named by the function's
// name, followed by a dash and the tag unless that is latest. Errors carry fault
// codes: not found, conflict, invalid.
type Deployments interface {
	// Deploy stores the function and has it served; it returns the document as stored
	// as soon as that is decided for good.
	Deploy(ctx context.Context, request DeployRequest) (document.Object, error)
	// DeployStatus reports on a function; tag "" means latest.
	DeployStatus(ctx context.Context, project, name, tag string, after int64) (DeployStatus, error)
	// DeploymentList describes the deployments of a project, of all when it is "".
	DeploymentList(ctx context.Context, project string) ([]document.Object, error)
	// DeploymentGet describes one with its revisions.
	DeploymentGet(ctx context.Context, project, name string) (document.Object, error)
	// Rollback has an earlier version served again; see deployment.Rollback.
	Rollback(ctx context.Context, project, name, target string) (revision int, err error)
	// Undeploy ends a deployment and waits for its end for a while.
	Undeploy(ctx context.Context, project, name string) error
	// UndeployFunction ends the deployments of a function under all tags.
	UndeployFunction(ctx context.Context, project, name string) error
	// DeploymentMetrics are metrics in the text format of Prometheus.
	DeploymentMetrics(ctx context.Context, project, name string) ([]byte, error)
	// DeploymentLog is what the function's workers wrote.
	DeploymentLog(ctx context.Context, project, name string) (io.ReadSeekCloser, error)
	// Gateways are API gateways; GatewayPut creates or replaces one.
	Gateways(ctx context.Context, project string) (document.Object, error)
	Gateway(ctx context.Context, project, name string) (document.Object, error)
	GatewayPut(ctx context.Context, project, name string, doc document.Object) (document.Object, error)
	GatewayDelete(ctx context.Context, project, name string) error
}

// NoServer says why nothing can be deployed without a server.
const NoServer = "real-time functions are served by a server that goes on running: start one with 'millrace server' and repeat this in another terminal"

func deploymentRoutes() []*route {
	const deploy, all = "/projects/{project}/nuclio/{name}/deploy", "/millrace/projects/{project}/deployments"
	const named, gateways = all + "/{name}", "/projects/{project}/api-gateways"
	return []*route{
		v1("deployFunction", "POST", deploy, "Deploy a real-time function", deployFunction, body("DeployRequest"), answers(200, "DeployAnswer")),
		v1("deployStatus", "GET", deploy, "State and log of a deployment", deployStatus,
			takes(str("tag", "tag (default latest)"), str("last_log_timestamp", "send what was said after this time, in milliseconds"),
				boolean("verbose", "accepted and without effect"), str("name", "accepted and without effect"), str("project", "accepted and without effect")),
			bytesAnswer(200, "text/plain", deployHeaders...)),
		v1("listAllDeployments", "GET", "/millrace/deployments", "List the deployments of all projects", deploymentListAll, answers(200, "Object")),
		v1("listDeployments", "GET", all, "List the deployments of a project", deploymentList, answers(200, "Object")),
		v1("getDeployment", "GET", named, "Read a deployment with its revisions", deploymentGet, answers(200, "Object")),
		v1("deleteDeployment", "DELETE", named, "End a deployment; the function stays stored", deploymentDelete, silent(204)),
		v1("rollbackDeployment", "POST", named+"/rollback", "Serve an earlier version again", deploymentRollback, body("Object"), answers(200, "Object")),
		v1("getDeploymentMetrics", "GET", named+"/metrics", "Metrics of a deployed function", deploymentMetrics, bytesAnswer(200, "text/plain")),
		v1("getDeploymentLog", "GET", named+"/log", "What a deployed function wrote", deploymentLog,
			takes(integer("offset", 0, "byte to begin at"), integer("tail", 0, "send at most so many bytes from its end, whole lines"), boolean("follow", "go on until the client leaves")),
			bytesAnswer(200, "text/plain", "x-millrace-log-offset")),
		v1("listAPIGateways", "GET", gateways, "List API gateways", gatewayList, answers(200, "Object")),
		v1("getAPIGateway", "GET", gateways+"/{name}", "Read an API gateway", gatewayGet, answers(200, "Object")),
		v1("putAPIGateway", "PUT", gateways+"/{name}", "Create or replace an API gateway", gatewayPut, body("Object"), answers(200, "Object")),
		v1("deleteAPIGateway", "DELETE", gateways+"/{name}", "Delete an API gateway", gatewayDelete, silent(204)),
	}
}

func (c *call) deployments() (Deployments, error) {
	if c.s.opts.Deployments == nil {
		return nil, fault.NotSupported(NoServer)
	}
	return c.s.opts.Deployments, nil
}

// deploy is what both routes that deploy have in common. project and name of the
// path, if there are any, win over those of the document.
func (c *call) deploy(request document.Object, project, name string) (document.Object, error) {
	deployments, err := c.deployments()
	if err != nil {
		return nil, err
	}
	fn, err := document.Want[document.Object](request, "function")
	if err != nil {
		return nil, runtimeError(err)
	}
	if fn == nil {
		return nil, withReason(fault.Invalid("Runtime error: bad JSON, need to include function"))
	}
	if name != "" {
		document.Set(fn, function.NormalizeName(name), "metadata", "name")
	}
	if project != "" {
		document.Set(fn, project, "metadata", "project")
	}
	if document.String(fn, "metadata", "project") == "" {
		document.Set(fn, defaultProject, "metadata", "project")
	}
	if err := c.projectExists(document.String(fn, "metadata", "project")); err != nil {
		return nil, err
	}
	canary, _ := document.Int(request, "millrace", "canary")
	if canary < 0 || canary > 99 {
		return nil, fault.Invalid("millrace.canary: a canary gets from 1 to 99 percent of the events, not %d", canary)
	}
	doc, err := deployments.Deploy(c.ctx(), DeployRequest{Function: fn, Canary: int(canary), Shadow: document.Bool(request, "millrace", "shadow")})
	if err != nil {
		return nil, runtimeError(err)
	}
	return doc, nil
}

func deployFunction(c *call) error {
	if _, err := c.deployments(); err != nil {
		return err
	}
	request, err := c.object()
	if err != nil {
		return err
	}
	doc, err := c.deploy(request, c.path("project"), c.path("name"))
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"data": doc})
}

// deployHeaders say how a deployment is; clients read them, not the body.
var deployHeaders = []string{
	"x-mlrun-function-status", "x-mlrun-last-timestamp", "x-mlrun-address", "x-mlrun-internal-invocation-urls", "x-mlrun-external-invocation-urls",
	"x-mlrun-container-image", "x-mlrun-name",
}

func deployStatus(c *call) error {
	after, err := c.timestamp()
	if err != nil {
		return err
	}
	return c.deployStatus(c.path("project"), c.path("name"), c.str("tag"), after)
}

// timestamp is a time of a log line, in milliseconds. Clients begin with 1.
func (c *call) timestamp() (int64, error) {
	text := c.str("last_log_timestamp")
	if text == "" {
		return 0, nil
	}
	after, err := strconv.ParseFloat(text, 64)
	if err != nil || after < 0 || math.IsInf(after, 0) || math.IsNaN(after) || after > 1<<53 {
		return 0, fault.Invalid("parameter last_log_timestamp: %q is not a number of milliseconds", clip(text))
	}
	return int64(after), nil
}

func (c *call) deployStatus(project, name, tag string, after int64) error {
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	doc, err := c.loadFunction(project, name, tag, "")
	if err != nil {
		return err
	}
	if kind := function.Kind(document.String(doc, "kind")); !kind.Nuclio() {
		return runtimeError(fault.Invalid("Runtime kind %s is not a nuclio runtime", kind))
	}
	status, err := deployments.DeployStatus(c.ctx(), project, document.String(doc, "metadata", "name"), tag, after)
	if after == 0 && fault.Is(err, fault.CodeNotFound) {
		// The function is only stored. Who does not wait for a deploy asks whether one is needed, as fn.run() does.
		status, err = DeployStatus{}, nil
	}
	if err != nil {
		return err
	}
	if status.State == "scaledToZero" {
		status.State = "ready" // clients that deploy would wait for ever for this word
	}
	h := c.w.Header()
	for header, value := range map[string]string{
		"X-Mlrun-Function-Status": status.State, "X-Mlrun-Last-Timestamp": strconv.FormatInt(status.Last, 10), "X-Mlrun-Address": status.Address,
		"X-Mlrun-Internal-Invocation-Urls": strings.Join(status.Internal, ","), "X-Mlrun-External-Invocation-Urls": strings.Join(status.External, ","),
		"X-Mlrun-Container-Image": "", "X-Mlrun-Name": status.Name, "Function_status": status.State,
	} {
		h.Set(header, value)
	}
	c.startLog()
	_, _ = io.WriteString(c.w, status.Log)
	return nil
}

func deploymentListAll(c *call) error { return c.listDeployments("") }

func deploymentList(c *call) error { return c.listDeployments(c.path("project")) }

func (c *call) listDeployments(project string) error {
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	docs, err := deployments.DeploymentList(c.ctx(), project)
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"deployments": list(docs)})
}

func deploymentGet(c *call) error {
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	doc, err := deployments.DeploymentGet(c.ctx(), c.path("project"), c.path("name"))
	if err != nil {
		return err
	}
	return c.json(200, doc)
}

func deploymentDelete(c *call) error {
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	c.discard()
	if err := deployments.Undeploy(c.ctx(), c.path("project"), c.path("name")); err != nil {
		return err
	}
	return c.silent(204)
}

func deploymentRollback(c *call) error {
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	request, err := c.object()
	if err != nil {
		return err
	}
	target, err := document.Want[string](request, "to")
	if err != nil {
		return err
	}
	revision, err := deployments.Rollback(c.ctx(), c.path("project"), c.path("name"), target)
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"revision": revision})
}

func deploymentMetrics(c *call) error {
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	text, err := deployments.DeploymentMetrics(c.ctx(), c.path("project"), c.path("name"))
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = c.w.Write(text)
	return nil
}

// deploymentLog sends the log of a deployed function from an offset on. A log that
// was cut, because it had become long, is read from its beginning again.
func deploymentLog(c *call) error {
	offset, err := c.int("offset", 0)
	if err != nil {
		return err
	}
	tail, err := c.int("tail", 0)
	if err != nil {
		return err
	}
	follow, err := c.bool("follow", false)
	if err != nil {
		return err
	}
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	log, err := deployments.DeploymentLog(c.ctx(), c.path("project"), c.path("name"))
	if err != nil {
		return err
	}
	defer log.Close()
	size, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if tail > 0 && size-tail > offset {
		if offset, err = lineFrom(log, size-tail); err != nil {
			return err
		}
	}
	if offset > size {
		offset = size
	}
	if _, err := log.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	c.w.Header().Set("X-Millrace-Log-Offset", strconv.FormatInt(offset, 10))
	c.startLog()
	out := http.NewResponseController(c.w)
	for {
		n := c.copyLog(log)
		offset += n
		if !follow || out.Flush() != nil || !c.pause(followEvery*4) {
			return nil
		}
		if n > 0 {
			continue
		}
		if size, err := log.Seek(0, io.SeekEnd); err != nil || size < offset {
			offset = 0
		}
		if _, err := log.Seek(offset, io.SeekStart); err != nil {
			return nil //nolint:nilerr // the answer has begun; the client asks again
		}
	}
}

// lineFrom is the offset behind the first line end at or after from.
func lineFrom(log io.ReadSeeker, from int64) (int64, error) {
	if _, err := log.Seek(from, io.SeekStart); err != nil {
		return 0, err
	}
	var piece [4096]byte
	n, err := io.ReadFull(log, piece[:])
	if err != nil && n == 0 {
		return from, nil //nolint:nilerr // it has just been cut
	}
	if at := strings.IndexByte(string(piece[:n]), '\n'); at >= 0 {
		return from + int64(at) + 1, nil
	}
	return from, nil
}

func gatewayList(c *call) error {
	if c.s.opts.Deployments == nil {
		return c.json(200, document.Object{"api_gateways": document.Object{}})
	}
	gateways, err := c.s.opts.Deployments.Gateways(c.ctx(), c.path("project"))
	if err != nil {
		return err
	}
	return c.json(200, document.Object{"api_gateways": gateways})
}

func gatewayGet(c *call) error {
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	doc, err := deployments.Gateway(c.ctx(), c.path("project"), c.path("name"))
	if err != nil {
		return err
	}
	return c.json(200, doc)
}

func gatewayPut(c *call) error {
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	doc, err := c.object()
	if err != nil {
		return err
	}
	stored, err := deployments.GatewayPut(c.ctx(), c.path("project"), c.path("name"), doc)
	if err != nil {
		return err
	}
	return c.json(200, stored)
}

func gatewayDelete(c *call) error {
	deployments, err := c.deployments()
	if err != nil {
		return err
	}
	c.discard()
	if err := deployments.GatewayDelete(c.ctx(), c.path("project"), c.path("name")); err != nil {
		return err
	}
	return c.silent(204)
}
