package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/client"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

const ours = "/api/v1/millrace/projects/demo/runs"

// TestOrderOfHyperparameters: a grid depends on the order in which its names are
// written, which a decoded document has lost.
func TestOrderOfHyperparameters(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", trainer, `{"kind":"job","metadata":{"name":"trainer","project":"demo"}}`).is(200)
	submit := func(rest, own string) []string {
		t.Helper()
		s.do("POST", "/api/v1/submit_job", fmt.Sprintf(`{"schedule":null,%s"task":{"metadata":{"project":"demo"},"spec":{"function":"demo/trainer"%s}}}`, own, rest)).is(200)
		return s.control.names
	}
	if got := submit(`,"hyperparams":{"zebra":[1,{"q":1}],"ant":["hyperparams"],"\u006d\"id":[[{"x":2}]]}`, ""); !slices.Equal(got, []string{"zebra", "ant", `m"id`}) {
		t.Errorf("as written: %q", got)
	}
	if got := submit(`,"hyperparams":{"a":[1],"b":[2]}`, `"millrace":{"hyperparam_names":["b","a"]},`); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("as said: %q", got)
	}
	if got := submit(`,"parameters":{"a":1}`, ""); len(got) != 0 {
		t.Errorf("without hyperparams: %q", got)
	}
	s.do("POST", "/api/v1/submit_job", `{"millrace":{"hyperparam_names":[1]},"task":{"metadata":{"project":"demo"},"spec":{"function":"demo/trainer"}}}`).is(400).says("millrace.hyperparam_names[0] must be a string")
	s.do("POST", "/api/v1/submit_job", `{"millrace":{"hyperparam_names":"a"},"task":{"metadata":{"project":"demo"},"spec":{"function":"demo/trainer"}}}`).is(400).says("millrace.hyperparam_names must be")
}

func TestIterations(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"}}`).is(200)
	var changes []store.ChildChange
	for i := range 1500 {
		changes = append(changes, store.ChildChange{Iter: i + 1, Change: func(doc document.Object) (document.Object, error) {
			run.Merge(doc, document.Object{"results": document.Object{"acc": float64((i * 7) % 1500)}, "parameters": document.Object{"rate": i}})
			document.Set(doc, "completed", "status", "state")
			document.Set(doc, []any{i, i + 1}, "status", "log")
			return doc, nil
		}})
	}
	if err := s.store.Tx(t.Context(), func(tx *store.Tx) error {
		return tx.RunChildren(t.Context(), run.Key{Project: "demo", UID: "u"}, changes)
	}); err != nil {
		t.Fatal(err)
	}
	list := func(query string) ([]document.Object, bool) {
		t.Helper()
		answer := s.do("GET", ours+"/u/iterations"+query, nil).is(200)
		return answer.items("iterations"), document.Bool(answer.json(), "more")
	}
	items, more := list("")
	if len(items) != 1000 || !more {
		t.Errorf("%d items, more %v", len(items), more)
	}
	got := string(document.Encode(document.Object{"rows": []any{items[0]["iter"], items[0]["state"], items[0]["parameters"], items[0]["results"], items[0]["log"]}}))
	if want := `{"rows":[1,"completed",{"rate":0},{"acc":0.0},[0,1]]}`; strings.ReplaceAll(strings.ReplaceAll(got, ": ", ":"), ", ", ",") != want {
		t.Errorf("%s, not %s", got, want)
	}
	if items, more = list("?offset=1000"); len(items) != 500 || more {
		t.Errorf("the rest: %d items, more %v", len(items), more)
	}
	if items, more = list("?limit=0&sort=output.acc"); len(items) != 1500 || more {
		t.Errorf("all: %d items, more %v", len(items), more)
	}
	if items, _ = list("?offset=2000"); len(items) != 0 {
		t.Errorf("behind the end: %d items", len(items))
	}
	s.iterationsByClient()
	items, more = list("?sort=-output.acc&limit=2")
	if len(items) != 2 || !more || document.Map(items[0], "results")["acc"] == document.Map(items[1], "results")["acc"] {
		t.Errorf("%v, more %v", items, more)
	}
	if first, _ := document.ToFloat(document.Map(items[0], "results")["acc"]); first != 1499 {
		t.Errorf("the largest is %v", first)
	}
	if items, _ = list("?state=error"); len(items) != 0 {
		t.Errorf("%d failed", len(items))
	}
	for query, say := range map[string]string{
		"?sort=acc": "sort must be iter", "?sort=output.": "sort must be iter", "?sort=-": "sort must be iter", "?sort=output.a%22b": "quotation mark", "?sort=spec.x": "sort must be iter",
		"?state=fast": "parameter state must be one of", "?limit=-1": "parameter limit must be at least 0", "?limit=10001": "parameter limit must be at most 10000",
		"?limit=x": "parameter limit must be an integer", "?offset=-1": "parameter offset must be at least 0", "?offset=99999999999": "parameter offset must be at most",
	} {
		s.do("GET", ours+"/u/iterations"+query, nil).is(400).says(say)
	}
	s.do("GET", ours+"/none/iterations", nil).is(404)
}

