package chaos

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

var rounds = flag.Int("rounds", 0, "rounds of kills under the load of a deployed function; 0 is a short pass")

// echo is a deployed function that notes an event before it answers it.
const echo = `
import os
import time

REVISION = %d

def init_context(context):
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    context.user_data.notes = os.open(os.environ["NOTES"], flags, 0o600)

def handler(context, event):
    os.write(context.user_data.notes, b"%%s %%d\n" %% (event.body, REVISION))
    if event.body.endswith(b"7"):
        time.sleep(0.05)  # so that some are killed in the middle
    return {"id": event.body.decode(), "revision": REVISION}
`

const (
	echoWorkers = 3
	echoPath    = "/api/v1/millrace/projects/default/deployments/echo"
	strikes     = 30 // in a round
)

// damage is what excuses failed requests: nothing else does.
type damage struct {
	what     string // worker, processor, server
	from, to time.Time
}

// outcome is how one request went.
type outcome struct {
	id          string
	begin, end  time.Time
	gateway     bool
	status      int
	text        string // of the answer, or of the error
	err         error
	served      int // the revision that answered
	answeredFor string
}

type storm struct {
	*world
	dir    realtime.Dir
	client *realtime.Client
	random *rand.Rand
	notes  string
	wanted int  // what was deployed last, and acknowledged
	zero   bool // the function has no workers when nobody calls it

	mu       sync.Mutex
	damages  []damage
	outcomes []outcome
	next     int
	answered int
	excused  map[string]int
	did      map[string]int
	address  string // the function's own
	files    int    // open files of the processor, after the first round
}

// TestFunctionsAnswerWhateverIsKilled: a deployed function under load, of which the
// server, its process and its workers are killed while it is deployed anew, rolled
// back and given canaries. An event that was answered was handled once; one that was
// not met something that the contract names; in the end everything is as it was
// acknowledged, and no process, socket, file or folder is left over.
func TestFunctionsAnswerWhateverIsKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("MILLRACE_CHAOS_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("MILLRACE_CHAOS_SEED=%d", seed)
	n := *rounds
	if n == 0 {
		n = 3
		if testing.Short() {
			n = 1
		}
	}
	s := newStorm(t, seed)
	for round := range n {
		s.round()
		if t.Failed() {
			t.Fatalf("round %d of %d", round+1, n)
		}
	}
	s.remove()
	t.Logf("%d rounds, %v: %d requests, %d answered, excused: %v", n, s.did, s.next, s.answered, s.excused)
}

// TestServersLeaveEachOthersFunctionsAlone: two data directories on one machine have
// a function of the same name; what happens to one of them does nothing to the other.
func TestServersLeaveEachOthersFunctionsAlone(t *testing.T) {
	struck, other := newStorm(t, 1), newStorm(t, 2)
	pid, workers := other.dir.PID(), other.workers()
	struck.killProcessor()
	struck.settle()
	struck.remove()
	if now, at := other.dir.PID(), other.workers(); now != pid || !slices.Equal(at, workers) {
		t.Errorf("the process of the other function was %d and is %d, its workers were %v and are %v", pid, now, workers, at)
	}
	other.remove()
}

