package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/document"
)

const (
	trainer = "/api/v1/projects/demo/functions/trainer"
	runs    = "/api/v1/projects/demo/runs"
)

func TestHashOfAFunction(t *testing.T) {
	t.Parallel()
	s := start(t)
	doc := `{"kind":"job","metadata":{"name":"trainer","project":"demo","tag":"v1","labels":{"team":"ml"}},
		"spec":{"image":"mlrun/mlrun","default_handler":"train","description":"café <b>&","replicas":1,"x":1.0},
		"status":{"state":"ready"},"verbose":false}`
	const want = "2f667eb0246065cee182356054db2c22f6237aaf"
	for _, body := range []string{doc, strings.Replace(doc, `"ready"`, `"error"`, 1), strings.Replace(doc, `"tag":"v1"`, `"tag":"v2","updated":"2024"`, 1)} {
		got := s.do("POST", trainer+"?versioned=True", body).is(200).json()["hash_key"]
		if got != want {
			t.Errorf("hash %v, want %s", got, want)
		}
	}
}

func TestBodiesWithoutContentTypeAndWithNaN(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u1?iter=0", `{"metadata":{"name":"r"},"status":{"state":"running","results":{"a":NaN,"b":-Infinity,"c":1}}}`).is(200)
	data := s.do("GET", runs+"/u1", nil).is(200).json()
	results := document.Map(data, "data", "status", "results")
	if results["a"] != nil || results["b"] != nil || document.String(data, "data", "status", "state") != "running" {
		t.Errorf("%v", results)
	}
	if _, there := results["a"]; !there {
		t.Errorf("the key of a NaN is gone: %v", results)
	}
}

func TestDeleteWithABodyOfNullAndPostWithNone(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("DELETE", "/api/v2/projects/demo/artifacts/model?key=model&tag=latest", "null").is(204)
	s.do("POST", "/api/v1/operations/migrations", "").is(200)
	s.do("POST", trainer, "").is(400).says("reason")
	s.do("POST", trainer, "null").is(400).says("must be a JSON object")
	s.do("POST", trainer, "{").is(400).says("bad JSON body")
}

func TestSlashesAreServedWithoutRedirect(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, path := range []string{"//api/v1/projects", "/api/v1/projects/", "///api//projects//", "/api/projects", "/api/v1/healthz/", "/api/v2/healthz", "/api/healthz"} {
		s.do("GET", path, nil).is(200)
	}
	for _, path := range []string{"/api/v1/build/function/", "/api/v1/submit/", "/api/v1/submit_job/", "/api/v1/submit", "//api/v1/submit_job"} {
		s.do("POST", path, "{}").is(400)
	}
	s.do("POST", "//api/v1/projects/", `{"metadata":{"name":"slashed"}}`).is(201)
	s.do("GET", "/api/v1/build/status/?name=none", nil).is(404)
}

func TestErrorsCarryADetail(t *testing.T) {
	t.Parallel()
	s := start(t)
	if detail, ok := s.do("GET", "/api/v1/projects/none", nil).is(404).json()["detail"].(string); !ok || !strings.HasPrefix(detail, "MLRunNotFoundError(") {
		t.Errorf("detail %q", detail)
	}
	s.do("GET", "/api/v1/nothing/here", nil).is(404).says(`{"detail":"Not Found"}`)
	s.do("GET", "/", nil).is(404).says(`{"detail":"Not Found"}`)
	a := s.do("PUT", "/api/v1/projects", nil).is(405).says(`{"detail":"Method Not Allowed"}`)
	if got := a.header.Get("Allow"); got != "GET, POST" {
		t.Errorf("Allow %q", got)
	}
	if a.header.Get("X-Mlrun-Be-Version") != api.DefaultVersion {
		t.Errorf("headers %v", a.header)
	}
	s.do("POST", "/api/v1/projects", `{"metadata":{"name":"demo"}}`).is(409)
	s.do("PUT", "/api/v1/projects/demo", `{"metadata":{"name":"other"}}`).is(409)
	s.do("POST", "/api/v1/projects", `{"metadata":{"name":"Bad_Name"}}`).is(400)
	s.do("POST", "/api/v1/projects/none/functions/f", `{"kind":"job"}`).is(404)
	s.do("POST", "/api/v1/projects/none/runs/u", `{"metadata":{"name":"r"}}`).is(404)
}

