package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

func testProjects(t *testing.T, fresh Fresh) {
	t.Run("create, put, patch, read, list", func(t *testing.T) {
		b := setup(t, fresh)
		created := b.doc(b.ProjectCreate(b.ctx, object(`{"metadata":{"name":"demo","labels":{"Team":"ML"}},"spec":{"owner":"ada","extra":[1,2.0]}}`)))
		b.same(b.doc(b.ProjectGet(b.ctx, "demo")), created)
		_, err := b.ProjectCreate(b.ctx, object(`{"metadata":{"name":"demo"}}`))
		b.refuses(err, fault.CodeConflict, "Project demo already exists")
		put := b.doc(b.ProjectPut(b.ctx, "demo", object(`{"metadata":{"labels":{"Team":"ML"}},"spec":{"owner":"ada","params":{" a ":" 1 "},"functions":[{"name":"f"}]}}`)))
		if put["metadata"].(document.Object)["created"] != created["metadata"].(document.Object)["created"] {
			b.Error("a put changes the time of creation")
		}
		b.same(document.Map(put, "spec", "params"), `{"a":"1"}`)
		_, err = b.ProjectPut(b.ctx, "demo", object(`{"metadata":{"name":"other"}}`))
		b.refuses(err, fault.CodeConflict, `"other" differs`)
		patched := b.doc(b.ProjectPatch(b.ctx, "demo", object(`{"spec":{"functions":[{"name":"g"}],"desired_state":"archived"}}`), true))
		b.same(document.List(patched, "spec", "functions"), `[{"name":"f"},{"name":"g"}]`)
		if state := document.String(patched, "status", "state"); state != "archived" {
			b.Error(state)
		}
		patched = b.doc(b.ProjectPatch(b.ctx, "demo", object(`{"spec":{"functions":[]}}`), false))
		b.same(document.List(patched, "spec", "functions"), `[]`)
		b.same(b.doc(b.ProjectGet(b.ctx, "demo")), patched)
		for _, c := range []struct {
			filter store.ProjectFilter
			want   string
		}{
			{store.ProjectFilter{}, `["default","demo"]`},
			{store.ProjectFilter{Owner: "ada"}, `["demo"]`},
			{store.ProjectFilter{State: "archived"}, `["demo"]`},
			{store.ProjectFilter{Labels: []store.LabelFilter{{Key: "Team"}}}, `["demo"]`},
			{store.ProjectFilter{Labels: []store.LabelFilter{{Key: "team", KeyContains: true, Value: "m", HasValue: true, ValueContains: true}}}, `["demo"]`},
			{store.ProjectFilter{Labels: []store.LabelFilter{{Key: "Team", Value: "ml", HasValue: true}}}, `[]`},
		} {
			docs, err := b.ProjectList(b.ctx, c.filter)
			b.must(err)
			b.same(pick(docs, "metadata", "name"), c.want)
		}
	})
	t.Run("bad documents", func(t *testing.T) {
		b := setup(t, fresh)
		for body, say := range map[string]string{
			`{"metadata":{"name":"Bad Name"}}`: `"Bad Name" is invalid`, `{}`: `"" is invalid`, `{"metadata":{"name":"a","labels":3}}`: "metadata.labels must be an object",
			`{"metadata":{"name":"a"},"spec":{"functions":{}}}`: "spec.functions must be a list", `{"metadata":{"name":7}}`: "metadata.name must be a string",
			`{"metadata":{"name":"` + strings.Repeat("a", 64) + `"}}`: "is invalid",
		} {
			_, err := b.ProjectCreate(b.ctx, object("%s", body))
			b.refuses(err, fault.CodeInvalid, say)
		}
		_, err := b.ProjectPatch(b.ctx, "missing", object(`{}`), false)
		b.refuses(err, fault.CodeNotFound, "Project not found: missing")
		_, err = b.ProjectPatch(b.ctx, "default", object(`{"metadata":{"name":"other"}}`), false)
		b.refuses(err, fault.CodeInvalid, "renamed")
	})
	t.Run("delete takes everything along", func(t *testing.T) {
		b := setup(t, fresh)
		for _, name := range []string{"a", "b"} {
			b.doc(b.ProjectPut(b.ctx, name, object(`{}`)))
			_, err := b.FunctionPut(b.ctx, store.FunctionPut{Project: name, Name: "f", Doc: object(`{"kind":"job"}`)})
			b.must(err)
			b.doc(b.RunPut(b.ctx, run.Key{Project: name, UID: "u"}, object(`{"metadata":{"name":"n","labels":{"a":"b"}}}`)))
			b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: name, Key: "k", Doc: object(`{"metadata":{"key":"k"}}`)}))
			b.must(b.ExecutionCreate(b.ctx, store.Execution{ID: name, Project: name, UID: "u", Attempt: 1, Phase: "queued"}))
			b.must(b.TaskPut(b.ctx, object(`{"metadata":{"name":"t","project":"%s"},"status":{"state":"running"}}`, name)))
		}
		kinds, err := b.ProjectContents(b.ctx, "a")
		b.must(err)
		b.same(kinds, `["artifacts","functions","runs"]`)
		b.must(b.ProjectDelete(b.ctx, "a"))
		b.must(b.ProjectDelete(b.ctx, "a"))
		b.doc(b.ProjectPut(b.ctx, "a", object(`{}`)))
		kinds, err = b.ProjectContents(b.ctx, "a")
		b.must(err)
		active, err := b.ExecutionActive(b.ctx)
		b.must(err)
		found, _, err := b.RunList(b.ctx, store.RunFilter{Project: "a", Labels: []store.LabelFilter{{Key: "a"}}})
		b.must(err)
		_, taskErr := b.TaskGet(b.ctx, "a", "t")
		if len(kinds) != 0 || len(found) != 0 || len(active) != 1 || active[0].Project != "b" || !fault.Is(taskErr, fault.CodeNotFound) {
			b.Errorf("left: %v, runs %v, executions %v, task %v", kinds, found, active, taskErr)
		}
		b.doc(b.RunGet(b.ctx, run.Key{Project: "b", UID: "u"}))
	})
	t.Run("writes need the project", func(t *testing.T) {
		b := setup(t, fresh)
		_, err := b.RunPut(b.ctx, run.Key{Project: "none", UID: "u"}, object(`{"metadata":{"name":"n"}}`))
		b.refuses(err, fault.CodeNotFound, "Project none does not exist")
		_, err = b.FunctionPut(b.ctx, store.FunctionPut{Project: "none", Name: "f", Doc: object(`{}`)})
		b.refuses(err, fault.CodeNotFound, "Project none does not exist")
		_, err = b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "none", Key: "k", Doc: object(`{"metadata":{"key":"k"}}`)})
		b.refuses(err, fault.CodeNotFound, "Project none does not exist")
		_, err = b.TagAppend(b.ctx, "none", "v1", nil)
		b.refuses(err, fault.CodeNotFound, "Project none does not exist")
	})
	t.Run("summary", func(t *testing.T) {
		b := setup(t, fresh)
		put := func(uid, name, state string) {
			b.doc(b.RunPut(b.ctx, run.Key{Project: "default", UID: uid}, object(`{"metadata":{"name":"%s"},"status":{"state":"%s"}}`, name, state)))
		}
		put("old", "old", "completed")
		b.clock.Advance(25 * time.Hour)
		put("1", "a", "completed")
		put("2", "a", "completed")
		put("3", "b", "error")
		put("4", "c", "running")
		put("5", "d", "pending")
		for i, kind := range []string{"model", "dataset", "", "plot"} {
			b.doc(b.ArtifactPut(b.ctx, store.ArtifactPut{Project: "default", Key: string(rune('k' + i)), Doc: object(`{"kind":"%s","metadata":{"key":"k"}}`, kind)}))
		}
		got := b.doc(b.ProjectSummary(b.ctx, "default"))
		delete(got, "updated")
		b.same(got, `{"name":"default","files_count":2,"feature_sets_count":0,"models_count":1,"runs_completed_recent_count":1,"runs_failed_recent_count":1,
			"runs_running_count":2,"distinct_schedules_count":0,"distinct_scheduled_jobs_pending_count":0,"distinct_scheduled_pipelines_pending_count":0,
			"pipelines_completed_recent_count":0,"pipelines_failed_recent_count":0,"pipelines_running_count":0}`)
		_, err := b.ProjectSummary(b.ctx, "none")
		b.refuses(err, fault.CodeNotFound, "Project not found: none")
	})
}

