package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/api"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

const demoLogs = "/api/v1/projects/demo/logs"

// seed stores many runs of one project directly.
func (s *system) seed(count int) {
	s.t.Helper()
	err := s.store.Tx(s.t.Context(), func(tx *store.Tx) error {
		for i := range count {
			doc := document.Object{"metadata": document.Object{"name": fmt.Sprintf("r%d", i%7)}, "status": document.Object{"state": "completed"}}
			if _, err := tx.RunPut(s.t.Context(), run.Key{Project: "demo", UID: fmt.Sprintf("s%06d", i)}, doc); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("GET", demoLogs+"/u", nil).is(404)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"},"status":{"state":"running"}}`).is(200)
	empty := s.do("GET", demoLogs+"/u?offset=0&size=1048576", nil).is(200)
	if len(empty.body) != 0 || empty.header.Get("x-mlrun-run-state") != "running" {
		t.Errorf("%q %v", empty.body, empty.header)
	}
	s.do("POST", demoLogs+"/u?append=yes", []byte("grüße \xff\x00\n")).is(200)
	s.do("POST", demoLogs+"/u?append=yes", "second\n").is(200)
	const whole = "grüße \xff\x00\nsecond\n"
	for _, c := range []struct{ query, want string }{
		{"", whole}, {"?size=-1", whole}, {"?offset=0&size=3", whole[:3]}, {"?offset=3&size=1", whole[3:4]}, {"?offset=9", whole[9:]},
		{"?offset=1000", ""}, {"?size=0", ""}, {fmt.Sprintf("?offset=%d", len(whole)), ""}, {"?offset=9223372036854775807&size=9223372036854775807", ""},
	} {
		if a := s.do("GET", demoLogs+"/u"+c.query, nil).is(200); string(a.body) != c.want {
			t.Errorf("%s: %q, want %q", c.query, a.body, c.want)
		}
	}
	s.do("GET", demoLogs+"/u/size", nil).is(200).says(fmt.Sprintf(`{"size":%d}`, len(whole)))
	s.do("GET", demoLogs+"/none/size", nil).is(404)
	s.do("GET", "/api/v1/log/demo/u", nil).is(200).says("second")
	for _, query := range []string{"?offset=-1", "?size=-2", "?offset=x", "?attempt=-1", "?size=99999999999999999999"} {
		s.do("GET", demoLogs+"/u"+query, nil).is(400)
	}
	s.do("POST", demoLogs+"/u?append=no", "new").is(200)
	if a := s.do("GET", demoLogs+"/u", nil).is(200); string(a.body) != "new" {
		t.Errorf("after replacing: %q", a.body)
	}
	for _, uid := range []string{"..%2f..%2fx", "%2e%2e", "a%00b", "a%2fb", strings.Repeat("x", 300)} {
		if a := s.do("POST", demoLogs+"/"+uid, "evil"); a.status != 400 && a.status != 404 {
			t.Errorf("%s: %d", uid, a.status)
		}
	}
}

// A watcher does what clients do: it asks for the next piece until the state is
// final and nothing comes. It must have every byte then.
func TestAWatcherSeesEveryByte(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"},"status":{"state":"running"}}`).is(200)
	var written bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			for i := range 200 {
				line := fmt.Sprintf("%d grüße 世界 🎉\n", i)
				written.WriteString(line)
				if err := s.logs.Append(context.Background(), "demo", "u", strings.NewReader(line), false); err != nil {
					return err
				}
			}
			_, err := s.store.RunUpdate(context.Background(), run.Key{Project: "demo", UID: "u"}, document.Object{"status.state": "completed"})
			return err
		}()
	}()
	var got []byte
	for {
		a := s.do("GET", fmt.Sprintf("%s/u?offset=%d&size=7", demoLogs, len(got)), nil).is(200)
		got = append(got, a.body...)
		if len(a.body) == 0 && a.header.Get("x-mlrun-run-state") == "completed" {
			break
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, written.Bytes()) {
		t.Errorf("%d bytes of %d", len(got), written.Len())
	}
}

func TestFollowingALogEndsWithTheRun(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"},"status":{"state":"running"}}`).is(200)
	s.do("POST", demoLogs+"/u", "one\n").is(200)
	req, _ := http.NewRequestWithContext(t.Context(), "GET", s.url+"/api/v1/millrace/projects/demo/logs/u?follow=true", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q %v, want %q", lines.Text(), lines.Err(), want)
		}
	}
	next("one")
	s.do("POST", demoLogs+"/u", "two\n").is(200)
	next("two")
	s.do("POST", demoLogs+"/u", "three\n").is(200)
	s.do("PATCH", runs+"/u", `{"status.state":"completed"}`).is(200)
	next("three")
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the end: %q %v", lines.Text(), lines.Err())
	}
	s.do("GET", "/api/v1/millrace/projects/demo/logs/u?offset=4", nil).is(200).says("two\nthree")
	s.do("GET", "/api/v1/millrace/projects/demo/logs/none?follow=true", nil).is(404)
}

