package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/millrace/millrace/internal/document"
)

// TestCheckSeesEveryDifference holds the judge itself to account: for each thing
// a case can expect, an outcome that differs in just that is told apart.
func TestCheckSeesEveryDifference(t *testing.T) {
	t.Parallel()
	stored := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(stored, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	two := 2
	want := Expect{
		State: "completed", Results: map[string]any{"n": 1, "xs": []any{1, "a", nil}},
		NoResults: []string{"gone"}, Labels: map[string]string{"l": "1"},
		Annotations: map[string]string{"a": "x"}, Parameters: map[string]any{"p": true},
		Log: []string{"in the log"}, LogLacks: []string{"secret"}, LogBytes: 5,
		Artifacts: map[string]string{"art": "conte"}, Children: &two,
	}
	outcome := func(t *testing.T) Outcome {
		run, err := document.DecodeObject([]byte(`{"metadata":{"labels":{"l":"1"},"annotations":{"a":"x"}},
			"spec":{"parameters":{"p":true}},
			"status":{"state":"completed","results":{"n":1.0,"xs":[1,"a",null],"more":0},
			"iterations":[["state"],["completed"],["completed"]],
			"artifacts":[{"metadata":{"key":"art"},"spec":{"target_path":"file://` + stored + `"}}]}}`))
		if err != nil {
			t.Fatal(err)
		}
		return Outcome{Run: run, Log: []byte("this is in the log")}
	}
	t.Run("nothing differs", func(t *testing.T) {
		t.Parallel()
		if d := Check(Case{Expect: want}, outcome(t)); len(d) > 0 {
			t.Errorf("differences: %q", d)
		}
	})
	set := func(value any, path ...string) func(*Outcome) {
		return func(o *Outcome) { document.Set(o.Run, value, path...) }
	}
	for name, spoil := range map[string]func(*Outcome){
		"no run":              func(o *Outcome) { o.Run = nil },
		"exit status":         func(o *Outcome) { o.Exit = 1 },
		"state":               set("error", "status", "state"),
		"error beside state":  set("oops", "status", "error"),
		"result of a type":    set("1", "status", "results", "n"),
		"result true for one": set(true, "status", "results", "n"),
		"result in a list":    set([]any{1, "a", "None"}, "status", "results", "xs"),
		"result that is gone": set(1, "status", "results", "gone"),
		"label":               set("2", "metadata", "labels", "l"),
		"annotation":          set("y", "metadata", "annotations", "a"),
		"parameter":           set(1, "spec", "parameters", "p"),
		"log":                 func(o *Outcome) { o.Log = []byte("something else") },
		"log with a secret":   func(o *Outcome) { o.Log = []byte("in the log: secret") },
		"artifacts":           set([]any{}, "status", "artifacts"),
		"children":            set([]any{}, "status", "iterations"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := outcome(t)
			spoil(&got)
			if d := Check(Case{Expect: want}, got); len(d) == 0 {
				t.Error("the difference was not seen")
			}
		})
	}
	t.Run("refusals", func(t *testing.T) {
		t.Parallel()
		refused := Case{Expect: Expect{Refused: []string{"kind"}}}
		if d := Check(refused, Outcome{Exit: 1, Message: "no such kind"}); len(d) > 0 {
			t.Errorf("differences: %q", d)
		}
		for _, got := range []Outcome{outcome(t), {Exit: 0, Message: "kind"}, {Exit: 1, Message: "?"}, {Exit: 1, Message: "panic: kind"}} {
			if d := Check(refused, got); len(d) == 0 {
				t.Errorf("the difference was not seen in %+v", got)
			}
		}
	})
}

func TestLoadRefusesBadCases(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		"- name: a\n":                                                 "neither a state nor a refusal",
		"- name: a\n  expect: {state: done}\n":                        `state "done"`,
		"- name: a\n  expect: {sate: error}\n":                        "sate",
		"- expect: {state: error}\n":                                  "no name",
		"- name: a\n  needs: [luck]\n  expect: {state: error}\n":      "luck",
		"- &a {name: a, expect: {state: error}}\n- *a\n":              "two cases",
		"- name: a\n  expect: {state: completed, refused: [field]}\n": "a state and a refusal",
	} {
		_, err := Load(fstest.MapFS{"x.yaml": {Data: []byte(text)}})
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q gives the error %v, want one with %q", text, err, part)
		}
	}
}
