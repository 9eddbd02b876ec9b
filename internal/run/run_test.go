package run_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
)

var (
	key   = run.Key{Project: "demo", UID: "u1"}
	now   = time.Date(2024, 10, 23, 8, 16, 0, 0, time.UTC)
	later = now.Add(time.Hour)
)

func object(text string) document.Object {
	doc, err := document.DecodeObject([]byte(text))
	if err != nil {
		panic(err)
	}
	return doc
}

func same(t *testing.T, got any, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(document.Encode(got), &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", document.Encode(got), want)
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	const times = `"start_time":"2024-10-23T08:16:00.000000+00:00","last_update":"2024-10-23T09:16:00.000000+00:00"`
	for _, c := range []struct{ name, old, body, want string }{
		{"a new run is created", `{}`, `{"metadata":{"name":"n"}}`,
			`{"state":"created","start_time":"2024-10-23T09:16:00.000000+00:00","last_update":"2024-10-23T09:16:00.000000+00:00"}`},
		{"a body without a state keeps the one there was", `{"state":"running"}`, `{"metadata":{"name":"n"},"status":{"results":{"a":1}}}`,
			`{"state":"running","results":{"a":1},` + times + `}`},
		{"a final state stays, by omission", `{"state":"completed","end_time":"2024-10-23T08:17:00.000000+00:00"}`, `{"metadata":{"name":"n"}}`,
			`{"state":"completed","end_time":"2024-10-23T08:17:00.000000+00:00",` + times + `}`},
		{"a final state stays with its explanation", `{"state":"aborted","error":"too slow","end_time":"2024-10-23T08:17:00.000000+00:00"}`,
			`{"metadata":{"name":"n"},"status":{"state":"error","error":"killed","reason":"x"}}`,
			`{"state":"aborted","error":"too slow","end_time":"2024-10-23T08:17:00.000000+00:00",` + times + `}`},
		{"an aborting run does not complete", `{"state":"aborting"}`, `{"metadata":{"name":"n"},"status":{"state":"completed"}}`,
			`{"state":"aborting",` + times + `}`},
		{"an end has its time", `{"state":"running"}`, `{"metadata":{"name":"n"},"status":{"state":"error","error":"x"}}`,
			`{"state":"error","error":"x","end_time":"2024-10-23T09:16:00.000000+00:00",` + times + `}`},
		{"a live run has no end", `{"state":"pendingRetry"}`, `{"metadata":{"name":"n"},"status":{"state":"running","end_time":"2024-01-01T00:00:00"}}`,
			`{"state":"running",` + times + `}`},
		{"the start can be set again", `{"state":"pending"}`, `{"metadata":{"name":"n"},"status":{"state":"running","start_time":"2024-10-23 10:16:00+02:00"}}`,
			`{"state":"running",` + times + `}`},
		{"what only the server knows stays", `{"state":"aborting","status_text":"wait","abort_task_id":"t","retry_count":2,"host":"h"}`, `{"metadata":{"name":"n"},"status":{}}`,
			`{"state":"aborting","status_text":"wait","abort_task_id":"t","retry_count":2,` + times + `}`},
		{"artifacts become addresses", `{}`, `{"metadata":{"name":"n"},"status":{"artifact_uris":{"old":"x"},"artifacts":[{"kind":"model","metadata":{"key":"m","tree":"u1","iter":0},"spec":{"db_key":"n_m"}}, 7]}}`,
			`{"state":"created","artifact_uris":{"old":"x","m":"store://models/demo/n_m#0@u1"},"start_time":"2024-10-23T09:16:00.000000+00:00","last_update":"2024-10-23T09:16:00.000000+00:00"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var old document.Object
			if c.old != "{}" {
				old = document.Object{"metadata": document.Object{"name": "n"}, "status": object(c.old)}
				if _, ok := old["status"].(document.Object)["start_time"]; !ok {
					document.Set(old, document.Time(now), "status", "start_time")
				}
			}
			before, body := document.Clone(old), object(c.body)
			got, err := run.Replace(old, body, key, later)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got["status"], c.want)
			same(t, body, c.body) // not changed
			same(t, old, string(document.Encode(before)))
			for field, want := range map[string]any{"project": "demo", "uid": "u1", "iteration": 0} {
				if got := document.Get(got, "metadata", field); got != want {
					t.Errorf("%s is %v", field, got)
				}
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	base := `{"kind":"run","metadata":{"name":"n","project":"demo","uid":"u1","iteration":0,"labels":{"a":"b"}},"spec":{},
		"status":{"state":"running","start_time":"2024-10-23T08:16:00.000000+00:00","results":{"old":1},"artifact_uris":{"old":"x"}}}`
	for _, c := range []struct{ name, updates, path, want string }{
		{"results are replaced", `{"status.results":{"new":2}}`, "status.results", `{"new":2}`},
		{"a path makes its parents", `{"spec.a.b":1}`, "spec.a", `{"b":1}`},
		{"a literal dot", `{"metadata.labels.\\x.y\\":"z"}`, "metadata.labels", `{"a":"b","x.y":"z"}`},
		{"a whole before its part", `{"status.results.b":2,"status.results":{"a":1}}`, "status.results", `{"a":1,"b":2}`},
		{"artifacts replace the addresses", `{"status.artifacts":[{"metadata":{"key":"k","tree":"t"}}]}`, "status.artifact_uris", `{"k":"store://artifacts/demo/k@t"}`},
		{"the identity stays", `{"metadata.uid":"other","metadata.project":"x","metadata.iteration":5}`, "metadata", `{"name":"n","project":"demo","uid":"u1","iteration":0,"labels":{"a":"b"}}`},
		{"an end", `{"status.state":"completed"}`, "status.end_time", `"2024-10-23T09:16:00.000000+00:00"`},
		{"secrets are hidden", `{"spec.notifications":[{"secret_params":{"token":"s3cret"}},{"secret_params":{"secret":"ref"}}]}`, "spec.notifications", `[{"secret_params":{"token":"REDACTED"}},{"secret_params":{"secret":"ref"}}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			old := object(base)
			got, err := run.Update(old, object(c.updates), later)
			if err != nil {
				t.Fatal(err)
			}
			same(t, document.Get(got, strings.Split(c.path, ".")...), c.want)
			same(t, old, base)
		})
	}
	for updates, say := range map[string]string{
		`{"metadata.name":"m"}`: "Changing name", `{"status":5}`: "status must be an object", `{"status.state":"odd"}`: `"odd"; it has to be one of created, pending`,
		`{"metadata.labels":[]}`: "metadata.labels must be an object", `{"status.results":1}`: "status.results must be an object", `{"status.start_time":"x"}`: "status.start_time",
		`{"metadata.labels.a":"` + strings.Repeat("v", 300) + `"}`: "at most 255", `{"` + strings.Repeat("a.", 300) + `":1}`: "more than 200 parts",
		`{"status.start_time":"0000-01-01T00:00:00"}`: "out of range", `{"status.state":["running"]}`: "status.state must be a string",
	} {
		if _, err := run.Update(object(base), object(updates), later); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v, want %q", updates, err, say)
		}
	}
}

