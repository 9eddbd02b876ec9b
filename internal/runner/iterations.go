package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/iterate"
	"github.com/millrace/millrace/internal/provenance"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/spool"
	"github.com/millrace/millrace/internal/tune"
	"github.com/millrace/millrace/internal/worker"
)

// iterations executes an iterative task; first is a worker that has loaded nothing
// yet.
func (r *runner) iterations(ctx context.Context, first *worker.Worker, output *os.File) spool.Outcome {
	task, err := r.task(ctx)
	if err != nil {
		return failed("parameters", err)
	}
	host := &host{runner: r, first: first, output: output, fork: task.Options.Isolation == tune.Fork, seed: task.Seed}
	task.Host, task.Journal = host, &records{runner: r}
	result, err := iterate.Run(ctx, task)
	outcome := spool.Outcome{State: string(run.Error)}
	var failure *worker.Failure
	switch {
	case context.Cause(ctx) != nil:
		return r.cut(context.Cause(ctx), outcome)
	case errors.As(err, &failure):
		outcome.Reason, outcome.Error = "load", failure.Message
		return outcome
	case err != nil:
		outcome.Reason, outcome.Error = "worker", err.Error()
		return outcome
	}
	about, err := r.summarise(ctx, task, result)
	if err != nil {
		return failed("summary", err)
	}
	if result.Reason == tune.Unknown {
		outcome.Reason, outcome.Error = string(tune.Unknown), result.Problem
		return outcome
	}
	if text := tune.ErrorText(result.Failed, result.Ended); text != "" {
		outcome.Reason, outcome.Error = spool.ReasonIterations, text
		return outcome
	}
	return spool.Outcome{State: string(run.Completed), Error: remark(task, result, about)}
}

// remark is what a task that completed has to say, for its status_text: why there is
// no best iteration, that the stop condition could not be evaluated, or that early
// stopping had nothing to judge by. "" is nothing.
func remark(task iterate.Task, result iterate.Result, more string) string {
	o := task.Options
	var out []string
	if o.Selector.Result != "" && result.Best.Iter == 0 {
		out = append(out, fmt.Sprintf("no iteration has a number as its result %s, so there is no best one", o.Selector.Result))
	}
	if result.Problem != "" {
		out = append(out, "the stop condition did not hold where it could not be evaluated: "+result.Problem)
	}
	if rule := o.EarlyStopping; rule != nil && task.Search.Logged().Lacks(rule.Metric.Result) {
		out = append(out, fmt.Sprintf("no iteration has reported the result %s, so early stopping ended none", rule.Metric.Result))
	}
	if more != "" {
		out = append(out, more)
	}
	return strings.Join(out, "; ")
}

// task makes the search ready, with everything that can be wrong about it.
func (r *runner) task(ctx context.Context) (iterate.Task, error) {
	var task iterate.Task
	search := r.launch.Search
	options, err := tune.ParseOptions(r.launch.Run)
	if err != nil {
		return task, err
	}
	var file []byte
	if options.ParamFile != "" {
		if file, err = r.parameterFile(ctx, options.ParamFile); err != nil {
			return task, err
		}
	}
	values, err := tune.ValuesOf(r.launch.Run, options, search.Names, file)
	if err != nil {
		return task, err
	}
	task = iterate.Task{Options: options, Grace: r.launch.Grace}
	if task.Search, err = tune.New(options, values, search.Seed); err != nil {
		return task, err
	}
	r.order = values.Names
	if len(search.Changed) > 0 {
		if task.Changed, err = tune.ParseSteering(search.Changed); err != nil {
			return task, err
		}
		task.Search.Change(task.Changed)
	}
	if options.EarlyStopping != nil {
		task.Pruner = tune.NewPruner(*options.EarlyStopping)
	}
	if err := r.restore(task.Search, task.Pruner); err != nil {
		return task, err
	}
	task.Seed = options.Seed
	if seed, ok, err := provenance.Seed(r.launch.Run); err == nil && ok && task.Seed == nil {
		own := uint64(seed)
		task.Seed = &own
	}
	if options.Isolation == tune.Fork && task.Seed == nil { // forks would all draw the same numbers
		task.Seed = &search.Seed
	}
	return task, nil
}