func TestDrainEndsFollowersAndRefuses(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"},"status":{"state":"running"}}`).is(200)
	resp, err := http.Get(s.url + "/api/v1/millrace/projects/demo/logs/u?follow=yes")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.server.Drain()
	s.server.Drain()
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Errorf("the follower ended with %v", err)
	}
	a := s.do("GET", "/api/v1/healthz", nil).is(503).says("shutting down")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestAFullServerAnswers503(t *testing.T) {
	t.Parallel()
	s := &system{t: t, dir: t.TempDir()}
	s.open(func(o *api.Options) { o.MaxRequests = 1 })
	s.do("POST", "/api/v1/projects", `{"metadata":{"name":"demo"}}`).is(201)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"},"status":{"state":"running"}}`).is(200)
	resp, err := http.Get(s.url + "/api/v1/millrace/projects/demo/logs/u?follow=yes")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.do("GET", "/api/v1/healthz", nil).is(503).says("busy")
}

func TestBodiesHaveALimit(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *api.Options) { o.MaxBody = 100_000 })
	big := `{"metadata":{"name":"r"},"spec":{"x":"` + strings.Repeat("a", 200_000) + `"}}`
	s.do("POST", runs+"/u", big).is(413).says("100000 bytes")
	req, _ := http.NewRequestWithContext(t.Context(), "POST", s.url+runs+"/u", io.MultiReader(strings.NewReader(big))) // chunked: no length
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("a chunked body: %d", resp.StatusCode)
	}
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"},"spec":{"x":"`+strings.Repeat("a", 90_000)+`"}}`).is(200)
}

func TestForeignHostNamesAreRefusedOnLoopback(t *testing.T) {
	t.Parallel()
	s := start(t)
	for host, want := range map[string]int{"rebound.example": 403, "rebound.example:80": 403, "localhost:1234": 200, "app.localhost": 200, "[::1]:9": 200, "127.0.0.1": 200} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", s.url+"/api/v1/projects", nil)
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

// panicking is a store whose reads of projects panic.
type panicking struct{ api.Store }

func (panicking) ProjectGet(context.Context, string) (document.Object, error) { panic("secret value") }

func (panicking) ProjectList(context.Context, store.ProjectFilter) ([]document.Object, error) {
	return nil, errors.New("secret value")
}

func TestInternalErrorsShowNothing(t *testing.T) {
	t.Parallel()
	s := start(t)
	handler := api.New(api.Options{Store: panicking{s.store}, Logs: s.logs, ArtifactPath: "/a"})
	for _, path := range []string{"/api/v1/projects/demo", "/api/v1/projects"} {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest("GET", path, nil))
		if body := recorder.Body.String(); recorder.Code != 500 || strings.Contains(body, "secret") || !strings.Contains(body, "internal error") {
			t.Errorf("%s: %d %s", path, recorder.Code, body)
		}
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest("POST", "/api/v1/submit_job", strings.NewReader("{}")))
	if recorder.Code != 501 {
		t.Errorf("submitting without a controller: %d", recorder.Code)
	}
}

