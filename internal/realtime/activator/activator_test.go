package activator_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
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
	"github.com/millrace/millrace/internal/realtime/activator"
	"github.com/millrace/millrace/internal/realtime/processor"
	"github.com/millrace/millrace/internal/worker"
)

// TestMain is also what a processor and an activator of these tests are: this binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "processor":
			os.Exit(processorMain(os.Args[2:]))
		case "activator":
			os.Exit(activatorMain(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

func testLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func clientOf(data, dir string) activator.Client {
	return activator.Client{DataDir: data, Activator: []string{os.Args[0], "activator", data}, Environ: os.Environ(), Processor: []string{os.Args[0], "processor", dir}}
}

func processorMain(args []string) int {
	dir := realtime.Dir{Path: args[0]}
	after, err := time.ParseDuration(os.Getenv("TEST_PARK_AFTER"))
	options := processor.Options{Logger: testLogger(), ParkAfter: after, Activator: clientOf(filepath.Join(dir.Path, "../../.."), dir.Path)}
	if err == nil && len(args) == 3 && args[1] == "--"+activator.InheritFlag {
		options.Inherited, err = activator.Inherit(args[2])
	}
	if err == nil {
		err = processor.Run(context.Background(), dir, options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func activatorMain(data string) int {
	if err := activator.Run(context.Background(), activator.Options{DataDir: data, Logger: testLogger(), Idle: time.Second}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 0
}

// world is a data directory with functions.
type world struct {
	t    *testing.T
	data string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	data, err := os.MkdirTemp("", "mr") // short: paths of sockets are
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, data: data}
	t.Cleanup(func() {
		for range 100 { // what is being started starts others
			all := w.processes("")
			if len(all) == 0 {
				break
			}
			for _, pid := range all {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(data, "functions/*/*/processor.log"))
			for _, name := range append(logs, filepath.Join(data, "activator/log")) {
				raw, _ := os.ReadFile(name)
				lines := strings.Split(string(raw), "\n")
				t.Logf("the end of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-40):], "\n"))
			}
		}
		os.RemoveAll(data)
	})
	return w
}

// processes are those of the data directory that have a word in their command line.
func (w *world) processes(word string) (out []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		raw, _ := os.ReadFile(line)
		environ, _ := os.ReadFile(filepath.Join(filepath.Dir(line), "environ"))
		if bytes.Contains(raw, []byte(word)) && (bytes.Contains(raw, []byte(w.data)) || bytes.Contains(environ, []byte("WORLD="+w.data))) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(line)))
			out = append(out, pid)
		}
	}
	return out
}

type function struct {
	*world
	dir     realtime.Dir
	client  *realtime.Client
	wanted  realtime.Desired
	address string
	http    *http.Client
}

const numbered = `
import os

def handler(context, event):
    return %q
`

// deploy starts a processor for a function that goes to zero at once, and waits until it
// serves.
func (w *world) deploy(name string, change func(*realtime.Desired)) *function {
	w.t.Helper()
	f := &function{world: w, dir: realtime.DirOf(w.data, "default", name)}
	f.client = realtime.NewClient(f.dir)
	// Each request has a connection of its own.
	f.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	f.revision(1, fmt.Sprintf(numbered, "1"))
	f.wanted = realtime.Desired{Project: "default", Name: name, Routes: []realtime.Route{{Revision: 1, Weight: 100}}, Listen: freeAddress(w.t)}
	if change != nil {
		change(&f.wanted)
	}
	if err := f.dir.WriteDesired(f.wanted); err != nil {
		w.t.Fatal(err)
	}
	f.start()
	f.address = f.await("serves", func(s realtime.Status) bool { return s.Address != "" && s.State != realtime.StateStarting }).Address
	return f
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func (f *function) revision(number int, code string) {
	f.t.Helper()
	runtime, err := worker.Unpack(filepath.Join(f.data, "runtime"))
	if err != nil {
		f.t.Fatal(err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		f.t.Skip("no python3 on this machine")
	}
	r := realtime.Revision{
		Number: number, Project: "default", Name: filepath.Base(f.dir.Path), Kind: "nuclio", Mode: realtime.ModeHandler, Python: python, Runtime: runtime,
		File: "function.py", Handler: "handler", Replicas: realtime.Replicas{Min: 0, Max: 1}, IdleToZero: time.Millisecond,
		Env: []string{"PYTHONDONTWRITEBYTECODE=1", "WORLD=" + f.data}, ReadyTimeout: 10 * time.Second,
	}
	if err := f.dir.WriteRevision(r, map[string][]byte{"function.py": []byte(code)}); err != nil {
		f.t.Fatal(err)
	}
}

// start starts a processor as a backend does.
func (f *function) start() {
	f.t.Helper()
	log, err := os.OpenFile(filepath.Join(f.dir.Path, realtime.ProcessorLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Args[0], "processor", f.dir.Path)
	cmd.Env = append(os.Environ(), "TEST_PARK_AFTER=20ms", "WORLD="+f.data)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() { _ = cmd.Wait() }() // ends with the process, which ends with the test
}

// await waits for a status, without asking while the function is parked.
func (f *function) await(what string, wanted func(realtime.Status) bool) realtime.Status {
	f.t.Helper()
	var last realtime.Status
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		status, err := f.client.Status(context.Background())
		if err == nil && wanted(status) {
			return status
		}
		last = status
	}
	f.t.Fatalf("%s: it does not come about; the status is %+v", what, last)
	return last
}

// parked waits until the function is parked and its process has gone.
func (f *function) parked() {
	f.t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if f.dir.Parked() && len(f.processes("processor\x00"+f.dir.Path)) == 0 {
			return
		}
	}
	f.t.Fatal("the function is not parked after a minute")
}

// get sends a request to the function's own address.
func (f *function) get(header ...string) (status int, body string) {
	scheme := "http"
	if f.wanted.TLS != nil {
		scheme = "https"
	}
	return f.do(f.http, scheme+"://"+f.address+"/", header...)
}

func (f *function) do(client *http.Client, url string, header ...string) (status int, body string) {
	request, err := http.NewRequest("POST", url, strings.NewReader("x"))
	if err != nil {
		return 0, err.Error()
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(raw)
}

func (f *function) answers(want string) {
	f.t.Helper()
	if status, body := f.get(); status != 200 || body != want {
		f.t.Errorf("answer %d %q; want %q", status, body, want)
	}
}

// TestParkAndWake: a function at zero has no process until somebody calls it, by whatever
// socket, and then is what it was. Who asks for its status or metrics wakes nobody.
func TestParkAndWake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.deploy("one", nil)
	f.answers("1")
	f.parked()
	for range 5 {
		status, err := f.client.Status(t.Context())
		if err != nil || !status.Parked || status.PID != 0 || status.State != realtime.StateScaledToZero || status.Address != f.address || !f.dir.Alive() {
			t.Fatalf("status of the parked function: %+v %v", status, err)
		}
		if text, err := f.client.Metrics(t.Context()); err != nil || !strings.Contains(string(text), `result="success"} 1`) {
			t.Fatalf("metrics of the parked function: %s %v", text, err)
		}
	}
	if all := w.processes(""); len(all) != 1 || !slices.Equal(all, w.processes("activator")) {
		t.Errorf("processes %v; the activator alone should be there", all)
	}
	f.answers("1") // by its own address
	f.await("is woken", func(s realtime.Status) bool { return !s.Parked && s.PID > 1 && f.dir.PID() == s.PID })
	f.parked()
	socket := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return f.dir.DialHTTP(ctx) }}}
	if status, body := f.do(socket, "http://function/"); status != 200 || body != "1" {
		t.Errorf("by the socket: %d %q", status, body)
	}
	f.parked()
	if text, err := f.client.Metrics(t.Context()); err != nil || !strings.Contains(string(text), `result="success"} 3`) || !strings.Contains(string(text), `code="2xx"} 3`) {
		t.Errorf("counters do not go on: %s %v", text, err)
	}
}

