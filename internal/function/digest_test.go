package function_test

import (
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/function"
)

const digestBase = `{"kind":"job","metadata":{"name":"f","project":"p"},"spec":{"default_handler":"h","env":[{"name":"A","value":"1"}],
	"build":{"functionSourceCode":"ZGVmIGgoKTogcGFzcwo=","origin_filename":"/home/me/f.py"}}}`

func codeOf(t *testing.T, text string, changes ...any) function.Code {
	t.Helper()
	doc, err := document.DecodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(changes); i += 2 {
		document.SetPath(doc, changes[i].(string), changes[i+1])
	}
	code, err := function.CodeOf(doc)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestCodeDigest(t *testing.T) {
	t.Parallel()
	base := codeOf(t, digestBase).Digest("")
	for _, path := range []string{
		"metadata.name", "metadata.project", "metadata.tag", "metadata.hash", "spec.description", "spec.image", "spec.node_name",
	} {
		if got := codeOf(t, digestBase, path, "other").Digest(""); got != base {
			t.Errorf("%s changes the digest", path)
		}
	}
	same := map[string][]any{
		"labels":       {"metadata.labels", document.Object{"a": "b"}},
		"path":         {"spec.build.origin_filename", "/elsewhere/g.py"},
		"requirements": {"spec.build.requirements", []any{"numpy"}},
		"resources":    {"spec.resources", document.Object{"limits": document.Object{"cpu": "2"}}},
		"cache":        {"spec.cache", true},
		"kind":         {"kind", "local"},
		"code command": {"spec.command", "f.py"},
	}
	for name, change := range same {
		want := base
		if name == "code command" { // where the file is does not matter, only that there is one
			want = codeOf(t, digestBase, "spec.command", "/tmp/x/f.py").Digest("")
		}
		if got := codeOf(t, digestBase, change...).Digest(""); got != want {
			t.Errorf("%s changes the digest", name)
		}
	}
	seen := map[string]string{base: "base"}
	for name, change := range map[string][]any{
		"code":     {"spec.build.functionSourceCode", "ZGVmIGgoKTogcmV0dXJuCg=="},
		"handler":  {"spec.default_handler", "g"},
		"args":     {"spec.args", []any{"-v"}},
		"command":  {"spec.command", "f.py -v"},
		"value":    {"spec.env", []any{document.Object{"name": "A", "value": "2"}}},
		"from":     {"spec.env", []any{document.Object{"name": "A", "valueFrom": document.Object{"secretKeyRef": document.Object{"name": "s", "key": "k"}}}}},
		"commands": {"spec.build.commands", []any{"make"}},
		"source":   {"spec.build.source", "/some/folder"},
		"workdir":  {"spec.workdir", "sub"},
		"script":   {"spec.build.origin_filename", "f.sh"},
	} {
		got := codeOf(t, digestBase, change...).Digest("")
		if other, ok := seen[got]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[got] = name
	}
	if got := codeOf(t, digestBase).Digest("sha256:00"); got == base {
		t.Error("content beside the document does not change the digest")
	}
}

// The digest is written into records that outlive this program.
func TestCodeDigestIsStable(t *testing.T) {
	t.Parallel()
	const want = "sha256:a025f4324e28217d39710f51444d5638206789e7372ceffbb9bf0067e9259fd4"
	if got := codeOf(t, digestBase).Digest(""); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestCodeOutside(t *testing.T) {
	t.Parallel()
	for path, outside := range map[string]int{"spec.pythonpath": 1, "spec.description": 0} {
		if got := codeOf(t, digestBase, path, "/lib").Outside(); len(got) != outside {
			t.Errorf("%s: outside %v, want %d", path, got, outside)
		}
	}
	if got := codeOf(t, digestBase, "spec.workdir", "/abs").Outside(); len(got) != 1 {
		t.Errorf("an absolute working directory is not told: %v", got)
	}
}

func TestBundleDigest(t *testing.T) {
	t.Parallel()
	const hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	if got := function.BundleDigest("/d/bundles/sha256-" + hex + ".tar.gz"); got != "sha256:"+hex {
		t.Errorf("got %q", got)
	}
	if got := function.BundleDigest("/d/sha256-" + hex[1:] + ".tar.gz"); got != "" {
		t.Errorf("got %q", got)
	}
}