func TestProjects(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("GET", "/api/v1/projects/default", nil).is(200)
	doc := s.do("GET", "/api/v1/projects/demo", nil).is(200).json()
	if document.String(doc, "status", "state") != "online" || document.String(doc, "metadata", "created") == "" {
		t.Errorf("%s", document.Encode(doc))
	}
	s.do("PUT", "/api/v1/projects/demo", `{"metadata":{"name":"demo","labels":{"a":"b"}},"spec":{"description":"d","goals":"g","params":{"p":[1]}}}`).is(200)
	s.do("PATCH", "/api/v1/projects/demo", `{"spec":{"goals":"h","params":{"p":[2]}}}`, header{"x-mlrun-patch-mode", "additive"}).is(200)
	patched := s.do("PATCH", "/api/v1/projects/demo", `{"spec":{"description":"e"}}`, header{"x-mlrun-patch-mode", "replace"}).is(200).json()
	if got := string(document.Encode(document.Get(patched, "spec", "params", "p"))); got != "[1,2]" ||
		document.String(patched, "spec", "goals") != "h" || document.String(patched, "spec", "description") != "e" {
		t.Errorf("%s", document.Encode(patched))
	}
	s.do("PATCH", "/api/v1/projects/none", `{}`).is(404)
	s.do("PATCH", "/api/v1/projects/demo", `{}`, header{"x-mlrun-patch-mode", "odd"}).is(400)
	names := s.do("GET", "/api/v1/projects?format=name_only", nil).is(200)
	if got := names.json()["projects"].([]any); !slices.Contains(got, any("demo")) || !slices.Contains(got, any("default")) {
		t.Errorf("%v", got)
	}
	if got := s.do("GET", "/api/v1/projects?label=a=b&format=full", nil).is(200).items("projects"); len(got) != 1 {
		t.Errorf("label filter: %d", len(got))
	}
	s.do("GET", "/api/v1/projects?format=minimal&state=online", nil).is(200)
	s.do("GET", "/api/v1/projects?format=odd", nil).is(400)
	s.do("GET", "/api/v1/project-summaries/demo", nil).is(200).says(`"name":"demo"`)
	s.do("GET", "/api/v1/project-summaries/none", nil).is(404)
	if got := s.do("GET", "/api/v1/project-summaries", nil).is(200).items("project_summaries"); len(got) != 2 {
		t.Errorf("%d summaries", len(got))
	}
}

func TestDeleteProjects(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("DELETE", "/api/v2/projects/none", nil, header{"x-mlrun-deletion-strategy", "cascade"}).is(204)
	s.do("DELETE", "/api/v2/projects/demo", nil, header{"x-mlrun-deletion-strategy", "odd"}).is(400)
	s.do("POST", trainer, `{"kind":"job"}`).is(200)
	for _, strategy := range []string{"", "restrict", "restricted", "check"} {
		s.do("DELETE", "/api/v2/projects/demo", nil, header{"x-mlrun-deletion-strategy", strategy}).is(412).says("functions")
	}
	task := s.do("DELETE", "/api/v2/projects/demo", nil, header{"x-mlrun-deletion-strategy", "cascading"}).is(202).json()
	s.do("GET", "/api/v1/background-tasks/"+document.String(task, "metadata", "name"), nil).is(200).says("succeeded")
	s.do("GET", "/api/v1/background-tasks?name="+document.String(task, "metadata", "name"), nil).is(200).says("succeeded")
	s.do("GET", "/api/v1/projects/demo", nil).is(404)
	s.do("POST", "/api/v1/projects", `{"metadata":{"name":"empty"}}`).is(201)
	s.do("DELETE", "/api/v2/projects/empty", nil, header{"x-mlrun-deletion-strategy", "check"}).is(204)
	s.do("GET", "/api/v1/projects/empty", nil).is(200)
	s.do("DELETE", "/api/v1/projects/empty", nil, header{"x-mlrun-deletion-strategy", "restricted"}).is(202)
}