func testFunctions(t *testing.T, fresh Fresh) {
	put := func(b *bundle, name, tag string, versioned bool, doc string) string {
		b.Helper()
		hash, err := b.FunctionPut(b.ctx, store.FunctionPut{Project: "default", Name: name, Tag: tag, Versioned: versioned, Doc: object("%s", doc)})
		b.must(err)
		return hash
	}
	list := func(b *bundle, filter store.FunctionFilter) []document.Object {
		b.Helper()
		filter.Project = "default"
		docs, more, err := b.FunctionList(b.ctx, filter)
		b.must(err)
		if more {
			b.Error("more follows a list without a size")
		}
		return docs
	}
	t.Run("a history", func(t *testing.T) {
		b := setup(t, fresh)
		const doc = `{"kind":"job","metadata":{"name":"f","project":"default","labels":{"x":"y"}},"spec":{"n":1.0,"i":1},"status":{"state":"ready"}}`
		hash := put(b, "f", "", false, doc)
		got := b.doc(b.FunctionGet(b.ctx, "default", "f", "", ""))
		want := object("%s", doc)
		want["metadata"].(document.Object)["hash"] = hash
		want["metadata"].(document.Object)["tag"] = "latest"
		want["metadata"].(document.Object)["updated"] = document.Get(got, "metadata", "updated")
		b.same(got, want)
		if n := document.Get(got, "spec", "n"); string(document.Encode(n)) != "1.0" {
			b.Errorf("1.0 came back as %s", document.Encode(n))
		}
		_, err := b.FunctionGet(b.ctx, "default", "f", "", hash)
		b.refuses(err, fault.CodeNotFound, "Function not found default/f@"+hash)

		again := put(b, "f", "", false, doc)
		if docs := list(b, store.FunctionFilter{}); again != hash || len(docs) != 1 {
			b.Errorf("stored twice: %d elements, hash %s then %s", len(docs), hash, again)
		}
		version := put(b, "f", "", true, doc)
		if version != hash {
			b.Errorf("the hash depends on being versioned: %s, %s", hash, version)
		}
		docs := list(b, store.FunctionFilter{}) // the slot is hidden, the version latest
		b.same(pick(docs, "metadata", "tag"), `["latest"]`)
		found := b.doc(b.FunctionGet(b.ctx, "default", "f", "", version))
		if tag := document.String(found, "metadata", "tag"); tag != "" {
			b.Errorf("found by hash, it says tag %q", tag)
		}
		put(b, "f", "", false, doc) // the slot is back, the version untagged
		docs = list(b, store.FunctionFilter{})
		b.same(pick(docs, "metadata", "tag"), `["latest",""]`)
		if _, has := docs[1]["status"]; !has || docs[1]["status"] != nil {
			b.Errorf("an untagged version has status %v", docs[1]["status"])
		}
		b.same(pick(list(b, store.FunctionFilter{Tag: "*"}), "metadata", "tag"), `["latest"]`)

		changed := put(b, "f", "v1", true, strings.Replace(doc, "1.0", "2.0", 1))
		if changed == version {
			b.Error("another content has the same hash")
		}
		b.doc(b.FunctionGet(b.ctx, "default", "f", "", version))
		v1 := b.doc(b.FunctionGet(b.ctx, "default", "f", "v1", "ignored beside a tag"))
		if got := document.String(v1, "metadata", "hash"); got != changed {
			b.Error(got)
		}
		if got := document.String(b.doc(b.FunctionGet(b.ctx, "default", "f", "latest", "")), "metadata", "hash"); got != hash {
			b.Error("storing v1 moved latest")
		}
		b.must(b.FunctionDelete(b.ctx, "default", "f"))
		b.must(b.FunctionDelete(b.ctx, "default", "f"))
		if docs := list(b, store.FunctionFilter{}); len(docs) != 0 {
			b.Error(docs)
		}
	})
	t.Run("names and tags", func(t *testing.T) {
		b := setup(t, fresh)
		put(b, "my-fn", "", false, `{"kind":"job"}`)
		put(b, "raw_fn", "", false, `{"kind":"job"}`)
		b.doc(b.FunctionGet(b.ctx, "default", "My_Fn", "", ""))
		b.doc(b.FunctionGet(b.ctx, "default", "raw_fn", "", ""))
		_, err := b.FunctionGet(b.ctx, "default", "my-fn", "v9", "")
		b.refuses(err, fault.CodeNotFound, "Function tag not found default/my-fn:v9")
		put(b, "tagged", "", true, `{"metadata":{"tag":"from-body"}}`)
		b.doc(b.FunctionGet(b.ctx, "default", "tagged", "from-body", ""))
		_, err = b.FunctionGet(b.ctx, "default", "tagged", "", "")
		b.refuses(err, fault.CodeNotFound, "default/tagged:latest")
		_, err = b.FunctionPut(b.ctx, store.FunctionPut{Project: "default", Name: "a", Doc: object(`{"metadata":{"name":"b"}}`)})
		b.refuses(err, fault.CodeInvalid, `"b" differs`)
		_, err = b.FunctionPut(b.ctx, store.FunctionPut{Project: "default", Name: "a", Tag: "no good", Doc: object(`{}`)})
		b.refuses(err, fault.CodeInvalid, "no good")
		_, err = b.FunctionPut(b.ctx, store.FunctionPut{Project: "default", Name: "a", Doc: object(`{"spec":[]}`)})
		b.refuses(err, fault.CodeInvalid, "spec must be an object")
	})
	t.Run("lists", func(t *testing.T) {
		b := setup(t, fresh)
		put(b, "a-1", "", true, `{"kind":"job","metadata":{"labels":{"team":"ml","x":"1"}},"status":{"state":"ready"}}`)
		middle := b.clock.Now()
		hash := put(b, "b-2", "", true, `{"kind":"nuclio","metadata":{"labels":{"team":"Ops"}},"status":{"state":"error"}}`)
		put(b, "b-2", "v1", true, `{"kind":"nuclio","metadata":{"labels":{"team":"Ops"}},"status":{"state":"error"}}`)
		label := func(f store.LabelFilter) store.FunctionFilter {
			return store.FunctionFilter{Labels: []store.LabelFilter{f}}
		}
		for _, c := range []struct {
			name   string
			filter store.FunctionFilter
			want   string
		}{
			{"all", store.FunctionFilter{}, `["a-1","b-2","b-2"]`},
			{"name", store.FunctionFilter{Name: store.NameFilter{Value: "b-2"}}, `["b-2","b-2"]`},
			{"part of a name", store.FunctionFilter{Name: store.NameFilter{Value: "-", Contains: true}}, `["a-1","b-2","b-2"]`},
			{"no wildcards", store.FunctionFilter{Name: store.NameFilter{Value: "_", Contains: true}}, `[]`},
			{"kind", store.FunctionFilter{Kind: "job"}, `["a-1"]`},
			{"states", store.FunctionFilter{States: []string{"error", "ready"}, Tag: "v1"}, `["b-2"]`},
			{"hash", store.FunctionFilter{Hash: hash}, `["b-2","b-2"]`},
			{"since", store.FunctionFilter{Since: middle}, `["b-2","b-2"]`},
			{"until", store.FunctionFilter{Until: middle}, `["a-1"]`},
			{"label", label(store.LabelFilter{Key: "team"}), `["a-1","b-2","b-2"]`},
			{"label value", label(store.LabelFilter{Key: "team", Value: "ml", HasValue: true}), `["a-1"]`},
			{"label value part", label(store.LabelFilter{Key: "team", Value: "op", HasValue: true, ValueContains: true}), `["b-2","b-2"]`},
			{"two labels", store.FunctionFilter{Labels: []store.LabelFilter{{Key: "team"}, {Key: "x"}}}, `["a-1"]`},
		} {
			docs := list(b, c.filter)
			if got := string(document.Encode(pick(docs, "metadata", "name"))); got != c.want {
				b.Errorf("%s: got %s, want %s", c.name, got, c.want)
			}
		}
		var paged []any
		for offset := 0; ; offset++ {
			docs, more, err := b.FunctionList(b.ctx, store.FunctionFilter{Project: "default", Page: store.Page{Offset: offset, Size: 1}})
			b.must(err)
			paged = append(paged, pick(docs, "metadata", "tag")...)
			if !more {
				break
			}
		}
		b.same(paged, `["latest","latest","v1"]`)
	})
}

