package local

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/control"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/digest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/kind"
	"github.com/millrace/millrace/internal/provenance"
	"github.com/millrace/millrace/internal/runner"
	"github.com/millrace/millrace/internal/spool"
)

// Environment variables by which the Python runtime learns of a seed and of a run
// that is repeated.
const (
	watchVariable = "MILLRACE_WATCH"
	hashVariable  = "PYTHONHASHSEED"
)

// HashSeed is what orders the hashes of strings in a run that says nothing about
// it: another one for each run, but known afterwards, so that a run can be repeated
// with sets in the same order.
func HashSeed(uid string) uint32 {
	sum := sha256.Sum256([]byte("hash seed " + uid))
	return binary.LittleEndian.Uint32(sum[:])
}

// HashSeedOf is what a worker that is started before its launch is known needs in
// its environment for HashSeed; nothing when the environment has one.
func HashSeedOf(uid string) []string {
	if _, inherited := os.LookupEnv(hashVariable); inherited {
		return nil
	}
	return []string{hashVariable + "=" + strconv.FormatUint(uint64(HashSeed(uid)), 10)}
}

// seed puts the run's seeds into the launch's environment, before what the function
// itself sets there.
// usual is the seed of hashes of a run that says nothing about it.
func seed(launch *spool.Launch, plan *kind.Plan, run document.Object, usual uint32) error {
	n, given, err := provenance.Seed(run)
	if err != nil {
		return err
	}
	hash := usual
	if repeated := document.Map(run, "spec", "rerun"); repeated != nil {
		launch.Env = append(slices.Clip(launch.Env), watchVariable+"=1")
		if recorded, ok := document.Int(repeated, "hash_seed"); ok {
			hash = uint32(recorded)
		}
	}
	if given {
		launch.Env = append(slices.Clip(launch.Env), runner.SeedVariable+"="+strconv.FormatInt(n, 10))
		hash = uint32(n)
	}
	_, inherited := os.LookupEnv(hashVariable)
	if !has(plan.Env, hashVariable) && (given || !inherited) {
		launch.Env = append(slices.Clip(launch.Env), hashVariable+"="+strconv.FormatUint(uint64(hash), 10))
	}
	return nil
}

func has(env []string, name string) bool {
	return slices.ContainsFunc(env, func(entry string) bool { return strings.HasPrefix(entry, name+"=") })
}

// interpreter is what the function asks for; a run that is repeated gets the version
// that it had, when that is to be had still.
func (p *Preparer) interpreter(ctx context.Context, plan *kind.Plan, run document.Object) (env.Interpreter, error) {
	if recorded := document.String(run, "spec", "rerun", "python"); recorded != "" {
		if interpreter, err := p.Interpreters.Select(ctx, recorded); err == nil {
			return interpreter, nil
		}
	}
	return p.Interpreters.Select(ctx, plan.PythonVersion)
}

// environment is what the function's requirements resolve to; a run that is
// repeated gets exactly the packages that it had.
func (p *Preparer) environment(ctx context.Context, plan *kind.Plan, run document.Object, interpreter env.Interpreter, progress func(control.Step)) (env.Environment, error) {
	say := func(step env.Progress) { progress(describe(step)) }
	requirements, err := env.ParseRequirements(plan.Requirements, plan.Folder)
	if err != nil {
		return env.Environment{}, err
	}
	wanted := document.String(run, "spec", "rerun", "lock")
	if wanted == "" {
		return p.Environments.Ensure(ctx, env.Request{Interpreter: interpreter, Requirements: requirements}, say)
	}
	lines, err := p.Environments.Locked(wanted)
	if err != nil {
		return env.Environment{}, err
	}
	exact, err := env.ParseRequirements(lines, plan.Folder)
	if err != nil {
		return env.Environment{}, err
	}
	environment, err := p.Environments.Ensure(ctx, env.Request{Interpreter: interpreter, Requirements: exact}, say)
	if err != nil {
		return env.Environment{}, fault.Precondition("the environment of the run %s cannot be rebuilt from its lock: %w", document.String(run, "spec", "rerun", "of"), err)
	}
	return environment, nil
}

// codeLimit bounds what is read of code that no document holds.
const codeLimit = 64 << 20

// record notes what is known before the execution about what makes it.
func (p *Preparer) record(ctx context.Context, launch *spool.Launch, plan *kind.Plan, run document.Object, environment env.Environment) error {
	record := document.Object{"millrace": p.Version, "environment": surroundings(environment)}
	content, complete, err := outside(ctx, plan)
	if err != nil {
		return err
	}
	if complete {
		record["code"] = plan.Code.Digest(content)
	}
	if names := plan.Code.Outside(); len(names) > 0 {
		list := make([]any, len(names))
		for i, name := range names {
			list[i] = name
		}
		record["code_outside"] = list
	}
	n, given, source := provenance.NotedSeed(run)
	record["seed"] = nil
	if given {
		record["seed"], record["seed_from"] = n, source
	}
	for _, entry := range slices.Backward(launch.Env) {
		if value, ok := strings.CutPrefix(entry, hashVariable+"="); ok {
			if hash, err := strconv.ParseUint(value, 10, 32); err == nil {
				record["hash_seed"] = int64(hash)
			}
			break
		}
	}
	if of := document.String(run, "spec", "rerun", "of"); of != "" {
		record["rerun_of"] = of
	}
	if plan.Cache != provenance.CacheOff {
		record["cache"] = p.cached(ctx, launch, plan, run, record)
	}
	launch.Provenance = document.Encode(record)
	return nil
}