func TestRuntimeResources(t *testing.T) {
	t.Parallel()
	s := start(t)
	const path = "/api/v1/projects/demo/runtime-resources"
	s.do("GET", path, nil).is(200).says("[]")
	s.do("POST", runs+"/u", `{"metadata":{"name":"r","labels":{"kind":"job","team":"ml"}},"status":{"state":"running"}}`).is(200)
	s.do("POST", runs+"/here", `{"metadata":{"name":"r","labels":{"kind":"local"}},"status":{"state":"running"}}`).is(200)
	s.do("GET", path, nil).is(200).says(`"mlrun/uid":"u"`).says(`"phase":"Running"`)
	s.do("GET", path+"?kind=dask", nil).is(200).says("[]")
	s.do("GET", path+"?kind=odd", nil).is(400)
	s.do("GET", path+"?label-selector=team%3Dml,kind&group-by=job", nil).is(200).says(`{"demo":{"u":`)
	s.do("GET", path+"?label-selector=team%3Dother&group-by=project", nil).is(200).says(`{}`)
	s.do("GET", path+"?label-selector=team+in+(a)", nil).is(400)
	s.do("DELETE", path+"?object-id=u", nil).is(200).says("{}")
	s.do("GET", runs+"/u", nil).is(200).says(`"running"`)
	s.do("DELETE", path+"?object-id=u&force=True", nil).is(200).says(`"demo"`)
	s.do("GET", runs+"/u", nil).is(200).says(`"aborted"`)
}

func TestNotifications(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"},"status":{"state":"running"}}`).is(200)
	s.do("PUT", runs+"/u/notifications", `{"notifications":[{"name":"n","kind":"slack","when":"completed","secret_params":{"url":"plain"}}]}`).is(200)
	got := s.do("GET", runs+"/u?format=notifications", nil).is(200).says(`"pending"`).says(`"severity":"info"`)
	if strings.Contains(string(got.body), "plain") {
		t.Errorf("a secret is shown: %s", got.body)
	}
	for _, bad := range []string{`{"notifications":[{"name":"n"},{"name":"n"}]}`, `{"notifications":[{}]}`, `{"notifications":[3]}`, `{"notifications":3}`} {
		s.do("PUT", runs+"/u/notifications", bad).is(400)
	}
	s.do("PUT", runs+"/none/notifications", `{"notifications":[]}`).is(404)
	s.do("POST", runs+"/u/push-notifications", nil).is(501)
}

func TestWhatIsNotServedIsAnsweredCleanly(t *testing.T) {
	t.Parallel()
	s := start(t)
	const p = "/api/v1/projects/demo"
	for _, c := range []struct {
		method, path string
		status       int
		say          string
	}{
		{"GET", "/api/v1/hub/sources", 200, "[]"}, {"GET", "/api/v1/hub/sources/x", 404, "hub source"}, {"POST", "/api/v1/hub/sources", 501, "hub"},
		{"GET", p + "/schedules", 200, `{"schedules":[]}`}, {"POST", p + "/schedules", 501, "schedules"}, {"DELETE", p + "/schedules/x", 204, ""},
		{"GET", p + "/secret-keys?provider=kubernetes", 200, `{"provider":"kubernetes","secret_keys":[]}`}, {"GET", p + "/secrets", 403, "values"},
		{"POST", "/api/v1/user-secrets", 400, "secrets"}, {"DELETE", p + "/secrets?provider=kubernetes", 204, ""}, {"GET", p + "/api-gateways", 200, `{"api_gateways":{}}`},
		{"POST", p + "/nuclio/x/deploy", 501, "millrace server"}, {"GET", p + "/pipelines", 200, `"total_size":0`}, {"POST", p + "/pipelines", 501, "project.run(engine="},
		{"POST", "/api/v1/start/function", 501, "dask"}, {"GET", "/api/v1/alert-templates", 200, "[]"}, {"GET", p + "/datastore-profiles", 200, "[]"},
		{"POST", "/api/v1/operations/migrations", 200, ""}, {"GET", p + "/feature-sets", 404, "Not Found"},
	} {
		s.do(c.method, c.path, nil).is(c.status).says(c.say)
	}
	s.do("POST", "/api/v1/authorization/verifications", `{"resource":"/projects/demo","action":"read"}`).is(200).says("null")
}

