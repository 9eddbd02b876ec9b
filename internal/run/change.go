package run

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// keptOnReplace are the fields that only the server knows. A client that stores
// the whole run again, as an SDK context does when it starts, leaves them out, and
// that does not mean that they are gone.
var keptOnReplace = [][]string{
	{"status", "status_text"},
	{"status", "abort_task_id"},
	{"status", "retry_count"},
	{"status", "attempts"},
	{"status", "limits"},
	{"status", "millrace"},
	{"status", "provenance"},
}

// outcome are the fields that explain a state. They go with the state: when a
// change of state is refused, so is its explanation.
var outcome = []string{"error", "reason", "status_text", "end_time"}

// Replace returns the document to keep when a client stores body as the whole run
// (old is nil for a new one; neither is changed):
//
//   - metadata.name is required and may not differ from old's;
//   - identity (project, uid, iteration) is that of key;
//   - status.state: what body says, as far as Transition allows; a body without
//     one says nothing, so old's stays, and a new run is created;
//   - status.start_time: body's, else old's, else now; status.last_update is now;
//   - status.artifacts become entries of status.artifact_uris;
//   - the fields in keptOnReplace stay when body does not have them;
//   - plain secret parameters of notifications are redacted.
//
// Errors carry fault.CodeInvalid and name the field.
func Replace(old, body document.Object, key Key, now time.Time) (document.Object, error) {
	if err := key.Validate(); err != nil {
		return nil, err
	}
	doc := document.Clone(body)
	if doc == nil {
		doc = document.Object{}
	}
	if err := checkShape(doc); err != nil {
		return nil, err
	}
	metadata, status := document.Ensure(doc, "metadata"), document.Ensure(doc, "status")
	document.Ensure(doc, "spec")
	if _, ok := doc["kind"].(string); !ok {
		doc["kind"] = "run"
	}
	if err := ValidateName(document.String(metadata, "name")); err != nil {
		return nil, err
	}
	if err := sameName(old, doc); err != nil {
		return nil, err
	}
	metadata["project"], metadata["uid"], metadata["iteration"] = key.Project, key.UID, key.Iter
	for _, path := range keptOnReplace {
		if kept := document.Get(old, path...); kept != nil && document.Get(doc, path...) == nil {
			document.Set(doc, document.Clone(kept), path...)
		}
	}
	if list := document.List(status, "artifacts"); list != nil {
		uris := document.Ensure(status, "artifact_uris")
		addURIs(uris, list, key.Project)
	}
	delete(status, "artifacts")
	redactNotifications(doc)
	redactSecrets(doc)
	return doc, settle(old, doc, now)
}

