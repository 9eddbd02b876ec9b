package provenance_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/provenance"
)

func object(t *testing.T, text string) document.Object {
	t.Helper()
	doc, err := document.DecodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestSeed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{`{"spec":{"seed":0}}`: 0, `{"spec":{"seed":4294967295}}`: 4294967295} {
		if n, given, err := provenance.Seed(object(t, text)); n != want || !given || err != nil {
			t.Errorf("%s: %d, %t, %v", text, n, given, err)
		}
	}
	for _, text := range []string{`{"spec":{"seed":-1}}`, `{"spec":{"seed":4294967296}}`, `{"spec":{"seed":"5"}}`, `{"spec":{"seed":1.5}}`, `{"spec":{"seed":[]}}`} {
		if _, _, err := provenance.Seed(object(t, text)); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		`{"spec":{"seed":1,"parameters":{"seed":2}}}`: "run", `{"spec":{"parameters":{"random_state":2}}}`: "parameter random_state",
		`{"spec":{"parameters":{"seed":"x"}}}`: "", `{}`: "",
	} {
		if _, _, from := provenance.NotedSeed(object(t, text)); from != want {
			t.Errorf("%s: from %q, want %q", text, from, want)
		}
	}
}

func TestLocalPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ input, workdir, url, want string }{
		{"", "/w", "/a/b", "/a/b"}, {"", "/w", "file:///a/b", "/a/b"}, {"", "/w", "b", "/w/b"}, {"/in", "/w", "b", "/in/b"},
		{"in", "/w", "b", "/w/in/b"}, {"s3://bucket/", "/w", "b", ""}, {"", "/w", "s3://x/y", ""}, {"", "/w", "store://a/b", ""},
		{"", "/w", "", ""}, {"", "", "b", ""}, {"", "/w", "file://host", ""},
	} {
		got, ok := provenance.LocalPath(c.input, c.workdir, c.url)
		if ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%+v: %q, %t", c, got, ok)
		}
	}
}

func TestMergeKeepsWhatIsKnownBetter(t *testing.T) {
	t.Parallel()
	doc := document.Object{}
	provenance.Merge(doc, object(t, `{"iter":0,"inputs":{"a":{"url":"s3://b","digest":"sha256:1"}},"seed":3}`))
	provenance.Merge(doc, object(t, `{"inputs":{"a":{"url":"s3://b","reason":"not on this machine"},"c":{"url":"x","missing":true}}}`))
	provenance.Merge(doc, object(t, `{"inputs":{"c":{"digest":"sha256:2"}},"outputs":"nonsense"}`))
	got := document.Map(doc, "status", "provenance")
	if document.String(got, "inputs", "a", "digest") != "sha256:1" || document.Get(got, "inputs", "a", "reason") != nil {
		t.Errorf("a: %v", document.Map(got, "inputs", "a"))
	}
	if document.String(got, "inputs", "c", "digest") != "sha256:2" || document.Get(got, "inputs", "c", "missing") != nil {
		t.Errorf("c: %v", document.Map(got, "inputs", "c"))
	}
	if got["outputs"] != nil || got["iter"] != nil {
		t.Errorf("%v", got)
	}
}

const recorded = `{"metadata":{"uid":"u","name":"n","project":"p","iteration":0,"labels":{"kind":"job","team":"ml","mlrun/client_version":"1"}},
	"spec":{"function":"p/f@0123456789012345678901234567890123456789","handler":"h","parameters":{"x":1},"output_path":"/mine"},
	"status":{"state":"completed","results":{"r":1},"provenance":{"code":"sha256:c","environment":{"python":"3.11.7","lock":"sha256:l","packages":2},
	"hash_seed":9,"seed":5,"seed_from":"run"}}}`

