package requests

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
)

// Server is where cases are sent.
type Server struct {
	// URL is its address without a path.
	URL string
	// Files is the folder with the artifacts of all projects.
	Files string
}

// stepTime is how long one answer may take.
const stepTime = 30 * time.Second

// play sends a case and returns how the answers differ from what it expects. The
// steps after one that differs are not sent.
func (s Server) play(ctx context.Context, c Case, project string) ([]string, error) {
	names := map[string]string{"project": project, "files": filepath.Join(s.Files, project)}
	made, _, err := s.send(ctx, Step{Send: "POST /api/v1/projects", Body: map[string]any{"metadata": map[string]any{"name": project}}}, names)
	if err != nil || made != http.StatusCreated {
		return nil, fmt.Errorf("make project %s: status %d, %w", project, made, err)
	}
	for i, step := range c.Steps {
		differences, err := s.step(ctx, step, names)
		if err != nil {
			return nil, fmt.Errorf("step %d, %s: %w", i+1, step.Send, err)
		}
		for j, difference := range differences {
			differences[j] = fmt.Sprintf("step %d, %s: %s", i+1, fill(step.Send, names), difference)
		}
		if len(differences) > 0 {
			return differences, nil
		}
	}
	return nil, nil
}

func (s Server) step(ctx context.Context, step Step, names map[string]string) ([]string, error) {
	for name, text := range step.Write {
		file := filepath.Join(names["files"], filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	var differences []string
	if step.Send != "" {
		status, body, err := s.send(ctx, step, names)
		if err != nil {
			return nil, err
		}
		differences = judge(step, status, body, names)
	}
	for _, name := range append(slices.Clone(step.There), step.Gone...) {
		_, err := os.Lstat(filepath.Join(names["files"], filepath.FromSlash(name)))
		if want := slices.Contains(step.There, name); (err == nil) != want {
			differences = append(differences, fmt.Sprintf("file %s is there: %t, want %t", name, err == nil, want))
		}
	}
	return differences, nil
}

// send returns the status and the body of the answer. Requests are written by
// hand, since a client library repairs what a case wants to be wrong.
func (s Server) send(ctx context.Context, step Step, names map[string]string) (int, []byte, error) {
	base, err := url.Parse(s.URL)
	if err != nil {
		return 0, nil, err
	}
	var body []byte
	switch {
	case step.Raw != nil:
		body = []byte(fill(*step.Raw, names))
	case step.Body != nil:
		text, err := json.Marshal(step.Body)
		if err != nil {
			return 0, nil, err
		}
		body = []byte(fill(string(text), names))
	}
	conn, err := (&net.Dialer{Timeout: stepTime}).DialContext(ctx, "tcp", base.Host)
	if err != nil {
		return 0, nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(stepTime)); err != nil {
		return 0, nil, err
	}
	request := fmt.Sprintf("%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n", fill(step.Send, names), base.Host, max(len(body), step.Announce))
	for name, value := range step.Headers {
		request += name + ": " + fill(value, names) + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"+string(body)); err != nil {
		return 0, nil, err
	}
	if step.Announce > len(body) {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			return 0, nil, err
		}
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

// judge compares an answer with what the step expects and keeps what it names.
func judge(step Step, status int, body []byte, names map[string]string) []string {
	want := step.Status
	if want == 0 {
		want = http.StatusOK
	}
	if status != want && (want != -1 || status < 400 || status > 499) {
		return []string{fmt.Sprintf("status %d, want %d: %s", status, want, clip(body))}
	}
	var out []string
	for _, text := range step.Says {
		if !strings.Contains(string(body), fill(text, names)) {
			out = append(out, fmt.Sprintf("the answer does not contain %q: %s", fill(text, names), clip(body)))
		}
	}
	for _, text := range step.Hides {
		if strings.Contains(string(body), fill(text, names)) {
			out = append(out, fmt.Sprintf("the answer contains %q: %s", fill(text, names), clip(body)))
		}
	}
	if step.Has == nil && len(step.Lacks) == 0 && step.List == nil && len(step.Keep) == 0 {
		return out
	}
	var answer any
	if err := json.Unmarshal(body, &answer); err != nil {
		return append(out, fmt.Sprintf("the answer is not JSON: %s", clip(body)))
	}
	if step.Has != nil {
		out = append(out, compare("", plain(step.Has, names), answer)...)
	}
	for _, path := range step.Lacks {
		if value, ok := at(answer, path); ok {
			out = append(out, fmt.Sprintf("%s is there: %v", path, value))
		}
	}
	if step.List != nil {
		out = append(out, step.List.judge(answer, names)...)
	}
	for name, path := range step.Keep {
		value, ok := at(answer, path)
		if !ok || value == nil {
			out = append(out, path+" is not there to be kept")
			continue
		}
		names[name] = fmt.Sprint(value)
	}
	return out
}

func (l *List) judge(answer any, names map[string]string) []string {
	value, _ := at(answer, l.At)
	items, ok := value.([]any)
	if !ok {
		return []string{fmt.Sprintf("%s is no list: %v", l.At, value)}
	}
	got, want := []string{}, []string{}
	for _, item := range items {
		var words []string
		for _, path := range l.Pick {
			value, _ := at(item, path)
			words = append(words, fmt.Sprint(value))
		}
		if len(l.Pick) == 0 {
			words = []string{fmt.Sprint(item)}
		}
		got = append(got, strings.Join(words, " "))
	}
	for _, text := range l.Are {
		want = append(want, fill(text, names))
	}
	if !l.Ordered {
		slices.Sort(got)
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		return []string{fmt.Sprintf("%s are %q, want %q", l.At, got, want)}
	}
	return nil
}

// compare returns where got lacks or contradicts want.
func compare(where string, want, got any) []string {
	object, ok := want.(map[string]any)
	if !ok {
		if !reflect.DeepEqual(want, got) {
			return []string{fmt.Sprintf("%s is %v, want %v", where, got, want)}
		}
		return nil
	}
	other, ok := got.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s is %v, want an object", where, got)}
	}
	var out []string
	for key, value := range object {
		out = append(out, compare(strings.TrimPrefix(where+"."+key, "."), value, other[key])...)
	}
	return out
}

// at returns what is at a dotted path; "" is the value itself.
func at(value any, path string) (any, bool) {
	if path == "" {
		return value, true
	}
	for key := range strings.SplitSeq(path, ".") {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = object[key]; !ok {
			return nil, false
		}
	}
	return value, true
}

// plain is a value of a case as JSON has it, with names filled in.
func plain(value any, names map[string]string) (out any) {
	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal([]byte(fill(string(text), names)), &out)
	}
	if err != nil {
		panic(err) // a value of a case that is no JSON
	}
	return out
}

func fill(text string, names map[string]string) string {
	for name, value := range names {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

func clip(body []byte) string {
	return string(document.Encode(string(body[:min(len(body), 400)])))
}
