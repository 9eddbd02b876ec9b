package deployment

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/store"
)

// keeper keeps one deployment. Its fields belong to its goroutine.
type keeper struct {
	*Deployments
	key  Key
	wake chan struct{}

	told      realtime.Desired // what the processor knows
	hasTold   bool
	asked     time.Time // when the processor was last asked
	building  int       // revision that is being prepared; 0 for none
	cancel    context.CancelFunc
	built     chan built
	front     kind.Front // of the revision frontOf
	auth      *realtime.Auth
	frontOf   int
	starts    int       // starts of the processor that did not last
	started   time.Time // the last start
	notBefore time.Time // of the next start
	lastError string
	seen      []store.Route // what was asked for when the step at hand began
}

type built struct {
	number   int
	revision realtime.Revision
	files    map[string][]byte
	err      error
}

func newKeeper(d *Deployments, key Key) *keeper {
	return &keeper{Deployments: d, key: key, wake: make(chan struct{}, 1), built: make(chan built, 1)}
}

// keep runs until the deployment is gone or ctx ends.
func (k *keeper) keep(ctx context.Context) {
	defer k.abandon()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k.wake:
		case result := <-k.built:
			k.settle(ctx, result)
		}
		gone, busy, err := k.step(ctx)
		if gone || ctx.Err() != nil {
			return
		}
		k.report(ctx, err)
		pause := lookAlive
		if busy {
			pause = lookBusy
		}
		timer.Reset(pause)
	}
}

// report logs changes, not turns.
func (k *keeper) report(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != k.lastError && text != "" {
		k.Logger.ErrorContext(ctx, "keep deployment", "function", k.key.String(), "error", err)
	}
	k.lastError = text
}

// step looks at the deployment and takes the next step; busy says that the one
// after it is due soon.
func (k *keeper) step(ctx context.Context) (gone, busy bool, err error) {
	d, err := k.Store.DeploymentGet(ctx, k.key.Project, k.key.Name)
	if fault.Is(err, fault.CodeNotFound) {
		err := k.clear(ctx)
		return err == nil, true, err
	}
	if err != nil {
		return false, false, err
	}
	k.seen = d.Routes
	if k.foreign(d) {
		return true, false, k.yield(ctx, d)
	}
	if d.Removed {
		err := k.remove(ctx)
		return err == nil, true, err
	}
	revisions, err := k.Store.RevisionList(ctx, k.key.Project, k.key.Name)
	if err != nil {
		return false, false, err
	}
	target, building, err := k.target(ctx, &d, revisions)
	if err != nil || len(target) == 0 {
		return false, building, err
	}
	if d.Port == 0 {
		if d.Port, err = k.choosePort(ctx); err != nil {
			return false, false, err
		}
	}
	desired, err := k.desired(ctx, d, target, revisions)
	if err != nil {
		return false, false, err
	}
	if !k.Host.Alive(k.key) {
		return false, true, k.revive(ctx, d, desired)
	}
	busy = building || d.State != stateReady && d.State != stateScaledToZero
	if !k.hasTold || !reflect.DeepEqual(k.told, desired) {
		if err := k.tell(ctx, desired); err != nil {
			return false, true, err
		}
		busy = true
	}
	if !busy && k.Now().Sub(k.asked) < lookStatus {
		return false, false, nil
	}
	status, err := k.Host.Status(ctx, k.key)
	if err != nil && k.Now().Sub(k.started) < listening {
		return false, true, nil // it holds its lock and does not listen yet
	}
	if err != nil {
		return false, true, fmt.Errorf("ask the processor: %w", err)
	}
	k.asked = k.Now()
	if k.started.IsZero() || k.Now().Sub(k.started) > lasting {
		k.starts = 0
	}
	return false, busy, k.apply(ctx, d, target, status)
}

