package kind

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/function"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/spool"
)

// Service says how a function is served. Revision lacks what only a machine can
// tell: number and hash, interpreter and environment, where a bundle is, the values
// of secrets.
type Service struct {
	Plan
	Revision realtime.Revision
	Front    Front
	Port     int // that the function asks for its own address; 0 for any
}

// Front is what holds for a function's addresses, whatever revision answers.
type Front struct {
	CORS   *realtime.CORS
	Limits realtime.Limits
	TLS    *realtime.TLS
	// Keys and Basic are names of the project's secrets that hold who may send events:
	// keys, one a line, and USER:PASSWORD, one a line. Both "" let everybody.
	Keys, Basic string
}

// Auth is what the values of the secrets Keys and Basic say; nil lets everybody send.
// fault.CodePrecondition for a secret that holds nothing of use.
func (f Front) Auth(values map[string]string) (*realtime.Auth, error) {
	if f.Keys == "" && f.Basic == "" {
		return nil, nil
	}
	auth := &realtime.Auth{Keys: strings.Fields(values[f.Keys])}
	if f.Keys == "" {
		auth.Keys = nil
	}
	if f.Keys != "" && len(auth.Keys) == 0 {
		return nil, fault.Precondition("the function's keys are in the secret %s, which the project does not have or which is empty; run: millrace secret set %s", f.Keys, f.Keys)
	}
	if f.Basic == "" {
		return auth, nil
	}
	auth.Basic = map[string]string{}
	for line := range strings.Lines(values[f.Basic]) {
		user, password, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && user != "" && password != "" {
			auth.Basic[user] = password
		}
	}
	if len(auth.Basic) == 0 {
		return nil, fault.Precondition("the function's users are in the secret %s, which has no line USER:PASSWORD; run: millrace secret set %s", f.Basic, f.Basic)
	}
	return auth, nil
}

// Sub-kinds of kind nuclio (spec.function_kind).
const (
	subkindMLRun     = "mlrun"
	subkindServing   = "serving"
	subkindServingV2 = "serving_v2"
)

// Deploy plans how a function is served. Errors carry fault.CodeInvalid, or
// fault.CodeNotSupported, and say which field is wrong.
func Deploy(f *function.Function) (*Service, error) {
	if !f.Kind().Nuclio() {
		return nil, fault.Invalid("Runtime kind %s is not a nuclio runtime: functions of this kind are run, not deployed; use kind nuclio or application", f.Kind())
	}
	sub := document.String(f.Doc, "spec", "function_kind")
	if f.Kind() == function.KindServing || sub == subkindServing || sub == subkindServingV2 {
		return nil, fault.Invalid("serving graphs are not deployed by this version; run them in your process with fn.deploy(mock=True) or fn.to_mock_server(), or write a handler of kind nuclio")
	}
	spec, err := f.Spec()
	if err != nil {
		return nil, err
	}
	if err := spec.Check(); err != nil {
		return nil, err
	}
	config, err := configOf(f)
	if err != nil {
		return nil, err
	}
	s := &Service{Plan: Plan{
		Workdir: spec.Workdir, PythonVersion: spec.PythonVersion, Requirements: spec.Requirements, Commands: spec.Commands,
		Files: map[string][]byte{}, Path: split(spec.PythonPath), Secrets: secrets(spec, nil),
	}}
	for _, env := range spec.Env {
		s.Env = append(s.Env, env.Name+"="+env.Value)
	}
	if f.Verbose() {
		s.Env = append(s.Env, "MLRUN_LOG_LEVEL=DEBUG")
	}
	s.Revision.Project, s.Revision.Name, s.Revision.Tag, s.Revision.Kind = f.Project(), f.Name(), f.Tag(), "nuclio"
	s.Revision.Description = cmp.Or(document.String(f.Doc, "spec", "description"), document.String(config, "description"))
	if err := s.source(spec.Source); err != nil {
		return nil, err
	}
	if f.Kind() == function.KindApplication {
		s.Revision.Kind = "application"
		err = s.application(f, spec, config)
	} else {
		if sub == subkindMLRun {
			s.Revision.Kind = realtime.KindJobs
		}
		err = s.handler(f, spec, config)
	}
	if err == nil {
		err = s.resources(spec)
	}
	if err == nil {
		err = s.scaling(f, config)
	}
	if err == nil {
		s.Revision.NoHTTP = document.Bool(config, "disableDefaultHTTPTrigger") || document.Bool(f.Doc, "spec", "disable_default_http_trigger")
		err = s.triggers(config)
	}
	if err == nil && s.Revision.Mode == realtime.ModeCommand {
		err = s.httpOnly()
	}
	if err == nil {
		err = alone(f, config)
	}
	if err == nil {
		s.Revision.LogLevel, err = logLevel(config)
	}
	if err != nil {
		return nil, err
	}
	return s, s.check()
}