// TestTerminalStatesAreFinal writes at random to many runs: once a state is final
// nothing changes it, and from aborting a run only goes to aborted or error.
func TestTerminalStatesAreFinal(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(11, 13))
	states := append([]run.State{""}, run.States()...)
	for range 3000 {
		var doc document.Object
		at := now
		for range 10 {
			state := states[rng.IntN(len(states))]
			at = at.Add(time.Second)
			status := document.Object{"error": fmt.Sprint("of ", state)}
			if state != "" {
				status["state"] = string(state)
			}
			old := document.Clone(doc)
			var got document.Object
			var err error
			switch write := rng.IntN(4); {
			case write == 0 || doc == nil:
				got, err = run.Replace(doc, document.Object{"metadata": document.Object{"name": "n"}, "status": status}, key, at)
			case write == 1:
				got, err = run.Update(doc, document.Object{"status.state": string(state), "status.error": "x", "status.results": document.Object{}}, at)
			case write == 2:
				got, err = run.Update(doc, document.Object{"status": status}, at)
			default:
				got = document.Clone(doc)
				got["status"] = status
				run.Merge(got, document.Object{"results": document.Object{"a": 1}})
				err = run.Settle(doc, got, at)
			}
			if err != nil {
				t.Fatal(err)
			}
			was, is := run.StateOf(old), run.StateOf(got)
			if was.Terminal() && (is != was || document.Get(got, "status", "end_time") != document.Get(old, "status", "end_time")) {
				t.Fatalf("%s ended at %v became %s ended at %v", was, document.Get(old, "status", "end_time"), is, document.Get(got, "status", "end_time"))
			}
			if was == run.Aborting && is != run.Aborting && is != run.Aborted && is != run.Error {
				t.Fatalf("aborting became %s", is)
			}
			if is.Terminal() != (document.String(got, "status", "end_time") != "") {
				t.Fatalf("%s with the end %q", is, document.String(got, "status", "end_time"))
			}
			doc = got
		}
	}
}

