package requests

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// odd are values that a parameter may be given by mistake.
var odd = []string{
	"", "0", "-1", "1", "2147483648", "9223372036854775807", "99999999999999999999", "1.5", "x", "true", "%00", "a%00b", "%ff", "%ed%a0%80", "%zz", "..", "*", "~", "~*", "~%25_",
	"%27", "%22", "a=b", "=", "=b", "~=~", "a=%00", "%00=a", "a=%ff", "2024-10-23T08:15:52", "2024-10-23T08:15:52+00:00", "9999-12-31T23:59:59-14:00", "0001-01-01", "-1-01-01",
	"%F0%9F%92%A5", "%0d%0a", ";", "null", "{}", "[]", "latest", "model", "name", "updated", "asc", "minimal", "data-force", "kubernetes", "/", "//", "s3://", "file://", "store://", "store://a/b#9999999999",
	strings.Repeat("z", 5000),
}

// own are values that a parameter of a path has otherwise.
var own = map[string]string{
	"{name}": "n", "{uid}": "u", "{key}": "k", "{tag}": "v1", "{upload}": strings.Repeat("0", 32), "{digest}": "sha256-" + strings.Repeat("0", 64),
}

var parameter = regexp.MustCompile(`\{[a-z]+\}`)

// mistakes gives each parameter of each route each odd value, the others being as
// they should: of all routes that only read, and of those that change artifacts,
// tags and secrets. What is wrong is the caller's: 501 and anything below 500.
func mistakes(t *testing.T, server Server, project string) {
	send := func(step Step) (int, []byte) {
		status, body, err := server.send(t.Context(), step, nil)
		if err != nil {
			t.Errorf("%.200s: %v", step.Send, err)
		}
		return status, body
	}
	if status, body := send(Step{Send: "POST /api/v1/projects", Body: map[string]any{"metadata": map[string]any{"name": project}}}); status != 201 {
		t.Fatalf("make project %s: %d %s", project, status, body)
	}
	_, text := send(Step{Send: "GET /api/v1/openapi.json"})
	var described struct {
		Paths map[string]map[string]struct{ Parameters []struct{ Name, In string } }
	}
	if err := json.Unmarshal(text, &described); err != nil {
		t.Fatal(err)
	}
	stored := map[string]any{"kind": "artifact", "metadata": map[string]any{"key": "k"}}
	var steps []Step
	for path, methods := range described.Paths {
		changes := slices.ContainsFunc([]string{"/artifacts", "/tags/", "/secrets"}, func(part string) bool { return strings.Contains(path, "/projects/{project}"+part) })
		for method, operation := range methods {
			method = strings.ToUpper(method)
			if method != "GET" && !changes {
				continue
			}
			step := Step{}
			switch {
			case strings.Contains(path, "/tags/"):
				step.Body = map[string]any{"kind": "artifact", "identifiers": []any{map[string]any{"key": "k"}}}
			case method == "PUT", method == "POST":
				step.Body = stored
			}
			for _, value := range odd {
				for _, name := range parameter.FindAllString(path, -1) {
					if method != "GET" && name == "{project}" && value == "*" {
						continue // the other cases have artifacts too
					}
					step.Send = method + " " + fillPath(strings.Replace(path, name, strings.ReplaceAll(value, "%zz", "zz"), 1), project)
					steps = append(steps, step)
				}
				for _, p := range operation.Parameters {
					if p.In != "query" || p.Name == "follow" { // a followed log ends with its run
						continue
					}
					step.Send = method + " " + fillPath(path, project) + "?" + url.QueryEscape(p.Name) + "=" + value
					steps = append(steps, step)
				}
			}
		}
	}
	if len(steps) < 10000 {
		t.Errorf("there are %d requests", len(steps))
	}
	queue := make(chan Step)
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for step := range queue {
				if status, body := send(step); status >= 500 && status != 501 {
					t.Errorf("%.200s: %d %.300s", step.Send, status, body)
				}
			}
		})
	}
	for _, step := range steps {
		queue <- step
	}
	close(queue)
	senders.Wait()
	if status, _ := send(Step{Send: "GET /api/v1/projects/" + project}); status != 200 {
		t.Errorf("project %s afterwards: %d", project, status)
	}
}

func fillPath(path, project string) string {
	path = strings.ReplaceAll(path, "{project}", project)
	return parameter.ReplaceAllStringFunc(path, func(name string) string {
		if value, ok := own[name]; ok {
			return value
		}
		return "x"
	})
}