// restore brings the search, and early stopping where there is, to where an earlier
// attempt was.
func (r *runner) restore(search *tune.Search, pruner *tune.Pruner) error {
	if r.launch.Search.State == nil {
		return nil
	}
	var ended []tune.Outcome
	parameters := map[int]document.Object{}
	err := r.earlier(func(body document.Object) {
		iter, _ := document.Int(body, "iter")
		ended = append(ended, tune.Outcome{Iter: int(iter), State: document.String(body, "state"), Results: document.Map(body, "results")})
		parameters[int(iter)] = document.Map(body, "parameters")
		if pruner != nil {
			pruner.Restore(document.List(body, "reports"))
		}
	})
	if err != nil {
		return err
	}
	return search.Restore(*r.launch.Search.State, ended, func(iter int) document.Object { return parameters[iter] })
}

// earlier yields the iterations that ended in earlier attempts.
func (r *runner) earlier(yield func(document.Object)) error {
	if r.launch.Search.Ended == "" {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(r.dir.Path, r.launch.Search.Ended))
	if err != nil {
		return fmt.Errorf("read the iterations of earlier attempts: %w", err)
	}
	for line := range bytes.Lines(raw) {
		body, err := document.DecodeObject(line)
		if err != nil {
			return fmt.Errorf("read the iterations of earlier attempts: %w", err)
		}
		yield(body)
	}
	return nil
}

// maxParameterFile bounds a parameter file, in bytes.
const maxParameterFile = 256 << 20

// parameterFile is the content of the task's parameter file. The first attempt
// keeps it in the spool, and later ones have it from there: a file that changes
// does not change a task that has begun.
func (r *runner) parameterFile(ctx context.Context, url string) ([]byte, error) {
	kept := filepath.Join(r.dir.Path, spool.ParameterFile)
	if r.launch.Search.File != "" {
		kept = filepath.Join(r.dir.Path, r.launch.Search.File)
	}
	if content, err := os.ReadFile(kept); err == nil {
		return content, nil
	}
	body, _, err := r.stores(append(os.Environ(), r.environment()...)).Open(ctx, url, datastore.Range{})
	if err != nil {
		return nil, fault.Invalid("the parameter file %s cannot be read: %w", url, err)
	}
	defer body.Close()
	content, err := io.ReadAll(io.LimitReader(body, maxParameterFile+1))
	if err != nil {
		return nil, fault.Invalid("the parameter file %s cannot be read: %w", url, err)
	}
	if len(content) > maxParameterFile {
		return nil, fault.Invalid("the parameter file %s is larger than %d MiB", url, maxParameterFile>>20)
	}
	if err := os.WriteFile(kept, content, 0o600); err != nil {
		return nil, fmt.Errorf("keep the parameter file: %w", err)
	}
	return content, nil
}

// records is the journal as the loop of an iterative task writes it.
type records struct {
	*runner
	mark int64
}

// Append implements iterate.Journal.
func (j *records) Append(list []iterate.Record) error {
	for _, record := range list {
		if record.Type == "artifact" {
			j.noteOutput(record.Body)
		}
		j.journal.Add(record.Type, j.masker.Object(record.Body))
	}
	if err := j.journal.Flush(); err != nil {
		return err
	}
	if j.Observe != nil {
		for _, record := range list {
			j.Observe(record.Type, record.Body)
		}
	}
	return nil
}

// Steering implements iterate.Journal.
func (j *records) Steering() ([]tune.Steering, int64, error) {
	changes, mark, err := j.dir.Steering(j.mark)
	j.mark = mark
	return changes, mark, err
}

// host starts the workers of an iterative task.
type host struct {
	*runner
	output *os.File
	fork   bool
	seed   *uint64

	mu    sync.Mutex
	first *worker.Worker // started ahead; nil once it is used
	said  bool           // that the code cannot be forked
}

// maxStarts is how often it is tried to start a process when it dies before it has
// loaded the code: once may be an accident, such as a kill from outside.
const maxStarts = 3

// Start implements iterate.Host.
func (h *host) Start(ctx context.Context) (iterate.Process, error) {
	var died *worker.DiedError
	for try := 1; ; try++ {
		p, err := h.start(ctx)
		switch {
		case err == nil:
			return p, nil
		case !errors.As(err, &died) || died.Cause != nil:
			return nil, err
		case try == maxStarts || ctx.Err() != nil:
			return nil, fmt.Errorf("the process %s while it loaded the code, %d times", died.Exit, try)
		}
	}
}

