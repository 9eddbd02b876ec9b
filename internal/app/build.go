package app

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/store"
)

// builds are the environments that clients asked to build ahead of any run. What
// "deploying" a job function means on one machine is that its virtual environment
// is there.
type builds struct {
	interpreters *env.Interpreters
	envs         *env.Manager
	ctx          context.Context // ends with close
	cancel       context.CancelFunc
	work         sync.WaitGroup

	mu     sync.Mutex
	states map[string]*buildState // project/name, of builds that were asked for since the start
}

type buildState struct {
	done bool
	err  error
}

func newBuilds(interpreters *env.Interpreters, envs *env.Manager) *builds {
	b := &builds{interpreters: interpreters, envs: envs, states: map[string]*buildState{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

func (b *builds) close() error {
	b.cancel()
	b.work.Wait()
	return nil
}

// request is the environment that a function needs; ok is false when it needs none.
func (b *builds) request(ctx context.Context, f *function.Function) (request env.Request, ok bool, err error) {
	spec, err := f.Spec()
	if err != nil || len(spec.Requirements) == 0 || f.Kind().Nuclio() {
		return request, false, err
	}
	if request.Interpreter, err = b.interpreters.Select(ctx, spec.PythonVersion); err != nil {
		return request, false, err
	}
	request.Requirements, err = env.ParseRequirements(spec.Requirements, "")
	return request, err == nil && !request.Requirements.Empty(), err
}

// Build implements api.Controller.
func (c controller) Build(ctx context.Context, doc document.Object, force bool) (api.BuildStatus, error) {
	f, err := function.Parse(doc)
	if err != nil {
		return api.BuildStatus{}, err
	}
	if f.Kind().Nuclio() {
		return api.BuildStatus{}, fault.Invalid("functions of kind %s are deployed, not built", f.Kind())
	}
	request, needed, err := c.builds.request(ctx, f)
	if err != nil {
		return api.BuildStatus{}, err
	}
	state := "ready"
	if needed {
		if _, known := c.builds.envs.Known(request); !known || force {
			state = "running"
			request.Refresh = force
			c.builds.start(f.Project()+"/"+f.Name(), request)
		}
	}
	document.Set(f.Doc, stored(state), "status", "state")
	_, err = c.store.FunctionPut(ctx, store.FunctionPut{Project: f.Project(), Name: f.Name(), Tag: f.Tag(), Doc: f.Doc})
	return api.BuildStatus{State: state, Image: image(f), Function: f.Doc}, err
}

// stored is the word for a build's state in a function's status.
func stored(state string) string {
	if state == "running" {
		return "deploying"
	}
	return state
}

// image is what stands in spec.image of a built function: clients take a function
// without one as not deployed.
func image(f *function.Function) string {
	for _, path := range [][]string{{"spec", "image"}, {"spec", "build", "image"}, {"spec", "build", "base_image"}} {
		if name := document.String(f.Doc, path...); name != "" {
			return name
		}
	}
	return f.Kind().DefaultImage()
}

func (b *builds) start(key string, request env.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if state := b.states[key]; state != nil && !state.done {
		return
	}
	state := &buildState{}
	b.states[key] = state
	b.work.Go(func() {
		_, err := b.envs.Ensure(b.ctx, request, nil)
		b.mu.Lock()
		defer b.mu.Unlock()
		state.done, state.err = true, err
	})
}

// BuildStatus implements api.Controller.
func (c controller) BuildStatus(ctx context.Context, project, name, tag string) (api.BuildStatus, error) {
	doc, err := c.store.FunctionGet(ctx, project, name, tag, "")
	if err != nil {
		return api.BuildStatus{}, err
	}
	f, err := function.Parse(doc)
	if err != nil {
		return api.BuildStatus{}, err
	}
	status := api.BuildStatus{State: "ready", Image: image(f), Function: doc}
	request, needed, err := c.builds.request(ctx, f)
	if err != nil {
		status.State = "error"
		return status, nil //nolint:nilerr // a function that cannot be built is a state, not a failure of the question
	}
	if !needed {
		return status, nil
	}
	if log, err := os.Open(c.builds.envs.LogPath(request)); err == nil {
		status.Log = log
	} else if !errors.Is(err, fs.ErrNotExist) {
		return status, err
	}
	if _, known := c.builds.envs.Known(request); known {
		return status, nil
	}
	if document.String(doc, "status", "state") != "deploying" {
		return status, nil // the first run builds what it needs
	}
	switch state := c.builds.state(project + "/" + f.Name()); {
	case !state.done:
		status.State = "running"
		c.builds.start(project+"/"+f.Name(), request) // again, if a restart of the server ended it
	case state.err != nil:
		status.State = "error"
	}
	return status, nil
}

func (b *builds) state(key string) buildState {
	b.mu.Lock()
	defer b.mu.Unlock()
	if state := b.states[key]; state != nil {
		return *state
	}
	return buildState{}
}