// check refuses what no processor would serve, as far as it is known.
func (s *Service) check() error {
	probe := s.Revision
	probe.Number, probe.Python, probe.Runtime = 1, "python", "runtime"
	probe.Project, probe.Name = "project", cmp.Or(probe.Name, "function")
	return probe.Check()
}

// configOf is the configuration in Nuclio's words: spec.base_spec.spec with the
// flat paths of spec.config laid over it.
func configOf(f *function.Function) (document.Object, error) {
	out := document.Object{}
	if base := document.Map(f.Doc, "spec", "base_spec", "spec"); base != nil {
		out = document.Clone(base)
	}
	flat := document.Map(f.Doc, "spec", "config")
	for _, path := range slices.Sorted(maps.Keys(flat)) {
		rest, ok := strings.CutPrefix(path, "spec.")
		if !ok {
			continue // metadata.*: labels and annotations of objects that do not exist here
		}
		keys := strings.Split(rest, ".")
		if keys[0] == "triggers" && len(keys) > 2 { // a trigger's name may have dots
			keys = []string{"triggers", strings.Join(keys[1:], ".")}
		}
		document.Set(out, flat[path], keys...)
	}
	if _, err := document.Want[document.Object](out, "triggers"); err != nil {
		return nil, fault.Invalid("spec.config: %w", err)
	}
	return out, nil
}

// handler decides what workers call.
func (s *Service) handler(f *function.Function, spec function.Spec, config document.Object) error {
	if spec.Language == function.LanguageGo && (spec.Code != nil || s.Folder != "" || s.Bundle != "") {
		s.Revision.Mode, s.Revision.Command, s.Go = realtime.ModeProgram, []string{CodeFile}, true
		if spec.Code != nil {
			s.Files["code/main.go"] = spec.Code
		}
		return nil
	}
	if spec.Language != function.LanguagePython {
		return fault.Invalid("the code is %s, and this version deploys handlers in Python and Go; a program in any language that serves HTTP is deployed with kind application", spec.Language)
	}
	text := document.String(f.Doc, "spec", "function_handler")
	if text == "" {
		text = document.String(config, "handler")
	}
	if text == "" && spec.DefaultHandler != "" && s.Revision.Kind == "nuclio" {
		text = spec.DefaultHandler
	}
	if dir, rest, ok := strings.Cut(text, "#"); ok { // workdir#module:function
		text = rest
		if s.Workdir == "" {
			s.Workdir = dir
		}
	}
	module, name, ok := strings.Cut(text, ":")
	if !ok {
		module, name = "", text
		if at := strings.LastIndexByte(text, '.'); at >= 0 {
			module, name = text[:at], text[at+1:]
		}
	}
	if s.Revision.Kind == realtime.KindJobs && spec.DefaultHandler != "" {
		name = spec.DefaultHandler // what function_handler names the SDK has appended to the code
	}
	if name == "" {
		name = "handler"
	}
	s.Revision.Mode = realtime.ModeHandler
	switch command, _, _ := strings.Cut(spec.Command, " "); {
	case spec.Code != nil:
		s.File = "code/" + pythonName(spec.OriginFilename)
		s.Files[s.File] = spec.Code
		s.Revision.Handler = name // the code is the module, whatever the handler calls it
	case s.Folder != "" || s.Bundle != "":
		if module == "" {
			module = "main"
		}
		s.Revision.Handler = strings.ReplaceAll(strings.TrimSuffix(module, ".py"), "/", ".") + ":" + name
	case strings.HasSuffix(command, ".py") && !strings.Contains(command, "://"):
		s.File, s.Revision.Handler = command, name
		if !filepath.IsAbs(s.File) && s.Workdir != "" {
			s.File = filepath.Join(s.Workdir, s.File)
		}
	default:
		return fault.Invalid("the function has no code: set spec.build.functionSourceCode, or spec.build.source to a folder or an archive on this machine")
	}
	return nil
}

// pythonName is the name of a code file that was name where it came from.
func pythonName(name string) string {
	name = filepath.Base(filepath.ToSlash(name))
	if name == "." || name == "/" {
		name = "main"
	}
	return strings.TrimSuffix(name, filepath.Ext(name)) + ".py"
}

// defaultApplicationPort is where applications listen that name no port; clients
// always send it.
const defaultApplicationPort = 8050

