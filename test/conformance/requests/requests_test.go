package requests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/store/storetest"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func load(t *testing.T) []Case {
	t.Helper()
	cases, err := Load(os.DirFS("cases"))
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// TestServer sends all cases to one server.
func TestServer(t *testing.T) {
	t.Parallel()
	judgeAll(t, harness.StartServer(t))
}

// TestServerOnPostgres sends the same cases to a server on the other database.
func TestServerOnPostgres(t *testing.T) {
	t.Parallel()
	postgres, err := storetest.StartPostgres(t.Context())
	if err != nil {
		harness.Skip(t, "there is no PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := postgres.Stop(); err != nil {
			t.Error(err)
		}
	})
	url, drop, err := postgres.Database(t.Context(), fmt.Sprintf("millrace_requests_%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	judgeAll(t, harness.StartServer(t, "--database-url", url))
}

func judgeAll(t *testing.T, server *harness.Server) {
	target := Server{URL: server.URL, Files: filepath.Join(server.DataDir, "artifacts")}
	t.Run("mistakes", func(t *testing.T) {
		t.Parallel()
		mistakes(t, target, "mistakes")
	})
	for i, c := range load(t) {
		t.Run(c.ID(), func(t *testing.T) {
			t.Parallel()
			differences, err := target.play(t.Context(), c, fmt.Sprintf("case-%d", i+1))
			if err != nil {
				t.Fatal(err)
			}
			for _, difference := range differences {
				t.Error(difference)
			}
		})
	}
}

// TestTheRunnerSeesDifferences gives the runner answers that are wrong.
func TestTheRunnerSeesDifferences(t *testing.T) {
	t.Parallel()
	body := []byte(`{"a":{"b":1},"items":[{"k":"y"},{"k":"x"}],"word":"hidden"}`)
	names := map[string]string{"who": "x"}
	for want, step := range map[string]Step{
		"status 200, want 404":           {Status: 404},
		"status 200, want -1":            {Status: -1},
		"does not contain":               {Says: []string{"nothing"}},
		`contains "hidden"`:              {Hides: []string{"hidden"}},
		"a.b is 1, want 2":               {Has: map[string]any{"a": map[string]any{"b": 2}}},
		"a.c is <nil>, want x":           {Has: map[string]any{"a": map[string]any{"c": "{who}"}}},
		"a.b is there":                   {Lacks: []string{"a.b"}},
		`items are ["x" "y"], want`:      {List: &List{At: "items", Pick: []string{"k"}, Are: []string{"{who}"}}},
		`items are ["y" "x"], want`:      {List: &List{At: "items", Pick: []string{"k"}, Are: []string{"x", "y"}, Ordered: true}},
		"a is no list":                   {List: &List{At: "a"}},
		"a.none is not there to be kept": {Keep: map[string]string{"n": "a.none"}},
	} {
		if got := judge(step, 200, body, names); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%q, want one with %q", got, want)
		}
	}
	good := Step{
		Has: map[string]any{"a": map[string]any{"b": 1}}, Lacks: []string{"a.c"}, Says: []string{"hidden"}, Keep: map[string]string{"b": "a.b"},
		List: &List{At: "items", Pick: []string{"k"}, Are: []string{"{who}", "y"}},
	}
	if got := judge(good, 200, body, names); len(got) != 0 || names["b"] != "1" {
		t.Error(got, names)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"- name: a\n":                                                                "no steps",
		"- name: a\n  steps: [{status: 200}]":                                        "does nothing",
		"- name: a\n  steps: [{send: GET}]":                                          "METHOD /path",
		"- name: a\n  steps: [{send: GET /a, body: {}, raw: x}]":                     "two bodies",
		"- name: a\n  steps: [{sends: GET /a}]":                                      "sends",
		"- name: a\n  steps: [{send: GET /a}]\n- name: a\n  steps: [{send: GET /a}]": "two cases",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