// newStorm starts a server that has deployed the function.
func newStorm(t *testing.T, seed uint64, change ...func(*storm)) *storm {
	w := newWorld(t)
	w.temp = filepath.Join(filepath.Dir(w.data), "temp")
	if err := os.Mkdir(w.temp, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &storm{
		world: w, dir: realtime.DirOf(w.data, "default", "echo"), random: rand.New(rand.NewPCG(seed, 3)),
		notes: filepath.Join(w.notes, "events"), did: map[string]int{}, excused: map[string]int{},
	}
	s.client = realtime.NewClient(s.dir)
	for _, c := range change {
		c(s)
	}
	t.Cleanup(s.endAll)
	w.start()
	s.deploy(0)
	s.settle()
	return s
}

// round is some seconds of load and strikes, and the look afterwards.
func (s *storm) round() {
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var transports []*http.Transport
	for i := range 6 {
		transport := &http.Transport{}
		transports = append(transports, transport)
		clients.Go(func() { s.ask(&http.Client{Transport: transport, Timeout: 90 * time.Second}, i >= 4, stop) })
	}
	for range strikes {
		time.Sleep(time.Duration(20+s.random.IntN(300)) * time.Millisecond) // the load between two strikes
		s.strike()
	}
	// What was acknowledged last holds although the server dies right then.
	s.deploy(0)
	s.killServer()
	s.settle()
	close(stop)
	clients.Wait()
	for _, transport := range transports {
		transport.CloseIdleConnections()
	}
	s.judge()
	s.accounted()
}

func (s *storm) strike() {
	switch n := s.random.IntN(20); {
	case n < 7:
		s.killWorker()
	case n < 8:
		s.killTemplate()
	case n < 11:
		s.killProcessor()
	case n < 13:
		s.killServer()
	case n < 16:
		s.deploy(0)
	case n < 17:
		s.deploy(1 + s.random.IntN(99))
	case n < 18:
		s.deploy(0)
		s.killProcessor()
	case n < 19:
		s.deploy(0)
		s.settle()
	case s.wanted > 1:
		s.did["rollback"]++
		s.post(s.t.Context(), echoPath+"/rollback", map[string]any{})
	}
}

// deploy deploys the next revision; a canary gets so many percent.
func (s *storm) deploy(canary int) {
	s.did["deploy"]++
	s.wanted++
	code := fmt.Sprintf(echo, s.wanted)
	request := map[string]any{"function": map[string]any{
		"kind": "nuclio", "metadata": map[string]any{"name": "echo", "project": "default"},
		"spec": map[string]any{
			"build":  map[string]any{"functionSourceCode": base64.StdEncoding.EncodeToString([]byte(code)), "origin_filename": "echo.py"},
			"env":    []any{map[string]any{"name": "NOTES", "value": s.notes}},
			"config": map[string]any{"spec.triggers.http": map[string]any{"kind": "http", "numWorkers": echoWorkers}},
		},
	}}
	if s.zero {
		spec := request["function"].(map[string]any)["spec"].(map[string]any)
		spec["min_replicas"] = 0
		spec["config"].(map[string]any)["spec.scaleToZero.scaleResources"] = []any{map[string]any{"windowSize": "1ms"}}
	}
	if canary > 0 {
		request["millrace"] = map[string]any{"canary": canary}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if !s.post(ctx, "/api/v1/projects/default/nuclio/echo/deploy", request) {
		s.t.Errorf("revision %d was not acknowledged within a minute", s.wanted)
	}
}

func (s *storm) suffered(what string, from, to time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damages = append(s.damages, damage{what, from, to})
}

func (s *storm) killWorker() {
	workers := s.workers()
	if len(workers) == 0 {
		return
	}
	s.did["worker"]++
	from := time.Now()
	_ = syscall.Kill(workers[s.random.IntN(len(workers))], syscall.SIGKILL)
	s.suffered("worker", from, from.Add(10*time.Second)) // whoever waits for it is told at once, on a machine that is not too busy
}

// killTemplate kills a process that workers are forked from.
func (s *storm) killTemplate() {
	workers := s.workers()
	var victims []int
	for pid, line := range s.processes() {
		if strings.Contains(line, "boot.py template") && !slices.Contains(workers, pid) {
			victims = append(victims, pid)
		}
	}
	if len(victims) > 0 {
		s.did["template"]++
		slices.Sort(victims)
		_ = syscall.Kill(victims[s.random.IntN(len(victims))], syscall.SIGKILL)
	}
}

// workers are the processes that have the handler's notes open.
func (s *storm) workers() []int {
	var out []int
	for pid := range s.processes() {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if slices.ContainsFunc(files, func(file string) bool {
			target, err := os.Readlink(file)
			return err == nil && target == s.notes
		}) {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out
}

func (s *storm) killProcessor() {
	pid := s.dir.PID()
	if pid == 0 {
		return
	}
	s.did["processor"]++
	from := time.Now()
	_ = syscall.Kill(pid, syscall.SIGKILL)
	s.up(pid)
	s.suffered("processor", from, time.Now())
}

func (s *storm) killServer() {
	s.did["server"]++
	from := time.Now()
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	_ = server.Process.Kill()
	_ = server.Wait()
	s.start()
	s.suffered("server", from, time.Now())
}

// up waits until another process than before serves the function.
func (s *storm) up(before int) {
	for range 1200 {
		if status, err := s.client.Status(s.t.Context()); err == nil && status.PID != before && status.State == realtime.StateReady {
			return
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
	s.t.Errorf("no process serves the function a minute after its process was killed")
}

// settle waits until what was deployed last answers, alone.
func (s *storm) settle() {
	var last string
	for range 1200 {
		doc := s.get(echoPath)
		last = fmt.Sprint(at(doc, "status"))
		if state := at(doc, "status", "state"); state == "ready" || s.zero && state == "scaledToZero" {
			status, err := s.client.Status(s.t.Context())
			if err == nil && len(status.Routes) == 1 {
				if o := s.send(http.DefaultClient, false); o.status == http.StatusOK && o.served == s.wanted {
					return
				}
			}
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
	s.t.Fatalf("revision %d was acknowledged and does not answer after a minute: %s", s.wanted, last)
}

// ask sends one event after the other.
func (s *storm) ask(client *http.Client, gateway bool, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond): // so that the load leaves room for the rest
		}
		o := s.send(client, gateway)
		if o.err != nil {
			time.Sleep(20 * time.Millisecond) // nobody listens
		}
	}
}

func (s *storm) send(client *http.Client, gateway bool) outcome {
	s.mu.Lock()
	s.next++
	o := outcome{id: "e" + strconv.Itoa(s.next), gateway: gateway}
	s.mu.Unlock()
	url := "http://" + s.world.address + "/fn/default/echo/"
	if !gateway {
		url = "http://" + s.own() + "/"
	}
	o.begin = time.Now()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, strings.NewReader(o.id))
	if err != nil {
		s.t.Error(err)
		return o
	}
	response, err := client.Do(request)
	if err == nil {
		var raw []byte
		raw, err = io.ReadAll(response.Body)
		response.Body.Close()
		o.status, o.text = response.StatusCode, string(raw)
	}
	o.end, o.err = time.Now(), err
	if err != nil {
		o.status, o.text = 0, err.Error()
	}
	if o.status == http.StatusOK {
		var answer struct {
			ID       string
			Revision int
		}
		if err := json.Unmarshal([]byte(o.text), &answer); err != nil {
			s.t.Errorf("%s: %v: %s", o.id, err, o.text)
		}
		o.served, o.answeredFor = answer.Revision, answer.ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcomes = append(s.outcomes, o)
	return o
}

// own is the function's own address, which never changes.
func (s *storm) own() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.address == "" {
		for range 1200 {
			if status, err := s.client.Status(context.Background()); err == nil && status.Address != "" {
				s.address = status.Address
				break
			}
			time.Sleep(50 * time.Millisecond) // until it is deployed
		}
	}
	return s.address
}

// judge compares what clients were told with what the handler noted.
func (s *storm) judge() {
	raw, err := os.ReadFile(s.notes)
	if err != nil {
		s.t.Error(err)
	}
	noted := map[string][]string{}
	for line := range strings.Lines(string(raw)) {
		id, revision, _ := strings.Cut(strings.TrimSpace(line), " ")
		noted[id] = append(noted[id], revision)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	bad := 0
	for _, o := range s.outcomes {
		problem := ""
		switch by := noted[o.id]; {
		case len(by) > 1:
			problem = fmt.Sprintf("was handled %d times, by the revisions %v", len(by), by)
		case o.status == http.StatusOK && (len(by) == 0 || by[0] != strconv.Itoa(o.served) || o.answeredFor != o.id):
			problem = fmt.Sprintf("was answered by revision %d for %s, and handled by %v", o.served, o.answeredFor, by)
		case o.status == http.StatusOK:
			s.answered++
		default:
			problem = s.excuse(o)
		}
		if problem == "" {
			continue
		}
		if bad++; bad <= 10 {
			s.t.Errorf("%s (gateway %t, at %s, %s after it was sent) %s", o.id, o.gateway, o.end.Format("05.000"), o.end.Sub(o.begin).Round(time.Millisecond), problem)
		}
	}
	if bad > 10 {
		s.t.Errorf("and %d more", bad-10)
	}
	if bad == 0 {
		s.outcomes, s.damages = nil, nil
	}
}

// excuse says what is wrong with a failure; "" if it is one that may be.
func (s *storm) excuse(o outcome) string {
	var by []string
	switch {
	case o.err != nil && o.gateway:
		by = []string{"server"}
	case o.err != nil:
		by = []string{"processor"}
	case o.status == http.StatusInternalServerError && strings.Contains(o.text, "before it had answered this event"):
		by = []string{"worker"}
	case o.gateway && o.status == http.StatusBadGateway && strings.Contains(o.text, "broke the connection off"),
		o.gateway && o.status == http.StatusServiceUnavailable && strings.Contains(o.text, "does not serve"):
		by = []string{"processor"}
	}
	for _, d := range s.damages {
		for _, what := range by {
			if d.what == what && d.from.Before(o.end) && o.begin.Before(d.to) {
				s.excused[fmt.Sprintf("%s %d", what, o.status)]++
				return ""
			}
		}
	}
	return fmt.Sprintf("failed with %d %s, and nothing excuses it (this would: %v)", o.status, o.text, by)
}

// accounted looks for processes that belong to nobody, files that are still open and
// folders that nobody needs.
func (s *storm) accounted() {
	var strays []string
	for range 1200 { // what drains may take half a minute
		s.world.mu.Lock()
		server := s.server.Process.Pid
		s.world.mu.Unlock()
		processor, workers := s.dir.PID(), s.workers()
		below, all := descendants(server), s.processes()
		strays = nil
		for pid, line := range all {
			template := strings.Contains(line, "boot.py template")
			switch {
			case pid == server, pid == processor, slices.Contains(workers, pid):
			case template && slices.Contains(below, pid): // the server's own
			case template && slices.ContainsFunc(descendants(pid), func(child int) bool { return slices.Contains(workers, child) }):
				// One of an earlier server, which ends with its last worker.
			default:
				strays = append(strays, fmt.Sprintf("%d %s", pid, line))
			}
		}
		if len(workers) != echoWorkers {
			strays = append(strays, fmt.Sprintf("%d workers where %d were asked for", len(workers), echoWorkers))
		}
		files := open(processor)
		if s.files == 0 && len(strays) == 0 {
			s.files = files
		}
		if files > s.files+16 {
			strays = append(strays, fmt.Sprintf("the processor has %d open files, and had %d after the first round", files, s.files))
		}
		revisions, _ := os.ReadDir(filepath.Join(s.dir.Path, "revisions"))
		if len(revisions) > 4 {
			strays = append(strays, fmt.Sprintf("%d folders of revisions", len(revisions)))
		}
		if len(strays) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
	s.t.Errorf("left over:\n%s", strings.Join(strays, "\n"))
}

// remove deletes the function, ends the server, and looks for anything that is left.
func (s *storm) remove() {
	command := exec.Command(s.binary, "delete", "deployment", "echo", "--server", "http://"+s.world.address)
	if out, err := command.CombinedOutput(); err != nil {
		s.t.Errorf("delete: %v\n%s", err, out)
	}
	for range 1200 {
		if _, err := os.Stat(s.dir.Path); errors.Is(err, fs.ErrNotExist) {
			break
		}
		time.Sleep(50 * time.Millisecond) // until its process has ended
	}
	if _, err := os.Stat(s.dir.Path); err == nil {
		s.t.Errorf("%s is still there a minute after the function was deleted", s.dir.Path)
	}
	s.world.mu.Lock()
	_ = s.server.Process.Signal(syscall.SIGTERM)
	_ = s.server.Wait()
	s.world.mu.Unlock()
	left := s.processes()
	for range 200 {
		if left = s.processes(); len(left) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond) // until the last has ended
	}
	for pid, line := range left {
		s.t.Errorf("process %d is left over: %s", pid, line)
	}
	for _, root := range []string{s.data, s.temp} {
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && (entry.Type()&fs.ModeSocket != 0 || root == s.temp && path != root) {
				s.t.Errorf("%s is left over", path)
			}
			return nil
		})
	}
}

// endAll kills what a failed test has left.
func (s *storm) endAll() {
	s.world.mu.Lock()
	if s.server != nil {
		_ = s.server.Process.Kill()
	}
	s.world.mu.Unlock()
	for pid := range s.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if s.t.Failed() {
		for _, name := range []string{s.dir.Log(), filepath.Join(s.dir.Path, "processor.log")} {
			said, _ := os.ReadFile(name)
			lines := strings.Split(string(said), "\n")
			s.t.Logf("the end of %s:\n%s", filepath.Base(name), strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
		for _, d := range s.damages {
			s.t.Logf("%s from %s to %s", d.what, d.from.Format("05.000"), d.to.Format("05.000"))
		}
	}
}

// processes are those whose command line or environment names this test's folder.
func (s *storm) processes() map[int]string {
	out := map[int]string{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(entry, "cmdline"))
		environment, _ := os.ReadFile(filepath.Join(entry, "environ"))
		if folder := []byte(filepath.Dir(s.data)); bytes.Contains(line, folder) || bytes.Contains(environment, folder) {
			out[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return out
}

// descendants are the processes below one.
func descendants(pid int) []int {
	below := map[int][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, entry := range entries {
		raw, err := os.ReadFile(entry)
		_, rest, ok := strings.Cut(string(raw), ") ") // the name before it may have anything
		fields := strings.Fields(rest)
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(entry)))
		if err != nil || !ok || len(fields) < 2 {
			continue // it has ended
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			below[parent] = append(below[parent], child)
		}
	}
	var out []int
	for next := below[pid]; pid != 0 && len(next) > 0; next = next[1:] {
		out, next = append(out, next[0]), append(next, below[next[0]]...)
	}
	return out
}

// open is how many files a process has open.
func open(pid int) int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries)
}