// application decides which program serves.
func (s *Service) application(f *function.Function, spec function.Spec, config document.Object) error {
	s.Revision.Mode = realtime.ModeCommand
	port := int64(defaultApplicationPort)
	if given, ok := document.Int(f.Doc, "spec", "internal_application_port"); ok {
		port = given
	}
	command := spec.Args
	if spec.Command != "" && !strings.Contains(spec.Command, "://") { // clients put the address of what they deployed there
		words, err := function.FormatCommand(spec.Command, nil)
		if err != nil {
			return err
		}
		command = append(words, command...)
	} else {
		command = nil
	}
	sidecars := document.List(config, "sidecars")
	if len(sidecars) > 0 && spec.Language == function.LanguageGo {
		spec.Code = nil // the proxy that clients put before the sidecar; the engine is one
	}
	for _, item := range sidecars {
		sidecar, _ := item.(document.Object)
		if words := append(texts(sidecar["command"]), texts(sidecar["args"])...); len(texts(sidecar["command"])) > 0 {
			command = words
		}
		for _, item := range document.List(sidecar, "ports") {
			if one, ok := item.(document.Object); ok {
				if given, ok := document.Int(one, "containerPort"); ok {
					port = given
				}
			}
		}
	}
	if spec.Language == function.LanguageGo && (spec.Code != nil || s.Folder != "" || s.Bundle != "") && len(command) == 0 {
		s.Go = true
		if spec.Code != nil {
			s.Files["code/main.go"] = spec.Code
		}
		s.Revision.Command = []string{CodeFile}
		return nil
	}
	if spec.Code != nil {
		name := "code/" + filepath.Base(filepath.ToSlash(spec.OriginFilename))
		if spec.Language == function.LanguagePython {
			name = "code/" + pythonName(spec.OriginFilename)
		}
		s.File = name
		s.Files[name] = spec.Code
		if len(command) == 0 {
			interpreter := "python"
			if spec.Language == function.LanguageShell {
				interpreter = "bash"
			}
			command = []string{interpreter, CodeFile}
		}
	}
	if len(command) == 0 {
		return fault.Invalid("the application has no command: name the program that serves HTTP on $PORT, with its arguments, in spec.command and spec.args (an image alone is not enough on one machine)")
	}
	s.Revision.Command = command
	if port < 0 || port > 65535 {
		return fault.Invalid("spec.internal_application_port: %d is not a port", port)
	}
	// A program that is told the port can be told any, so that several of it can run
	// and one can replace another; one that is not, and has a port, insists on it.
	fixed, told := strconv.FormatInt(port, 10), false
	for i, word := range command {
		var changed bool
		command[i], changed = withVariable(word, fixed)
		told = told || changed || strings.Contains(word, "PORT")
	}
	told = told || slices.ContainsFunc(s.Env, func(entry string) bool { return entry == "PORT="+fixed })
	inEnv := slices.ContainsFunc(s.Env, func(entry string) bool {
		return strings.HasSuffix(entry, "="+fixed) && !strings.HasPrefix(entry, "SIDECAR_PORT=")
	})
	if !told && (inEnv || port != defaultApplicationPort) {
		s.Revision.Port = int(port)
	}
	return nil
}

// logLevel is from which level on records are written: the lowest of those of the sinks,
// which are all the function's log here.
func logLevel(config document.Object) (string, error) {
	levels, lowest := []string{"debug", "info", "warn", "error"}, -1
	for _, item := range document.List(config, "loggerSinks") {
		sink, _ := item.(document.Object)
		text := strings.ToLower(document.String(sink, "level"))
		at := slices.Index(levels, strings.Replace(text, "warning", "warn", 1))
		if text != "" && at < 0 {
			return "", fault.Invalid("spec.loggerSinks: the level %q is none of debug, info, warn and error", text)
		}
		if at >= 0 && (lowest < 0 || at < lowest) {
			lowest = at
		}
	}
	if lowest < 0 {
		return "", nil
	}
	return levels[lowest], nil
}

// alone refuses containers beside the function's: nobody would start them.
func alone(f *function.Function, config document.Object) error {
	beside := []string{"sidecars", "initContainers"}
	if f.Kind() == function.KindApplication {
		beside = beside[1:] // its sidecar is the program
		if sidecars := document.List(config, "sidecars"); len(sidecars) > 1 {
			return fault.Invalid("spec.sidecars: an application on one machine is one program, not %d; deploy each as an application of its own", len(sidecars))
		}
	}
	for _, field := range beside {
		if len(document.List(config, field)) > 0 {
			return fault.Invalid("spec.%s: containers beside the function's are made on Kubernetes only; deploy the program as a function of kind application, or leave them away", field)
		}
	}
	return nil
}