// TestEventsAtTheMomentOfParking: events that come while a function is being parked are
// answered, each of them.
func TestEventsAtTheMomentOfParking(t *testing.T) {
	t.Parallel()
	rounds := 24
	if testing.Short() {
		rounds = 6
	}
	w := newWorld(t)
	f := w.deploy("hammered", nil)
	parkings := 0
	for round := range rounds {
		switch round % 3 {
		case 0: // handed over, but the processor has not ended
			for until := time.Now().Add(time.Minute); !f.dir.Parked() && time.Now().Before(until); {
				time.Sleep(100 * time.Microsecond)
			}
		case 1: // when it leaves what it knows: about to hand over
			for until := time.Now().Add(time.Minute); time.Now().Before(until); {
				if status, err := f.dir.Status(); err == nil && status.Parked {
					break
				}
				time.Sleep(100 * time.Microsecond)
			}
		default: // at any time around
			time.Sleep(900*time.Millisecond + mathrand.N(500*time.Millisecond))
		}
		if f.dir.Parked() {
			parkings++
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if status, body := f.get(); status != 200 || body != "1" {
					t.Errorf("round %d: answer %d %q", round, status, body)
				}
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d rounds, the sockets were handed over in %d when the events came", rounds, parkings)
	if text, err := f.client.Metrics(t.Context()); err != nil || !strings.Contains(string(text), fmt.Sprintf(`result="success"} %d`, 100*rounds)) {
		t.Errorf("%d events were answered; the metrics say %s %v", 100*rounds, text, err)
	}
}

// TestOrders: a parked function is deployed anew and rolled back as any other; what served
// serves until the new revision is ready, and on when that is not.
func TestOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.deploy("ordered", nil)
	tell := func(revision int) {
		t.Helper()
		f.wanted.Routes = []realtime.Route{{Revision: revision, Weight: 100}}
		if err := f.dir.WriteDesired(f.wanted); err != nil {
			t.Fatal(err)
		}
		if _, err := f.client.Apply(t.Context(), f.wanted); err != nil {
			t.Fatal(err)
		}
	}
	f.parked()
	tell(1) // what is so: nobody is started for that
	if status, err := f.client.Status(t.Context()); err != nil || !status.Parked || len(w.processes("processor")) > 0 {
		t.Errorf("told what is so, it is %+v %v", status, err)
	}
	f.revision(2, fmt.Sprintf("import time\ntime.sleep(1)\n"+numbered, "2"))
	tell(2)
	f.answers("1") // the new one is not ready
	f.await("revision 2 serves alone", func(s realtime.Status) bool {
		return len(s.Routes) == 1 && s.Routes[0].Revision == 2 && len(s.Revisions) == 1
	})
	f.answers("2")
	f.parked()
	tell(1) // back
	f.await("revision 1 serves alone", func(s realtime.Status) bool {
		return len(s.Routes) == 1 && s.Routes[0].Revision == 1 && len(s.Revisions) == 1
	})
	f.answers("1")
	f.parked()
	f.revision(3, "import no_such_module\n")
	tell(3)
	f.await("revision 3 fails", func(s realtime.Status) bool { r, ok := s.Revision(3); return ok && r.State == realtime.StateError })
	f.answers("1")
	tell(1)
	f.parked()
	// An address of its own that changes while it is parked is left.
	f.wanted.Listen = freeAddress(t)
	old := f.address
	tell(1)
	f.address = f.wanted.Listen
	f.answers("1")
	if conn, err := net.Dial("tcp", old); err == nil {
		conn.Close()
		t.Error("the function still listens on the address that it had")
	}
}

// TestEndOfAParkedFunction: it ends without being started, and the last one takes the
// activator along.
func TestEndOfAParkedFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.deploy("one", nil), w.deploy("two", nil)
	one.parked()
	two.parked()
	if n := len(w.processes("activator")); n != 1 {
		t.Errorf("%d activators", n)
	}
	if err := one.client.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if one.dir.Alive() || len(w.processes("processor")) != 0 {
		t.Errorf("alive: %t, processors %v", one.dir.Alive(), w.processes("processor"))
	}
	if conn, err := net.Dial("tcp", one.address); err == nil {
		conn.Close()
		t.Error("the ended function takes connections")
	}
	two.answers("1")
	two.parked()
	if err := two.client.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(time.Minute); len(w.processes("")) > 0 && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
	}
	if left := w.processes(""); len(left) != 0 {
		t.Errorf("processes are left over: %v", left)
	}
	if sockets, _ := filepath.Glob(filepath.Join(w.data, "activator", "*.sock")); len(sockets) > 0 {
		t.Errorf("left over: %v", sockets)
	}
}

