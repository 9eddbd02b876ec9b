// Package iterations gives a real server iterative tasks, has real workers execute
// them, and looks at what is stored of each.
package iterations

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

type object = map[string]any

// task is an iterative task of a function whose handler is called work.
type task struct {
	code    string
	params  object
	hyper   object
	options object
	// spec is more of the task's spec.
	spec object
}

// submit hands a task over and returns its uid, or the status and the text of the
// refusal.
func submit(t *testing.T, s *harness.Server, k task) (uid string, status int, text string) {
	t.Helper()
	spec := object{"handler": "work", "parameters": k.params, "hyperparams": k.hyper, "hyper_param_options": k.options}
	for key, value := range k.spec {
		spec[key] = value
	}
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-", ",", "", "'", "").Replace(t.Name()))
	name = strings.Trim(name[max(0, len(name)-40):], "-")
	body, err := json.Marshal(object{
		"task": object{"metadata": object{"name": name, "project": "default"}, "spec": spec},
		"function": object{
			"kind": "job", "metadata": object{"name": name, "project": "default"},
			"spec": object{"build": object{"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(k.code)), "origin_filename": "code.py"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(s.URL+"/api/v1/submit_job", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct{ Metadata struct{ UID string } }
	}
	_ = json.Unmarshal(raw, &answer) // a refusal has none
	return answer.Data.Metadata.UID, response.StatusCode, string(raw)
}

// outcome is what is stored of a task that is over.
type outcome struct {
	uid      string
	run      object
	state    string
	children map[int]object
	log      string
}

// finish submits a task and waits until it is over.
func finish(t *testing.T, s *harness.Server, k task) outcome {
	t.Helper()
	uid, status, text := submit(t, s, k)
	if status/100 != 2 {
		t.Fatalf("submit: %d %s", status, text)
	}
	return await(t, s, uid)
}

// await waits until a task is over.
func await(t *testing.T, s *harness.Server, uid string) outcome {
	t.Helper()
	o := outcome{uid: uid}
	for limit := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		o.run, _ = get(t, s, "/api/v1/projects/default/runs/"+uid)["data"].(object)
		o.state, _ = at(o.run, "status", "state").(string)
		if o.state == "completed" || o.state == "error" || o.state == "aborted" {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("the task is %s after three minutes", o.state)
		}
	}
	o.children = children(t, s, uid)
	response, err := http.Get(s.URL + "/api/v1/projects/default/logs/" + uid + "?size=-1")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	o.log = string(raw)
	if t.Failed() {
		t.Log(o.log)
	}
	return o
}

// children reads the iterations that are stored, page by page.
func children(t *testing.T, s *harness.Server, uid string) map[int]object {
	t.Helper()
	out := map[int]object{}
	for path := "/api/v1/projects/default/runs?iter=true&uid=" + uid + "&page-size=200&page=1"; path != ""; {
		page := get(t, s, path)
		runs, _ := page["runs"].([]any)
		for _, entry := range runs {
			doc := entry.(object)
			iter, _ := at(doc, "metadata", "iteration").(float64)
			if iter == 0 {
				continue
			}
			if out[int(iter)] != nil {
				t.Errorf("iteration %v is listed twice", iter)
			}
			out[int(iter)] = doc
		}
		path = ""
		if token, _ := at(page, "pagination", "page-token").(string); token != "" {
			path = "/api/v1/projects/default/runs?page-token=" + url.QueryEscape(token)
		}
	}
	return out
}

func get(t *testing.T, s *harness.Server, path string) object {
	t.Helper()
	response, err := http.Get(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc object
	if response.StatusCode != http.StatusOK || json.Unmarshal(raw, &doc) != nil {
		t.Fatalf("GET %s: %d %.300s", path, response.StatusCode, raw)
	}
	return doc
}

// at follows keys into nested objects; nil where there is nothing.
func at(doc any, keys ...string) any {
	for _, key := range keys {
		inner, _ := doc.(object)
		doc = inner[key]
	}
	return doc
}

// states counts the iterations by their states.
func (o outcome) states() string {
	count := map[string]int{}
	for _, child := range o.children {
		state, _ := at(child, "status", "state").(string)
		count[state]++
	}
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(count), "map["), "]")
}

func (o outcome) result(iter int, name string) any {
	return at(o.children[iter], "status", "results", name)
}

func (o outcome) best() int {
	best, _ := at(o.run, "status", "results", "best_iteration").(float64)
	return int(best)
}

func (o outcome) err() string {
	text, _ := at(o.run, "status", "error").(string)
	return text
}

// upTo are the numbers from 1 to n.
func upTo(n int) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = i + 1
	}
	return out
}