// httpOnly refuses triggers that a program cannot be called by.
func (s *Service) httpOnly() error {
	if s.Revision.NoHTTP && len(s.Revision.Triggers) == 0 {
		return fault.Invalid("an application answers HTTP, so that its http trigger can not be disabled; leave disable_default_http_trigger away")
	}
	for _, t := range s.Revision.Triggers {
		if t.Kind != realtime.TriggerHTTP {
			return fault.Invalid("the trigger %s: applications take requests over HTTP only; a handler of kind nuclio can have triggers of kind %s", t.Name, t.Kind)
		}
	}
	return nil
}

// withVariable puts the variable of the port in place of its number, where that
// stands in word as a whole.
func withVariable(word, number string) (changed string, ok bool) {
	digit := func(i int) bool { return i >= 0 && i < len(word) && word[i] >= '0' && word[i] <= '9' }
	for from := 0; ; {
		at := strings.Index(word[from:], number)
		if at < 0 {
			return word, ok
		}
		at += from
		if from = at + len(number); digit(at-1) || digit(from) {
			continue
		}
		word = word[:at] + "${PORT}" + word[from:]
		from, ok = at+len("${PORT}"), true
	}
}

func texts(value any) []string {
	switch v := value.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		var out []string
		for _, item := range v {
			if text, ok := item.(string); ok {
				out = append(out, text)
			} else {
				out = append(out, string(document.Encode(item)))
			}
		}
		return out
	}
	return nil
}

// resources are the limits of all workers together.
func (s *Service) resources(spec function.Spec) error {
	if err := s.Plan.resources(spec); err != nil {
		return err
	}
	if s.GPUs > 0 {
		return fault.Invalid("spec.resources.limits: GPUs are not given to deployed functions by this version; run the function as a job, or leave the limit away to share the GPUs of the machine")
	}
	s.Revision.CPU, s.Revision.Memory, s.Revision.Pids = s.Limits.CPU, s.Limits.Memory, s.Limits.Pids
	s.Limits = spool.Limits{}
	return nil
}

// scaling reads replicas and times.
func (s *Service) scaling(f *function.Function, config document.Object) error {
	s.Revision.Replicas = realtime.Replicas{Min: 1, Max: 1}
	for _, field := range []struct {
		own, nuclio string
		into        *int
	}{{"min_replicas", "minReplicas", &s.Revision.Replicas.Min}, {"max_replicas", "maxReplicas", &s.Revision.Replicas.Max}} {
		given, ok := document.Int(config, field.nuclio)
		if own, has := document.Int(f.Doc, "spec", field.own); has {
			given, ok = own, true
		}
		if !ok {
			continue
		}
		if given < 0 || given > 1000 {
			return fault.Invalid("spec.%s: %d is not a number of replicas from 0 to 1000", field.own, given)
		}
		*field.into = int(given)
	}
	if count, ok := document.Int(config, "replicas"); ok && count > 0 {
		s.Revision.Replicas = realtime.Replicas{Min: int(count), Max: int(count)}
	}
	if r := s.Revision.Replicas; r.Max < r.Min {
		if _, given := document.Int(f.Doc, "spec", "max_replicas"); given {
			return fault.Invalid("spec.min_replicas %d is more than spec.max_replicas %d", r.Min, r.Max)
		}
		s.Revision.Replicas.Max = r.Min
	}
	if seconds, ok := document.Int(config, "readinessTimeoutSeconds"); ok && seconds > 0 {
		s.Revision.ReadyTimeout = time.Duration(seconds) * time.Second
	}
	s.Revision.Patient = document.Bool(config, "waitReadinessTimeoutBeforeFailure")
	if seconds, ok := document.Int(f.Doc, "spec", "readiness_timeout"); ok && seconds > 0 {
		s.Revision.ReadyTimeout = time.Duration(seconds) * time.Second
	}
	var err error
	if s.Revision.EventTimeout, err = duration(config, "spec.eventTimeout", "eventTimeout"); err != nil {
		return err
	}
	for _, item := range document.List(config, "scaleToZero", "scaleResources") {
		resource, _ := item.(document.Object)
		if s.Revision.IdleToZero, err = duration(resource, "spec.scaleToZero.scaleResources.windowSize", "windowSize"); err != nil {
			return err
		}
	}
	return nil
}

// duration reads a duration at path, 0 when there is none.
func duration(object document.Object, name string, path ...string) (time.Duration, error) {
	text := document.String(object, path...)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fault.Invalid("%s: %q is not a duration such as 500ms, 30s or 10m", name, text)
	}
	return d, nil
}