func TestRepeat(t *testing.T) {
	t.Parallel()
	task, reference, err := provenance.Repeat(object(t, recorded), "new", provenance.Changes{})
	if err != nil {
		t.Fatal(err)
	}
	if reference != "p/f@0123456789012345678901234567890123456789" {
		t.Errorf("reference %s", reference)
	}
	want := object(t, `{"kind":"run","metadata":{"uid":"new","name":"n","project":"p","labels":{"team":"ml","millrace/rerun-of":"u"}},
		"spec":{"handler":"h","parameters":{"x":1},"seed":5,"rerun":{"of":"u","python":"3.11.7","lock":"sha256:l","hash_seed":9}}}`)
	if got := document.Canonical(task); string(got) != string(document.Canonical(want)) {
		t.Errorf("task %s", got)
	}
}

func TestRepeatRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path  string
		value any
		code  fault.Code
	}{
		"running":     {"status.state", "running", fault.CodeConflict},
		"aborted":     {"status.state", "aborted", fault.CodeConflict},
		"unprepared":  {"status.reason", "prepare", fault.CodeConflict},
		"by a client": {"status.provenance", nil, fault.CodePrecondition},
		"no version":  {"spec.function", "p/f", fault.CodePrecondition},
		"no function": {"spec.function", nil, fault.CodePrecondition},
		"iteration":   {"metadata.iteration", 3, fault.CodeInvalid},
	} {
		doc := object(t, recorded)
		document.SetPath(doc, c.path, c.value)
		if _, _, err := provenance.Repeat(doc, "new", provenance.Changes{}); !fault.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := provenance.Repeat(object(t, recorded), "new", provenance.Changes{Parameters: document.Object{"x": 2}}); !fault.Is(err, fault.CodeInvalid) {
		t.Errorf("changes: %v", err)
	}
}

// Of several causes the first in the stated order is the one that is told.
func TestCompareOrder(t *testing.T) {
	t.Parallel()
	original := object(t, recorded)
	document.SetPath(original, "status.provenance.inputs", object(t, `{"d":{"url":"/d","digest":"sha256:1"}}`))
	document.SetPath(original, "status.provenance.seed_from", nil)
	repeated := document.Clone(original)
	document.SetPath(repeated, "status.results.r", 2)
	for _, step := range []struct {
		path  string
		value any
		cause provenance.Cause
	}{
		{"metadata.uid", "v", provenance.CauseOther},
		{"status.provenance.nondeterminism", []any{"time"}, provenance.CauseTime},
		{"status.provenance.nondeterminism", []any{"random", "time"}, provenance.CauseRandom},
		{"status.provenance.inputs.d.digest", "sha256:2", provenance.CauseInput},
		{"status.provenance.environment.python", "3.12.0", provenance.CauseInterpreter},
		{"status.provenance.code", "sha256:other", provenance.CauseCode},
	} {
		document.SetPath(repeated, step.path, step.value)
		v := provenance.Compare(original, repeated)
		if v.Equal || v.Cause != step.cause || !strings.Contains(v.Sentence, "result r") {
			t.Errorf("%s: %+v", step.path, v)
		}
	}
	document.SetPath(repeated, "status.provenance.environment", object(t, `{"python":"3.11.7","lock":"sha256:m"}`))
	document.SetPath(repeated, "status.provenance.code", "sha256:c")
	if v := provenance.Compare(original, repeated); v.Cause != provenance.CauseEnvironment {
		t.Errorf("%+v", v)
	}
}