// Update returns the document to keep when a client changes parts of the run:
// updates maps dotted paths (document.SplitPath) to the values that replace what
// is there. What holds for Replace holds here; status.artifacts replaces
// status.artifact_uris as a whole. Neither argument is changed. Errors carry
// fault.CodeInvalid and name the field.
func Update(old, updates document.Object, now time.Time) (document.Object, error) {
	doc := document.Clone(old)
	// Shorter paths first, so that an update of "status" does not undo one of
	// "status.state" in the same request.
	paths := make([]string, 0, len(updates))
	for path := range updates {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, func(a, b string) int {
		if n := len(document.SplitPath(a)) - len(document.SplitPath(b)); n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	for _, path := range paths {
		if len(document.SplitPath(path)) > document.MaxDepth {
			return nil, fault.Invalid("the path %q has more than %d parts", clip(path), document.MaxDepth)
		}
		document.SetPath(doc, path, document.Clone(updates[path]))
	}
	if err := checkShape(doc); err != nil {
		return nil, err
	}
	metadata, status := document.Ensure(doc, "metadata"), document.Ensure(doc, "status")
	if err := sameName(old, doc); err != nil {
		return nil, err
	}
	for _, field := range []string{"name", "project", "uid", "iteration"} {
		if value := document.Get(old, "metadata", field); value != nil {
			metadata[field] = value
		}
	}
	if list, ok := status["artifacts"].([]any); ok {
		uris := document.Object{}
		addURIs(uris, list, document.String(metadata, "project"))
		status["artifact_uris"] = uris
	}
	delete(status, "artifacts")
	redactNotifications(doc)
	redactSecrets(doc)
	return doc, settle(old, doc, now)
}

// merged maps the keys of an emission to where they belong in the run.
var merged = map[string][]string{
	"results":       {"status", "results"},
	"artifact_uris": {"status", "artifact_uris"},
	"labels":        {"metadata", "labels"},
	"annotations":   {"metadata", "annotations"},
	"parameters":    {"spec", "parameters"},
	"inputs":        {"spec", "inputs"},
}

// Merge brings what the run's own process emitted into doc, in place, key by key:
// emission may have the objects results, artifact_uris, labels, annotations,
// parameters and inputs; other keys, and values of other types, are not looked at.
// So two writers of one run do not undo each other.
func Merge(doc, emission document.Object) {
	for field, path := range merged {
		values := document.Map(emission, field)
		if len(values) == 0 {
			continue
		}
		into := document.Ensure(doc, path...)
		for key, value := range values {
			into[key] = document.Clone(value)
		}
	}
}

// SetState moves doc, in place, to state with the fields that explain it (empty
// texts are left alone) and reports whether Transition allowed it; if not, doc is
// as it was.
func SetState(doc document.Object, state State, now time.Time, reason, text string) bool {
	if !Transition(StateOf(doc), state) {
		return false
	}
	status := document.Ensure(doc, "status")
	status["state"] = string(state)
	if reason != "" {
		status["reason"] = reason
	}
	if text != "" {
		field := "status_text"
		if state == Error {
			field = "error"
		}
		status[field] = text
	}
	if state.Terminal() && document.String(status, "end_time") == "" {
		status["end_time"] = document.Time(now)
	}
	return true
}

// Settle makes doc, in place, what may follow old: it checks the shape, keeps a
// terminal state and its explanation, the name and the identity, and sets the
// times. It is what every write goes through, so that no caller has to remember
// it. Errors carry fault.CodeInvalid.
func Settle(old, doc document.Object, now time.Time) error {
	if err := checkShape(doc); err != nil {
		return err
	}
	if err := sameName(old, doc); err != nil {
		return err
	}
	metadata := document.Ensure(doc, "metadata")
	for _, field := range []string{"project", "uid", "iteration"} {
		if value := document.Get(old, "metadata", field); value != nil {
			metadata[field] = value
		}
	}
	return settle(old, doc, now)
}

func settle(old, doc document.Object, now time.Time) error {
	status := document.Ensure(doc, "status")
	before := document.Map(old, "status")
	asked, err := ParseState(document.String(status, "state"))
	if err != nil {
		return err
	}
	if asked == "" {
		asked = StateOf(old)
	}
	if asked == "" {
		asked = Created
	}
	state := asked
	if !Transition(StateOf(old), asked) {
		state = StateOf(old)
		for _, field := range outcome {
			if value, ok := before[field]; ok {
				status[field] = value
			} else {
				delete(status, field)
			}
		}
	}
	status["state"] = string(state)
	if err := setTime(status, before, "start_time", now); err != nil {
		return err
	}
	if state.Terminal() {
		if err := setTime(status, before, "end_time", now); err != nil {
			return err
		}
	} else {
		delete(status, "end_time")
	}
	status["last_update"] = document.Time(now)
	return nil
}

// setTime keeps status[field] in the one form of all times; when it is absent,
// what was there before, else now.
func setTime(status, before document.Object, field string, now time.Time) error {
	if at, ok := status[field].(time.Time); ok {
		status[field] = document.Time(at)
		return nil
	}
	for _, from := range []document.Object{status, before} {
		if text := document.String(from, field); text != "" {
			at, err := document.ParseTime(text)
			if err != nil {
				return fault.Invalid("status.%s: %w", field, err)
			}
			if at.Year() < 1 || at.Year() > 9999 {
				return fault.Invalid("status.%s: the year %d is out of range", field, at.Year())
			}
			status[field] = document.Time(at)
			return nil
		}
	}
	status[field] = document.Time(now)
	return nil
}

// checkShape checks the types of the fields that the server itself reads.
func checkShape(doc document.Object) error {
	for _, path := range [][]string{{"metadata"}, {"spec"}, {"status"}, {"metadata", "labels"}, {"metadata", "annotations"},
		{"spec", "parameters"}, {"spec", "inputs"}, {"status", "results"}, {"status", "artifact_uris"}} {
		if _, err := document.Want[document.Object](doc, path...); err != nil {
			return err
		}
	}
	for _, path := range [][]string{{"metadata", "name"}, {"status", "state"}, {"status", "start_time"}, {"status", "end_time"}, {"status", "error"}, {"spec", "function"}} {
		if _, ok := document.Get(doc, path...).(time.Time); ok {
			continue // the server's own
		}
		if _, err := document.Want[string](doc, path...); err != nil {
			return err
		}
	}
	_, err := Labels(doc)
	return err
}

// Labels returns metadata.labels as strings; a value of another type is its JSON.
// Errors carry fault.CodeInvalid: keys and values are limited to MaxName
// characters, and a key may not be empty.
func Labels(doc document.Object) (map[string]string, error) {
	labels := document.Strings(doc, "metadata", "labels")
	for key, value := range labels {
		if err := checkText("a key of metadata.labels", key); err != nil {
			return nil, err
		}
		if n := utf8.RuneCountInString(value); n > MaxName {
			return nil, fault.Invalid("metadata.labels: the value of %q has %d characters; at most %d are allowed", clip(key), n, MaxName)
		}
		if strings.ContainsRune(value, 0) {
			return nil, fault.Invalid("metadata.labels: the value of %q may not contain a NUL character", clip(key))
		}
	}
	return labels, nil
}

func sameName(old, doc document.Object) error {
	was, is := document.String(old, "metadata", "name"), document.String(doc, "metadata", "name")
	if was != "" && is != was {
		return fault.Invalid("Changing name for an existing run is invalid: metadata.name is %q and can not become %q", clip(was), clip(is))
	}
	return nil
}

func addURIs(uris document.Object, list []any, project string) {
	for _, item := range list {
		doc, ok := item.(document.Object)
		if !ok {
			continue
		}
		if key := artifact.Key(doc); key != "" {
			uris[key] = artifact.URIOf(doc, project).String()
		}
	}
}

// redactNotifications hides secret parameters that stand in the document itself;
// a reference to a stored secret ({"secret": name}) stays.
func redactNotifications(doc document.Object) {
	for _, item := range document.List(doc, "spec", "notifications") {
		notification, _ := item.(document.Object)
		secrets := document.Map(notification, "secret_params")
		if _, reference := secrets["secret"].(string); reference && len(secrets) == 1 {
			continue
		}
		for key := range secrets {
			secrets[key] = "REDACTED"
		}
	}
}

// redactSecrets hides the values of secrets that a client put into the document of
// a run which it executes itself.
func redactSecrets(doc document.Object) {
	for _, item := range document.List(doc, "spec", "secret_sources") {
		source, _ := item.(document.Object)
		if document.String(source, "kind") != "inline" {
			continue
		}
		values, ok := source["source"].(document.Object)
		if !ok {
			source["source"] = "REDACTED"
		}
		for key := range values {
			values[key] = "REDACTED"
		}
	}
}

// Time returns the time at path in doc, the zero time when there is none or it
// cannot be read.
func Time(doc document.Object, path ...string) time.Time {
	at, err := document.ParseTime(document.String(doc, path...))
	if err != nil {
		return time.Time{}
	}
	return at
}

// Child returns the document that an iteration of a run begins with: the
// parent's name, labels and what it executes, under the iteration's own identity
// and without a state. parent is not changed.
func Child(parent document.Object, key Key) document.Object {
	labels := document.Clone(document.Map(parent, "metadata", "labels"))
	if labels == nil {
		labels = document.Object{}
	}
	spec := document.Object{}
	for _, field := range []string{"function", "handler", "output_path", "log_level", "inputs", "parameters"} {
		if value := document.Get(parent, "spec", field); value != nil {
			spec[field] = document.Clone(value)
		}
	}
	return document.Object{
		"kind": "run",
		"metadata": document.Object{
			"name": document.String(parent, "metadata", "name"), "project": key.Project, "uid": key.UID, "iteration": key.Iter,
			"labels": labels, "annotations": document.Object{},
		},
		"spec":   spec,
		"status": document.Object{},
	}
}
