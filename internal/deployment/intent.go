package deployment

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/store"
)

// The states of a deployment, in the words that clients of the API know.
const (
	stateBuilding     = "building"
	stateReady        = "ready"
	stateError        = "error"
	stateUnhealthy    = "unhealthy"
	stateScaledToZero = "scaledToZero"
)

// The states of a revision in the store.
const (
	revisionBuilding = "building"
	revisionBuilt    = "built"
	revisionError    = "error"
)

// latest is the tag that is not part of a deployment's name.
const latest = "latest"

// Name is the name that a function with a tag is deployed under.
func Name(functionName, tag string) string {
	if tag == "" || tag == latest {
		return functionName
	}
	return functionName + "-" + tag
}

// Request asks for a new revision.
type Request struct {
	Function document.Object
	Canary   int  // percent of the events, the rest goes where it went; 0 means all
	Shadow   bool // it gets copies of all events, and its answers are dropped
}

// Deploy stores the function as a version and has it deployed as a new revision.
// It returns the document as stored once the intent is durable.
func (d *Deployments) Deploy(ctx context.Context, request Request) (document.Object, error) {
	f, err := function.Parse(request.Function)
	if err != nil {
		return nil, err
	}
	if request.Canary < 0 || request.Canary > 99 {
		return nil, fault.Invalid("a canary gets from 1 to 99 percent of the events, not %d", request.Canary)
	}
	service, err := kind.Deploy(f)
	if err != nil {
		return nil, err
	}
	if request.Shadow && f.Kind() == function.KindApplication {
		return nil, errNoCopies
	}
	key, err := keyOf(f)
	if err != nil {
		return nil, err
	}
	var stored document.Object
	err = d.Store.Tx(ctx, func(tx *store.Tx) error {
		doc := document.Clone(f.Doc)
		tag := f.Tag()
		if tag == "" {
			tag = latest
		}
		document.Set(doc, tag, "metadata", "tag")
		for field, value := range map[string]any{"state": stateBuilding, "nuclio_name": nuclioName(key), "address": "", "internal_invocation_urls": []any{}, "external_invocation_urls": []any{}} {
			document.Set(doc, value, "status", field)
		}
		hash, err := tx.FunctionPut(ctx, store.FunctionPut{Project: key.Project, Name: f.Name(), Tag: tag, Versioned: true, Doc: doc})
		if err != nil {
			return err
		}
		if err := d.addRevision(ctx, tx, key, store.Deployment{Function: f.Name(), Tag: tag, Kind: string(f.Kind()), Port: service.Port}, hash, request); err != nil {
			return err
		}
		stored, err = tx.FunctionGet(ctx, key.Project, f.Name(), tag, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	d.Logger.InfoContext(ctx, "deploy", "function", key.String(), "kind", f.Kind())
	d.nudge(key)
	d.announce()
	return stored, nil
}

func keyOf(f *function.Function) (Key, error) {
	if f.Name() == "" {
		return Key{}, fault.Invalid("metadata.name: a function needs a name to be deployed under")
	}
	if err := function.ValidateTag("metadata.tag", f.Tag()); err != nil && f.Tag() != "" {
		return Key{}, err
	}
	key := Key{f.Project(), Name(f.Name(), f.Tag())}
	if strings.ContainsAny(key.Name, "/\\\x00") || strings.HasPrefix(key.Name, ".") {
		return Key{}, fault.Invalid("metadata.name: %q can not be the name of a deployed function; use letters, digits and dashes", key.Name)
	}
	if full := nuclioName(key); len(full) > 63 {
		return Key{}, fault.Invalid("metadata.name: the deployed function would be called %s, which is longer than 63 characters; shorten its name, its tag or the project's", full)
	}
	return key, nil
}

// nuclioName is the deployed name that clients know: project, name and tag.
func nuclioName(key Key) string { return key.Project + "-" + key.Name }

// addRevision makes hash the next revision of a deployment, which is created as
// fresh describes when there is none.
func (d *Deployments) addRevision(ctx context.Context, tx *store.Tx, key Key, fresh store.Deployment, hash string, request Request) error {
	one, err := tx.DeploymentGet(key.Project, key.Name)
	switch {
	case fault.Is(err, fault.CodeNotFound):
		one = store.Deployment{Project: key.Project, Name: key.Name, Function: fresh.Function, Tag: fresh.Tag, Status: document.Object{}}
	case err != nil:
		return err
	case one.Removed:
		return fault.Conflict("the function %s is being deleted; deploy it again when it is gone", key)
	case one.Function != fresh.Function || one.Tag != fresh.Tag:
		return fault.Conflict("%s is the function %s with the tag %s already; choose another name or tag", key, one.Function, one.Tag)
	}
	one.Kind = fresh.Kind
	if fresh.Port != 0 {
		one.Port = fresh.Port
	}
	one.Revision++
	routes, err := route(one, request)
	if err != nil {
		return err
	}
	if request.Shadow {
		if err := copied(ctx, tx, one, routes[0].Revision); err != nil {
			return err
		}
	}
	one.Routes, one.State, one.Message = routes, stateBuilding, ""
	if err := tx.DeploymentPut(one); err != nil {
		return err
	}
	// Its code is on this server; the others come after it.
	if err := tx.DeploymentKeep(key.Project, key.Name, d.Server); err != nil {
		return err
	}
	return tx.RevisionPut(store.DeploymentRevision{Project: key.Project, Name: key.Name, Number: one.Revision, Hash: hash, State: revisionBuilding})
}

// copied refuses a shadow of a revision whose requests cannot be copied.
func copied(ctx context.Context, tx *store.Tx, d store.Deployment, main int) error {
	revisions, err := tx.RevisionList(d.Project, d.Name)
	if err != nil {
		return err
	}
	for _, r := range revisions {
		if r.Number != main {
			continue
		}
		doc, err := tx.FunctionGet(ctx, d.Project, d.Function, "", r.Hash)
		if err != nil {
			return err
		}
		if document.String(doc, "kind") == string(function.KindApplication) {
			return errNoCopies
		}
	}
	return nil
}

var errNoCopies = fault.Invalid("requests stream through an application, so they cannot be copied to a shadow; try it with a canary")

// route is what the newest revision of a deployment changes about its routes.
func route(d store.Deployment, request Request) ([]store.Route, error) {
	if request.Canary == 0 && !request.Shadow {
		return []store.Route{{Revision: d.Revision, Weight: 100}}, nil
	}
	main := 0 // the revision that a canary or a shadow stands beside
	for _, r := range d.Stable {
		if !r.Shadow && (main == 0 || r.Weight > weightOf(d.Stable, main)) {
			main = r.Revision
		}
	}
	if main == 0 {
		return nil, fault.Precondition("%s/%s serves nothing yet, so nothing can be tried beside it; deploy it without canary and shadow first", d.Project, d.Name)
	}
	if request.Shadow {
		return []store.Route{{Revision: main, Weight: 100}, {Revision: d.Revision, Shadow: true}}, nil
	}
	return []store.Route{{Revision: main, Weight: 100 - request.Canary}, {Revision: d.Revision, Weight: request.Canary}}, nil
}

func weightOf(routes []store.Route, revision int) int {
	for _, r := range routes {
		if r.Revision == revision && !r.Shadow {
			return r.Weight
		}
	}
	return 0
}

// Rollback deploys an earlier version again, as a new revision: target is the
// number of a revision, or a hash or its beginning; "" means what served before the
// newest revision. It returns the number of the new revision.
func (d *Deployments) Rollback(ctx context.Context, key Key, target string) (int, error) {
	number := 0
	err := d.Store.Tx(ctx, func(tx *store.Tx) error {
		one, err := tx.DeploymentGet(key.Project, key.Name)
		if err != nil {
			return err
		}
		revisions, err := tx.RevisionList(key.Project, key.Name)
		if err != nil {
			return err
		}
		hash, err := find(one, revisions, target)
		if err != nil {
			return err
		}
		doc, err := tx.FunctionGet(ctx, key.Project, one.Function, "", hash)
		if err != nil {
			return err
		}
		f, err := function.Parse(doc)
		if err != nil {
			return err
		}
		if _, err := kind.Deploy(f); err != nil {
			return err
		}
		if err := d.addRevision(ctx, tx, key, store.Deployment{Function: one.Function, Tag: one.Tag, Kind: string(f.Kind())}, hash, Request{}); err != nil {
			return err
		}
		number = one.Revision + 1
		document.Set(doc, one.Tag, "metadata", "tag")
		document.Set(doc, stateBuilding, "status", "state")
		_, err = tx.FunctionPut(ctx, store.FunctionPut{Project: key.Project, Name: one.Function, Tag: one.Tag, Versioned: true, Doc: doc})
		return err
	})
	if err != nil {
		return 0, err
	}
	d.Logger.InfoContext(ctx, "roll back", "function", key.String(), "to", target)
	d.nudge(key)
	d.announce()
	return number, nil
}

// find returns the hash that a rollback means.
func find(d store.Deployment, revisions []store.DeploymentRevision, target string) (string, error) {
	if target == "" {
		now := ""
		for _, r := range revisions {
			if now == "" {
				now = r.Hash
				continue
			}
			if r.State != revisionError && r.Hash != now {
				return r.Hash, nil
			}
		}
		return "", fault.Precondition("%s/%s has no earlier version to roll back to", d.Project, d.Name)
	}
	if number, err := strconv.Atoi(target); err == nil && len(target) < 7 {
		for _, r := range revisions {
			if r.Number == number {
				return r.Hash, nil
			}
		}
		return "", fault.NotFound("%s/%s has no revision %d; the newest is %d", d.Project, d.Name, number, d.Revision)
	}
	var hashes []string
	for _, r := range revisions {
		if strings.HasPrefix(r.Hash, target) && !slices.Contains(hashes, r.Hash) {
			hashes = append(hashes, r.Hash)
		}
	}
	switch len(hashes) {
	case 0:
		return "", fault.NotFound("%s/%s was never deployed with a version %.64s; 'millrace get deployments %s' lists its revisions", d.Project, d.Name, target, d.Name)
	case 1:
		return hashes[0], nil
	}
	return "", fault.Invalid("%d versions of %s/%s begin with %s; give more of the hash", len(hashes), d.Project, d.Name, target)
}

// Remove asks for the end of a deployment and waits until it is gone, or for as
// long as ctx allows. One that is not there is no error.
func (d *Deployments) Remove(ctx context.Context, key Key) error {
	keptBy := ""
	err := d.Store.DeploymentUpdate(ctx, key.Project, key.Name, func(_ *store.Tx, one *store.Deployment) error {
		one.Removed, keptBy = true, one.KeeperURL
		return nil
	})
	if fault.Is(err, fault.CodeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.stop == nil && keptBy == "" { // nobody keeps it in this process, or in another
		k := newKeeper(d, key)
		return k.remove(ctx)
	}
	d.nudge(key)
	return d.await(ctx, func() (bool, error) {
		_, err := d.Store.DeploymentGet(ctx, key.Project, key.Name)
		if fault.Is(err, fault.CodeNotFound) {
			return true, nil
		}
		return false, err
	})
}

// RemoveFunction removes the deployments of a function under all its tags; of a
// whole project when name is "".
func (d *Deployments) RemoveFunction(ctx context.Context, project, name string) error {
	all, err := d.Store.DeploymentList(ctx, project)
	if err != nil {
		return err
	}
	for _, one := range all {
		if name != "" && one.Function != name {
			continue
		}
		if err := d.Remove(ctx, Key{project, one.Name}); err != nil {
			return fmt.Errorf("remove %s/%s: %w", project, one.Name, err)
		}
	}
	return nil
}

// Progress is how far a deployment is, as clients poll it.
type Progress struct {
	store.Deployment
	NuclioName string
	Log        string // what was said after the time asked for
	Last       int64  // the time of the last line, in milliseconds
}

// Progress returns how far a function's deployment is and what was said about it
// after a time in milliseconds.
func (d *Deployments) Progress(ctx context.Context, key Key, after int64) (Progress, error) {
	one, err := d.Store.DeploymentGet(ctx, key.Project, key.Name)
	if err != nil {
		return Progress{}, err
	}
	p := Progress{Deployment: one, NuclioName: nuclioName(key)}
	p.Log, p.Last = d.Host.Said(key, after)
	return p, nil
}

// taken are the ports that deployments and API gateways have.
func (d *Deployments) taken(ctx context.Context) (map[int]bool, error) {
	all, err := d.Store.DeploymentList(ctx, "")
	if err != nil {
		return nil, err
	}
	gateways, err := d.Store.GatewayList(ctx, "")
	if err != nil {
		return nil, err
	}
	ports := map[int]bool{}
	for _, one := range all {
		ports[one.Port] = true
	}
	for _, one := range gateways {
		ports[one.Port] = true
	}
	return ports, nil
}

// ChoosePort returns a port that nothing has; it is the caller's once it is stored.
func (d *Deployments) ChoosePort(ctx context.Context) (int, error) {
	taken, err := d.taken(ctx)
	if err != nil {
		return 0, err
	}
	return d.Host.FreePort(taken)
}

// grace is how long a deployment that is removed may go on with what it has begun.
const grace = 30 * time.Second