func TestCompareUnknownContent(t *testing.T) {
	t.Parallel()
	original := object(t, recorded)
	document.SetPath(original, "status.artifact_uris", object(t, `{"a":"store://artifacts/p/a"}`))
	v := provenance.Compare(original, original)
	if v.Equal || v.Cause != provenance.CauseUnknown {
		t.Errorf("an artifact without a digest was called equal: %+v", v)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	fresh := func() provenance.Cacheable {
		return provenance.Cacheable{
			Record: object(t, `{"code":"sha256:c","environment":{"python":"3.11.7","lock":"sha256:l"},"seed":null}`),
			Run:    object(t, `{"metadata":{"uid":"u1"},"spec":{"parameters":{"x":1},"output_path":"/out/u1"}}`),
			Inputs: object(t, `{"d":{"digest":"sha256:1","url":"/a"}}`), Handler: "h", Python: true,
		}
	}
	base, refused := provenance.Key(fresh())
	if base == "" || refused != "" {
		t.Fatalf("%q, %q", base, refused)
	}
	other := fresh()
	other.Run = object(t, `{"metadata":{"uid":"u2","name":"another","labels":{"a":"b"}},"spec":{"parameters":{"x":1},"output_path":"/out/u2"}}`)
	other.Inputs = object(t, `{"d":{"digest":"sha256:1","url":"/elsewhere"}}`)
	if key, _ := provenance.Key(other); key != base {
		t.Error("uid, name, labels or the place of an input are part of the key")
	}
	seen := map[string]string{base: "base"}
	for name, change := range map[string]func(*provenance.Cacheable){
		"code":               func(c *provenance.Cacheable) { c.Record["code"] = "sha256:d" },
		"lock":               func(c *provenance.Cacheable) { document.Set(c.Record, "sha256:m", "environment", "lock") },
		"interpreter":        func(c *provenance.Cacheable) { document.Set(c.Record, "3.12.0", "environment", "python") },
		"handler":            func(c *provenance.Cacheable) { c.Handler = "g" },
		"parameter":          func(c *provenance.Cacheable) { document.Set(c.Run, 2, "spec", "parameters", "x") },
		"type":               func(c *provenance.Cacheable) { document.Set(c.Run, "1", "spec", "parameters", "x") },
		"input":              func(c *provenance.Cacheable) { document.Set(c.Inputs, "sha256:2", "d", "digest") },
		"input name":         func(c *provenance.Cacheable) { c.Inputs = document.Object{"e": c.Inputs["d"]} },
		"seed":               func(c *provenance.Cacheable) { c.Record["seed"] = 1 },
		"returns":            func(c *provenance.Cacheable) { document.Set(c.Run, []any{"a"}, "spec", "returns") },
		"output path":        func(c *provenance.Cacheable) { document.Set(c.Run, "/other", "spec", "output_path") },
		"system":             func(c *provenance.Cacheable) { c.System = "linux/arm64" },
		"type of an input":   func(c *provenance.Cacheable) { document.Set(c.Inputs, "str", "d", "type") },
		"suffix":             func(c *provenance.Cacheable) { document.Set(c.Inputs, ".csv", "d", "suffix") },
		"variable":           func(c *provenance.Cacheable) { c.Environ = document.Object{"TZ": "UTC"} },
		"code outside":       func(c *provenance.Cacheable) { c.Outside = document.Object{"PYTHONPATH": "sha256:1"} },
		"other code outside": func(c *provenance.Cacheable) { c.Outside = document.Object{"PYTHONPATH": "sha256:2"} },
	} {
		c := fresh()
		change(&c)
		key, refused := provenance.Key(c)
		if was, ok := seen[key]; ok || refused != "" {
			t.Errorf("%s: the key of %s (%s)", name, was, refused)
		}
		seen[key] = name
	}
	for name, change := range map[string]func(*provenance.Cacheable){
		"program":       func(c *provenance.Cacheable) { c.Python, c.Program = false, []string{"linux/amd64", "sha256:p"} },
		"other program": func(c *provenance.Cacheable) { c.Python, c.Program = false, []string{"linux/amd64", "sha256:q"} },
		"program without packages": func(c *provenance.Cacheable) {
			c.Python, c.Program = false, []string{"linux/amd64", "sha256:p"}
			c.Record["environment"] = document.Object{}
		},
		"tag":                   func(c *provenance.Cacheable) { c.Inputs = object(t, `{"d":{"url":"s3://a","etag":"x","size":3}}`) },
		"other tag":             func(c *provenance.Cacheable) { c.Inputs = object(t, `{"d":{"url":"s3://a","etag":"y","size":3}}`) },
		"other size":            func(c *provenance.Cacheable) { c.Inputs = object(t, `{"d":{"url":"s3://a","etag":"x","size":4}}`) },
		"same tag, other place": func(c *provenance.Cacheable) { c.Inputs = object(t, `{"d":{"url":"s3://b","etag":"x","size":3}}`) },
	} {
		c := fresh()
		change(&c)
		key, refused := provenance.Key(c)
		if was, ok := seen[key]; ok || refused != "" {
			t.Errorf("%s: the key of %s (%s)", name, was, refused)
		}
		seen[key] = name
	}
	for name, change := range map[string]func(*provenance.Cacheable){
		"program":      func(c *provenance.Cacheable) { c.Python = false },
		"unknown code": func(c *provenance.Cacheable) { delete(c.Record, "code") },
		"outside":      func(c *provenance.Cacheable) { c.Outside = document.Object{"spec.pythonpath": ""} },
		"secret":       func(c *provenance.Cacheable) { c.Variable = true },
		"secret source": func(c *provenance.Cacheable) {
			document.Set(c.Run, []any{document.Object{"kind": "env"}}, "spec", "secret_sources")
		},
		"iterative":            func(c *provenance.Cacheable) { document.Set(c.Run, []any{1}, "spec", "hyperparams", "x") },
		"a tag without a size": func(c *provenance.Cacheable) { c.Inputs = object(t, `{"d":{"url":"s3://a","etag":"x"}}`) },
		"remote input":         func(c *provenance.Cacheable) { c.Inputs = object(t, `{"d":{"url":"s3://a"}}`) },
	} {
		c := fresh()
		change(&c)
		if key, refused := provenance.Key(c); key != "" || refused == "" {
			t.Errorf("%s has a key", name)
		}
	}
}

func TestKeepable(t *testing.T) {
	t.Parallel()
	const good = `{"status":{"state":"completed","provenance":{"cache":{"key":"k","inputs":{"d":"sha256:1"}},"inputs":{"d":{"digest":"sha256:1"}}}}}`
	if key := provenance.Keepable(object(t, good)); key != "k" {
		t.Errorf("key %q", key)
	}
	const tagged = `{"status":{"state":"completed","provenance":{"cache":{"key":"k","inputs":{"d":"t"},"began":{"d":"t"}},"inputs":{"d":{"url":"s3://a"}}}}}`
	if key := provenance.Keepable(object(t, tagged)); key != "k" {
		t.Errorf("key %q of an input that is known by a tag", key)
	}
	changed := object(t, tagged)
	document.SetPath(changed, "status.provenance.cache.began.d", "u")
	if key := provenance.Keepable(changed); key != "" {
		t.Error("a run whose input changed while it began is kept")
	}
	for path, value := range map[string]any{
		"status.state": "error", "status.provenance.inputs.d.digest": "sha256:2", "status.provenance.inputs": nil,
		"status.provenance.cached_from": "other", "status.provenance.cache.key": nil,
	} {
		doc := object(t, good)
		document.SetPath(doc, path, value)
		if key := provenance.Keepable(doc); key != "" {
			t.Errorf("%s = %v is kept", path, value)
		}
	}
}

// When nothing that is recorded differs, the verdict names what is not recorded.
func TestCompareUnrecorded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path  string
		value any
		cause provenance.Cause
		says  string
	}{
		{"metadata.name", "n", provenance.CauseOther, "an environment variable, a file"},
		{"status.provenance.code_outside", []any{"PYTHONPATH"}, provenance.CauseOther, "code that comes from PYTHONPATH"},
		{"status.provenance.secrets", []any{"K"}, provenance.CauseOther, "the value of the secret K"},
		{"status.provenance.nondeterminism", []any{"os.urandom"}, provenance.CauseRandom, "no seed determines (os.urandom)"},
		{"spec.strategy", "random", provenance.CauseRandom, "strategy random"},
	} {
		original := object(t, recorded)
		document.SetPath(original, "status.provenance.seed_from", nil)
		document.SetPath(original, "spec.hyperparams", object(t, `{"x":[1,2]}`))
		document.SetPath(original, c.path, c.value)
		repeated := document.Clone(original)
		document.SetPath(repeated, "status.results.r", 2)
		if v := provenance.Compare(original, repeated); v.Cause != c.cause || !strings.Contains(v.Sentence, c.says) {
			t.Errorf("%s: %s: %s", c.path, v.Cause, v.Sentence)
		}
	}
}