func TestSetState(t *testing.T) {
	t.Parallel()
	doc := document.Object{}
	if !run.SetState(doc, run.Running, now, "", "") || !run.SetState(doc, run.Error, now, "OOMKilled", "out of memory") || run.SetState(doc, run.Completed, later, "", "") {
		t.Error("wrong transitions")
	}
	same(t, doc, `{"status":{"state":"error","reason":"OOMKilled","error":"out of memory","end_time":"2024-10-23T08:16:00.000000+00:00"}}`)
}

func TestChild(t *testing.T) {
	t.Parallel()
	parent := object(`{"metadata":{"name":"n","labels":{"a":"b"}},"spec":{"handler":"h","hyperparams":{"x":[1]}},"status":{"state":"running"}}`)
	child := run.Child(parent, run.Key{Project: "demo", UID: "u1", Iter: 3})
	same(t, child, `{"kind":"run","metadata":{"name":"n","labels":{"a":"b"},"annotations":{},"project":"demo","uid":"u1","iteration":3},"spec":{"handler":"h"},"status":{}}`)
	document.Set(child, "x", "metadata", "labels", "a")
	if document.String(parent, "metadata", "labels", "a") != "b" {
		t.Error("a child shares its parent's labels")
	}
}

func TestURI(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]run.URI{
		"demo@u1#0":        {Key: key},
		"demo@u1#12:tag":   {Key: run.Key{Project: "demo", UID: "u1", Iter: 12}, Tag: "tag"},
		"a@b@u1#1":         {Key: run.Key{Project: "a@b", UID: "u1", Iter: 1}},
		"demo@u1#0:t:more": {Key: key, Tag: "t:more"},
	} {
		got, err := run.ParseURI(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "demo@u1", "demo#1", "@u#1", "demo@u#x", "demo@u#99999999999"} {
		if _, err := run.ParseURI(text); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, text := range []string{"demo@u1#0", "a@b#1:t", "#", "@#0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uri, err := run.ParseURI(text)
		if err != nil {
			if !fault.Is(err, fault.CodeInvalid) {
				t.Fatal(err)
			}
			return
		}
		if again, err := run.ParseURI(uri.String()); err != nil || again != uri {
			t.Fatalf("%+v, then %+v, %v", uri, again, err)
		}
	})
}

// FuzzChange stores and updates arbitrary documents: the answer is a run that can
// be stored again, or the caller's mistake.
func FuzzChange(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"n"},"status":{"state":"running"}}`), []byte(`{"status.state":"completed","a\\.b":1}`))
	f.Add([]byte(`{"metadata":{"name":"n","labels":{"a":[1]}}}`), []byte(`{"metadata":null,"":{"":1}}`))
	f.Fuzz(func(t *testing.T, body, updates []byte) {
		bodyDoc, err := document.DecodeObject(body)
		if err != nil {
			return
		}
		updatesDoc, err := document.DecodeObject(updates)
		if err != nil {
			return
		}
		stored, err := run.Replace(nil, bodyDoc, key, now)
		if err == nil {
			stored, err = run.Update(stored, updatesDoc, later)
		}
		if err != nil {
			if !fault.Is(err, fault.CodeInvalid) {
				t.Fatal(err)
			}
			return
		}
		if !run.StateOf(stored).Known() || document.String(stored, "metadata", "uid") != "u1" {
			t.Fatalf("%s", document.Encode(stored))
		}
		if _, err := run.Replace(stored, stored, key, later); err != nil {
			t.Fatalf("cannot be stored again: %v", err)
		}
	})
}