// TestSearchRefusals: what cannot be steered, resumed or told about is said in one
// sentence.
func TestSearchRefusals(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", runs+"/u", `{"metadata":{"name":"r"},"status":{"state":"running"}}`).is(200)
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		say          string
	}{
		{"PATCH", "/u/search", nil, 400, "the body must be a JSON object"},
		{"PATCH", "/u/search", `[]`, 400, "the body must be a JSON object"},
		{"PATCH", "/u/search", `{`, 400, "bad JSON body"},
		{"PATCH", "/u/search", `{}`, 400, "nothing is changed"},
		{"PATCH", "/u/search", `{"parallel":0}`, 400, "parallel must be a whole number from 1 on"},
		{"PATCH", "/u/search", `{"parallel":"4"}`, 400, "parallel must be a whole number from 1 on"},
		{"PATCH", "/u/search", `{"max_iterations":1.5}`, 400, "max_iterations must be a whole number"},
		{"PATCH", "/u/search", `{"speed":1}`, 400, "speed is not known"},
		{"PATCH", "/u/search", `{"stop_condition":"__import__('os')"}`, 400, "stop"},
		{"PATCH", "/u/search", `{"stop_condition":7}`, 400, "stop_condition must be a string"},
		{"PATCH", "/u/search", `{"queue":[]}`, 400, "nothing is changed"},
		{"PATCH", "/u/search", `{"queue":[1]}`, 400, "queue must be parameters"},
		{"PATCH", "/u/search", `{"queue":{}}`, 400, "queue must be parameters"},
		{"PATCH", "/u/search", `{"parallel":2}`, 409, "run u is not an iterative task"},
		{"PATCH", "/none/search", `{"parallel":2}`, 404, "none"},
		{"GET", "/u/search", nil, 409, "run u is not an iterative task"},
		{"GET", "/none/search", nil, 404, "none"},
		{"POST", "/u/resume", nil, 409, "run u is not an iterative task"},
		{"POST", "/none/resume", `{}`, 404, "none"},
	} {
		s.do(c.method, ours+c.path, c.body).is(c.status).says(c.say)
	}
}

// iterationsByClient reads the iterations of the run u as our client does.
func (s *system) iterationsByClient() {
	s.t.Helper()
	c, err := client.New(client.Options{URL: s.url})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	for _, limit := range []int{0, 1, 1400, 2000} {
		want := limit
		if limit == 0 || limit > 1500 {
			want = 1500
		}
		n := int64(0)
		for item, err := range c.Iterations(s.t.Context(), run.Key{Project: "demo", UID: "u"}, client.IterationQuery{Sort: "-output.acc", Limit: limit}) {
			if err != nil {
				s.t.Fatal(err)
			}
			if acc, _ := document.Int(item, "results", "acc"); acc != 1499-n {
				s.t.Errorf("at %d is %d", n, acc)
			}
			n++
		}
		if int(n) != want {
			s.t.Errorf("with limit %d there are %d", limit, n)
		}
	}
}