func TestFunctionVersions(t *testing.T) {
	t.Parallel()
	s := start(t)
	put := func(query, image string) string {
		return s.do("POST", trainer+query, fmt.Sprintf(`{"kind":"job","metadata":{"name":"trainer"},"spec":{"image":%q}}`, image)).is(200).json()["hash_key"].(string)
	}
	list := func(query string) []document.Object {
		return s.do("GET", "/api/v1/projects/demo/functions"+query, nil).is(200).items("funcs")
	}
	put("?tag=&versioned=False", "a")
	put("?tag=&versioned=False", "b")
	if got := list(""); len(got) != 1 {
		t.Fatalf("two unversioned stores are %d records", len(got))
	}
	first, second := put("?versioned=True", "c"), put("?versioned=True", "d")
	for hash, image := range map[string]string{first: "c", second: "d"} {
		doc := s.do("GET", trainer+"?tag=&hash_key="+hash, nil).is(200).json()
		if document.String(doc, "func", "spec", "image") != image || document.String(doc, "func", "metadata", "tag") != "" {
			t.Errorf("%s: %v", hash, doc)
		}
	}
	latest := func() string {
		return document.String(s.do("GET", trainer+"?hash_key=", nil).is(200).json(), "func", "spec", "image")
	}
	if latest() != "d" {
		t.Errorf("latest is %s", latest())
	}
	put("?tag=v1&versioned=True", "e")
	if latest() != "d" {
		t.Errorf("a store under v1 moved latest to %s", latest())
	}
	tagged, untagged := 0, 0
	for _, doc := range list("") {
		if tag := document.String(doc, "metadata", "tag"); tag != "" {
			tagged++
		} else {
			untagged++
			if doc["status"] != nil {
				t.Errorf("an untagged version has a status: %v", doc)
			}
		}
	}
	if tagged != 2 || untagged != 1 { // latest, v1; the version that latest left
		t.Errorf("%d tagged, %d untagged", tagged, untagged)
	}
	if got := list("?tag=*"); len(got) != 2 {
		t.Errorf("tag=*: %d", len(got))
	}
	if got := list("?tag=v1"); len(got) != 1 || document.String(got[0], "spec", "image") != "e" {
		t.Errorf("tag=v1: %v", got)
	}
	s.do("GET", trainer+"?tag=nope", nil).is(404)
	s.do("GET", trainer+"?hash_key=0000000000000000000000000000000000000000", nil).is(404)
	s.do("POST", "/api/v1/projects/demo/functions/other", `{"metadata":{"name":"trainer"}}`).is(400)
	s.do("GET", trainer+"?format=odd", nil).is(400).says("format")
	if minimal := s.do("GET", trainer+"?format=minimal", nil).is(200).json(); document.Get(minimal, "func", "spec", "image") != "d" {
		t.Errorf("minimal: %v", minimal)
	}
	s.do("DELETE", "/api/v2/projects/demo/functions/trainer", nil).is(204)
	s.do("DELETE", "/api/v1/projects/demo/functions/trainer", nil).is(204)
	s.do("GET", trainer, nil).is(404)
}

func TestFunctionNamesAreNormalisedWhenRead(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", "/api/v1/projects/demo/functions/my-fn", `{"kind":"job"}`).is(200)
	s.do("GET", "/api/v1/projects/demo/functions/My_Fn", nil).is(200)
	s.do("POST", "/api/v1/projects/demo/functions/raw_name", `{"kind":"job"}`).is(200)
	s.do("GET", "/api/v1/projects/demo/functions/raw_name", nil).is(200)
	s.do("GET", "/api/v1/projects/demo/functions/no_such", nil).is(404)
}

