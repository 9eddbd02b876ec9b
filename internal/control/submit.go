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
// anything is written: the plan, and that its devices can exist at all. names are
// the parameters of an iterative task in the order in which they were written,
// which its document does not keep; nil is alphabetical.
func (c *Control) Accept(functionDoc, runDoc document.Object, names []string) (*Accepted, error) {
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
	accepted := &Accepted{
		Function: functionDoc, Run: runDoc, Plan: plan,
		Execution: store.Execution{
			ID: executionID(key.UID, 1), Project: key.Project, UID: key.UID, Attempt: 1, Phase: "queued", Backend: c.Name, Created: c.Now(),
			Plan: document.Object{
				"retry":         document.Object{"count": plan.Retries, "base_delay_ms": plan.RetryDelay.Milliseconds()},
				"thresholds_ms": thresholds, "grace_ms": plan.Grace.Milliseconds(),
			},
		},
	}
	if plan.Search != nil {
		plan.Search.Names = names
		accepted.Execution.Plan["search"] = document.Object{"names": names}
	}
	return accepted, nil
}

// Create writes an accepted run: the function version, the run and its execution
// in one transaction. It returns the run's document as stored. A run with this
// uid that is live or was executed by this server is a fault.CodeConflict.
func (c *Control) Create(ctx context.Context, a *Accepted) (document.Object, error) {
	project, name := a.Execution.Project, document.String(a.Function, "metadata", "name")
	var stored document.Object
	err := c.Store.Tx(ctx, func(tx *store.Tx) error {
		hash, err := version(ctx, tx, a)
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

// version stores the function and returns its hash. That of a run which names a
// stored function moves no tag: it is a version that is there already, or one that
// was changed for this run alone.
func version(ctx context.Context, tx *store.Tx, a *Accepted) (string, error) {
	put := store.FunctionPut{
		Project: a.Execution.Project, Name: document.String(a.Function, "metadata", "name"), Tag: document.String(a.Function, "metadata", "tag"),
		Versioned: true, Untagged: document.String(a.Run, "spec", "function") != "", Doc: a.Function,
	}
	if !put.Untagged {
		return tx.FunctionPut(ctx, put)
	}
	_, hash, err := function.Stored(put.Doc, put.Project, put.Name, a.Execution.Created)
	if err != nil {
		return "", err
	}
	if _, err = tx.FunctionGet(ctx, put.Project, put.Name, "", hash); fault.Is(err, fault.CodeNotFound) {
		return tx.FunctionPut(ctx, put)
	}
	return hash, err
}

// Submit accepts, writes and queues a run, and returns its document. names are
// those of Accept.
func (c *Control) Submit(ctx context.Context, functionDoc, runDoc document.Object, names []string) (document.Object, error) {
	accepted, err := c.Accept(functionDoc, maps.Clone(runDoc), names)
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
