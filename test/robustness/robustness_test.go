// Package robustness gives a real server what no honest client would, and looks
// whether it answers with a clear refusal, keeps nothing half-written, and goes on.
package robustness

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestRequestsThatAreWrong(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	big := strings.Repeat("x", 10<<20)
	deep := strings.Repeat("[", 100_000)
	run := "/api/v1/projects/default/runs/" + strings.Repeat("a", 32)
	for _, c := range []struct {
		name, method, path, body string
		status                   int    // 0: any 4xx
		say                      string // in the detail
	}{
		{"no JSON", "POST", "/api/v1/submit_job", "{", 400, "JSON"},
		{"not an object", "POST", "/api/v1/submit_job", "[1]", 400, "object"},
		{"empty", "POST", "/api/v1/submit_job", "", 400, ""},
		{"nested without end", "POST", run, `{"metadata":{"name":"x"},"spec":` + deep, 400, "deep"},
		{"a key twice", "POST", run, `{"metadata":{"name":"x","name":"y"}}`, 400, `"name"`},
		{"bytes that are no text", "POST", run, "{\"metadata\":{\"name\":\"\xff\xfe\"}}", 400, "UTF-8"},
		{"a run without a name", "POST", run, `{"metadata":{}}`, 400, "name"},
		{"a name that is a list", "POST", run, `{"metadata":{"name":[1]}}`, 400, "name"},
		{"labels that are a number", "POST", run, `{"metadata":{"name":"x","labels":7}}`, 400, "labels"},
		{"status that is a string", "POST", run, `{"metadata":{"name":"x"},"status":"done"}`, 400, "status"},
		{"a state that is none", "POST", run, `{"metadata":{"name":"x"},"status":{"state":"finished"}}`, 400, "finished"},
		{"an update of nothing", "PATCH", run, `{"status.state":"running"}`, 404, "not found"},
		{"a project name in capitals", "POST", "/api/v1/projects", `{"metadata":{"name":"Demo"}}`, 400, "Demo"},
		{"a project name of 10 MB", "POST", "/api/v1/projects", `{"metadata":{"name":"` + big + `"}}`, 400, "name"},
		{"a kind that is none", "POST", "/api/v1/projects/default/functions/f", `{"kind":"jobb","metadata":{"name":"f"}}`, 400, "jobb"},
		{"another name in the body", "POST", "/api/v1/projects/default/functions/f", `{"kind":"job","metadata":{"name":"g"}}`, 400, "g"},
		{"code that is no base64", "POST", "/api/v1/projects/default/functions/f", `{"kind":"job","metadata":{"name":"f"},"spec":{"build":{"functionSourceCode":"%%%"}}}`, 400, "functionSourceCode"},
		{"arguments that are a string", "POST", "/api/v1/projects/default/functions/f", `{"kind":"job","metadata":{"name":"f"},"spec":{"args":"a b"}}`, 400, "args"},
		{"a project that is not there", "POST", "/api/v1/projects/none/functions/f", `{"kind":"job","metadata":{"name":"f"}}`, 404, "none"},
		{"a page below one", "GET", "/api/v1/projects/default/runs?page=0&page-size=5", "", 0, "page"},
		{"a page token that is none", "GET", "/api/v1/projects/default/runs?page-token=zzz", "", 404, ""},
		{"a time that is none", "GET", "/api/v1/projects/default/runs?start_time_from=yesterday", "", 400, "yesterday"},
		{"a boolean that is none", "GET", "/api/v1/projects/default/runs?iter=perhaps", "", 0, "perhaps"},
		{"an offset below zero", "GET", "/api/v1/projects/default/logs/" + strings.Repeat("a", 32) + "?offset=-1", "", 0, ""},
		{"a log outside its folder", "POST", "/api/v1/projects/default/logs/..%2F..%2Fevil", "x", 0, ""},
		{"a route that is none", "GET", "/api/v1/nothing", "", 404, "Not Found"},
		{"a method that is none", "DELETE", "/api/v1/healthz", "", 405, ""},
		{"a local kind through submit_job", "POST", "/api/v1/submit_job", `{"task":{"metadata":{"name":"x","project":"default"}},"function":{"kind":"local","metadata":{"name":"f","project":"default"},"spec":{"command":"x.py"}}}`, 400, "Local runtimes"},
		{"a parameter over int64", "POST", "/api/v1/submit_job", `{"task":{"metadata":{"name":"x","project":"default"},"spec":{"handler":"h","parameters":{"n":9223372036854775808}}},"function":{"kind":"job","metadata":{"name":"f","project":"default"},"spec":{"image":"i","build":{"functionSourceCode":"eD0x"}}}}`, 400, "int64"},
		{"a function that is not stored", "POST", "/api/v1/submit_job", `{"task":{"metadata":{"name":"x","project":"default"},"spec":{"function":"default/none"}}}`, 404, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			request, err := http.NewRequest(c.method, s.URL+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			raw, _ := io.ReadAll(response.Body)
			if response.StatusCode/100 != 4 || c.status != 0 && response.StatusCode != c.status {
				t.Errorf("status %d, want %d: %.300s", response.StatusCode, c.status, raw)
			}
			var answer struct{ Detail any }
			if err := json.Unmarshal(raw, &answer); err != nil || answer.Detail == nil {
				t.Errorf("no detail in %.300s", raw)
			}
			if len(raw) > 5000 || !strings.Contains(strings.ToLower(string(raw)), strings.ToLower(strings.ReplaceAll(c.say, `"`, `\"`))) && !strings.Contains(string(raw), c.say) {
				t.Errorf("the answer lacks %q: %.300s", c.say, raw)
			}
			if strings.Contains(string(raw), "goroutine") || strings.Contains(string(raw), ".go:") {
				t.Errorf("a stack trace: %.300s", raw)
			}
		})
	}
	for _, path := range []string{"runs?iter=yes&start_time_from=2000-01-01", "functions"} {
		var list struct{ Runs, Funcs []any }
		get(t, s.URL+"/api/v1/projects/default/"+path, &list)
		if len(list.Runs)+len(list.Funcs) > 0 {
			t.Errorf("%s: something was kept: %v %v", path, list.Runs, list.Funcs)
		}
	}
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: %s %s", url, response.Status, raw)
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// submit runs code on the server and returns its final document.
func submit(t *testing.T, s *harness.Server, uid, code string, parameters map[string]any) (state string, results map[string]any) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"task": map[string]any{"metadata": map[string]any{"name": "r", "uid": uid, "project": "default"}, "spec": map[string]any{"handler": "handler", "parameters": parameters}},
		"function": map[string]any{"kind": "job", "metadata": map[string]any{"name": "r", "project": "default"},
			"spec": map[string]any{"build": map[string]any{"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(code)), "origin_filename": "r.py"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(s.URL+"/api/v1/submit_job", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %.500s", response.Status, raw)
	}
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) { // polling, as clients do
		var doc struct {
			Data struct {
				Status struct {
					State   string
					Results map[string]any
				}
			}
		}
		get(t, s.URL+"/api/v1/projects/default/runs/"+uid, &doc)
		switch state := doc.Data.Status.State; state {
		case "completed", "error", "aborted":
			return state, doc.Data.Status.Results
		}
	}
	t.Fatal("the run does not end")
	return "", nil
}