func testTasks(t *testing.T, fresh Fresh) {
	t.Run("a task's life", func(t *testing.T) {
		b := setup(t, fresh)
		body := object(`{"metadata":{"name":"t","project":"default","kind":"k","timeout":60},"status":{"state":"running"}}`)
		b.must(b.TaskPut(b.ctx, body))
		got := b.doc(b.TaskGet(b.ctx, "default", "t"))
		if got["kind"] != "BackgroundTask" || document.String(got, "status", "state") != "running" || got["spec"] == nil {
			b.Error(got)
		}
		_, err := b.TaskGet(b.ctx, "", "t")
		b.refuses(err, fault.CodeNotFound, "Background task not found: t")
		document.Set(body, "failed", "status", "state")
		document.Set(body, strings.Repeat("é", 300), "status", "error")
		b.must(b.TaskPut(b.ctx, body))
		document.Set(body, "succeeded", "status", "state")
		b.must(b.TaskPut(b.ctx, body))
		got = b.doc(b.TaskGet(b.ctx, "default", "t"))
		if document.String(got, "status", "state") != "failed" || document.String(got, "status", "error") != strings.Repeat("é", 255) {
			b.Error(got)
		}
	})
	t.Run("past its time it has failed for ever", func(t *testing.T) {
		b := setup(t, fresh)
		body := object(`{"metadata":{"name":"t","timeout":60},"status":{"state":"running"}}`)
		b.must(b.TaskPut(b.ctx, body))
		b.clock.Advance(59 * time.Second)
		b.must(b.TaskPut(b.ctx, body)) // a sign of life
		b.clock.Advance(59 * time.Second)
		if got := b.doc(b.TaskGet(b.ctx, "", "t")); document.String(got, "status", "state") != "running" {
			b.Error(got)
		}
		b.clock.Advance(2 * time.Second)
		for range 2 {
			got := b.doc(b.TaskGet(b.ctx, "", "t"))
			if document.String(got, "status", "state") != "failed" || !strings.Contains(document.String(got, "status", "error"), "timed out") {
				b.Error(got)
			}
			document.Set(body, "succeeded", "status", "state")
			b.must(b.TaskPut(b.ctx, body))
		}
	})
	t.Run("list", func(t *testing.T) {
		b := setup(t, fresh)
		for _, task := range []string{
			`{"metadata":{"name":"z","project":"default","kind":"a"},"status":{"state":"running"}}`,
			`{"metadata":{"name":"y","project":"default","kind":"b","timeout":1},"status":{"state":"running"}}`,
			`{"metadata":{"name":"x","kind":"a"},"status":{"state":"succeeded"}}`,
		} {
			b.must(b.TaskPut(b.ctx, object("%s", task)))
		}
		b.clock.Advance(time.Minute)
		now := b.clock.Now()
		for want, filter := range map[string]store.TaskFilter{
			`["z","y"]`: {Project: "default"}, `["x"]`: {}, `["z"]`: {Project: "default", State: "running"}, `["y"]`: {Project: "default", Kind: "b", State: "failed"},
			`[]`: {Project: "default", CreatedFrom: now, UpdatedTo: now},
		} {
			tasks, err := b.TaskList(b.ctx, filter)
			b.must(err)
			b.same(pick(tasks, "metadata", "name"), want)
		}
	})
	t.Run("bad tasks", func(t *testing.T) {
		b := setup(t, fresh)
		b.refuses(b.TaskPut(b.ctx, object(`{"status":{"state":"running"}}`)), fault.CodeInvalid, "needs a name")
		b.refuses(b.TaskPut(b.ctx, object(`{"metadata":{"name":"t"},"status":{"state":"done"}}`)), fault.CodeInvalid, `"done"`)
		b.refuses(b.TaskPut(b.ctx, object(`{"metadata":{"name":"t","project":"none"},"status":{"state":"running"}}`)), fault.CodeNotFound, "Project none does not exist")
	})
}

