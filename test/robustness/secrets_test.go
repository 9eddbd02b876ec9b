package robustness

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// teller prints secrets of every source, and sends them to the server by itself,
// as the real MLRun package does for the run of its process.
const teller = `
import json, os, time, urllib.request

def tell(context, url):
    values = [context.get_secret(name) for name in ("FILED", "VARIED", "TOKEN", "BROUGHT")]
    print("all", *values)
    context.log_result("all", values)
    context.set_label("a", values[0])
    base = "%s/api/v1/projects/default" % url
    def send(method, path, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        urllib.request.urlopen(urllib.request.Request(url + "/api/" + path, data, method=method)).read()
    while True: # what is stored whole below would take back what has not arrived yet
        run = json.loads(urllib.request.urlopen(base + "/runs/" + context.uid).read())["data"]
        if "all" in run["status"].get("results", {}) and "a" in run["metadata"].get("labels", {}):
            break
        time.sleep(0.01)
    run["status"].setdefault("results", {})["stored"] = values
    run["metadata"]["labels"]["b"] = values[1]
    send("POST", "v1/projects/default/runs/%s" % context.uid, run)
    send("PATCH", "v1/projects/default/runs/%s" % context.uid, {"status.results.updated": values[2], "metadata.annotations": {"c": values[3]}})
    send("POST", "v1/projects/default/logs/%s" % context.uid, ("posted %s\n" % values).encode())
    producer = {"kind": "run", "uri": "default/" + context.uid}
    spec = {"db_key": "told", "producer": producer, "target_path": "", "inline": values[0], "extra_data": {"d": values[1]}}
    send("PUT", "v2/projects/default/artifacts/told", {"kind": "artifact", "metadata": {"key": "told", "tree": context.uid}, "spec": spec})
    context.log_result("lengths", [len(value) for value in values])
    raise ValueError("refused " + values[0] + values[1])
`