// TestDataDirectoryIsDeleted: nobody could find the activator any more, so it ends.
func TestDataDirectoryIsDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.deploy("one", nil)
	f.parked()
	if err := os.RemoveAll(w.data); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(time.Minute); len(w.processes("")) > 0 && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
	}
	if left := w.processes(""); len(left) != 0 {
		t.Errorf("processes are left over: %v", left)
	}
}

// TestKilledActivator: the function is not alive then, whoever keeps it starts it where it
// was, at zero; and it is parked again.
func TestKilledActivator(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.deploy("one", nil)
	f.answers("1")
	f.parked()
	for _, pid := range w.processes("activator") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for until := time.Now().Add(time.Minute); f.dir.Alive() && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
	if f.dir.Alive() {
		t.Fatal("the lock is held though the activator was killed")
	}
	started := func() int {
		log, _ := os.ReadFile(filepath.Join(f.dir.Path, realtime.ProcessorLog))
		return strings.Count(string(log), "worker started")
	}
	workers := started()
	f.start()
	f.parked()
	if now := started(); workers == 0 || now != workers {
		t.Errorf("%d workers were started where nobody has called", now-workers)
	}
	if text, err := f.client.Metrics(t.Context()); err != nil || !strings.Contains(string(text), `result="success"} 1`) {
		t.Errorf("counters do not go on: %s %v", text, err)
	}
	f.answers("1")
}