func TestTheDescriptionIsValidAndComplete(t *testing.T) {
	t.Parallel()
	v, err := description()
	if err != nil {
		t.Fatal(err)
	}
	describing.Lock()
	ok, errs := v.ValidateDocument()
	describing.Unlock()
	if !ok {
		for _, e := range errs {
			t.Errorf("%s: %s %v", e.Message, e.Reason, e.SchemaValidationErrors)
		}
	}
	s := start(t)
	doc := s.do("GET", "/api/openapi.json", nil).is(200).json()
	ids := map[string]bool{}
	for path, item := range doc["paths"].(document.Object) {
		concrete := strings.NewReplacer("{project}", "demo", "{name}", "nothing", "{uid}", "nothing", "{key}", "nothing", "{tag}", "nothing", "{upload}", strings.Repeat("0", 32), "{digest}", "sha256-"+strings.Repeat("0", 64)).Replace(path)
		if strings.Contains(concrete, "{") {
			t.Errorf("%s: unknown parameter", path)
		}
		for method, op := range item.(document.Object) {
			id := document.String(op.(document.Object), "operationId")
			if ids[id] {
				t.Errorf("operationId %s twice", id)
			}
			ids[id] = true
			if a := s.do(strings.ToUpper(method), concrete, nil); a.status == 405 || string(a.body) == `{"detail":"Not Found"}` || a.status == 500 {
				t.Errorf("%s %s is described and answers %d %s", method, path, a.status, a.body)
			}
		}
	}
	for _, must := range []string{"submitJob", "listRuns", "storeFunction", "getLog", "storeArtifactV2", "deleteProjectV2", "followLog"} {
		if !ids[must] {
			t.Errorf("%s is not described: %v", must, ids)
		}
	}
}

