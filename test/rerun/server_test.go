package rerun

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/test/harness"
)

// ask makes a request and returns its status and body.
func ask(t *testing.T, method, url string, body any) (int, document.Object) {
	t.Helper()
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) == 0 {
		return resp.StatusCode, nil
	}
	doc, err := document.DecodeObject(raw)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, url, err, raw)
	}
	return resp.StatusCode, doc
}

// await asks until the answer is another than "not over".
func await(t *testing.T, url string) document.Object {
	t.Helper()
	for range 600 {
		status, doc := ask(t, http.MethodGet, url, nil)
		if status == http.StatusOK {
			return doc
		}
		if status != http.StatusConflict {
			t.Fatalf("%s: %d %v", url, status, doc)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s: no verdict within 30 s", url)
	return nil
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	server := harness.StartServer(t)
	m := &machine{binary: harness.Binary(t), dir: t.TempDir(), env: []string{"MILLRACE_URL=" + server.URL}}
	m.write(t, "code.py", code)
	runs := server.URL + "/api/v1/millrace/projects/default/runs/"
	repeat := func(uid string, body document.Object) document.Object {
		t.Helper()
		status, answer := ask(t, http.MethodPost, runs+uid+"/rerun", body)
		if status != http.StatusOK {
			t.Fatalf("rerun: %d %v", status, answer)
		}
		return await(t, runs+document.String(answer, "data", "metadata", "uid")+"/verdict")
	}
	out, log, _ := m.millrace(t, "run", "code.py", "--handler", "square", "-p", "x=5", "-o", "name", "--quiet")
	uid := strings.TrimSpace(out)
	if len(uid) != 32 {
		t.Fatalf("no uid: %q %s", out, log)
	}
	if verdict := repeat(uid, document.Object{}); !document.Bool(verdict, "equal") {
		t.Errorf("%v", verdict)
	}
	changed := document.Object{"parameters": document.Object{"x": 6}}
	if status, answer := ask(t, http.MethodPost, runs+uid+"/rerun", changed); status != http.StatusBadRequest {
		t.Errorf("changes that are not allowed: %d %v", status, answer)
	}
	changed["allow_changes"] = true
	if verdict := repeat(uid, changed); document.String(verdict, "cause") != "parameters" {
		t.Errorf("%v", verdict)
	}
	for _, c := range []struct {
		method, path string
		body         any
		status       int
	}{
		{http.MethodPost, "nothing/rerun", document.Object{}, http.StatusNotFound},
		{http.MethodGet, "nothing/verdict", nil, http.StatusNotFound},
		{http.MethodGet, uid + "/verdict", nil, http.StatusBadRequest},
		{http.MethodPost, uid + "/rerun", []any{}, http.StatusBadRequest},
		{http.MethodPost, uid + "/rerun", document.Object{"parameters": 5}, http.StatusBadRequest},
		{http.MethodPost, uid + "/rerun", document.Object{"allow_changes": "yes"}, http.StatusBadRequest},
	} {
		if status, answer := ask(t, c.method, runs+c.path, c.body); status != c.status {
			t.Errorf("%s %s: %d %v, want %d", c.method, c.path, status, answer, c.status)
		}
	}

	// A run that a client executed: its code is told by its function, and it cannot be repeated.
	_, recorded := ask(t, http.MethodGet, server.URL+"/api/v1/projects/default/runs/"+uid, nil)
	function := document.String(recorded, "data", "spec", "function")
	own := server.URL + "/api/v1/projects/default/runs/0123456789abcdef0123456789abcdef"
	if status, answer := ask(t, http.MethodPost, own, document.Object{
		"metadata": document.Object{"name": "own"}, "spec": document.Object{"function": function, "handler": "square"},
		"status": document.Object{"state": "completed", "results": document.Object{"return": 25}},
	}); status != http.StatusOK {
		t.Fatalf("store run: %d %v", status, answer)
	}
	_, told := ask(t, http.MethodGet, own, nil)
	for _, field := range []string{"code", "results"} {
		got, want := document.String(told, "data", "status", "provenance", field), document.String(recorded, "data", "status", "provenance", field)
		if got != want || got == "" {
			t.Errorf("%s of a client's run is %q, want %q", field, got, want)
		}
	}
	refused := func(uid string, want int, says string) {
		t.Helper()
		status, answer := ask(t, http.MethodPost, runs+uid+"/rerun", document.Object{})
		if status != want || !strings.Contains(string(document.Encode(answer)), says) {
			t.Errorf("repeating %s: %d %v, want %d and %q", uid, status, answer, want, says)
		}
		if _, log, exit := m.millrace(t, "rerun", uid); exit != 1 || !strings.Contains(log, says) || strings.Count(log, "\n") != 1 {
			t.Errorf("rerun %s: exit status %d, %s", uid, exit, log)
		}
	}
	refused("0123456789abcdef0123456789abcdef", http.StatusPreconditionFailed, "executed by its client")
	for name, state := range map[string]string{"deployed": "completed", "waits": "pending", "works": "running"} {
		if status, answer := ask(t, http.MethodPost, server.URL+"/api/v1/projects/default/runs/"+name, document.Object{
			"metadata": document.Object{"name": name, "labels": document.Object{"kind": "remote"}}, "spec": document.Object{"function": function},
			"status": document.Object{"state": state},
		}); status != http.StatusOK {
			t.Fatalf("store run: %d %v", status, answer)
		}
	}
	refused("deployed", http.StatusPreconditionFailed, "executed by a deployed function")
	refused("waits", http.StatusConflict, "is not over (pending)")
	refused("works", http.StatusConflict, "is not over (running)")

	out, _, _ = m.millrace(t, "run", "code.py", "--handler", "sleeps", "-o", "name", "--quiet", "--detach")
	sleeper := strings.TrimSpace(out)
	if _, log, exit := m.millrace(t, "abort", sleeper); exit != 0 {
		t.Fatal(log)
	}
	refused(sleeper, http.StatusConflict, "was aborted")

	if _, log, exit := m.millrace(t, "delete", "function", "code"); exit != 0 {
		t.Fatal(log)
	}
	refused(uid, http.StatusNotFound, "Function not found")
}

// Equal runs at the same time may all execute; none gets a wrong result, and the
// next one finds a result.
func TestConcurrentCache(t *testing.T) {
	t.Parallel()
	m := &machine{binary: harness.Binary(t), dir: t.TempDir()}
	m.write(t, "code.py", code)
	args := func(x string) []string {
		return []string{"run", "code.py", "--handler", "square", "-p", "x=" + x, "--cache", "-o", "json"}
	}
	run := func(x, want string) document.Object {
		out, log, status := m.millrace(t, args(x)...)
		doc, err := document.DecodeObject([]byte(out))
		if err != nil || status != 0 {
			t.Errorf("x=%s: status %d, %v\n%s", x, status, err, log)
			return nil
		}
		if got := string(document.Encode(document.Get(doc, "status", "results", "return"))); got != want {
			t.Errorf("x=%s: result %s, want %s", x, got, want)
		}
		return doc
	}
	var running sync.WaitGroup
	for i := range 8 {
		x, want := "3", "9"
		if i%2 == 1 {
			x, want = "4", "16"
		}
		running.Go(func() { run(x, want) })
	}
	running.Wait()
	for x, want := range map[string]string{"3": "9", "4": "16"} {
		if doc := run(x, want); document.String(doc, "status", "provenance", "cached_from") == "" {
			t.Errorf("x=%s was executed again", x)
		}
	}
	// Deleting the run that has the result, or its project, leaves nothing behind that is used.
	doc := run("3", "9")
	for _, uid := range []string{document.String(doc, "status", "provenance", "cached_from")} {
		if out, err := m.command(t, "delete", "run", uid).CombinedOutput(); err != nil {
			t.Fatalf("delete: %v\n%s", err, out)
		}
	}
	if doc := run("3", "9"); document.String(doc, "status", "provenance", "cached_from") != "" {
		t.Error("the outputs of a deleted run were taken over")
	}
}

func (m *machine) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), m.binary, args...)
	cmd.Dir, cmd.Env = m.dir, m.environ()
	return cmd
}