// submitJob stores a function and runs it; the answer's document is returned.
func (s *system) submitJob(task string) document.Object {
	s.t.Helper()
	s.do("POST", trainer+"?versioned=True", `{"kind":"job","metadata":{"name":"trainer","project":"demo"},"spec":{"image":"x","default_handler":"train"}}`).is(200)
	return document.Map(s.do("POST", "/api/v1/submit_job", `{"task":`+task+`}`,
		header{"x-mlrun-client-version", "1.10.0"}, header{"x-mlrun-client-python-version", "3.11.7"}).is(200).json(), "data")
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	s := start(t)
	doc := s.submitJob(`{"metadata":{"uid":"b1f0c6f0","project":"demo"},"spec":{"function":"demo/trainer","parameters":{"lr":0.1}}}`)
	if document.String(doc, "metadata", "uid") != "b1f0c6f0" || document.String(doc, "metadata", "name") != "trainer-train" ||
		document.String(doc, "metadata", "labels", "kind") != "job" || document.String(doc, "metadata", "labels", "mlrun/client_version") != "1.10.0" ||
		!strings.HasPrefix(document.String(doc, "spec", "function"), "demo/trainer@") || document.String(doc, "spec", "output_path") != "/data/artifacts/demo" {
		t.Errorf("%s", document.Encode(doc))
	}
	s.do("GET", runs+"/b1f0c6f0", nil).is(200)
	if state := s.do("GET", "/api/v1/projects/demo/logs/b1f0c6f0?offset=0&size=1048576", nil).is(200).header.Get("X-Mlrun-Run-State"); state != "created" {
		t.Errorf("log state %q", state)
	}
}

func TestSubmitRefusals(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", trainer, `{"kind":"job","metadata":{"name":"trainer","project":"demo"}}`).is(200)
	s.do("POST", "/api/v1/projects/demo/functions/here", `{"kind":"local","metadata":{"name":"here","project":"demo"}}`).is(200)
	for _, c := range []struct {
		body   string
		status int
		say    string
	}{
		{`{}`, 400, "need to include function/url and task"},
		{`{"task":{}}`, 400, "need to include function/url and task"},
		{`{"task":[]}`, 400, "task must be an object"},
		{`{"task":{"spec":{"function":"demo/none"}}}`, 404, "none"},
		{`{"task":{"spec":{"function":"nowhere/trainer"}}}`, 404, "nowhere"},
		{`{"task":{"spec":{"function":"hub://x"}}}`, 400, "hub://"},
		{`{"task":{"spec":{"function":3}}}`, 400, "spec.function must be a string"},
		{`{"task":{"spec":{"function":"demo/here"}}}`, 400, "Local runtimes can not be run through API"},
		{`{"task":{"metadata":{"uid":"big"},"spec":{"function":"demo/trainer","parameters":{"n":9223372036854775808}}}}`, 400, "exceeds int64"},
		{`{"task":{"spec":{"function":"demo/trainer","inputs":{"d":1}}}}`, 400, "inputs.d"},
		{`{"task":{"spec":{"function":"demo/trainer"}},"schedule":"0 * * * *"}`, 400, "schedules are not supported"},
		{`{"task":{"metadata":{"project":"demo"}},"function":{"kind":"job","spec":{"command":7}}}`, 400, "spec.command"},
	} {
		s.do("POST", "/api/v1/submit_job", c.body).is(c.status).says(c.say)
	}
	s.do("GET", runs+"/big", nil).is(404)
	if got := s.do("GET", runs+"?iter=yes", nil).is(200).items("runs"); len(got) != 0 {
		t.Errorf("a refused submission left %d runs", len(got))
	}
}

