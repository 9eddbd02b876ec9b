package project_test

import (
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/project"
)

var now = time.Date(2024, 10, 23, 8, 0, 0, 0, time.UTC)

func object(text string) document.Object {
	doc, err := document.DecodeObject([]byte(text))
	if err != nil {
		panic(err)
	}
	return doc
}

func TestNew(t *testing.T) {
	t.Parallel()
	got, err := project.New(object(`{"metadata":{"name":"demo","x":1},"spec":{"desired_state":"archived","y":null}}`), now)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"project","metadata":{"annotations":{},"created":"2024-10-23T08:00:00.000000+00:00","labels":{},"name":"demo","x":1},` +
		`"spec":{"artifacts":[],"desired_state":"archived","functions":[],"params":{},"workflows":[],"y":null},"status":{"state":"archived"}}`
	if text := string(document.Encode(got)); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestValidateName(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{"a": true, "a-1": true, "1a": true, "": false, "-a": false, "a-": false, "A": false, "a_b": false, "a.b": false, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false, "a\n": false} {
		if err := project.ValidateName(name); (err == nil) != ok || err != nil && !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestReplaceKeepsTheTimeOfCreation(t *testing.T) {
	t.Parallel()
	old, err := project.New(object(`{"metadata":{"name":"demo"}}`), now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := project.Replace(old, "demo", object(`{"metadata":{"created":"1999-01-01T00:00:00"},"spec":{"params":{" a ":" b "," n ":1}}}`), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if document.Get(got, "metadata", "created") != document.Get(old, "metadata", "created") {
		t.Error(got["metadata"])
	}
	if text := string(document.Encode(document.Get(got, "spec", "params"))); text != `{"a":"b","n":1}` {
		t.Error(text)
	}
	if _, err := project.Replace(old, "demo", object(`{"metadata":{"name":"other"}}`), now); !fault.Is(err, fault.CodeConflict) {
		t.Error(err)
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	old, err := project.New(object(`{"metadata":{"name":"demo","labels":{"a":"1"}},"spec":{"goals":"x","functions":[{"name":"f"}]}}`), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		patch    string
		additive bool
		path     []string
		want     string
	}{
		{`{"metadata":{"labels":{"b":"2"}}}`, false, []string{"metadata", "labels"}, `{"a":"1","b":"2"}`},
		{`{"spec":{"functions":[{"name":"g"}]}}`, false, []string{"spec", "functions"}, `[{"name":"g"}]`},
		{`{"spec":{"functions":[{"name":"g"}]}}`, true, []string{"spec", "functions"}, `[{"name":"f"},{"name":"g"}]`},
		{`{"spec":{"goals":null}}`, true, []string{"spec", "goals"}, `null`},
		{`{"spec":{"desired_state":"offline"}}`, true, []string{"status", "state"}, `"offline"`},
		{`{"metadata":{"created":"1999-01-01T00:00:00"}}`, false, []string{"metadata", "created"}, `"2024-10-23T08:00:00.000000+00:00"`},
	} {
		before := string(document.Encode(old))
		got, err := project.Patch(old, object(c.patch), c.additive, now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if text := string(document.Encode(document.Get(got, c.path...))); text != c.want {
			t.Errorf("%s: got %s, want %s", c.patch, text, c.want)
		}
		if string(document.Encode(old)) != before {
			t.Fatalf("%s changed what it was applied to", c.patch)
		}
	}
	for patch, say := range map[string]string{`{"metadata":{"name":"x"}}`: "renamed", `{"spec":[]}`: "spec must be", `{"metadata":null}`: "renamed"} {
		if _, err := project.Patch(old, object(patch), false, now); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v", patch, err)
		}
	}
}

func TestMinimal(t *testing.T) {
	t.Parallel()
	got := project.Minimal(object(`{"metadata":{"name":"a"},"spec":{"functions":[1],"owner":"x"}}`))
	if text := string(document.Encode(got)); text != `{"metadata":{"name":"a"},"spec":{"artifacts":null,"functions":null,"owner":"x","workflows":null}}` {
		t.Error(text)
	}
}
