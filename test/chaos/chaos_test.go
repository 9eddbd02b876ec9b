// Package chaos kills the server, runners and workers at random moments while
// runs go through, and then looks for anything that was lost, done twice or taken
// back.
package chaos

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// source is the handler of every run: it says each step in the log before it
// notes it in a file of its own, so that the log must have at least as many.
const source = `
import os, time

def work(context, folder, steps=20):
    path = os.path.join(folder, context.uid)
    with open(path, "a", buffering=1) as notes:
        notes.write("begin\n")
        for step in range(steps):
            print(f"step {step} of {context.uid}")
            notes.write(f"{step}\n")
            time.sleep(0.01)
        context.log_result("steps", steps)
        print("said everything")
        notes.write("end\n")
`

type world struct {
	t       *testing.T
	binary  string
	data    string
	notes   string
	address string
	environ []string // of the server, beside this process's
	temp    string   // for temporary files of the server and what it starts, "" for the usual place

	mu     sync.Mutex
	server *exec.Cmd
}

func runs() int {
	if n, err := strconv.Atoi(os.Getenv("MILLRACE_CHAOS_RUNS")); err == nil {
		return n
	}
	if testing.Short() {
		return 30
	}
	return 300
}

func TestNothingIsLostWhenAnythingIsKilled(t *testing.T) {
	w := newWorld(t)
	w.start()
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("MILLRACE_CHAOS_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("MILLRACE_CHAOS_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 1))

	total := runs()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	var acknowledged []string
	var stored sync.Map // uid → value of an acknowledged client-side run
	var clients, killer sync.WaitGroup
	stop := make(chan struct{})
	killer.Go(func() { w.kill(random, total/2, stop) })

	uids := make(chan string, total)
	for i := range total {
		uids <- fmt.Sprintf("%032x", i+1)
	}
	close(uids)
	var mu sync.Mutex
	for range 8 {
		clients.Go(func() {
			for uid := range uids {
				if w.submit(ctx, uid) {
					mu.Lock()
					acknowledged = append(acknowledged, uid)
					mu.Unlock()
				}
				own := "c" + uid[1:]
				if w.post(ctx, "/api/v1/projects/default/runs/"+own, map[string]any{
					"metadata": map[string]any{"name": "client", "uid": own, "project": "default"},
					"status":   map[string]any{"state": "completed", "results": map[string]any{"v": own}},
				}) {
					stored.Store(own, own)
				}
			}
		})
	}
	clients.Wait()
	seen := map[string]string{} // uid → the first terminal state seen
	for len(seen) < len(acknowledged) && ctx.Err() == nil {
		for _, uid := range acknowledged {
			if state := w.state(uid); seen[uid] == "" && terminal(state) {
				seen[uid] = state
			}
		}
		time.Sleep(200 * time.Millisecond) // between two rounds of polling, not for order
	}
	close(stop)
	killer.Wait()
	w.start()
	if len(acknowledged) < total*9/10 {
		t.Errorf("only %d of %d submissions were acknowledged within the time", len(acknowledged), total)
	}
	counts := map[string]int{}
	for _, uid := range acknowledged {
		counts[w.verify(uid, seen[uid])]++
	}
	n := 0
	stored.Range(func(uid, value any) bool {
		n++
		doc := w.get("/api/v1/projects/default/runs/" + uid.(string))
		if got := at(doc, "data", "status", "results", "v"); got != value {
			t.Errorf("the acknowledged run %s reads %v", uid, got)
		}
		return true
	})
	t.Logf("%d submitted runs ended as %v; %d stored runs read back", len(acknowledged), counts, n)
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{t: t, binary: filepath.Join(dir, "millrace"), data: filepath.Join(dir, "data"), notes: filepath.Join(dir, "notes")}
	if err := os.Mkdir(w.notes, 0o700); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", w.binary, "../../cmd/millrace")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Cleanup(w.stop)
	return w
}

func (w *world) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server != nil {
		_ = w.server.Process.Kill()
		_ = w.server.Wait()
	}
}

// start starts the server, unless it lives, and waits until it is ready.
func (w *world) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server != nil && w.server.ProcessState == nil {
		return
	}
	listen := "127.0.0.1:0"
	if w.address != "" {
		listen = w.address
	}
	cmd := exec.Command(w.binary, "server", "--listen", listen, "--data-dir", w.data)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), w.environ...)
	if w.temp != "" {
		cmd.Env = append(cmd.Env, "TMPDIR="+w.temp)
	}
	_ = os.Remove(filepath.Join(w.data, "server.json"))
	if err := cmd.Start(); err != nil {
		w.t.Error(err)
		return
	}
	w.server = cmd
	for range 200 {
		if w.address == "" {
			raw, err := os.ReadFile(filepath.Join(w.data, "server.json"))
			var at struct{ URL string }
			if err == nil && json.Unmarshal(raw, &at) == nil {
				w.address = strings.TrimPrefix(at.URL, "http://")
			}
		}
		if w.address != "" {
			if response, err := http.Get("http://" + w.address + "/api/v1/healthz"); err == nil {
				response.Body.Close()
				if response.StatusCode == http.StatusOK {
					return
				}
			}
		}
		time.Sleep(50 * time.Millisecond) // until the process listens
	}
	w.t.Error("the server did not become ready")
}

