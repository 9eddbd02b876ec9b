package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/digest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
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
	inputs, began, stamps := document.Object{}, document.Object(nil), map[string]string{}
	cache := r.cache()
	if cache != nil {
		began = document.Object{}
	}
	if given := document.Map(r.launch.Run, "spec", "inputs"); len(given) > 0 && r.launch.Provenance != nil {
		reading.Go(func() {
			for _, key := range slices.Sorted(maps.Keys(given)) {
				url, _ := given[key].(string)
				was := r.stamp(url)
				name, entry := Input(ctx, r.launch.Run, r.workdir(), key, url)
				inputs[name] = entry
				stamps[name] = was
				if began != nil { // remote inputs are asked for only where a key depends on them
					began[name] = provenance.Identity(r.remote(ctx, entry, url))
				}
			}
		})
	}
	return func() {
		reading.Wait()
		if document.Map(r.launch.Run, "spec", "rerun") != nil { // its verdict asks for that
			r.noteMissing(ctx, inputs)
		}
		record := document.Object{}
		if len(inputs) > 0 {
			record["inputs"] = inputs
		}
		if outputs := r.nameOutputs(ctx); len(outputs) > 0 {
			record["outputs"] = outputs
		}
		if len(began) > 0 {
			r.compare(ctx, began, stamps)
			cache["began"] = began
			record["cache"] = cache
		}
		if len(record) == 0 {
			return
		}
		if err := r.write("provenance", record); err != nil {
			r.Logger.Error("journal provenance", "execution", r.launch.Execution, "error", err)
		}
	}
}

// changed stands for the content of an input that did not stay the same while the
// code ran: what the code read is not known.
const changed = "changed while the code ran"

// compare looks at the inputs once more, when the code has ended.
func (r *runner) compare(ctx context.Context, began document.Object, stamps map[string]string) {
	ctx = context.WithoutCancel(ctx)
	for key, value := range document.Map(r.launch.Run, "spec", "inputs") {
		url, _ := value.(string)
		name, _, _ := strings.Cut(key, ":")
		name = strings.TrimSpace(name)
		if was := stamps[name]; was != "" && was == r.stamp(url) {
			continue
		}
		_, entry := Input(ctx, r.launch.Run, r.workdir(), key, url)
		if provenance.Identity(r.remote(ctx, entry, url)) != document.String(began, name) {
			began[name] = changed
		}
	}
}

// stamp tells whether a file is the one that it was, without reading it: the time
// of its last change is none that programs set. "" for whatever is no file here.
func (r *runner) stamp(url string) string {
	path, local := provenance.LocalPath(document.String(r.launch.Run, "spec", "input_path"), r.workdir(), url)
	var info unix.Stat_t
	if !local || unix.Stat(path, &info) != nil || info.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	return fmt.Sprint(info.Dev, info.Ino, info.Size, info.Mtim, info.Ctim)
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

// cache is what was recorded of the run's key, nil when it has none.
func (r *runner) cache() document.Object {
	record, err := document.DecodeObject(r.launch.Provenance)
	if err != nil || document.String(record, "cache", "key") == "" {
		return nil
	}
	return document.Map(record, "cache")
}

// remote describes an input that is not on this machine.
func (r *runner) remote(ctx context.Context, entry document.Object, url string) document.Object {
	if document.String(entry, "digest") != "" || strings.HasPrefix(url, "file://") || !strings.Contains(url, "://") {
		return entry
	}
	return Remote(ctx, r.stores(append(os.Environ(), r.environment()...)), url)
}

// noteMissing marks the inputs elsewhere that are not there. One that the code has read
// has its digest, whatever is said here.
func (r *runner) noteMissing(ctx context.Context, inputs document.Object) {
	stores := r.stores(append(os.Environ(), r.environment()...))
	for _, value := range inputs {
		entry, _ := value.(document.Object)
		url := document.String(entry, "url")
		if strings.HasPrefix(url, "file://") || !strings.Contains(url, "://") {
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), remoteTime)
		if _, err := stores.Stat(ctx, url); fault.Is(err, fault.CodeNotFound) {
			entry["missing"] = true
		}
		cancel()
	}
}

// Remote describes the content behind a URL without reading it: its digest or its
// tag, and its size, as far as its store tells. The content of an artifact on this
// machine is read.
func Remote(ctx context.Context, stores *datastore.Stores, url string) document.Object {
	ctx, cancel := context.WithTimeout(ctx, remoteTime)
	defer cancel()
	entry := document.Object{"url": url}
	if target, err := stores.Resolve(ctx, url); err == nil {
		entry["suffix"] = filepath.Ext(target)
		if path, local := provenance.LocalPath("", "", target); local {
			if sum, size, err := digest.Path(ctx, path, digestLimit); err == nil {
				entry["digest"], entry["size"] = sum, size
			}
			return entry
		}
	}
	info, err := stores.Stat(ctx, url)
	if err != nil || info.Dir || info.Size < 0 {
		return entry
	}
	entry["size"] = info.Size
	if info.Digest != "" {
		entry["digest"] = info.Digest
	}
	if info.ETag != "" {
		entry["etag"] = info.ETag
	}
	return entry
}

// remoteTime is how long a store may take to describe one input.
const remoteTime = 20 * time.Second

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