// target is what the processor should serve now: what was asked for once all of it
// can be, else what served before. building says that something is being prepared.
// d is in error afterwards if what was asked for could not be made.
func (k *keeper) target(ctx context.Context, d *store.Deployment, revisions []store.DeploymentRevision) (routes []store.Route, building bool, err error) {
	failed, missing := "", false
	for _, r := range d.Routes {
		at := slices.IndexFunc(revisions, func(one store.DeploymentRevision) bool { return one.Number == r.Revision })
		switch {
		case at < 0:
			return d.Stable, false, fmt.Errorf("revision %d of %s is not in the store", r.Revision, k.key)
		case revisions[at].State == revisionError:
			failed = revisions[at].Message
		case !k.Host.Placed(k.key, r.Revision):
			missing = true
			k.prepare(ctx, *d, revisions[at])
		}
	}
	if failed != "" && d.State != stateError {
		err = k.set(ctx, stateError, failed, nil)
		d.State, d.Message = stateError, failed
	}
	if failed == "" && !missing {
		return d.Routes, false, err
	}
	for _, r := range d.Stable { // what served must be there, or be made again
		if !k.Host.Placed(k.key, r.Revision) {
			at := slices.IndexFunc(revisions, func(one store.DeploymentRevision) bool { return one.Number == r.Revision })
			if at >= 0 && k.building == 0 {
				k.prepare(ctx, *d, revisions[at])
			}
			return nil, true, err
		}
	}
	return d.Stable, missing && failed == "", err
}

// desired is what the processor is told. Its addresses follow the newest revision
// that answers.
func (k *keeper) desired(ctx context.Context, d store.Deployment, routes []store.Route, revisions []store.DeploymentRevision) (realtime.Desired, error) {
	out := realtime.Desired{Project: d.Project, Name: d.Name, Listen: net.JoinHostPort(k.Listen, strconv.Itoa(d.Port))}
	newest := 0
	for _, r := range routes {
		weight := r.Weight
		if r.Shadow {
			weight = 100
		} else {
			newest = max(newest, r.Revision)
		}
		out.Routes = append(out.Routes, realtime.Route{Revision: r.Revision, Weight: weight, Shadow: r.Shadow})
	}
	if k.frontOf != newest {
		at := slices.IndexFunc(revisions, func(one store.DeploymentRevision) bool { return one.Number == newest })
		if at < 0 {
			return out, fmt.Errorf("revision %d of %s is not in the store", newest, k.key)
		}
		f, err := k.version(ctx, d, revisions[at].Hash)
		if err != nil {
			return out, err
		}
		service, err := kind.Deploy(f)
		if err != nil {
			return out, err
		}
		if k.auth, err = k.Preparer.Auth(ctx, k.key, service.Front); err != nil {
			return out, err
		}
		k.front, k.frontOf = service.Front, newest
	}
	out.Auth, out.CORS, out.Limits, out.TLS = k.auth, k.front.CORS, k.front.Limits, k.front.TLS
	return out, nil
}

// version reads the version of the function that a revision is made of.
func (k *keeper) version(ctx context.Context, d store.Deployment, hash string) (*function.Function, error) {
	doc, err := k.Store.FunctionGet(ctx, d.Project, d.Function, "", hash)
	if err != nil {
		return nil, err
	}
	document.Set(doc, d.Tag, "metadata", "tag")
	return function.Parse(doc)
}

// prepare makes a revision ready in the background, one at a time.
func (k *keeper) prepare(ctx context.Context, d store.Deployment, r store.DeploymentRevision) {
	if k.building == r.Number {
		return
	}
	if k.building != 0 {
		if r.Number < k.building {
			return
		}
		k.abandon() // a newer one is wanted instead
	}
	ctx, cancel := context.WithCancel(ctx)
	k.building, k.cancel = r.Number, cancel
	into := make(chan built, 1)
	k.built = into
	k.Host.Say(k.key, fmt.Sprintf("revision %d: preparing version %.12s", r.Number, r.Hash))
	k.work.Go(func() {
		defer cancel()
		result := built{number: r.Number}
		result.revision, result.files, result.err = k.make(ctx, d, r)
		into <- result
	})
}

