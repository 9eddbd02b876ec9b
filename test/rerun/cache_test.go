package rerun

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/test/harness"
)

// page is a document on a web server whose content and tag can be changed.
type page struct {
	mu        sync.Mutex
	body, tag string
}

func (p *page) set(body, tag string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.body, p.tag = body, tag
}

func (p *page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tag != "" {
		w.Header().Set("ETag", p.tag)
	}
	_, _ = w.Write([]byte(p.body))
}

const reader = `
def count(context, data):
    return len(data.get())

def make(context, text="abc"):
    context.log_artifact("made", body=text, format="txt")
`

// TestCacheOfRemoteInputs: content elsewhere is known by what its store says of it,
// never by its URL alone.
func TestCacheOfRemoteInputs(t *testing.T) {
	t.Parallel()
	m := &machine{binary: harness.Binary(t), dir: t.TempDir()}
	m.write(t, "reader.py", reader)
	p := &page{}
	web := httptest.NewServer(p)
	t.Cleanup(web.Close)
	run := func(input string, want int64, taken bool) {
		t.Helper()
		out, log, status := m.millrace(t, "run", "reader.py", "--handler", "count", "--input", "data="+input, "--cache", "-o", "json")
		doc, err := document.DecodeObject([]byte(out))
		if err != nil || status != 0 {
			t.Fatalf("%s: status %d, %v\n%s", input, status, err, log)
		}
		n, _ := document.Int(doc, "status", "results", "return")
		if from := document.String(doc, "status", "provenance", "cached_from"); n != want || (from != "") != taken {
			t.Errorf("%s: result %d, want %d; taken from %q, want %v\n%s", input, n, want, from, taken,
				document.Encode(document.Get(doc, "status", "provenance", "cache")))
		}
	}
	one, other := web.URL+"/one", web.URL+"/other"
	p.set("abc", `"v1"`)
	run(one, 3, false)
	run(one, 3, true)
	run(other, 3, false) // tags of different URLs say nothing about each other
	p.set("abcdef", `"v2"`)
	run(one, 6, false)
	run(one, 6, true)
	p.set("abcd", "")
	run(one, 4, false)
	run(one, 4, false)
	p.set("ab", `W/"v3"`)
	run(one, 2, false)
	run(one, 2, false)

	for _, text := range []string{"abc", "abcd"} {
		if _, log, status := m.millrace(t, "run", "reader.py", "--handler", "make", "--name", "make", "-p", "text="+text); status != 0 {
			t.Fatal(log)
		}
		n := int64(len(text))
		run("store://artifacts/default/make_made", n, false) // another content under the same name
		run("store://artifacts/default/make_made", n, true)
	}
	m.write(t, "same.txt", "abcd")
	run("same.txt", 4, true) // the same content
}

// TestCacheOfPrograms: a script and a program are known by their content and by
// what executes them.
func TestCacheOfPrograms(t *testing.T) {
	t.Parallel()
	m := &machine{binary: harness.Binary(t), dir: t.TempDir()}
	run := func(said string, args ...string) {
		t.Helper()
		out, log, status := m.millrace(t, append([]string{"run", "--cache", "-o", "json"}, args...)...)
		doc, err := document.DecodeObject([]byte(out))
		if err != nil || status != 0 {
			t.Fatalf("%v: status %d, %v\n%s", args, status, err, log)
		}
		uid := document.String(doc, "metadata", "uid")
		text, _, _ := m.millrace(t, "logs", uid)
		if text != said {
			t.Errorf("%v: the log is %q, want %q (%s)", args, text, said, document.Encode(document.Get(doc, "status", "provenance", "cache")))
		}
	}
	m.write(t, "script.sh", "echo a script $*\n")
	run("a script\n", "script.sh")
	run("", "script.sh")
	run("a script more\n", "script.sh", "--", "more")
	m.write(t, "script.sh", "echo changed\n")
	run("changed\n", "script.sh")
	if _, err := exec.LookPath("go"); err == nil {
		for _, said := range []string{"one", "two"} {
			m.write(t, "main.go", "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\""+said+"\\n\") }\n")
			run(said+"\n", "main.go")
			run("", "main.go")
			if err := os.RemoveAll(m.path("data/cache/go")); err != nil {
				t.Fatal(err)
			}
			run("", "main.go") // built anew, the same program
		}
	}
	raw, err := os.ReadFile("/bin/echo")
	if err != nil {
		harness.Skip(t, "there is no /bin/echo: %v", err)
	}
	program := m.path("program")
	if err := os.WriteFile(program, raw, 0o700); err != nil {
		t.Fatal(err)
	}
	run("said\n", program, "--", "said")
	run("", program, "--", "said")
	if raw, err = os.ReadFile("/bin/cat"); err != nil {
		harness.Skip(t, "there is no /bin/cat: %v", err)
	}
	m.write(t, "file.txt", "one\n")
	if err := os.WriteFile(program, raw, 0o700); err != nil {
		t.Fatal(err)
	}
	run("one\n", program, "--", m.path("file.txt"))
	run("", program, "--", m.path("file.txt"))
	m.write(t, "file.txt", "two\n")
	run("two\n", program, "--", m.path("file.txt"))
}