func TestUpdatesByDottedPaths(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r","labels":{"a":"1"}},"status":{"state":"running"}}`).is(200)
	s.do("PATCH", runs+"/u?iter=0", `{"status.results":{"x":0.5},"status.state":"completed","metadata.labels":{"b":"2"},"status.\\dotted.key\\":"v"}`).is(200)
	doc := document.Map(s.do("GET", runs+"/u", nil).is(200).json(), "data")
	if got := string(document.Encode(document.Get(doc, "status", "results"))); got != `{"x":0.5}` {
		t.Errorf("results %s", got)
	}
	if document.String(doc, "status", "dotted.key") != "v" || document.String(doc, "status", "state") != "completed" {
		t.Errorf("%s", document.Encode(doc))
	}
	for label, want := range map[string]int{"a": 0, "b": 1, "b=2": 1, "~B=~2": 1, "b=3": 0} {
		if got := s.do("GET", runs+"?label="+label, nil).is(200).items("runs"); len(got) != want {
			t.Errorf("label=%s finds %d, want %d", label, len(got), want)
		}
	}
	s.do("PATCH", runs+"/none", `{"status.state":"running"}`).is(404)
	s.do("PATCH", runs+"/u", `{"metadata.name":"other"}`).is(400)
	s.do("POST", runs+"/u", `{"metadata":{"name":"other"}}`).is(400)
	s.do("POST", runs+"/v", `{"metadata":{}}`).is(400)
	s.do("POST", "/api/run/demo/old", `{"metadata":{"name":"o"}}`).is(200)
	s.do("PATCH", "/api/v1/run/demo/old", `{"status.state":"running"}`).is(200)
	s.do("GET", "/api/v1/run/demo/old", nil).is(200).says(`"running"`)
}