// abandon gives up what is being prepared.
func (k *keeper) abandon() {
	if k.cancel != nil {
		k.cancel()
	}
	k.building, k.cancel = 0, nil
}

func (k *keeper) make(ctx context.Context, d store.Deployment, r store.DeploymentRevision) (realtime.Revision, map[string][]byte, error) {
	f, err := k.version(ctx, d, r.Hash)
	if err != nil {
		return realtime.Revision{}, nil, err
	}
	said := ""
	revision, files, err := k.Preparer.Revision(ctx, k.key, r.Number, f, func(text string) {
		if text != said {
			k.Host.Say(k.key, text)
			said = text
		}
	})
	revision.Hash = r.Hash
	return revision, files, err
}

// settle takes over what was prepared.
func (k *keeper) settle(ctx context.Context, result built) {
	if result.number != k.building || ctx.Err() != nil {
		return
	}
	k.building, k.cancel = 0, nil
	if errors.Is(result.err, context.Canceled) {
		return
	}
	err := result.err
	if err == nil {
		err = k.Host.Place(k.key, result.revision, result.files)
	}
	k.report(ctx, k.mark(ctx, result.number, err))
}

// mark notes that a revision is built, or why it can not serve.
func (k *keeper) mark(ctx context.Context, number int, cause error) error {
	state, text := revisionBuilt, ""
	if cause != nil {
		state, text = revisionError, fault.Message(cause)
		if fault.CodeOf(cause) == fault.CodeInternal {
			k.Logger.ErrorContext(ctx, "prepare revision", "function", k.key.String(), "revision", number, "error", cause)
			text = "the revision could not be prepared: " + cause.Error()
		}
		k.Host.Say(k.key, fmt.Sprintf("revision %d: error: %s", number, text))
	} else {
		k.Host.Say(k.key, fmt.Sprintf("revision %d: built, starting its workers", number))
	}
	return k.Store.Tx(ctx, func(tx *store.Tx) error {
		return tx.RevisionPut(store.DeploymentRevision{Project: k.key.Project, Name: k.key.Name, Number: number, State: state, Message: text})
	})
}

// choosePort finds a port for the function and keeps it, so that the address stays
// when the processor is started again.
func (k *keeper) choosePort(ctx context.Context) (int, error) {
	k.ports.Lock() // until it is in the store
	defer k.ports.Unlock()
	port, err := k.ChoosePort(ctx)
	if err != nil {
		return 0, err
	}
	return port, k.Store.DeploymentUpdate(ctx, k.key.Project, k.key.Name, func(_ *store.Tx, d *store.Deployment) error {
		if d.Port == 0 {
			d.Port = port
		}
		port = d.Port
		return nil
	})
}

// How long a processor has to live for its start to count as one that lasted, may take
// until it answers, and the pauses between starts that do not last.
const (
	lasting    = time.Minute
	listening  = 2 * time.Second
	firstPause = 200 * time.Millisecond
	lastPause  = 30 * time.Second
	tolerated  = 3 // starts that may fail before the function is called unhealthy
)

// revive starts the processor, at ever longer intervals while it keeps dying.
func (k *keeper) revive(ctx context.Context, d store.Deployment, desired realtime.Desired) error {
	now := k.Now()
	if now.Before(k.notBefore) {
		return nil
	}
	if len(d.Stable) > 0 {
		k.Logger.WarnContext(ctx, "start the processor", "function", k.key.String(), "starts", k.starts+1)
		k.Host.Say(k.key, "the function's process is started")
	}
	k.starts++
	pause := min(firstPause<<min(k.starts-1, 10), lastPause)
	k.started, k.notBefore, k.hasTold, k.asked = now, now.Add(pause), false, time.Time{}
	if err := k.Host.Start(k.key, desired); err != nil {
		return err
	}
	k.told, k.hasTold = desired, true
	if k.starts <= tolerated {
		return nil
	}
	state, message := stateUnhealthy, fmt.Sprintf("the function's process ended %d times and is started again", tolerated)
	if words := k.Host.LastWords(k.key); words != "" {
		message += "; it said: " + words
	}
	if len(d.Stable) == 0 {
		state = stateError
	}
	return k.set(ctx, state, message, nil)
}