func testExecutions(t *testing.T, fresh Fresh) {
	t.Run("an attempt's life", func(t *testing.T) {
		b := setup(t, fresh)
		at := b.clock.Now()
		want := store.Execution{
			ID: "u-1", Project: "default", UID: "u", Attempt: 1, Phase: "queued", Backend: "local", Created: at, NotBefore: at.Add(time.Hour),
			Plan: object(`{"command":["python3"],"run":{"a":1.0}}`),
		}
		b.must(b.ExecutionCreate(b.ctx, want))
		b.refuses(b.ExecutionCreate(b.ctx, want), fault.CodeConflict, "was executed already")
		got, err := b.ExecutionGet(b.ctx, "u-1")
		b.must(err)
		want.Updated, want.Outcome = got.Updated, document.Object{}
		compare(b, got, want)
		b.must(b.ExecutionUpdate(b.ctx, "u-1", func(e *store.Execution) error {
			e.Phase, e.Abort, e.AbortText, e.Offset, e.Started, e.NotBefore = "running", true, "why", 1<<40, at, time.Time{}
			e.ID, e.Project, e.UID, e.Attempt = "x", "x", "x", 9 // its identity stays
			return nil
		}))
		want.Phase, want.Abort, want.AbortText, want.Offset, want.Started, want.NotBefore = "running", true, "why", 1<<40, at, time.Time{}
		got, err = b.ExecutionGet(b.ctx, "u-1")
		b.must(err)
		want.Updated = got.Updated
		compare(b, got, want)
		second := want
		second.ID, second.Attempt, second.Phase = "u-2", 2, "queued"
		b.must(b.ExecutionCreate(b.ctx, second))
		b.must(b.ExecutionUpdate(b.ctx, "u-1", func(e *store.Execution) error {
			e.Phase, e.Outcome, e.Finished = "finished", object(`{"state":"error"}`), at
			return nil
		}))
		active, err := b.ExecutionActive(b.ctx)
		b.must(err)
		all, err := b.ExecutionList(b.ctx, "default", "u")
		b.must(err)
		everything, err := b.ExecutionList(b.ctx, "default", "")
		b.must(err)
		if len(active) != 1 || active[0].ID != "u-2" || len(all) != 2 || all[0].ID != "u-1" || document.String(all[0].Outcome, "state") != "error" || len(everything) != 2 {
			b.Errorf("active %v, all %v", active, all)
		}
		b.must(b.ExecutionDelete(b.ctx, "default", "u"))
		_, err = b.ExecutionGet(b.ctx, "u-1")
		b.refuses(err, fault.CodeNotFound, "Execution not found: u-1")
		b.refuses(b.ExecutionUpdate(b.ctx, "u-1", func(*store.Execution) error { return nil }), fault.CodeNotFound, "u-1")
		b.refuses(b.ExecutionCreate(b.ctx, store.Execution{ID: "x"}), fault.CodeInvalid, "needs")
	})
}

func compare(b *bundle, got, want store.Execution) {
	b.Helper()
	b.same(got.Plan, want.Plan)
	b.same(got.Outcome, want.Outcome)
	got.Plan, got.Outcome, want.Plan, want.Outcome = nil, nil, nil, nil
	if diff := cmpDiff(got, want); diff != "" {
		b.Fatal(diff)
	}
}
