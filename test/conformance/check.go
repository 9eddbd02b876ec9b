package conformance

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"

	"github.com/millrace/millrace/internal/document"
)

// Outcome is what a target saw of one run.
type Outcome struct {
	// Run is the run object as the target's user reads it, nil when none came to be.
	Run document.Object
	// Log is the run's whole log.
	Log []byte
	// Exit is the exit status of the command, Message what it said on standard error.
	Exit    int
	Message string
}

// Check compares an outcome with what the case expects and returns one sentence
// for each difference.
func Check(c Case, got Outcome) []string {
	want := c.Expect
	var d differences
	if len(want.Refused) > 0 {
		if got.Run != nil {
			d.add("it should have been refused, but a run came to be in state %q", state(got.Run))
		}
		exit := 1
		if want.Exit != nil {
			exit = *want.Exit
		}
		if got.Exit != exit {
			d.add("exit status is %d, want %d", got.Exit, exit)
		}
		d.contains("the message", got.Message, want.Refused)
		if strings.Contains(got.Message, "panic:") || strings.Contains(got.Message, "goroutine ") {
			d.add("the message is a stack trace: %s", short(got.Message))
		}
		return d
	}
	if got.Run == nil {
		return append(d, fmt.Sprintf("there is no run; exit status %d, message: %s", got.Exit, short(got.Message)))
	}
	exit := exitOf[want.State]
	if want.Exit != nil {
		exit = *want.Exit
	}
	if got.Exit != exit {
		d.add("exit status is %d, want %d", got.Exit, exit)
	}
	failure := document.String(got.Run, "status", "error")
	if failure == "" && want.State == "aborted" {
		failure = document.String(got.Run, "status", "status_text") // who or what aborted it
	}
	if s := state(got.Run); s != want.State {
		d.add("state is %q, want %q (error: %s)", s, want.State, short(failure))
	}
	d.object("result", document.Map(got.Run, "status", "results"), want.Results)
	for _, key := range want.NoResults {
		if value, ok := document.Map(got.Run, "status", "results")[key]; ok {
			d.add("there is a result %q: %v", key, value)
		}
	}
	d.object("parameter", document.Map(got.Run, "spec", "parameters"), want.Parameters)
	d.strings("label", document.Strings(got.Run, "metadata", "labels"), want.Labels)
	d.strings("annotation", document.Strings(got.Run, "metadata", "annotations"), want.Annotations)
	d.contains("the log", string(got.Log), want.Log)
	for _, part := range want.LogLacks {
		if strings.Contains(string(got.Log), part) {
			d.add("the log contains %q", part)
		}
	}
	if len(got.Log) < want.LogBytes {
		d.add("the log has %d bytes, want at least %d", len(got.Log), want.LogBytes)
	}
	d.contains("the error", failure, want.Error)
	if want.State == "completed" && failure != "" {
		d.add("a completed run has the error %s", short(failure))
	}
	if want.ErrorMax > 0 && len(failure) > want.ErrorMax {
		d.add("the error has %d bytes, want at most %d", len(failure), want.ErrorMax)
	}
	d.artifacts(got.Run, want.Artifacts)
	if want.Children != nil {
		rows := document.List(got.Run, "status", "iterations")
		if n := max(len(rows)-1, 0); n != *want.Children {
			d.add("status.iterations has %d children, want %d", n, *want.Children)
		}
	}
	return d
}

func state(run document.Object) string { return document.String(run, "status", "state") }

type differences []string

func (d *differences) add(format string, args ...any) { *d = append(*d, fmt.Sprintf(format, args...)) }

func (d *differences) contains(what, text string, parts []string) {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			d.add("%s lacks %q; it is: %s", what, part, short(text))
		}
	}
}

func (d *differences) object(what string, got document.Object, want map[string]any) {
	for key, value := range want {
		have, ok := got[key]
		if !ok {
			d.add("there is no %s %q, want %v", what, key, value)
			continue
		}
		if !equal(have, value) {
			d.add("%s %q is %#v, want %#v", what, key, have, value)
		}
	}
}

func (d *differences) strings(what string, got, want map[string]string) {
	for key, value := range want {
		if have, ok := got[key]; !ok || have != value {
			d.add("%s %q is %q, want %q", what, key, have, value)
		}
	}
}

// artifacts finds each key in status.artifacts and reads its content.
func (d *differences) artifacts(run document.Object, want map[string]string) {
	for key, text := range want {
		found := false
		for _, item := range document.List(run, "status", "artifacts") {
			doc, ok := item.(document.Object)
			if !ok || document.String(doc, "metadata", "key") != key {
				continue
			}
			found = true
			target := strings.TrimPrefix(document.String(doc, "spec", "target_path"), "file://")
			data, err := os.ReadFile(target)
			if err != nil {
				d.add("artifact %q: %v", key, err)
			} else if !strings.Contains(string(data), text) {
				d.add("artifact %q lacks %q; it is: %s", key, text, short(string(data)))
			}
		}
		if !found {
			d.add("there is no artifact %q in status.artifacts: %v", key, document.List(run, "status", "artifacts"))
		}
	}
}

// equal compares a decoded JSON value with one that YAML decoded. Types count
// (1 is not "1" and not true); for numbers the value does, since 1.0 may travel as 1.
func equal(got, want any) bool {
	return reflect.DeepEqual(plain(got), plain(want))
}

// plain brings both decodings to the same Go types.
func plain(value any) any {
	switch v := value.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case int:
		return float64(v)
	case int64:
		return float64(v)
	case uint64:
		return float64(v)
	case float64:
		if math.IsNaN(v) {
			return "a bare NaN"
		}
		return v
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plain(v[i])
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for key := range v {
			object[key] = plain(v[key])
		}
		return object
	default:
		return v
	}
}

// short cuts text for a message.
func short(text string) string {
	const limit = 600
	if len(text) > limit {
		text = text[:limit/2] + " […] " + text[len(text)-limit/2:]
	}
	return fmt.Sprintf("%q", text)
}