func TestRunFilters(t *testing.T) {
	t.Parallel()
	s := start(t)
	for i, c := range []struct{ name, state string }{{"alpha", "completed"}, {"alpha", "error"}, {"al_pha", "running"}, {"beta", "completed"}} {
		at := document.Time(time.Now().Add(time.Duration(i-10) * time.Minute))
		s.do("POST", fmt.Sprintf("%s/u%d", runs, i), fmt.Sprintf(`{"metadata":{"name":%q},"status":{"state":%q,"start_time":%q}}`, c.name, c.state, at)).is(200)
	}
	s.do("POST", runs+"/u0?iter=1", `{"metadata":{"name":"alpha"},"status":{"state":"completed"}}`).is(200)
	old := document.Time(time.Now().AddDate(0, 0, -30))
	s.do("POST", runs+"/ancient", fmt.Sprintf(`{"metadata":{"name":"gamma"},"status":{"state":"completed","start_time":%q}}`, old)).is(200)
	for query, want := range map[string]int{
		"?name=alpha&iter=no": 2, "?name=~ALPHA&iter=no": 2, "?name=~_&iter=no": 1, "?name=~%25": 0, "?name=": 6,
		"?state=completed&iter=no": 3, "?state=completed&state=error&iter=no": 4, "?states=running": 1, "?uid=u1&uid=u3": 2,
		"?iter=yes": 6, "?name=alpha&iter=True": 3, "?iter=no": 3, "": 6, "?iter=no&last=2&name=~a": 2, "?start_time_from=2000-01-01T00:00:00&iter=no": 5,
		"?partition-by=name&partition-sort-by=updated&iter=no": 4, "?partition-by=project_and_name&partition-sort-by=created&max-partitions=1&iter=no": 1,
		"?unknown-parameter=1": 6,
	} {
		if got := s.do("GET", runs+query, nil).is(200).items("runs"); len(got) != want {
			t.Errorf("%s finds %d, want %d", query, len(got), want)
		}
	}
	if got := s.do("GET", "/api/v1/projects/*/runs?iter=no&name=beta", nil).is(200).items("runs"); len(got) != 1 {
		t.Errorf("all projects: %d", len(got))
	}
	if got := s.do("GET", "/api/v1/projects/demo/completed_runs?iter=no", nil).is(200).items("runs"); len(got) != 3 && len(got) != 2 {
		t.Errorf("completed_runs: %d", len(got))
	}
	if got := s.do("GET", "/api/v1/runs?project=demo&name=beta", nil).is(200).items("runs"); len(got) != 1 {
		t.Errorf("legacy list: %d", len(got))
	}
	for _, query := range []string{"?last=3&sort=no", "?partition-by=name", "?partition-by=odd&partition-sort-by=updated", "?state=odd", "?iter=maybe",
		"?page=0", "?page-size=-1", "?start_time_from=yesterday", "?label==", "?rows-per-partition=0&partition-by=name&partition-sort-by=created", "?format=odd"} {
		s.do("GET", runs+query, nil).is(400)
	}
	s.do("GET", runs+"?with-notifications=True", nil).is(501)
	s.do("GET", runs+"?with-notifications=False", nil).is(200)
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := start(t)
	const count = 60
	for i := range count {
		s.do("POST", fmt.Sprintf("%s/u%02d", runs, i), `{"metadata":{"name":"r","labels":{"n":"1"}}}`).is(200)
	}
	s.do("POST", runs+"/odd", `{"metadata":{"name":"other"}}`).is(200)
	first := s.do("GET", runs+"?label=n&iter=no&page=1&page-size=20", nil).is(200)
	token := document.String(first.json(), "pagination", "page-token")
	if len(first.items("runs")) != 20 || token == "" {
		t.Fatalf("%d items, token %q", len(first.items("runs")), token)
	}
	seen := map[string]bool{}
	pages := 0
	for a := first; ; pages++ {
		for _, doc := range a.items("runs") {
			seen[document.String(doc, "metadata", "uid")] = true
		}
		next := document.String(a.json(), "pagination", "page-token")
		if next == "" {
			break
		}
		a = s.do("GET", runs+"?page-token="+next, nil, header{"x-mlrun-client-version", "1.8.0"}).is(200)
	}
	if len(seen) != count || pages > 3 {
		t.Errorf("%d runs on %d further pages", len(seen), pages)
	}
	// A client of 1.7 keeps only pages that come with a token, or a first page that is everything.
	whole := s.do("GET", runs+"?label=n&iter=no&page=1&page-size=20", nil, header{"x-mlrun-client-version", "1.7.2"}).is(200)
	if len(whole.items("runs")) != count || document.Get(whole.json(), "pagination", "page-token") != nil {
		t.Errorf("a client of 1.7 gets %d runs: %v", len(whole.items("runs")), whole.json()["pagination"])
	}
	s.restart()
	s.do("GET", runs+"?page-token="+token+"&page-size=5", nil).is(200).says(`"page":2`)
	s.do("GET", runs+"?page-token="+token+"&page=3", nil).is(200).says(`"page":3`)
	beyond := s.do("GET", runs+"?label=n&page=9&page-size=20", nil).is(200)
	if got := string(document.Encode(beyond.json())); got != `{"pagination":{"page":null,"page-size":null,"page-token":null},"runs":[]}` {
		t.Errorf("beyond the end: %s", got)
	}
	s.do("GET", runs+"?page-token=nonsense", nil).is(404)
	s.do("GET", "/api/v1/projects/demo/functions?page-token="+token, nil).is(404)
	all := s.do("GET", runs, nil).is(200)
	if len(all.items("runs")) != count+1 || document.Map(all.json(), "pagination") == nil {
		t.Errorf("everything is %d runs, pagination %v", len(all.items("runs")), all.json()["pagination"])
	}
}

