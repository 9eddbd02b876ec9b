package deployment

import (
	"context"
	"fmt"
	"slices"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/store"
)

// apply writes what the processor says into the store. target is what it was told.
func (k *keeper) apply(ctx context.Context, d store.Deployment, target []store.Route, status realtime.Status) error {
	state, message := stateBuilding, ""
	whole := slices.Equal(target, d.Routes)
	switch verdict, text, number := k.judge(d, target, status); verdict {
	case realtime.StateError:
		if whole && !slices.Equal(target, d.Stable) {
			return k.fail(ctx, number, text)
		}
		state, message = stateUnhealthy, text
	case realtime.StateReady:
		state = stateReady
	case realtime.StateScaledToZero:
		state = stateScaledToZero
	default:
		if slices.Equal(target, d.Stable) && whole { // it was started again
			state, message = d.State, d.Message
		}
	}
	if !whole && d.State == stateError { // what was asked for failed; the rest serves on
		state, message = stateError, d.Message
	} else if !whole {
		state, message = stateBuilding, ""
	}
	serves := state == stateReady || state == stateScaledToZero
	internal, external := k.addresses(status.Address)
	if err := k.set(ctx, state, message, func(one *store.Deployment) {
		if serves && slices.Equal(one.Routes, target) {
			one.Stable = one.Routes
		}
		if status.Address != "" {
			one.Status["address"], one.Status["internal_invocation_urls"], one.Status["external_invocation_urls"] = status.Address, internal, external
		}
	}); err != nil {
		return err
	}
	if serves && whole {
		k.discard(ctx, d)
	}
	return nil
}

// judge is the state of what should serve: the worst of its revisions, why, and
// which one that is.
func (k *keeper) judge(d store.Deployment, target []store.Route, status realtime.Status) (state realtime.State, text string, number int) {
	state = realtime.StateReady
	asleep := 0
	for _, r := range target {
		revision, ok := status.Revision(r.Revision)
		switch {
		case !ok, revision.State == realtime.StateStarting:
			if state == realtime.StateReady {
				state = realtime.StateStarting
			}
		case revision.State == realtime.StateError:
			return realtime.StateError, revision.Message, r.Revision
		case revision.State == realtime.StateScaledToZero:
			asleep++
		}
	}
	if state == realtime.StateReady && status.Message != "" && status.State == realtime.StateError {
		return realtime.StateError, status.Message, d.Revision
	}
	// Whoever deploys wants to hear of it as ready once, even if it sleeps already.
	if state == realtime.StateReady && asleep == len(target) && (d.State == stateReady || d.State == stateScaledToZero) {
		return realtime.StateScaledToZero, "", 0
	}
	return state, "", 0
}

// fail gives up a revision that does not serve; what served before it stays.
func (k *keeper) fail(ctx context.Context, number int, text string) error {
	k.Host.Say(k.key, fmt.Sprintf("revision %d: error: %s", number, text))
	if err := k.Store.Tx(ctx, func(tx *store.Tx) error {
		return tx.RevisionPut(store.DeploymentRevision{Project: k.key.Project, Name: k.key.Name, Number: number, State: revisionError, Message: text})
	}); err != nil {
		return err
	}
	return k.set(ctx, stateError, text, nil)
}

// kept is how many revisions stay on disk beside those that serve.
const kept = 3

// discard deletes revisions that are neither served nor among the newest; they can
// be made again from the function's version.
func (k *keeper) discard(ctx context.Context, d store.Deployment) {
	var keep []int
	for _, r := range append(slices.Clone(d.Routes), d.Stable...) {
		keep = append(keep, r.Revision)
	}
	for number := d.Revision; number > d.Revision-kept && number > 0; number-- {
		keep = append(keep, number)
	}
	if err := k.Host.Discard(k.key, keep); err != nil {
		k.Logger.ErrorContext(ctx, "delete old revisions", "function", k.key.String(), "error", err)
	}
}