// kill sends SIGKILL to a random victim every now and then, n times or until stop.
func (w *world) kill(random *rand.Rand, n int, stop <-chan struct{}) {
	for range n {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(50+random.IntN(400)) * time.Millisecond):
		}
		switch random.IntN(4) {
		case 0:
			w.mu.Lock()
			server := w.server
			w.mu.Unlock()
			_ = server.Process.Kill()
			_ = server.Wait()
			w.start()
		case 1:
			w.killOne(random, "exec\x00--spool\x00"+w.data)
		default:
			w.killOne(random, "python")
		}
	}
}

// killOne kills one process of this test's executions whose command line holds text.
func (w *world) killOne(random *rand.Rand, text string) {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	var victims []int
	for _, entry := range entries {
		line, err := os.ReadFile(filepath.Join(entry, "cmdline"))
		if err != nil || !bytes.Contains(line, []byte(text)) || !bytes.Contains(line, []byte(w.data)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(entry)); err == nil {
			victims = append(victims, pid)
		}
	}
	if len(victims) > 0 {
		_ = syscall.Kill(victims[random.IntN(len(victims))], syscall.SIGKILL)
	}
}

// submit tries until the run is acknowledged; a conflict says that an earlier try
// was written though its answer was lost.
func (w *world) submit(ctx context.Context, uid string) bool {
	return w.post(ctx, "/api/v1/submit_job", map[string]any{
		"task": map[string]any{
			"metadata": map[string]any{"name": "chaos", "uid": uid, "project": "default"},
			"spec":     map[string]any{"handler": "work", "parameters": map[string]any{"folder": w.notes}},
		},
		"function": map[string]any{
			"kind": "job", "metadata": map[string]any{"name": "chaos", "project": "default"},
			"spec": map[string]any{"build": map[string]any{"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(source)), "origin_filename": "chaos.py"}},
		},
	})
}

func (w *world) post(ctx context.Context, path string, body any) bool {
	raw, err := json.Marshal(body)
	if err != nil {
		w.t.Error(err)
		return false
	}
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.address+path, bytes.NewReader(raw))
		if err != nil {
			w.t.Error(err)
			return false
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			time.Sleep(50 * time.Millisecond) // the server was just killed
			continue
		}
		answer, _ := io.ReadAll(response.Body)
		response.Body.Close()
		switch {
		case response.StatusCode == http.StatusOK || response.StatusCode == http.StatusConflict:
			return true
		case response.StatusCode < 500:
			w.t.Errorf("%s: %s %s", path, response.Status, answer)
			return false
		}
	}
	return false
}

func (w *world) get(path string) map[string]any {
	for range 100 {
		response, err := http.Get("http://" + w.address + path)
		if err == nil {
			var doc map[string]any
			err = json.NewDecoder(response.Body).Decode(&doc)
			response.Body.Close()
			if err == nil {
				return doc
			}
		}
		time.Sleep(50 * time.Millisecond) // the server was just killed
	}
	return nil
}

func (w *world) state(uid string) string {
	state, _ := at(w.get("/api/v1/projects/default/runs/"+uid), "data", "status", "state").(string)
	return state
}

func at(doc any, path ...string) any {
	for _, key := range path {
		object, ok := doc.(map[string]any)
		if !ok {
			return nil
		}
		doc = object[key]
	}
	return doc
}

func terminal(state string) bool {
	return state == "completed" || state == "error" || state == "aborted"
}

// verify looks at one run after the storm and returns its state.
func (w *world) verify(uid, before string) string {
	state := w.state(uid)
	if state != before {
		w.t.Errorf("run %s was %s and is %s", uid, before, state)
	}
	noted, _ := os.ReadFile(filepath.Join(w.notes, uid))
	lines := strings.Split(strings.TrimSpace(string(noted)), "\n")
	begins := strings.Count(string(noted), "begin\n")
	response, err := http.Get("http://" + w.address + "/api/v1/projects/default/logs/" + uid)
	if err != nil {
		w.t.Error(err)
		return state
	}
	raw, _ := io.ReadAll(response.Body)
	response.Body.Close()
	log := string(raw)
	switch state {
	case "completed":
		if begins != 1 || lines[len(lines)-1] != "end" {
			w.t.Errorf("run %s is completed and noted %d beginnings and %q last", uid, begins, lines[len(lines)-1])
		}
		doc := w.get("/api/v1/projects/default/runs/" + uid)
		if steps := at(doc, "data", "status", "results", "steps"); steps != float64(20) {
			w.t.Errorf("run %s lost its result: %v", uid, steps)
		}
		if !strings.Contains(log, "said everything") {
			w.t.Errorf("run %s lost the end of its log", uid)
		}
	case "error":
		if begins > 1 {
			w.t.Errorf("run %s was executed %d times", uid, begins)
		}
	default:
		w.t.Errorf("run %s ended as %q", uid, state)
	}
	for _, line := range lines {
		if _, err := strconv.Atoi(line); err == nil && strings.Count(log, "step "+line+" of "+uid+"\n") != 1 {
			w.t.Errorf("run %s: step %s stands %d times in the log", uid, line, strings.Count(log, "step "+line+" of "+uid+"\n"))
		}
	}
	return state
}
