package app

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/backend/local"
	"github.com/millrace/millrace/internal/deployment"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/gateway"
	"github.com/millrace/millrace/internal/store"
)

// deployments serves real-time functions: what the API and the gateway see of them.
// A command that has no server can look at them and end them, nothing else.
type deployments struct {
	*deployment.Deployments
	store      *store.Store
	processors *local.Processors
	gateway    *gateway.Gateway
	fronts     *gateway.Fronts
	host       string // under which clients reach the server, without a port
	serving    bool   // this process is a server
}

// newDeployments makes them; nothing happens until start.
func (a *App) newDeployments() *deployments {
	logger := a.options.Logger.With("component", "deployments")
	d := &deployments{store: a.store, processors: local.NewProcessors(a.dir, a.options.Executable, logger), host: "127.0.0.1"}
	_, address, _ := strings.Cut(a.options.url, "://")
	if host, _, err := net.SplitHostPort(address); err == nil {
		d.host = host
	}
	a.control.Undeploy = func(ctx context.Context, project string) error { return d.RemoveFunction(ctx, project, "") }
	d.Deployments = deployment.New(deployment.Options{
		Store: a.store, Host: d.processors, Preparer: local.Revisions{Preparer: a.preparer, DataDir: a.dir}, Logger: logger, URL: a.options.url, Server: a.options.server,
	})
	d.gateway = gateway.New(gateway.Options{
		Functions: d, Admit: func(r *http.Request) error { return a.api().Admit(r) }, Token: a.options.Token, Logger: logger,
	})
	d.fronts = gateway.NewFronts(d.gateway, d.frontList, logger)
	return d
}

func (d *deployments) start(ctx context.Context) {
	d.serving = true
	d.Start(ctx)
	d.fronts.Start(ctx)
}

// close leaves the processors alone: they serve on.
func (d *deployments) close() error {
	d.Stop()
	d.fronts.Stop()
	d.gateway.Close()
	d.processors.Close()
	return nil
}

// handler gives the server's address to functions, API gateways and the API.
func (d *deployments) handler(rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, gateway.Prefix) {
			d.gateway.ServeHTTP(w, r)
			return
		}
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			if front := d.fronts.ByHost(r.Host); front != nil {
				front.ServeHTTP(w, r)
				return
			}
		}
		rest.ServeHTTP(w, r)
	})
}

// Dial implements gateway.Functions.
func (d *deployments) Dial(ctx context.Context, key deployment.Key) (net.Conn, error) {
	return d.processors.Dial(ctx, key)
}

// Deploy implements api.Deployments.
func (d *deployments) Deploy(ctx context.Context, request api.DeployRequest) (document.Object, error) {
	if !d.serving {
		return nil, fault.NotSupported(api.NoServer)
	}
	return d.Deployments.Deploy(ctx, deployment.Request{Function: request.Function, Canary: request.Canary, Shadow: request.Shadow})
}

// DeployStatus implements api.Deployments.
func (d *deployments) DeployStatus(ctx context.Context, project, name, tag string, after int64) (api.DeployStatus, error) {
	p, err := d.Progress(ctx, deployment.Key{Project: project, Name: deployment.Name(name, tag)}, after)
	return api.DeployStatus{
		State: p.State, Name: p.NuclioName, Address: document.String(p.Status, "address"), Internal: texts(p.Status, "internal_invocation_urls"),
		External: texts(p.Status, "external_invocation_urls"), Log: p.Log, Last: p.Last,
	}, err
}

