package rerun

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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

const surroundings = `
def variable():
    import os
    return os.environ.get("PROV_FOO", "")
def hour():
    import time
    return str(time.localtime(0).tm_hour)
def asserts(): return str(__debug__)
def helper():
    import prov_helper
    return prov_helper.V
def content(data): return data.get().decode()
def slow(data):
    import time
    open(data.local() + ".begun", "w").close()
    while not __import__("os").path.exists(data.local() + ".go"): time.sleep(0.02)
    return data.get().decode()
def kind(data): return type(data).__name__
def suffix(data): return data.suffix
def listing(data):
    import os
    found = []
    for folder, _, files in os.walk(data.local(), followlinks=True):
        found += [os.path.basename(folder)] + [open(os.path.join(folder, name)).read() for name in sorted(files)]
    return ",".join(found[1:])
def beside():
    import beside
    return beside.V
def keeps(context):
    context.log_artifact("text", body="abc", format="txt")
    return "kept"
`

// TestCacheSeesSurroundings: two runs between which one thing was changed; the
// second one has its own result, and a third one that of the second.
func TestCacheSeesSurroundings(t *testing.T) {
	t.Parallel()
	binary := harness.Binary(t)
	const file, site = "code.py", "home/.local/lib/"
	for _, c := range []struct {
		name, file   string
		args         []string
		first, after string // results
		env          [2]string
		before       func(*testing.T, *machine)
		change       func(*testing.T, *machine)
		again        []string // arguments of the second and third run, if they are others
	}{
		{name: "variable that the code names", args: handler("variable"), env: [2]string{"PROV_FOO=1", "PROV_FOO=2"}, first: "1", after: "2"},
		{name: "time zone", args: handler("hour"), env: [2]string{"TZ=UTC", "TZ=Asia/Tokyo"}, first: "0", after: "9"},
		{name: "optimizing interpreter", args: handler("asserts"), env: [2]string{"A=", "PYTHONOPTIMIZE=1"}, first: "True", after: "False"},
		{
			name: "module by PYTHONPATH", args: handler("helper"), env: [2]string{"PYTHONPATH=DIR/lib", "PYTHONPATH=DIR/lib"}, first: "1", after: "2",
			before: func(t *testing.T, m *machine) { m.write(t, "lib/prov_helper.py", "V = '1'\n") },
			change: func(t *testing.T, m *machine) { m.write(t, "lib/prov_helper.py", "V = '2'\n") },
		},
		{
			name: "editable package", args: handler("helper"), first: "1", after: "2",
			before: func(t *testing.T, m *machine) {
				m.write(t, "lib/prov_helper.py", "V = '1'\n")
				m.write(t, site+short(t)+"/site-packages/__editable__.prov-1.pth", m.path("lib")+"\n")
			},
			change: func(t *testing.T, m *machine) { m.write(t, "lib/prov_helper.py", "V = '2'\n") },
		},
		{
			name: "module among the packages", args: handler("helper"), first: "1", after: "second",
			before: func(t *testing.T, m *machine) { m.write(t, site+short(t)+"/site-packages/prov_helper.py", "V = '1'\n") },
			change: func(t *testing.T, m *machine) {
				m.write(t, site+short(t)+"/site-packages/prov_helper.py", "V = 'second'\n")
			},
		},
		{
			name: "module beside a named file", file: "function.yaml", args: handler("beside"), first: "1", after: "2",
			change: func(t *testing.T, m *machine) { m.write(t, "beside.py", "V = '2'\n") },
		},
		{
			name: "input at the same time", args: handler("content", "--input", "data=in.txt"), first: "1", after: "2",
			before: func(t *testing.T, m *machine) { m.writeAt(t, "in.txt", "1") },
			change: func(t *testing.T, m *machine) { m.writeAt(t, "in.txt", "2") },
		},
		{
			name: "link to another file", args: handler("content", "--input", "data=link"), first: "1", after: "2",
			before: func(t *testing.T, m *machine) { m.link(t, "in.txt", "link") },
			change: func(t *testing.T, m *machine) { m.write(t, "in.txt", "2") },
		},
		{
			name: "link in a folder", args: handler("listing", "--input", "data=in"), first: "1", after: "2",
			before: func(t *testing.T, m *machine) { m.link(t, "../in.txt", "in/link") },
			change: func(t *testing.T, m *machine) { m.write(t, "in.txt", "2") },
		},
		{
			name: "empty folder", args: handler("listing", "--input", "data=in"), first: "1", after: "1,class",
			before: func(t *testing.T, m *machine) { m.write(t, "in/a", "1") },
			change: func(t *testing.T, m *machine) {
				if err := os.Mkdir(m.path("in/class"), 0o755); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "type of an input", args: handler("kind", "--input", "data:str=in.txt"), first: "str", after: "bytes",
			again: handler("kind", "--input", "data:bytes=in.txt"),
		},
		{
			name: "ending of an input", args: handler("suffix", "--input", "data=in.txt"), first: ".txt", after: ".csv",
			change: func(t *testing.T, m *machine) { m.write(t, "in.csv", "1") }, again: handler("suffix", "--input", "data=in.csv"),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := &machine{binary: binary, dir: t.TempDir()}
			m.write(t, file, surroundings)
			m.write(t, "beside.py", "V = '1'\n")
			m.write(t, "in.txt", "1")
			m.write(t, "function.yaml", "kind: job\nmetadata: {name: beside}\nspec: {command: "+m.path("code.py")+"}\n")
			if c.before != nil {
				c.before(t, m)
			}
			if c.file == "" {
				c.file = file
			}
			run := func(env string, want string, taken bool, args []string) {
				t.Helper()
				m.env = nil
				if env != "" {
					m.env = []string{strings.ReplaceAll(env, "DIR", m.dir)}
				}
				if got, from := m.cached(t, append([]string{c.file}, args...)...); got != want || (from != "") != taken {
					t.Errorf("result %q, want %q; taken from %q, want %v", got, want, from, taken)
				}
			}
			run(c.env[0], c.first, false, c.args)
			run(c.env[0], c.first, true, c.args)
			if c.change != nil {
				c.change(t, m)
			}
			args := c.args
			if c.again != nil {
				args = c.again
			}
			run(c.env[1], c.after, false, args)
			run(c.env[1], c.after, true, args)
		})
	}
}