func (h *host) start(ctx context.Context) (*process, error) {
	h.mu.Lock()
	w := h.first
	h.first = nil
	h.mu.Unlock()
	if w == nil {
		// A worker knows where its output is by the position of a file of its own.
		output, err := os.OpenFile(h.dir.Log(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open the log: %w", err)
		}
		w, err = h.worker(ctx, output)
		output.Close()
		if err != nil {
			return nil, err
		}
	}
	load := h.load(withoutSearch(h.launch.Run))
	load.Fork, load.Marks = h.fork, true
	if h.seed != nil { // modules that are imported later are seeded as well
		load.Env[SeedVariable] = strconv.FormatUint(*h.seed&math.MaxUint32, 10)
	}
	if _, err := w.Load(ctx, load); err != nil {
		return nil, errors.Join(err, w.Kill())
	}
	h.learn(w)
	single := h.fork && !w.Forks()
	if single {
		h.sayOnce("> the code has started threads, so an iteration gets a process of its own and not a fork of a loaded one\n")
	}
	return &process{Worker: w, host: h, single: single}, nil
}

// sayOnce adds a line to the log, the first time.
func (h *host) sayOnce(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.said {
		h.said = true
		_, _ = h.output.WriteString(line) // the log loses a remark, nothing else
	}
}

// SeedVariable is the variable by which the Python runtime learns of a seed.
const SeedVariable = "MILLRACE_SEED"

// withoutSearch is the run as an iteration sees it.
func withoutSearch(doc document.Object) document.Object {
	doc = document.Clone(doc)
	spec := document.Ensure(doc, "spec")
	for _, field := range []string{"hyperparams", "hyper_param_options", "param_file", "strategy", "selector"} {
		delete(spec, field)
	}
	return doc
}

// process is a worker that executes iterations.
type process struct {
	*worker.Worker
	host   *host
	single bool
	dead   bool // an iteration was told that the worker died; only for its goroutine

	mu    sync.Mutex
	calls []begun // the latest ones
}

type begun struct {
	iter int
	id   uint32
}

// maxBegun bounds the calls that a process remembers; it has far fewer at once.
const maxBegun = 64

// Single implements iterate.Process.
func (p *process) Single() bool { return p.single }

// Begin implements iterate.Process.
func (p *process) Begin(call iterate.Call, observe func(string, document.Object), ended func(iterate.Ending)) {
	id := p.Worker.BeginCall(
		worker.Call{Iter: call.Iter, Parameters: call.Parameters, Seed: call.Seed, Marks: true},
		func(event worker.Event) error {
			if event.Iter == call.Iter {
				observe(event.Type, event.Doc)
			}
			return nil
		},
		func(answer worker.Answer, err error) { ended(p.ending(answer, err)) },
	)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.calls) == maxBegun {
		p.calls = append(p.calls[:0], p.calls[maxBegun/2:]...)
	}
	p.calls = append(p.calls, begun{call.Iter, id})
}

func (p *process) ending(answer worker.Answer, err error) iterate.Ending {
	if err == nil {
		e := iterate.Ending{State: string(answer.State), Log: answer.Log, Own: answer.Own}
		if answer.Failure != nil {
			e.Error = answer.Failure.Message
		}
		return e
	}
	if p.dead {
		return iterate.Ending{Skipped: true}
	}
	p.dead = true
	text := err.Error()
	var died *worker.DiedError
	switch {
	case p.host.group.OOM():
		text = fmt.Sprintf("the process was killed: it used more than its memory limit of %d bytes; raise spec.resources.limits.memory", p.host.launch.Limits.Memory)
	case errors.As(err, &died) && died.Cause == nil:
		text = fmt.Sprintf("the process %s before the iteration ended", died.Exit)
	}
	return iterate.Ending{Died: true, Error: text}
}

// Interrupt implements iterate.Process.
func (p *process) Interrupt(iters ...int) {
	p.mu.Lock()
	var ids []uint32
	for _, iter := range iters {
		for i := len(p.calls) - 1; i >= 0; i-- {
			if p.calls[i].iter == iter {
				ids = append(ids, p.calls[i].id)
				break
			}
		}
	}
	p.mu.Unlock()
	p.Worker.Interrupt(ids...)
}

// Kill implements iterate.Process.
func (p *process) Kill() {
	if err := p.Worker.Kill(); err != nil {
		p.host.Logger.Error("kill process", "execution", p.host.launch.Execution, "error", err)
	}
}

// Close implements iterate.Process.
func (p *process) Close(ctx context.Context) {
	if _, err := p.Drain(ctx); err != nil {
		p.Kill()
		<-p.Done()
	}
}
