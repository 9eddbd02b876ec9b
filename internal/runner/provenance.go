package runner

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/digest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/provenance"
)

// digestLimit bounds what is read of one input or output to name its content.
const digestLimit = 1 << 30

// machine says where the execution takes place.
func (r *runner) machine(host string) document.Object {
	gpus := make([]any, len(r.launch.GPUs))
	for i, id := range r.launch.GPUs {
		gpus[i] = id
	}
	return document.Object{"host": host, "os": runtime.GOOS, "arch": runtime.GOARCH, "cpus": runtime.NumCPU(), "gpus": gpus}
}

// observeInputs names the content of the inputs on this machine while the code
// runs. finish waits for that, names the outputs that are left, and journals both;
// it does nothing for an execution without any.
func (r *runner) observeInputs(ctx context.Context) (finish func()) {
	var reading sync.WaitGroup
	inputs := document.Object{}
	if given := document.Map(r.launch.Run, "spec", "inputs"); len(given) > 0 && r.launch.Provenance != nil {
		reading.Go(func() {
			for _, key := range slices.Sorted(maps.Keys(given)) {
				url, _ := given[key].(string)
				name, entry := Input(ctx, r.launch.Run, r.workdir(), key, url)
				inputs[name] = entry
			}
		})
	}
	return func() {
		reading.Wait()
		record := document.Object{}
		if len(inputs) > 0 {
			record["inputs"] = inputs
		}
		if outputs := r.nameOutputs(ctx); len(outputs) > 0 {
			record["outputs"] = outputs
		}
		if len(record) == 0 {
			return
		}
		if err := r.write("provenance", record); err != nil {
			r.Logger.Error("journal provenance", "execution", r.launch.Execution, "error", err)
		}
	}
}

// Input describes an input of a run: its digest and size, or that it is missing,
// or the reason why its content has no name. key may carry a type ("key : type"),
// which is no part of the name.
func Input(ctx context.Context, run document.Object, workdir, key, url string) (name string, entry document.Object) {
	name, _, _ = strings.Cut(key, ":")
	name, entry = strings.TrimSpace(name), document.Object{"url": url}
	path, local := provenance.LocalPath(document.String(run, "spec", "input_path"), workdir, url)
	if !local {
		entry["reason"] = "not on this machine"
		return name, entry
	}
	sum, size, err := digest.Path(ctx, path, digestLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		entry["missing"] = true
	case err != nil:
		entry["reason"] = reason(err)
	default:
		entry["digest"], entry["size"] = sum, size
	}
	return name, entry
}

// reason is why there is no digest, without the path, which stands beside it.
func reason(err error) string {
	var problem *fs.PathError
	if errors.As(err, &problem) {
		return problem.Err.Error()
	}
	return err.Error()
}

// output is an artifact that was emitted without a digest.
type output struct {
	iter      int64
	key, path string
	kind      string
}

// noteOutput remembers an artifact that came without a digest, or gives it that of
// a body within the document.
func (r *runner) noteOutput(body document.Object) {
	if document.String(body, "digest") != "" || r.launch.Provenance == nil {
		return
	}
	doc := document.Map(body, "doc")
	if inline, ok := document.Get(doc, "spec", "inline").(string); ok {
		body["digest"], body["size"] = digest.Of([]byte(inline)), len(inline)
		return
	}
	iter, _ := document.Int(body, "iter")
	if path, local := provenance.LocalPath("", r.workdir(), document.String(doc, "spec", "target_path")); local {
		r.outputs = append(r.outputs, output{iter: iter, key: document.String(body, "key"), path: path, kind: document.String(doc, "kind")})
	}
}

// nameOutputs names the content of the artifacts that were remembered: of the run
// itself here, of its iterations in records of their own.
func (r *runner) nameOutputs(ctx context.Context) document.Object {
	named := map[int64]document.Object{}
	for _, out := range r.outputs {
		sum, size, err := digest.Path(context.WithoutCancel(ctx), out.path, digestLimit)
		if err != nil {
			continue // it has no digest, and is then called unknown
		}
		if named[out.iter] == nil {
			named[out.iter] = document.Object{}
		}
		entry := document.Object{"digest": sum, "size": size}
		if out.kind != "" {
			entry["kind"] = out.kind
		}
		named[out.iter][out.key] = entry
	}
	for iter, outputs := range named {
		if iter == 0 {
			continue
		}
		if err := r.write("provenance", document.Object{"iter": iter, "outputs": outputs}); err != nil {
			r.Logger.Error("journal provenance", "execution", r.launch.Execution, "error", err)
		}
	}
	return named[0]
}