// TestCacheOfChangingInput: what a run read that was changed meanwhile is not known.
func TestCacheOfChangingInput(t *testing.T) {
	t.Parallel()
	m := &machine{binary: harness.Binary(t), dir: t.TempDir()}
	m.write(t, "code.py", surroundings)
	m.write(t, "in.txt", "1")
	args := []string{"code.py", "--handler", "slow", "--input", "data=in.txt"}
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		for t.Context().Err() == nil {
			if _, err := os.Stat(m.path("in.txt.begun")); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		_ = os.WriteFile(m.path("in.txt"), []byte("2"), 0o600)
		_ = os.WriteFile(m.path("in.txt.go"), nil, 0o600)
	}()
	if got, _ := m.cached(t, args...); got != "2" {
		t.Fatalf("the run read %q", got)
	}
	<-changed
	m.write(t, "in.txt", "1")
	if got, from := m.cached(t, args...); got != "1" {
		t.Errorf("result %q, taken from %q", got, from)
	}
}

// TestCacheOfChangedContent: content that was changed in its place is not used, and
// is as it should be when it was made again.
func TestCacheOfChangedContent(t *testing.T) {
	t.Parallel()
	m := &machine{binary: harness.Binary(t), dir: t.TempDir()}
	m.write(t, "code.py", surroundings)
	keeps := []string{"code.py", "--handler", "keeps", "--name", "keeps"}
	reads := []string{"code.py", "--handler", "content", "--input", "data=store://artifacts/default/keeps_text"}
	m.cached(t, keeps...)
	files, err := filepath.Glob(m.path("data/artifacts/default/*.txt"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files of the artifact: %v, %v", files, err)
	}
	if err := os.WriteFile(files[0], []byte("xyz"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, from := m.cached(t, keeps...); from != "" {
		t.Error("outputs that were changed were taken over")
	}
	if got, _ := m.cached(t, reads...); got != "abc" {
		t.Errorf("the artifact made again has the content %q", got)
	}
}

// cached runs a function with the cache and returns its result, and the run that it
// was taken from.
func (m *machine) cached(t *testing.T, args ...string) (result, from string) {
	t.Helper()
	out, log, status := m.millrace(t, append(append([]string{"run"}, args...), "--cache", "-o", "json")...)
	doc, err := document.DecodeObject([]byte(out))
	if err != nil || status != 0 {
		t.Fatalf("%v: status %d, %v\n%s", args, status, err, log)
	}
	if refused := document.String(doc, "status", "provenance", "cache", "refused"); refused != "" {
		t.Errorf("no key: %s", refused)
	}
	return document.String(doc, "status", "results", "return"), document.String(doc, "status", "provenance", "cached_from")
}

// writeAt writes a file whose time is always the same.
func (m *machine) writeAt(t *testing.T, name, text string) {
	t.Helper()
	m.write(t, name, text)
	if err := os.Chtimes(m.path(name), time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, m.path(name)); err != nil {
		t.Fatal(err)
	}
}