func texts(doc document.Object, key string) (out []string) {
	for _, item := range document.List(doc, key) {
		if text, ok := item.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// DeploymentList implements api.Deployments.
func (d *deployments) DeploymentList(ctx context.Context, project string) ([]document.Object, error) {
	all, err := d.store.DeploymentList(ctx, project)
	docs := make([]document.Object, 0, len(all))
	for _, one := range all {
		docs = append(docs, describe(one))
	}
	return docs, err
}

// DeploymentGet implements api.Deployments.
func (d *deployments) DeploymentGet(ctx context.Context, project, name string) (document.Object, error) {
	one, err := d.store.DeploymentGet(ctx, project, name)
	if err != nil {
		return nil, err
	}
	revisions, err := d.store.RevisionList(ctx, project, name)
	if err != nil {
		return nil, err
	}
	doc := describe(one)
	list := []any{}
	for _, r := range revisions {
		item := document.Object{"revision": r.Number, "hash": r.Hash, "state": r.State, "created": document.Time(r.Created)}
		if r.Message != "" {
			item["error"] = r.Message
		}
		list = append(list, item)
	}
	document.Set(doc, list, "status", "revisions")
	key := deployment.Key{Project: project, Name: name}
	if status, err := d.processors.Status(ctx, key); err == nil && status.Parked {
		document.Set(doc, true, "status", "parked")
	} else if err == nil {
		document.Set(doc, status.PID, "status", "pid")
	}
	return doc, nil
}

// describe is what clients see of a deployment.
func describe(one store.Deployment) document.Object {
	routes := func(list []store.Route) []any {
		out := []any{}
		for _, r := range list {
			item := document.Object{"revision": r.Revision, "weight": r.Weight}
			if r.Shadow {
				item["shadow"] = true
			}
			out = append(out, item)
		}
		return out
	}
	state := one.State
	if one.Removed {
		state = "removing"
	}
	status := document.Object{"state": state, "serving": routes(one.Stable)}
	for key, value := range one.Status {
		status[key] = value
	}
	if one.Message != "" {
		status["error"] = one.Message
	}
	return document.Object{
		"kind": "Deployment",
		"metadata": document.Object{
			"name": one.Name, "project": one.Project, "created": document.Time(one.Created), "updated": document.Time(one.Updated),
		},
		"spec": document.Object{
			"function": one.Function, "tag": one.Tag, "kind": one.Kind, "revision": one.Revision, "routes": routes(one.Routes),
		},
		"status": status,
	}
}

// Rollback implements api.Deployments.
func (d *deployments) Rollback(ctx context.Context, project, name, target string) (int, error) {
	if !d.serving {
		return 0, fault.NotSupported(api.NoServer)
	}
	return d.Deployments.Rollback(ctx, deployment.Key{Project: project, Name: name}, target)
}

// undeployTime bounds how long a client waits for the end of what it deletes; the
// deletion goes on after it.
const undeployTime = 45 * time.Second

// Undeploy implements api.Deployments.
func (d *deployments) Undeploy(ctx context.Context, project, name string) error {
	if _, err := d.store.DeploymentGet(ctx, project, name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, undeployTime)
	defer cancel()
	return late(d.Remove(ctx, deployment.Key{Project: project, Name: name}))
}

// UndeployFunction implements api.Deployments.
func (d *deployments) UndeployFunction(ctx context.Context, project, name string) error {
	ctx, cancel := context.WithTimeout(ctx, undeployTime)
	defer cancel()
	return late(d.RemoveFunction(ctx, project, name))
}

func late(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.Unavailable("the function has not ended within %v and is still being removed; ask again in a moment", undeployTime)
	}
	return err
}

// DeploymentMetrics implements api.Deployments.
func (d *deployments) DeploymentMetrics(ctx context.Context, project, name string) ([]byte, error) {
	if err := d.Here(ctx, deployment.Key{Project: project, Name: name}); err != nil {
		return nil, err
	}
	return d.processors.Metrics(ctx, deployment.Key{Project: project, Name: name})
}

// DeploymentLog implements api.Deployments.
func (d *deployments) DeploymentLog(ctx context.Context, project, name string) (io.ReadSeekCloser, error) {
	if err := d.Here(ctx, deployment.Key{Project: project, Name: name}); err != nil {
		return nil, err
	}
	log, err := d.processors.Log(deployment.Key{Project: project, Name: name})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NotFound("the function %s has no log yet: it has not started", name)
	}
	return log, err
}

// projectLabel names the project of an API gateway, for clients.
const projectLabel = "nuclio.io/project-name"

// Gateways implements api.Deployments.
func (d *deployments) Gateways(ctx context.Context, project string) (document.Object, error) {
	all, err := d.store.GatewayList(ctx, project)
	out := document.Object{}
	for _, one := range all {
		out[one.Name] = d.gatewayDoc(one)
	}
	return out, err
}

// Gateway implements api.Deployments.
func (d *deployments) Gateway(ctx context.Context, project, name string) (document.Object, error) {
	one, err := d.store.GatewayGet(ctx, project, name)
	if err != nil {
		return nil, err
	}
	return d.gatewayDoc(one), nil
}

// gatewayDoc is an API gateway as clients see it, with its address and state.
func (d *deployments) gatewayDoc(one store.APIGateway) document.Object {
	doc := document.Clone(one.Doc)
	document.Set(doc, one.Project, "metadata", "labels", projectLabel)
	if document.Map(doc, "metadata", "annotations") == nil {
		document.Set(doc, document.Object{}, "metadata", "annotations")
	}
	if document.String(doc, "spec", "host") == "" {
		// With its scheme, since clients take a bare host for one with TLS.
		document.Set(doc, "http://"+net.JoinHostPort(d.host, strconv.Itoa(one.Port)), "spec", "host")
	}
	state := "waitingForProvisioning"
	ready, err := d.fronts.State(one.Project, one.Name)
	switch {
	case err != nil:
		state = "error"
		document.Set(doc, fault.Message(err), "status", "message")
	case ready:
		state = "ready"
	}
	document.Set(doc, one.Name, "status", "name")
	document.Set(doc, state, "status", "state")
	return doc
}