func (k *keeper) tell(ctx context.Context, desired realtime.Desired) error {
	if err := k.Host.Desire(ctx, k.key, desired); err != nil {
		return fmt.Errorf("tell the processor what to serve: %w", err)
	}
	k.told, k.hasTold, k.asked = desired, true, time.Time{}
	return nil
}

// set changes state and status of the deployment and of its function, if they
// differ, and if what is asked for is still what the step at hand has seen: else they
// would be told of something older. change may be nil.
func (k *keeper) set(ctx context.Context, state, message string, change func(*store.Deployment)) error {
	text := "the function is " + state
	if message != "" {
		text += ": " + message
	}
	changed, said := false, false
	err := k.Store.DeploymentUpdate(ctx, k.key.Project, k.key.Name, func(tx *store.Tx, d *store.Deployment) error {
		if !slices.Equal(d.Routes, k.seen) {
			return nil
		}
		before := *d
		before.Status = document.Clone(d.Status)
		d.State, d.Message = state, message
		if change != nil {
			change(d)
		}
		if changed = !reflect.DeepEqual(before, *d); !changed {
			return nil
		}
		err := tx.FunctionStatus(d.Project, d.Function, d.Tag, func(status document.Object) {
			for key, value := range d.Status {
				status[key] = value
			}
			status["state"], status["nuclio_name"] = state, nuclioName(k.key)
			delete(status, "error")
			if message != "" {
				status["error"] = message
			}
		})
		if err == nil && !said { // before anybody sees the state, and ends following the log
			said = true
			k.Host.Say(k.key, text)
		}
		return err
	})
	if err != nil || !changed {
		return err
	}
	k.Logger.InfoContext(ctx, "deployment", "function", k.key.String(), "state", state, "message", message)
	k.announce()
	return nil
}

// yield ends the processor that is still here of a deployment that another server keeps.
func (k *keeper) yield(ctx context.Context, d store.Deployment) error {
	k.Logger.WarnContext(ctx, "another server keeps the deployment", "function", k.key.String(), "server", d.KeeperURL)
	k.abandon()
	stop, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	return k.Host.Stop(stop, k.key)
}

// remove lets the processor finish and deletes all that is kept.
func (k *keeper) remove(ctx context.Context) error {
	k.abandon()
	stop, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := k.Host.Stop(stop, k.key); err != nil {
		return err
	}
	if err := k.Host.Remove(k.key); err != nil {
		return err
	}
	if err := k.Store.DeploymentForget(ctx, k.key.Project, k.key.Name); err != nil {
		return err
	}
	k.Logger.InfoContext(ctx, "removed", "function", k.key.String())
	return nil
}

// clear ends and deletes what is here of a deployment that is not in the store any
// more: another server has deleted it while none ran here.
func (k *keeper) clear(ctx context.Context) error {
	k.abandon()
	if k.Host.Alive(k.key) {
		k.Logger.WarnContext(ctx, "the deployment is deleted, and its process ends", "function", k.key.String())
	}
	stop, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := k.Host.Stop(stop, k.key); err != nil {
		return err
	}
	return k.Host.Remove(k.key)
}

// addresses are where a deployment is reached, without a scheme, as clients keep them.
func (k *keeper) addresses(own string) (internal, external []any) {
	external = []any{own}
	if _, below, ok := strings.Cut(k.URL, "://"); ok {
		external = append(external, strings.TrimRight(below, "/")+"/fn/"+k.key.String())
	}
	return []any{own}, external
}