func TestTenMegabytesOfParameterAndResult(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	state, results := submit(t, s, strings.Repeat("b", 32), "def handler(text):\n    return text[::-1]\n", map[string]any{"text": "a" + strings.Repeat("ü", 5<<20)})
	if got, _ := results["return"].(string); state != "completed" || !strings.HasSuffix(got, "üa") || len(got) != 10<<20+1 {
		t.Errorf("%s, %d bytes", state, len(got))
	}
}

func TestAGigabyteOfOutput(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it writes 1 GiB")
	}
	s := harness.StartServer(t)
	before := memory(t, s)
	uid := strings.Repeat("c", 32)
	state, _ := submit(t, s, uid, `
import os
def handler():
    block = bytes(range(256)) * 4096
    for _ in range(1024):
        os.write(1, block)
    print("the end")
`, nil)
	if state != "completed" {
		t.Errorf("it ended as %s", state)
	}
	log := s.URL + "/api/v1/projects/default/logs/" + uid
	var size struct{ Size int64 }
	get(t, log+"/size", &size)
	if want := int64(1<<30 + len("the end\n")); size.Size != want {
		t.Errorf("the log has %d bytes, want %d", size.Size, want)
	}
	response, err := http.Get(fmt.Sprintf("%s?offset=%d", log, 1<<30-256))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	tail, _ := io.ReadAll(response.Body)
	block := make([]byte, 256)
	for i := range block {
		block[i] = byte(i)
	}
	if !bytes.Equal(tail, append(block, "the end\n"...)) {
		t.Errorf("the end of the log is %.80q", tail)
	}
	if after := memory(t, s); after > before+64<<10 {
		t.Errorf("the server grew from %d to %d KiB", before, after)
	}
}

// memory is the resident memory of the server in KiB.
func memory(t *testing.T, s *harness.Server) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID))
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