// GatewayPut implements api.Deployments.
func (d *deployments) GatewayPut(ctx context.Context, project, name string, doc document.Object) (document.Object, error) {
	if !d.serving {
		return nil, fault.NotSupported(api.NoServer)
	}
	one := store.APIGateway{Project: project, Name: name, Doc: doc}
	earlier, err := d.store.GatewayGet(ctx, project, name)
	switch {
	case err == nil:
		one.Port, one.Secret = earlier.Port, earlier.Secret
	case !fault.Is(err, fault.CodeNotFound):
		return nil, err
	}
	document.Set(doc, name, "metadata", "name")
	document.Set(doc, name, "spec", "name")
	if _, err := upstreams(one); err != nil {
		return nil, err
	}
	if err := seal(&one); err != nil {
		return nil, err
	}
	if one.Port == 0 {
		if one.Port, err = d.ChoosePort(ctx); err != nil {
			return nil, err
		}
	}
	if host := document.String(doc, "spec", "host"); strings.Contains(host, "://") {
		delete(document.Map(doc, "spec"), "host") // our own address, which a client sends back
	}
	delete(doc, "status")
	if err := d.store.GatewayPut(ctx, one); err != nil {
		return nil, err
	}
	d.fronts.Sync(ctx)
	return d.gatewayDoc(one), nil
}

// seal takes the password out of a gateway's document.
func seal(one *store.APIGateway) error {
	switch mode := document.String(one.Doc, "spec", "authenticationMode"); mode {
	case "", "none":
		one.Secret = ""
		return nil
	case "basicAuth":
	default:
		return fault.Invalid("spec.authenticationMode: %q needs an identity provider, which this server has not; use none or basicAuth", mode)
	}
	basic := document.Map(one.Doc, "spec", "authentication", "basicAuth")
	if document.String(basic, "username") == "" {
		return fault.Invalid("spec.authentication.basicAuth: a user name and a password are needed")
	}
	password := document.String(basic, "password")
	if password == "" && one.Secret == "" {
		return fault.Invalid("spec.authentication.basicAuth: a user name and a password are needed")
	}
	basic["password"] = ""
	if password == "" {
		return nil // it stays what it was
	}
	sealed, err := gateway.Seal(password)
	one.Secret = sealed
	return err
}

// upstreams reads the functions of a gateway and their shares.
func upstreams(one store.APIGateway) ([]gateway.Upstream, error) {
	list := document.List(one.Doc, "spec", "upstreams")
	if len(list) < 1 || len(list) > 2 {
		return nil, fault.Invalid("spec.upstreams: an API gateway has one or two functions, not %d", len(list))
	}
	var out []gateway.Upstream
	rest, open := 100, -1
	for i, item := range list {
		up, _ := item.(document.Object)
		key, err := functionKey(document.String(up, "nucliofunction", "name"), one.Project)
		if err != nil {
			return nil, err
		}
		weight, _ := document.Int(up, "percentage")
		if weight < 0 || weight > 100 {
			return nil, fault.Invalid("spec.upstreams: percentage %d is not from 0 to 100", weight)
		}
		if weight == 0 {
			open = i
		}
		rest -= int(weight)
		out = append(out, gateway.Upstream{Key: key, Weight: int(weight)})
	}
	if open >= 0 && rest > 0 {
		out[open].Weight, rest = rest, 0
	}
	if rest != 0 {
		return nil, fault.Invalid("spec.upstreams: the percentages sum to %d, and have to sum to 100", 100-rest)
	}
	return out, nil
}

// functionKey is the deployment that a function's URI, [PROJECT/]NAME[:TAG][@HASH],
// stands for.
func functionKey(text, project string) (deployment.Key, error) {
	uri := function.ParseURI(text)
	if uri.Name == "" {
		return deployment.Key{}, fault.Invalid("spec.upstreams: nucliofunction.name is needed: PROJECT/NAME of a deployed function")
	}
	return deployment.Key{Project: cmp.Or(uri.Project, project), Name: deployment.Name(uri.Name, uri.Tag)}, nil
}

// frontList is the API gateways that should be served.
func (d *deployments) frontList(ctx context.Context) ([]gateway.Front, error) {
	all, err := d.store.GatewayList(ctx, "")
	if err != nil {
		return nil, err
	}
	var out []gateway.Front
	for _, one := range all {
		ups, err := upstreams(one)
		if err != nil {
			continue // it was refused when it was stored
		}
		front := gateway.Front{
			Project: one.Project, Name: one.Name, Address: net.JoinHostPort(d.host, strconv.Itoa(one.Port)), Host: document.String(one.Doc, "spec", "host"),
			Path: document.String(one.Doc, "spec", "path"), Secret: one.Secret, Upstreams: ups,
		}
		if one.Secret != "" {
			front.Username = document.String(one.Doc, "spec", "authentication", "basicAuth", "username")
		}
		out = append(out, front)
	}
	return out, nil
}

// GatewayDelete implements api.Deployments.
func (d *deployments) GatewayDelete(ctx context.Context, project, name string) error {
	if err := d.store.GatewayDelete(ctx, project, name); err != nil {
		return err
	}
	if d.serving {
		d.fronts.Sync(ctx)
	}
	return nil
}
