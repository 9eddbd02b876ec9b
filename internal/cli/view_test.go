package cli

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/render"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with testdata/name.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-update writes it anew): %s", name, diff)
	}
}

func decodeObject(t testing.TB, text string) document.Object {
	t.Helper()
	object, err := document.DecodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return object
}

const completedRun = `{
	"kind": "run",
	"metadata": {"uid": "0123456789abcdef0123456789abcdef", "name": "train-train", "project": "demo", "labels": {"kind": "job", "team": "ml"}},
	"status": {
		"state": "completed", "start_time": "2024-10-23T08:00:00.000000+00:00", "last_update": "2024-10-23T08:00:03.250000+00:00",
		"results": {"accuracy": 0.93, "confusion": [[50, 0], [3, 47]], "best": "forest", "long": "` + "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" + `"},
		"artifact_uris": {"model": "store://models/demo/train-train_model#0@0123", "plot": "store://artifacts/demo/plot"},
		"artifacts": [{"kind": "model", "metadata": {"key": "model"}, "spec": {"target_path": "/data/artifacts/demo/model.pkl"}}]
	}
}`

const failedRun = `{
	"kind": "run",
	"metadata": {"uid": "fedcba9876543210fedcba9876543210", "name": "train-train", "project": "default", "labels": {}},
	"status": {
		"state": "error", "start_time": "2024-10-23T08:00:00.000000+00:00", "last_update": "2024-10-23T08:01:05.000000+00:00",
		"error": "ZeroDivisionError: division by zero\n  in train.py, line 3\u001b[31m", "reason": "handler"
	}
}`

func TestSummary(t *testing.T) {
	t.Parallel()
	tests := []struct {
		golden string
		result RunResult
		flags  string
	}{
		{"summary_completed.txt", RunResult{Run: decodeObject(t, completedRun)}, ""},
		{"summary_failed.txt", RunResult{Run: decodeObject(t, failedRun)}, " --server http://127.0.0.1:8080"},
		{"summary_detached.txt", RunResult{Run: decodeObject(t, `{"metadata": {"uid": "00ff", "name": "n", "project": "default"}, "status": {"state": "created"}}`), Detached: true}, ""},
	}
	for _, test := range tests {
		t.Run(test.golden, func(t *testing.T) {
			t.Parallel()
			golden(t, test.golden, renderSummary(test.result, test.flags, render.Palette{}))
		})
	}
}

// observe tells a view the life of a run.
func observe(v *runView) {
	v.Created(document.Object{"metadata": document.Object{"uid": "0123", "name": "train", "project": "demo"}})
	v.Phase(PhaseChange{Phase: PhasePreparing, Attempt: 1})
	v.Progress(Progress{Text: "installing numpy", Done: 1, Total: 2})
	v.Progress(Progress{Text: "installing numpy", Done: 1, Total: 2})
	v.Phase(PhaseChange{Phase: PhaseRunning, Attempt: 1})
	v.Log([]byte("from the function\n"))
	v.Results(0, document.Object{"b": json.Number("2"), "a": "x\ny"})
	v.Results(3, document.Object{"child": json.Number("1")})
	v.Phase(PhaseChange{Phase: PhaseQueued, Attempt: 2, Text: "the first attempt failed"})
	v.Phase(PhaseChange{Phase: PhaseFinished, Attempt: 2})
	v.close()
}

func TestPlainView(t *testing.T) {
	t.Parallel()
	p, stdout, stderr := testProcess(t)
	e := &env{Process: p}
	observe(newRunView(e, runOptions{}))
	if diff := cmp.Diff("from the function\n", stdout.String()); diff != "" {
		t.Error(diff)
	}
	golden(t, "view_plain.txt", stderr.String())
}

func TestQuietView(t *testing.T) {
	t.Parallel()
	p, stdout, stderr := testProcess(t)
	v := newRunView(&env{Process: p}, runOptions{quiet: true, output: "json"})
	observe(v)
	v.summary(RunResult{Run: decodeObject(t, completedRun)})
	if diff := cmp.Diff("from the function\n", stderr.String()); diff != "" {
		t.Error(diff)
	}
	if stdout.Len() > 0 {
		t.Errorf("standard output has %q", stdout)
	}
}

