package control

import (
	"context"
	"maps"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// Accepted is a run that was validated and enriched but not stored.
type Accepted struct {
	Function  document.Object // to be stored as a version
	Run       document.Object
	Plan      *kind.Plan
	Execution store.Execution // without its id's function hash; Create completes it
}

// Accept validates what can be validated about a run of a function before
// anything is written: the plan, and that its devices can exist at all.
func (c *Control) Accept(functionDoc, runDoc document.Object) (*Accepted, error) {
	f, err := function.Parse(functionDoc)
	if err != nil {
		return nil, err
	}
	plan, err := kind.Make(f, runDoc)
	if err != nil {
		return nil, err
	}
	if err := c.Devices.Check(plan.GPUs); err != nil {
		return nil, err
	}
	key := run.Key{Project: document.String(runDoc, "metadata", "project"), UID: document.String(runDoc, "metadata", "uid")}
	thresholds := document.Object{}
	for state, limit := range plan.Thresholds {
		thresholds[state] = limit.Milliseconds()
	}
	return &Accepted{
		Function: functionDoc, Run: runDoc, Plan: plan,
		Execution: store.Execution{
			ID: executionID(key.UID, 1), Project: key.Project, UID: key.UID, Attempt: 1, Phase: "queued", Backend: c.Name, Created: c.Now(),
			Plan: document.Object{
				"retry":         document.Object{"count": plan.Retries, "base_delay_ms": plan.RetryDelay.Milliseconds()},
				"thresholds_ms": thresholds, "grace_ms": plan.Grace.Milliseconds(),
			},
		},
	}, nil
}

// Create writes an accepted run: the function version, the run and its execution
// in one transaction. It returns the run's document as stored. A run with this
// uid that is live or was executed by this server is a fault.CodeConflict.
func (c *Control) Create(ctx context.Context, a *Accepted) (document.Object, error) {
	project, name := a.Execution.Project, document.String(a.Function, "metadata", "name")
	var stored document.Object
	err := c.Store.Tx(ctx, func(tx *store.Tx) error {
		hash, err := pinned(ctx, tx, a)
		if hash == "" && err == nil {
			hash, err = tx.FunctionPut(ctx, store.FunctionPut{
				Project: project, Name: name, Tag: document.String(a.Function, "metadata", "tag"), Versioned: true, Doc: a.Function,
			})
		}
		if err != nil {
			return err
		}
		uri := project + "/" + name + "@" + hash
		document.Set(a.Run, uri, "spec", "function")
		a.Execution.Plan["function"] = uri
		a.Execution.Plan["run"] = a.Run
		if err := tx.ExecutionCreate(ctx, a.Execution); err != nil {
			return err
		}
		stored, err = tx.RunPut(ctx, runKey(a.Execution), a.Run)
		return err
	})
	return stored, err
}

// pinned is the hash of the version that the run asked for by its hash, if what is
// to be stored is that version: it is there already, and no tag moves to it. "" for
// other runs.
func pinned(ctx context.Context, tx *store.Tx, a *Accepted) (string, error) {
	if function.ParseURI(document.String(a.Run, "spec", "function")).Hash == "" {
		return "", nil
	}
	project, name := a.Execution.Project, document.String(a.Function, "metadata", "name")
	_, hash, err := function.Stored(a.Function, project, name, a.Execution.Created)
	if err != nil {
		return "", err
	}
	_, err = tx.FunctionGet(ctx, project, name, "", hash)
	if fault.Is(err, fault.CodeNotFound) {
		return "", nil
	}
	return hash, err
}

// Submit accepts, writes and queues a run, and returns its document.
func (c *Control) Submit(ctx context.Context, functionDoc, runDoc document.Object) (document.Object, error) {
	accepted, err := c.Accept(functionDoc, maps.Clone(runDoc))
	if err != nil {
		return nil, err
	}
	stored, err := c.Create(ctx, accepted)
	if err != nil {
		return nil, err
	}
	c.Wake()
	return stored, nil
}