// TestProcessorThatDoesNotServe: a parked function that cannot be started is let go, so
// that whoever keeps it sees that, and callers do not wait for ever.
func TestProcessorThatDoesNotServe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.deploy("one", nil)
	f.parked()
	if err := os.WriteFile(filepath.Join(f.dir.Path, "desired.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, body := f.get(); status != 0 {
		t.Errorf("answer %d %q of a function that cannot be started", status, body)
	}
	for until := time.Now().Add(time.Minute); f.dir.Alive() && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
	if f.dir.Alive() {
		t.Error("the lock is held")
	}
	if log, _ := os.ReadFile(filepath.Join(f.dir.Path, realtime.ProcessorLog)); strings.Count(string(log), "read desired") < 2 {
		t.Errorf("it was not tried again, or does not say what is wrong: %s", log)
	}
}

// TestProtected: credentials and TLS hold for a parked function as before.
func TestProtected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files := writePair(t)
	f := w.deploy("guarded", func(d *realtime.Desired) { d.TLS, d.Auth = files, &realtime.Auth{Keys: []string{"right"}} })
	for _, key := range []string{"wrong", "right"} {
		f.parked()
		want := map[string]int{"wrong": 401, "right": 200}[key]
		if status, body := f.get("X-API-Key", key); status != want {
			t.Errorf("the %s key of a parked function: %d %q", key, status, body)
		}
	}
}

// TestOpenConnection: a function with a connection that is open has a process, and what
// comes by that connection is answered by it.
func TestOpenConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.deploy("one", nil)
	kept := &http.Client{Timeout: time.Minute}
	if status, _ := f.do(kept, "http://"+f.address+"/"); status != 200 {
		t.Fatalf("answer %d", status)
	}
	pid := f.dir.PID()
	f.await("is at zero", func(s realtime.Status) bool { return s.State == realtime.StateScaledToZero })
	time.Sleep(300 * time.Millisecond) // many times as long as it would take
	if f.dir.Parked() || f.dir.PID() != pid {
		t.Error("parked with an open connection")
	}
	if status, _ := f.do(kept, "http://"+f.address+"/"); status != 200 || f.dir.PID() != pid {
		t.Errorf("answer %d by process %d; it was %d", status, f.dir.PID(), pid)
	}
	kept.CloseIdleConnections()
	f.parked()
}

// writePair writes a certificate for itself.
func writePair(t *testing.T) *realtime.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "parked"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := &realtime.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for name, block := range map[string]*pem.Block{files.Certificate: {Type: "CERTIFICATE", Bytes: certificate}, files.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
