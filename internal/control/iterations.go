package control

import (
	"context"
	"maps"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/store"
)

// searchState is what an execution keeps of a search record.
func searchState(body document.Object) document.Object {
	state := maps.Clone(body)
	delete(state, "t")
	delete(state, "time")
	return state
}

// mergeChild brings into an iteration what only the record of one has: its times,
// why it ended, where its output is in the log of the attempt, and what a later
// attempt needs of its reports for early stopping.
func mergeChild(doc, body document.Object) {
	status := document.Ensure(doc, "status")
	for from, to := range map[string]string{"start": "start_time", "end": "end_time", "reason": "reason", "log": "log", "reports": "reports"} {
		if value := body[from]; value != nil {
			status[to] = value
		}
	}
}

// adoptBest makes the artifacts of the best iteration those of its run.
func (c *Control) adoptBest(ctx context.Context, tx *store.Tx, e store.Execution, record spool.Record) error {
	best, _ := document.Int(record.Body, "best")
	if best <= 0 {
		return nil
	}
	artifacts, err := tx.ArtifactsOfRun(ctx, run.Key{Project: e.Project, UID: e.UID, Iter: int(best)})
	if err != nil {
		return err
	}
	for _, doc := range artifacts {
		key, tree := artifact.Key(doc), artifact.Tree(doc)
		db := document.String(doc, "spec", "db_key")
		if db == "" {
			db = key
		}
		link := document.Object{
			"kind": artifact.KindLink, "project": e.Project,
			"metadata": document.Object{"key": key, "project": e.Project, "iter": 0, "tree": tree},
			"spec":     document.Object{"link_iteration": best, "link_key": db, "link_tree": tree, "db_key": db},
		}
		if _, err := tx.ArtifactPut(ctx, store.ArtifactPut{Project: e.Project, Key: db, Tree: tree, HasIter: true, Doc: link}); err != nil {
			return err
		}
	}
	return nil
}
