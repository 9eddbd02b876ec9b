package local

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
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
	"github.com/millrace/millrace/internal/lazyregexp"
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
	hash, exact := usual, given
	if repeated := document.Map(run, "spec", "rerun"); repeated != nil {
		launch.Env = append(slices.Clip(launch.Env), watchVariable+"=1")
		if recorded, ok := document.Int(repeated, "hash_seed"); ok {
			hash, exact = uint32(recorded), true
		}
	}
	if given {
		launch.Env = append(slices.Clip(launch.Env), runner.SeedVariable+"="+strconv.FormatInt(n, 10))
		hash = uint32(n)
	}
	_, inherited := os.LookupEnv(hashVariable)
	if !has(plan.Env, hashVariable) && (exact || !inherited) {
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
	places := elsewhere(launch, plan, environment)
	if len(places) > 0 {
		names := slices.Sorted(maps.Keys(places))
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
	if hash, err := strconv.ParseUint(variable(launch, hashVariable), 10, 32); err == nil {
		record["hash_seed"] = int64(hash)
	}
	if len(plan.Secrets) > 0 {
		names := make([]any, len(plan.Secrets))
		for i, one := range plan.Secrets {
			names[i] = one.Name
		}
		record["secrets"] = names
	}
	if of := document.String(run, "spec", "rerun", "of"); of != "" {
		record["rerun_of"] = of
	}
	if plan.Cache != provenance.CacheOff {
		record["cache"] = p.cached(ctx, launch, plan, run, record, places, environment)
	}
	launch.Provenance = document.Encode(record)
	return nil
}

// cached is what is recorded of the cache: the key and the inputs that it stands
// for, or why there is none.
func (p *Preparer) cached(
	ctx context.Context, launch *spool.Launch, plan *kind.Plan, run, record document.Object, places map[string][]string, environment env.Environment,
) document.Object {
	inputs, sums := document.Object{}, document.Object{}
	for key, value := range document.Map(run, "spec", "inputs") {
		url, _ := value.(string)
		name, entry := runner.Input(ctx, run, "", key, url)
		if document.String(entry, "digest") == "" && strings.Contains(url, "://") && !strings.HasPrefix(url, "file://") {
			entry = runner.Remote(ctx, p.stores(launch), url)
		}
		if entry["suffix"] == nil {
			entry["suffix"] = suffix(url)
		}
		_, hint, _ := strings.Cut(key, ":")
		entry["type"] = strings.TrimSpace(hint)
		inputs[name], sums[name] = entry, provenance.Identity(entry)
	}
	cacheable := provenance.Cacheable{
		Record: record, Run: run, Handler: plan.Handler, Inputs: inputs, Outside: document.Object{},
		Python: plan.Mode != spool.ModeCommand, Variable: plan.Variable, System: runtime.GOOS + "/" + runtime.GOARCH,
	}
	for name, folders := range places {
		read := digest.Code
		if name == beside {
			read = digest.Modules
		}
		cacheable.Outside[name] = sum(ctx, folders, read)
	}
	if cacheable.Python {
		cacheable.System += " " + environment.Interpreter.ABI
		if environment.Path == "" {
			cacheable.Outside["modules without a version"] = digest.Of([]byte(strings.Join(environment.Interpreter.Loose(), "\n")))
		}
	} else {
		cacheable.Program = program(ctx, launch)
	}
	environ, secret := depends(launch, plan)
	if secret != "" {
		return document.Object{"refused": "the code names the variable " + secret + ", whose value is no part of a key"}
	}
	cacheable.Environ = environ
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

// suffix is the ending of a name, by which code decides how to read it.
func suffix(url string) string {
	if strings.Contains(url, "://") {
		url, _, _ = strings.Cut(url, "?")
	}
	return filepath.Ext(url)
}

// elsewhere is where code may come from that the code digest does not cover: what
// says so → the folders and files.
func elsewhere(launch *spool.Launch, plan *kind.Plan, environment env.Environment) map[string][]string {
	out := map[string][]string{}
	for _, name := range plan.Code.Outside() {
		switch name {
		case "spec.workdir":
			out[name] = []string{plan.Workdir}
		default:
			out[name] = plan.Path
		}
	}
	if plan.Mode == spool.ModeCommand {
		return out
	}
	if value := variable(launch, "PYTHONPATH"); value != "" {
		out["PYTHONPATH"] = strings.Split(value, ":")
	}
	if _, embedded := plan.Files[plan.File]; !embedded && plan.Bundle == "" && plan.Folder == "" && filepath.IsAbs(plan.File) {
		if folder := filepath.Dir(plan.File); accompanied(plan.File) {
			out[beside] = []string{folder}
		}
	}
	if environment.Path == "" && environment.Interpreter.Executable != "" {
		for _, folder := range environment.Interpreter.Linked() {
			out[folder+" (installed as it is there)"] = []string{folder}
		}
	}
	return out
}

// accompanied reports whether there are modules beside a file that it could import.
func accompanied(file string) bool {
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		return false
	}
	for _, entry := range entries {
		name := entry.Name()
		switch ext := filepath.Ext(name); {
		case name == filepath.Base(file):
		case ext == ".py" || ext == ".so" || ext == ".pyc":
			return true
		case entry.IsDir() || entry.Type()&os.ModeSymlink != 0:
			if modules, _ := filepath.Glob(filepath.Join(escape(filepath.Join(filepath.Dir(file), name)), "*.py")); len(modules) > 0 {
				return true
			}
		}
	}
	return false
}

// escape makes a path a pattern of filepath.Match that matches it alone.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// beside names the folder of a file that the function points at.
const beside = "the folder of spec.command"

// sum is the digest of what is in folders, "" when that is too much to read.
func sum(ctx context.Context, folders []string, read func(context.Context, string, int64) (string, error)) string {
	var all []byte
	for _, folder := range folders {
		content := "relative" // to where the execution works, which is empty or covered
		if filepath.IsAbs(folder) {
			var err error
			content, err = read(ctx, folder, codeLimit)
			if errors.Is(err, fs.ErrNotExist) {
				content, err = "missing", nil
			}
			if err != nil {
				return ""
			}
		}
		all = append(append(all, content...), '\n')
	}
	return digest.Of(all)
}

// variable is the value that an execution has for a variable, "" for none.
func variable(launch *spool.Launch, name string) string {
	for _, entry := range slices.Backward(launch.Env) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return os.Getenv(name)
}

// depends are the variables of the surroundings on which an execution is known to
// depend: what Python and the C library read, and those that the code names. Those
// of the function itself are part of its code digest. secret is the name of one
// whose value has no place in a key.
func depends(launch *spool.Launch, plan *kind.Plan) (environ document.Object, secret string) {
	environ = document.Object{}
	candidates := map[string]string{}
	for _, entry := range Environment(os.Environ()) {
		name, value, _ := strings.Cut(entry, "=")
		switch {
		case len(name) < 2 || has(launch.Env, name):
		case name == "PYTHONUNBUFFERED", name == "PYTHONDONTWRITEBYTECODE", name == "PYTHONFAULTHANDLER":
			candidates[name] = value // they change no result of code that does not ask for them
		case strings.HasPrefix(name, "PYTHON"), strings.HasPrefix(name, "LC_"), name == "TZ", name == "LANG", name == "LANGUAGE":
			environ[name] = value
		default:
			candidates[name] = value
		}
	}
	for _, name := range named(plan, candidates) {
		if environ[name] = candidates[name]; secretName.MatchString(name) {
			secret = name
		}
	}
	return environ, secret
}

var secretName = lazyregexp.New(`(?i)passw|secret|token|credential|api_?key|access_?key|private_?key`)

// named are the candidates whose names occur as words in the code.
func named(plan *kind.Plan, candidates map[string]string) []string {
	found := map[string]bool{}
	look := func(r io.Reader) {
		words := bufio.NewScanner(io.LimitReader(r, codeLimit))
		words.Split(word)
		for words.Scan() {
			if _, ok := candidates[string(words.Bytes())]; ok {
				found[words.Text()] = true
			}
		}
	}
	open := func(path string, unpack bool) {
		file, err := os.Open(path)
		if err != nil {
			return
		}
		defer file.Close()
		if !unpack {
			look(file)
		} else if unpacked, err := gzip.NewReader(file); err == nil {
			look(unpacked) // an archive's other bytes name nothing
		}
	}
	for _, content := range plan.Files {
		look(bytes.NewReader(content))
	}
	switch {
	case plan.Bundle != "":
		open(plan.Bundle, true)
	case plan.Folder != "":
		_ = filepath.WalkDir(plan.Folder, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				open(path, false)
			}
			return nil
		})
	case filepath.IsAbs(plan.File):
		open(plan.File, false)
	}
	return slices.Collect(maps.Keys(found))
}

// maxWord is the longest name of a variable that is looked for.
const maxWord = 256

// word splits text into names.
func word(data []byte, atEOF bool) (advance int, token []byte, err error) {
	begin := bytes.IndexFunc(data, inName)
	if begin < 0 {
		return len(data), nil, nil
	}
	length := bytes.IndexFunc(data[begin:], func(r rune) bool { return !inName(r) })
	switch {
	case length >= 0:
		return begin + length, data[begin : begin+length], nil
	case atEOF:
		return len(data), data[begin:], nil
	case len(data)-begin > maxWord:
		return len(data), nil, nil
	}
	return begin, nil, nil
}

func inName(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
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
	version := environment.Interpreter.Release()
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
