package storetest

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

func testDeployments(t *testing.T, fresh Fresh) {
	t.Run("are kept with their revisions", func(t *testing.T) { testDeploymentKept(t, fresh) })
	t.Run("have one keeper", func(t *testing.T) { testKeepers(t, fresh) })
	t.Run("status of functions", func(t *testing.T) { testFunctionStatus(t, fresh) })
	t.Run("API gateways", func(t *testing.T) { testGateways(t, fresh) })
}

func (b *bundle) deploy(d store.Deployment, hash string) {
	b.Helper()
	b.must(b.Tx(b.ctx, func(tx *store.Tx) error {
		return errors.Join(tx.DeploymentPut(d), tx.RevisionPut(store.DeploymentRevision{
			Project: d.Project, Name: d.Name, Number: d.Revision, Hash: hash, State: "building",
		}))
	}))
}

// testKeepers: of several servers on one database exactly one keeps a deployment, and
// another one only when its lease is over.
func testKeepers(t *testing.T, fresh Fresh) {
	b := setup(t, fresh)
	other := b.open()
	const names = 8
	for i := range names {
		b.deploy(store.Deployment{Project: "default", Name: "f" + strconv.Itoa(i), Function: "f", Tag: "latest", Kind: "nuclio", Revision: 1}, "a1")
	}
	b.must(b.Tx(b.ctx, func(tx *store.Tx) error {
		return errors.Join(tx.DeploymentKeep("default", "f0", "B"), tx.DeploymentKeep("default", "f0", "A"))
	}))
	if !b.Shared() {
		all, err := b.DeploymentClaim(b.ctx, "A", "http://a", time.Minute)
		b.must(err)
		if len(all) != names || all[1].Keeper != "" || all[1].KeeperURL != "" {
			t.Errorf("claimed %+v", all)
		}
		return
	}
	// f0 was given to B, which has not been heard of: whoever comes first has all.
	var claims sync.WaitGroup
	for id, s := range map[string]*store.Store{"A": b.Store, "B": other} {
		claims.Go(func() {
			if _, err := s.DeploymentClaim(b.ctx, id, "http://"+id, time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
	claims.Wait()
	all, err := other.DeploymentList(b.ctx, "")
	b.must(err)
	for _, one := range all {
		if one.Keeper != all[0].Keeper || one.KeeperURL != "http://"+one.Keeper {
			t.Errorf("%s is kept by %q at %q, the first by %q", one.Name, one.Keeper, one.KeeperURL, all[0].Keeper)
		}
	}
	first, second := "A", "B"
	if all[0].Keeper == "B" {
		first, second = second, first
	}
	// The lease of the first runs out, which the database's clock says and not ours.
	b.must2(b.DeploymentClaim(b.ctx, first, "http://"+first, -time.Second))
	one, err := b.DeploymentGet(b.ctx, "default", "f3")
	b.must(err)
	if one.Keeper != first || one.KeeperURL != "" {
		t.Errorf("without a lease: kept by %q at %q", one.Keeper, one.KeeperURL)
	}
	// What is written of a deployment leaves its keeper alone.
	b.must(b.DeploymentUpdate(b.ctx, "default", "f3", func(_ *store.Tx, d *store.Deployment) error {
		d.Keeper, d.State = "C", "ready"
		return nil
	}))
	b.must2(other.DeploymentClaim(b.ctx, second, "http://"+second, time.Hour))
	all, err = b.DeploymentClaim(b.ctx, first, "http://"+first, time.Hour)
	b.must(err)
	for _, one := range all {
		if one.Keeper != second || one.KeeperURL != "http://"+second {
			t.Errorf("%s is kept by %q at %q, want %q", one.Name, one.Keeper, one.KeeperURL, second)
		}
	}
}

func (b *bundle) must2(_ []store.Deployment, err error) {
	b.Helper()
	b.must(err)
}

func testDeploymentKept(t *testing.T, fresh Fresh) {
	b := setup(t, fresh)
	want := store.Deployment{
		Project: "default", Name: "scorer-v2", Function: "scorer", Tag: "v2", Kind: "nuclio", Revision: 1,
		Routes: []store.Route{{Revision: 1, Weight: 100}}, State: "building", Status: object(`{"address": "127.0.0.1:30000"}`),
	}
	b.deploy(want, "a1")
	_, err := b.DeploymentGet(b.ctx, "default", "scorer")
	b.refuses(err, fault.CodeNotFound, "scorer")
	b.must(b.DeploymentUpdate(b.ctx, "default", "scorer-v2", func(tx *store.Tx, d *store.Deployment) error {
		d.Stable, d.Revision, d.Port, d.State = d.Routes, 2, 30000, "ready"
		d.Routes = []store.Route{{Revision: 1, Weight: 90}, {Revision: 2, Weight: 10}, {Revision: 1, Shadow: true}}
		return tx.RevisionPut(store.DeploymentRevision{Project: d.Project, Name: d.Name, Number: 2, Hash: "b2", State: "building"})
	}))
	want.Stable, want.Revision, want.Port, want.State = want.Routes, 2, 30000, "ready"
	want.Routes = []store.Route{{Revision: 1, Weight: 90}, {Revision: 2, Weight: 10}, {Revision: 1, Shadow: true}}
	again := b.open()
	got, err := again.DeploymentGet(b.ctx, "default", "scorer-v2")
	b.must(err)
	if got.Created.IsZero() || !got.Updated.After(got.Created) {
		t.Errorf("created %v, updated %v", got.Created, got.Updated)
	}
	want.Created, want.Updated = got.Created, got.Updated
	if diff := cmpDiff(got, want); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	revisions, err := again.RevisionList(b.ctx, "default", "scorer-v2")
	b.must(err)
	if len(revisions) != 2 || revisions[0].Number != 2 || revisions[0].Hash != "b2" || revisions[1].Hash != "a1" {
		t.Fatalf("revisions %+v", revisions)
	}
	// A revision keeps its hash whatever happens to its state.
	b.must(b.Tx(b.ctx, func(tx *store.Tx) error {
		return tx.RevisionPut(store.DeploymentRevision{Project: "default", Name: "scorer-v2", Number: 1, Hash: "other", State: "error", Message: "no"})
	}))
	revisions, err = b.RevisionList(b.ctx, "default", "scorer-v2")
	b.must(err)
	if one := revisions[1]; one.Hash != "a1" || one.State != "error" || one.Message != "no" {
		t.Fatalf("revision %+v", one)
	}
	failure := errors.New("no")
	if err := b.DeploymentUpdate(b.ctx, "default", "scorer-v2", func(_ *store.Tx, d *store.Deployment) error {
		d.State = "lost"
		return failure
	}); !errors.Is(err, failure) {
		t.Fatalf("got %v", err)
	}
	b.refuses(b.DeploymentUpdate(b.ctx, "default", "none", func(*store.Tx, *store.Deployment) error { return nil }), fault.CodeNotFound, "none")
	missing := want
	missing.Project = "nowhere"
	b.refuses(b.Tx(b.ctx, func(tx *store.Tx) error { return tx.DeploymentPut(missing) }), fault.CodeNotFound, "nowhere")

	b.doc(b.ProjectCreate(b.ctx, object(`{"metadata": {"name": "other"}}`)))
	other := want
	other.Project, other.Name = "other", "a"
	b.deploy(other, "c3")
	all, err := b.DeploymentList(b.ctx, "")
	b.must(err)
	mine, err := b.DeploymentList(b.ctx, "default")
	b.must(err)
	if len(all) != 2 || all[1].Project != "other" || len(mine) != 1 || mine[0].State != "ready" {
		t.Fatalf("all %+v, of the project %+v", all, mine)
	}
	b.must(b.DeploymentForget(b.ctx, "default", "scorer-v2"))
	b.must(b.ProjectDelete(b.ctx, "other"))
	if all, err = b.DeploymentList(b.ctx, ""); err != nil || len(all) != 0 {
		t.Fatalf("left: %+v, %v", all, err)
	}
	for _, d := range []store.Deployment{want, other} {
		if revisions, err := b.RevisionList(b.ctx, d.Project, d.Name); err != nil || len(revisions) != 0 {
			t.Fatalf("left: %+v, %v", revisions, err)
		}
	}
}

func testFunctionStatus(t *testing.T, fresh Fresh) {
	b := setup(t, fresh)
	put := store.FunctionPut{Project: "default", Name: "scorer", Tag: "v2", Versioned: true, Doc: object(`{"kind": "nuclio", "metadata": {"name": "scorer"}, "spec": {"x": 1}}`)}
	hash, err := b.FunctionPut(b.ctx, put)
	b.must(err)
	set := func(tag string) error {
		return b.Tx(b.ctx, func(tx *store.Tx) error {
			return tx.FunctionStatus("default", "scorer", tag, func(status document.Object) { status["state"] = "ready" })
		})
	}
	b.must(set("v2"))
	b.must(set("none"))
	doc := b.doc(b.FunctionGet(b.ctx, "default", "scorer", "v2", ""))
	b.same(doc["status"], `{"state": "ready"}`)
	b.same(doc["spec"], `{"x": 1}`)
	if again, err := b.FunctionPut(b.ctx, put); err != nil || again != hash {
		t.Fatalf("hash %s, %v; it was %s", again, err, hash)
	}
	b.must(set("v2"))
	listed, _, err := b.FunctionList(b.ctx, store.FunctionFilter{Project: "default", States: []string{"ready"}})
	b.must(err)
	if len(listed) != 1 {
		t.Fatalf("%d functions are listed as ready", len(listed))
	}
}

func testGateways(t *testing.T, fresh Fresh) {
	b := setup(t, fresh)
	g := store.APIGateway{Project: "default", Name: "front", Secret: "s", Doc: object(`{"metadata": {"name": "front"}}`)}
	b.must(b.GatewayPut(b.ctx, g))
	g.Port = 30001
	b.must(b.GatewayPut(b.ctx, g))
	got, err := b.GatewayGet(b.ctx, "default", "front")
	b.must(err)
	if diff := cmpDiff(got, g); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	list, err := b.GatewayList(b.ctx, "")
	b.must(err)
	if len(list) != 1 {
		t.Fatalf("%d gateways", len(list))
	}
	b.must(b.GatewayDelete(b.ctx, "default", "front"))
	b.must(b.GatewayDelete(b.ctx, "default", "front"))
	_, err = b.GatewayGet(b.ctx, "default", "front")
	b.refuses(err, fault.CodeNotFound, "front")
	g.Project = "nowhere"
	b.refuses(b.GatewayPut(b.ctx, g), fault.CodeNotFound, "nowhere")
}