func TestSecretsOfEverySourceAreMasked(t *testing.T) {
	t.Parallel()
	values := map[string]string{"FILED": "filed-tr0ub4dor", "VARIED": "varied-tr0ub4dor", "TOKEN": "token-tr0ub4dor", "BROUGHT": "brought-tr0ub4dor"}
	folder := t.TempDir()
	file := filepath.Join(folder, "secrets.env")
	if err := os.WriteFile(file, []byte("# a comment = nothing\nFILED = "+values["FILED"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.StartServer(t)
	send(t, http.MethodPut, s.URL+"/api/v1/projects/default", map[string]any{"metadata": map[string]any{"name": "default"}})
	send(t, http.MethodPost, s.URL+"/api/v1/projects/default/secrets", map[string]any{
		"provider": "kubernetes", "secrets": map[string]any{"TOKEN": values["TOKEN"]},
	})
	uid := "5ec4e7000000000000000001"
	send(t, http.MethodPost, s.URL+"/api/v1/submit_job", map[string]any{
		"function": map[string]any{
			"kind": "job", "metadata": map[string]any{"name": "teller", "project": "default"},
			"spec": map[string]any{
				"env":   []any{map[string]any{"name": "VARIED", "value": values["VARIED"]}},
				"build": map[string]any{"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(teller)), "origin_filename": "teller.py"},
			},
		},
		"task": map[string]any{
			"metadata": map[string]any{"name": "teller", "project": "default", "uid": uid},
			"spec": map[string]any{
				"handler": "tell", "parameters": map[string]any{"url": s.URL},
				"secret_sources": []any{
					map[string]any{"kind": "file", "source": file},
					map[string]any{"kind": "env", "source": "VARIED, NOWHERE"},
					map[string]any{"kind": "kubernetes", "source": []any{"TOKEN"}},
					map[string]any{"kind": "inline", "source": map[string]any{"BROUGHT": values["BROUGHT"]}},
				},
			},
		},
	})
	var run struct {
		Data struct {
			Metadata struct{ Labels, Annotations map[string]string }
			Status   struct {
				State, Error string
				Results      map[string]any
			}
		}
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		get(t, s.URL+"/api/v1/projects/default/runs/"+uid, &run)
		if run.Data.Status.State == "error" || time.Now().After(limit) {
			break
		}
	}
	text := fmt.Sprint(run)
	for _, want := range []string{"refused ***", "stored", "updated", "all"} {
		if !strings.Contains(text, want) {
			t.Errorf("the run has no %q: %s", want, text)
		}
	}
	lengths, _ := json.Marshal(run.Data.Status.Results["lengths"])
	if string(lengths) != "[15,16,15,17]" {
		t.Errorf("the code saw values of the lengths %s", lengths)
	}
	log := read(t, s.URL+"/api/v1/projects/default/logs/"+uid)
	if !strings.Contains(log, "all ***") || !strings.Contains(log, "posted ['***") {
		t.Errorf("log: %s", log)
	}
	artifacts := read(t, s.URL+"/api/v2/projects/default/artifacts")
	if !strings.Contains(artifacts, "***") {
		t.Errorf("artifacts: %s", artifacts)
	}
	for name, value := range values {
		if strings.Contains(text+log+artifacts, value) {
			t.Errorf("the value of %s is shown:\n%s\n%s\n%s", name, text, log, artifacts)
		}
	}
	// The function's own variable stands in its document; the others are nowhere.
	delete(values, "VARIED")
	for name, value := range values {
		for _, path := range holding(t, s.DataDir, value) {
			t.Errorf("the value of %s is in %s", name, path)
		}
	}
}

// holding lists the files below dir that hold text.
func holding(t *testing.T, dir, text string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // files come and go under a living server
		}
		if raw, err := os.ReadFile(path); err == nil && bytes.Contains(raw, []byte(text)) {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func send(t *testing.T, method, url string, body any) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if said, _ := io.ReadAll(response.Body); response.StatusCode >= 300 {
		t.Fatalf("%s %s: %d %s", method, url, response.StatusCode, said)
	}
}

func read(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestRotationIsKilled kills the rotation of the key at random moments: every value
// stays readable, and the next rotation finishes it.
func TestRotationIsKilled(t *testing.T) {
	t.Parallel()
	const secrets, kills = 1200, 25
	data := t.TempDir()
	values := map[string]any{}
	for i := range secrets {
		values[fmt.Sprintf("S%d", i)] = fmt.Sprintf("value-%d", i)
	}
	millrace := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), harness.Binary(t), args...)
		cmd.Env = append(os.Environ(), "MILLRACE_DATA_DIR="+data, "MILLRACE_URL=", "MILLRACE_SECRET_KEY=", "MILLRACE_SECRET_KEY_FILE=")
		cmd.Dir = data
		return cmd
	}
	t.Run("set", func(t *testing.T) { // its server ends with it
		s := harness.StartServer(t, "--data-dir", data)
		send(t, http.MethodPut, s.URL+"/api/v1/projects/default", map[string]any{"metadata": map[string]any{"name": "default"}})
		send(t, http.MethodPost, s.URL+"/api/v1/projects/default/secrets", map[string]any{"provider": "kubernetes", "secrets": values})
	})
	begin := time.Now()
	if out, err := millrace("secret", "rotate").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	whole := time.Since(begin)
	killed := 0
	for range kills {
		cmd := millrace("secret", "rotate")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(whole)))) // somewhere in it
		_ = cmd.Process.Kill()
		if cmd.Wait() != nil {
			killed++
		}
	}
	if killed < kills/5 {
		t.Errorf("only %d of %d rotations were killed before their end", killed, kills)
	}
	if out, err := millrace("secret", "rotate").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	keys, err := os.ReadFile(filepath.Join(data, "secret.key"))
	if err != nil || bytes.Count(keys, []byte("\n")) != 1 {
		t.Errorf("after the last rotation the file of the key has %d lines, %v", bytes.Count(keys, []byte("\n")), err)
	}
	code := "def main(context):\n    return sum(context.get_secret(f'S{i}') == f'value-{i}' for i in range(0, 1200, 40))\n"
	if err := os.WriteFile(filepath.Join(data, "look.py"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "look.py", "--handler", "main", "-o", "json"}
	for i := 0; i < secrets; i += 40 {
		args = append(args, "--secret", fmt.Sprintf("S%d", i))
	}
	out, err := millrace(args...).Output()
	if err != nil || !bytes.Contains(bytes.ReplaceAll(out, []byte(" "), nil), []byte(`"return":30`)) {
		t.Errorf("a run reads not all of 30 secrets: %v\n%s", err, out)
	}
}