// cached is what is recorded of the cache: the key and the inputs that it stands
// for, or why there is none.
func (p *Preparer) cached(ctx context.Context, launch *spool.Launch, plan *kind.Plan, run, record document.Object) document.Object {
	inputs, sums := document.Object{}, document.Object{}
	for key, value := range document.Map(run, "spec", "inputs") {
		url, _ := value.(string)
		name, entry := runner.Input(ctx, run, "", key, url)
		if document.String(entry, "digest") == "" && strings.Contains(url, "://") && !strings.HasPrefix(url, "file://") {
			entry = runner.Remote(ctx, p.stores(launch), url)
		}
		inputs[name], sums[name] = entry, provenance.Identity(entry)
	}
	cacheable := provenance.Cacheable{
		Record: record, Run: run, Handler: plan.Handler, Inputs: inputs,
		Python: plan.Mode != spool.ModeCommand, Variable: plan.Variable,
	}
	if !cacheable.Python {
		cacheable.Program = program(ctx, launch)
	}
	key, refused := provenance.Key(cacheable)
	if key == "" {
		return document.Object{"refused": refused}
	}
	out := document.Object{"key": key, "inputs": sums}
	if plan.Cache == provenance.CacheRefresh {
		out["refresh"] = true
	}
	return out
}

// stores are those that an execution without secrets of its own gets to: others have
// no key.
func (p *Preparer) stores(launch *spool.Launch) *datastore.Stores {
	environ := map[string]string{}
	for _, entry := range append(Environment(os.Environ()), launch.Env...) {
		name, value, _ := strings.Cut(entry, "=")
		environ[name] = value
	}
	options := datastore.Options{Lookup: runner.Lookup(environ), Dir: "/"}
	if p.Resolver != nil {
		options.Resolver = p.Resolver(launch.Project)
	}
	return datastore.New(options)
}

// program describes what a command executes besides the function's own code: for
// which system, and the digests of the executable and of the files that its
// arguments name. nil when the executable cannot be found or read.
func program(ctx context.Context, launch *spool.Launch) []string {
	out := []string{runtime.GOOS + "/" + runtime.GOARCH}
	for i, word := range launch.Command {
		path := word
		switch {
		case strings.HasPrefix(word, kind.CodeFile): // the code has a digest of its own
			continue
		case i == 0 && !strings.Contains(word, "/"):
			var err error
			if path, err = exec.LookPath(word); err != nil {
				return nil
			}
		case !filepath.IsAbs(word):
			if i == 0 && launch.Bundle == "" {
				return nil
			}
			continue // of the bundle, which has a digest of its own
		}
		sum, _, err := digest.Path(ctx, path, programLimit)
		switch {
		case err == nil:
			out = append(out, sum)
		case i == 0:
			return nil
		}
	}
	return out
}

// programLimit bounds what is read of an executable.
const programLimit = 1 << 30

// outside is the digest of the code that the function only points at; complete is
// false when it is too much to read.
func outside(ctx context.Context, plan *kind.Plan) (content string, complete bool, err error) {
	path := plan.Bundle
	switch _, embedded := plan.Files[plan.File]; {
	case path != "":
		if known := function.BundleDigest(path); known != "" {
			return known, true, nil
		}
	case plan.Folder != "":
		path = plan.Folder
	case plan.File != "" && !embedded:
		path = plan.File
	default:
		return "", true, nil
	}
	if !filepath.IsAbs(path) {
		return "", false, nil // it is looked for where the execution works
	}
	content, _, err = digest.Path(ctx, path, codeLimit)
	if ctx.Err() != nil {
		return "", false, err
	}
	return content, err == nil, nil // what is wrong with it the execution will say
}

// surroundings describes the packages that the code can import: those of its own
// environment, or those that are installed for the plain interpreter.
func surroundings(environment env.Environment) document.Object {
	version := environment.Interpreter.Version.String()
	if environment.Interpreter.Executable == "" {
		return document.Object{}
	}
	if environment.Path != "" {
		return document.Object{"python": version, "lock": environment.LockDigest, "packages": len(environment.Lock)}
	}
	installed := environment.Interpreter.Installed()
	return document.Object{
		"python": version, "lock": digest.Of([]byte(strings.Join(installed, "\n"))), "packages": len(installed), "shared": true,
	}
}