// No mistake of a caller is answered with a 5xx other than 501: clients repeat
// requests that are, and the user waits.
func TestMistakesAreNeverServerErrors(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"},"status":{"state":"running"}}`).is(200)
	s.do("POST", trainer, `{"kind":"job"}`).is(200)
	random := rand.New(rand.NewPCG(1, 2))
	values := []string{"", "0", "-1", "1", "99999999999999999999", "x", "true", "nan", "%00", "%ff", "..", "*", "~", "~%25_", "'", `"`, "a=b", "=", "=b", "~=~",
		"2024-10-23T08:15:52", "2024", "9999-12-31T23:59:59+14:00", "0001-01-01", "%E4%B8%96", "demo", "u", "trainer", strings.Repeat("z", 5000), "%zz", ";", "null", "{}"}
	bodies := []any{nil, "", "null", "{}", "[]", "3", `"x"`, "{", "NaN", `{"metadata":null}`, `{"metadata":{"name":3}}`, `{"metadata":{"name":"r","labels":[1]}}`,
		`{"metadata":{"name":"r","labels":{"a":{"b":[1]}}},"spec":[],"status":{"state":7}}`, `{"status.state":{}}`, `{"status":3,"status.state":"running"}`, `{"":1,".":2,"a..b":3,"\\":4}`,
		`{"task":{"metadata":{"project":["x"]},"spec":{"function":"///:@"}}}`, `{"task":{"spec":{"function":"demo/trainer","parameters":[]}}}`,
		`{"function":{"kind":"nope","metadata":7}}`, `{"kind":"artifact","identifiers":[{"key":[]}]}`, `{"kind":"artifact","identifiers":3}`,
		`{"metadata":{"key":"k","iter":"x","tree":7},"spec":{"producer":3}}`, `{"metadata":{"key":"k","project":"demo"},"spec":{"target_path":[]}}`, `{"a":` + strings.Repeat("[", 300),
		"\xff\xfe", `{"a":1,"a":2}`, `{"notifications":[null]}`, `{"metadata":{"name":"` + strings.Repeat("n", 3000) + `"}}`}
	doc := s.do("GET", "/api/v1/openapi.json", nil).is(200).json()
	paths := make([]string, 0)
	for path := range doc["paths"].(document.Object) {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	rounds := 12
	if testing.Short() {
		rounds = 2
	}
	for _, path := range paths {
		for method, op := range document.Map(doc, "paths", path) {
			for range rounds {
				s.mistake(random, strings.ToUpper(method), path, op.(document.Object), values, bodies)
			}
		}
	}
	s.do("GET", "/api/v1/projects", nil).is(200)
}

// mistake sends one request made of random parts.
func (s *system) mistake(random *rand.Rand, method, path string, op document.Object, values []string, bodies []any) {
	s.t.Helper()
	pick := func() string { return values[random.IntN(len(values))] }
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if !strings.HasPrefix(segment, "{") {
			continue
		}
		if known := map[string]string{"{project}": "demo", "{name}": "trainer", "{uid}": "u", "{key}": "k", "{tag}": "v1", "{digest}": "sha256-" + strings.Repeat("0", 64)}[segment]; random.IntN(3) > 0 {
			segments[i] = known
		} else if segments[i] = pick(); strings.Contains(segments[i], "%zz") {
			segments[i] = "zz"
		}
		segments[i] = strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D").Replace(segments[i])
	}
	var query []string
	for _, p := range document.List(op, "parameters") {
		if param := p.(document.Object); param["in"] == "query" && param["name"] != "follow" && random.IntN(4) == 0 { // a followed log ends with its run
			query = append(query, url.QueryEscape(document.String(param, "name"))+"="+strings.ReplaceAll(pick(), `"`, "%22"))
		}
	}
	target := strings.Join(segments, "/")
	if len(query) > 0 {
		target += "?" + strings.Join(query, "&")
	}
	body := bodies[random.IntN(len(bodies))]
	if method == "GET" {
		body = nil
	}
	if a := s.do(method, target, body); a.status >= 500 && a.status != 501 {
		s.t.Errorf("%s %.300s %.100v: %d %.300s", method, target, body, a.status, a.body)
	}
}

func TestConcurrentWritersOfOneFunction(t *testing.T) {
	t.Parallel()
	s := start(t)
	results := make(chan int, 16)
	for i := range 16 {
		go func() {
			resp, err := http.Post(s.url+trainer+"?versioned=True", "", strings.NewReader(fmt.Sprintf(`{"kind":"job","spec":{"image":"%d"}}`, i%4)))
			if err != nil {
				results <- 0
				return
			}
			resp.Body.Close()
			results <- resp.StatusCode
		}()
	}
	for range 16 {
		if status := <-results; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if got := s.do("GET", "/api/v1/projects/demo/functions", nil).is(200).items("funcs"); len(got) != 4 {
		t.Errorf("%d versions", len(got))
	}
}

func TestTheAccessLogSaysWhatWasAsked(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := start(t)
	logged := api.New(api.Options{Store: s.store, Logs: s.logs, ArtifactPath: "/a", Logger: debugLogger(&out)})
	request := httptest.NewRequest("GET", "/api/v1/projects/demo", nil)
	request.Header.Set("X-Request-Id", strings.Repeat("r", 50))
	logged.ServeHTTP(httptest.NewRecorder(), request)
	var line struct {
		Request, Method, Path string
		Status                int
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Status != 200 || line.Method != "GET" || len(line.Request) != 36 {
		t.Errorf("%s %v", out.Bytes(), err)
	}
}