func TestLongListsAreWrittenWhole(t *testing.T) {
	t.Parallel()
	s := start(t)
	const count = 2345
	if testing.Short() {
		t.Skip("stores thousands of runs")
	}
	s.seed(count)
	for _, query := range []string{"?iter=yes", "?iter=yes&sort=no"} {
		a := s.do("GET", runs+query, nil).is(200)
		seen := map[string]bool{}
		for _, doc := range a.items("runs") {
			seen[document.String(doc, "metadata", "uid")] = true
		}
		if len(seen) != count || len(a.items("runs")) != count {
			t.Errorf("%s: %d runs, %d different", query, len(a.items("runs")), len(seen))
		}
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r","labels":{"kind":"job"}},"status":{"state":"running"}}`).is(200)
	s.do("POST", runs+"/u/abort", "").is(400)
	s.do("POST", runs+"/none/abort", "{}").is(404)
	first := s.do("POST", runs+"/u/abort?iter=0", `{"status.status_text":"enough"}`).is(202).json()
	second := s.do("POST", runs+"/u/abort?iter=0", `{}`).is(202).json()
	name := document.String(first, "metadata", "name")
	if name == "" || name != document.String(second, "metadata", "name") {
		t.Errorf("tasks %v and %v", first, second)
	}
	s.restart()
	if got := s.do("GET", "/api/v1/projects/demo/background-tasks/"+name, nil).is(200).json(); document.String(got, "status", "state") != "succeeded" {
		t.Errorf("task %v", got)
	}
	if got := s.do("GET", "/api/v1/projects/demo/background-tasks", nil).is(200).items("background_tasks"); len(got) != 1 {
		t.Errorf("%d tasks", len(got))
	}
	s.do("GET", "/api/v1/projects/demo/background-tasks/none", nil).is(404)
	s.do("GET", "/api/v1/background-tasks/none", nil).is(404)
	doc := document.Map(s.do("GET", runs+"/u", nil).is(200).json(), "data")
	if document.String(doc, "status", "state") != "aborted" || document.String(doc, "status", "status_text") != "enough" {
		t.Errorf("%s", document.Encode(doc))
	}
}

func TestDeleteRuns(t *testing.T) {
	t.Parallel()
	s := start(t)
	put := func(uid, name, state string) {
		s.do("POST", runs+"/"+uid, fmt.Sprintf(`{"metadata":{"name":%q},"status":{"state":%q}}`, name, state)).is(200)
	}
	put("a", "one", "completed")
	put("b", "one", "running")
	put("c", "two", "error")
	put("d", "three", "completed")
	s.do("POST", runs+"/a?iter=2", `{"metadata":{"name":"one"},"status":{"state":"completed"}}`).is(200)
	s.do("DELETE", runs+"/none", nil).is(200)
	s.do("DELETE", runs+"/b", nil).is(400)
	s.do("DELETE", runs+"/a", nil).is(200)
	s.do("GET", runs+"/a?iter=2", nil).is(404)
	s.do("DELETE", runs+"?state=running", nil).is(400)
	s.do("DELETE", runs+"?name=two&days_ago=0", nil).is(200)
	s.do("GET", runs+"/c", nil).is(404)
	s.do("DELETE", runs, nil).is(400).says("1 of the matching runs")
	s.do("GET", runs+"/d", nil).is(404)
	s.do("GET", runs+"/b", nil).is(200)
	s.do("PATCH", runs+"/b", `{"status.state":"completed"}`).is(200)
	s.do("DELETE", "/api/v1/runs?project=demo", nil).is(200)
	s.do("GET", runs+"/b", nil).is(404)
}

func TestBuildStatus(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", trainer, `{"kind":"job","metadata":{"name":"trainer","project":"demo"},"spec":{"image":"mlrun/mlrun"}}`).is(200)
	a := s.do("GET", "/api/v1/build/status?name=trainer&project=demo&tag=&logs=no&offset=0&last_log_timestamp=0.0&verbose=no", nil).is(200)
	if a.header.Get("x-mlrun-function-status") != "ready" || a.header.Get("function_image") != "mlrun/mlrun" || len(a.body) != 0 {
		t.Errorf("%v %q", a.header, a.body)
	}
	s.do("GET", "/api/v1/build/status?name=trainer&project=demo&offset=8", nil).is(200).says("to build")
	s.do("GET", "/api/v1/build/status?name=none&project=demo&logs=no", nil).is(404)
	s.do("GET", "/api/v1/build/status", nil).is(400)
	built := s.do("POST", "/api/v1/build/function", `{"function":{"kind":"job","metadata":{"name":"trainer","project":"demo"},"spec":{"image":"i"}},"with_mlrun":"no"}`).is(200).json()
	if !document.Bool(built, "ready") || document.String(built, "data", "spec", "image") != "i" {
		t.Errorf("%v", built)
	}
	s.do("POST", "/api/v1/build/function", `{"function":{"kind":"job","metadata":{"name":"trainer","project":"none"}}}`).is(404)
	s.do("POST", "/api/v1/build/function", `{}`).is(400).says("Runtime error")
	s.do("POST", "/api/v1/build/function", `{"function":{"kind":"nuclio","metadata":{"name":"n"}}}`).is(501).says("millrace server")
}

func TestClientSpec(t *testing.T) {
	t.Parallel()
	s := start(t)
	spec := s.do("GET", "/api/v1/client-spec", nil).is(200).json()
	if spec["version"] != api.DefaultVersion || !strings.HasPrefix(document.String(spec, "artifact_path"), "/") || spec["namespace"] == "" || spec["api_url"] != s.url {
		t.Errorf("%v", spec)
	}
	for version, set := range map[string]bool{"1.7.2": true, "1.9.0": true, "1.10.0": false, "1.12.1": false, "0.0.0+unstable": false, "": false, "2.0.0": false} {
		spec := s.do("GET", "/api/v1/client-spec", nil, header{"x-mlrun-client-version", version}).is(200).json()
		if (spec["kfp_url"] != "") != set {
			t.Errorf("client %s gets kfp_url %v", version, spec["kfp_url"])
		}
	}
	s.do("GET", "/api/v1/frontend-spec", nil).is(200).says("abortable_function_kinds")
}

func TestTokens(t *testing.T) {
	t.Parallel()
	const token = "0f8fad5b-d9cb-469f-a165-70867728950e"
	s := &system{t: t, dir: t.TempDir()}
	s.open(func(o *api.Options) { o.Token = token })
	for _, path := range []string{"/api/v1/healthz", "/api/v1/client-spec", "/api/openapi.json"} {
		s.do("GET", path, nil).is(200)
	}
	s.do("GET", "/api/v1/projects", nil).is(401).says("MLRunUnauthorizedError")
	s.do("GET", "/api/v1/projects", nil, header{"Authorization", "Bearer wrong"}).is(401)
	s.do("GET", "/api/v1/projects", nil, header{"Authorization", "Basic " + token}).is(401)
	s.do("GET", "/api/v1/projects", nil, header{"Authorization", "Bearer " + token}).is(200)
	s.do("GET", "/api/v1/projects", nil, header{"Cookie", `session=j:{"sid": "` + token + `"}`}).is(200)
	s.do("GET", "/api/v1/projects", nil, header{"Cookie", `session=j:{"sid": "wrong-wrong-wrong-wrong"}`}).is(401)
	s.do("POST", "/api/v1/projects", `{"metadata":{"name":"x"}}`, header{"Origin", "https://elsewhere.example"}, header{"Authorization", "Bearer " + token}).is(201)
}

func TestAnOpenServerRefusesForeignPages(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", "/api/v1/submit_job", `{}`, header{"Origin", "https://elsewhere.example"}, header{"Sec-Fetch-Site", "cross-site"}).is(403)
	s.do("GET", "/api/v1/projects", nil, header{"Origin", s.url}).is(200)
	s.do("POST", "/api/v1/projects", `{"metadata":{"name":"same"}}`, header{"Origin", s.url}, header{"Sec-Fetch-Site", "same-origin"}).is(201)
}