func TestStatusLine(t *testing.T) {
	t.Parallel()
	p, _, _ := testProcess(t)
	v := newRunView(&env{Process: p}, runOptions{})
	begun := time.Date(2024, 10, 23, 8, 0, 0, 0, time.UTC)
	v.since, v.phase = begun, PhaseChange{Phase: PhasePreparing, Attempt: 2}
	v.progress = Progress{Text: "installing numpy", Done: 1, Total: 4}
	v.results = document.Object{"accuracy": json.Number("0.9"), "best": "forest"}
	got := strings.Join(v.status(begun.Add(3200*time.Millisecond)), "\n")
	want := "⠋ preparing 3.2 s attempt 2  ████░░░░░░░░░░░░ 1/4  installing numpy\n  accuracy 0.9  best forest"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	v.phase.Phase = PhaseFinished
	if lines := v.status(begun); lines != nil {
		t.Errorf("a finished run has the status %q", lines)
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 10, 23, 9, 0, 0, 0, time.UTC)
	runs := []document.Object{decodeObject(t, completedRun), decodeObject(t, failedRun)}
	functions := []document.Object{decodeObject(t, `{"kind": "job", "metadata": {"name": "train", "project": "demo", "tag": "latest", "hash": "2f667eb0246065cee182356054db2c22f6237aaf", "updated": "2024-10-23T08:15:52.123456+00:00"}, "spec": {"default_handler": "train", "description": "fit a model"}}`)}
	artifacts := []document.Object{decodeObject(t, `{"kind": "model", "metadata": {"key": "model", "project": "demo", "iter": 0, "tree": "0123456789abcdef0123456789abcdef", "tag": "latest", "updated": "2024-10-23 08:16:10.000000+00:00", "labels": {"framework": "sklearn"}}, "spec": {"target_path": "/data/model.pkl", "db_key": "train-train_model", "size": 10321}}`)}
	projects := []document.Object{decodeObject(t, `{"metadata": {"name": "demo", "created": "2024-10-23T08:00:00", "labels": {"a": "b"}}, "spec": {"owner": "ada", "description": null}, "status": {"state": "online"}}`)}
	tests := []struct {
		golden string
		view   tableView
		kind   objectKind
		docs   []document.Object
		width  int
	}{
		{"runs_piped.txt", tableView{}, kindRuns, runs, 0},
		{"runs_wide_all.txt", tableView{wide: true, all: true}, kindRuns, runs, 0},
		{"runs_terminal.txt", tableView{short: true}, kindRuns, runs, 72},
		{"functions_piped.txt", tableView{}, kindFunctions, functions, 0},
		{"functions_wide.txt", tableView{wide: true}, kindFunctions, functions, 0},
		{"artifacts_piped.txt", tableView{}, kindArtifacts, artifacts, 0},
		{"artifacts_terminal.txt", tableView{short: true, all: true}, kindArtifacts, artifacts, 80},
		{"projects_piped.txt", tableView{}, kindProjects, projects, 0},
		{"projects_wide.txt", tableView{wide: true, all: true}, kindProjects, projects, 0},
	}
	for _, test := range tests {
		t.Run(test.golden, func(t *testing.T) {
			t.Parallel()
			test.view.now = now
			var b strings.Builder
			if err := test.view.table(test.kind, test.docs).Write(&b, test.width, render.Palette{}); err != nil {
				t.Fatal(err)
			}
			golden(t, test.golden, b.String())
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind objectKind
		doc  string
		want string
	}{
		{kindRuns, completedRun, "0123456789abcdef0123456789abcdef"},
		{kindFunctions, `{"metadata": {"name": "f", "tag": "v1", "hash": "aa"}}`, "f:v1"},
		{kindFunctions, `{"metadata": {"name": "f", "tag": "", "hash": "aa"}}`, "f@aa"},
		{kindArtifacts, `{"metadata": {"key": "k"}, "spec": {"db_key": "run_k"}}`, "run_k"},
		{kindArtifacts, `{"metadata": {"key": "k"}, "spec": {}}`, "k"},
		{kindProjects, `{"metadata": {"name": "p"}}`, "p"},
	} {
		if got := nameOf(test.kind, decodeObject(t, test.doc)); got != test.want {
			t.Errorf("the name of %s is %q, want %q", test.doc, got, test.want)
		}
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	list := []any{document.Object{"a": "two\nlines", "n": json.Number("1.0")}, document.Object{}}
	raw, err := renderYAML(list)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "list.yaml", string(raw))
	golden(t, "list.json", string(renderJSON(list)))
	if raw, err := renderYAML([]any{}); err != nil || string(raw) != "[]\n" {
		t.Errorf("an empty list is %q, %v", raw, err)
	}
	if got := string(renderJSON([]any{})); got != "[]\n" {
		t.Errorf("an empty list is %q", got)
	}
}
