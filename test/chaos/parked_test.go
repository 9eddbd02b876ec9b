package chaos

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestParkedFunctions: a function that nobody calls has no process; looking at it wakes
// it as little as a server that starts does, and it is called, deployed anew, rolled back
// and deleted as any other, whatever is killed meanwhile.
func TestParkedFunctions(t *testing.T) {
	s := newStorm(t, 1, func(s *storm) {
		s.zero = true
		s.environ = []string{"MILLRACE_PARK_AFTER=100ms"}
	})
	alone := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	answers := func(gateway bool) {
		t.Helper()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if o := s.send(alone, gateway); o.status != http.StatusOK || o.served != s.wanted {
					t.Errorf("answer %d %q by revision %d; want 200 by %d", o.status, o.text, o.served, s.wanted)
				}
			})
		}
		all.Wait()
	}
	http.DefaultClient.CloseIdleConnections() // which have served until here
	s.parked()
	before := s.parkings()
	for range 20 { // a keeper asks in between
		if s.client.Status(t.Context()); at(s.get(echoPath), "status", "parked") != true {
			t.Errorf("not parked: %v", at(s.get(echoPath), "status"))
		}
		if out, err := exec.Command(s.binary, "get", "deployments", "--server", "http://"+s.world.address).CombinedOutput(); err != nil || !strings.Contains(string(out), "echo") {
			t.Errorf("get deployments: %v\n%s", err, out)
		}
		time.Sleep(200 * time.Millisecond) // so that the keeper looks, too
	}
	s.killServer() // and starts another one, which finds the function
	s.eventually("the server knows the function", func() bool { return at(s.get(echoPath), "status", "state") == "scaledToZero" })
	time.Sleep(3 * time.Second) // its keeper asks every two seconds
	if now := s.parkings(); before == 0 || now != before || !s.dir.Parked() {
		t.Errorf("the function was started %d times where nobody has called it", now-before)
	}

	answers(false)
	s.parked()
	answers(true)
	s.killServer() // whose gateway keeps connections
	s.parked()

	// No server runs.
	s.world.mu.Lock()
	_ = s.server.Process.Kill()
	_ = s.server.Wait()
	s.world.mu.Unlock()
	answers(false)
	s.parked()
	answers(false)
	s.start()
	s.parked()

	for _, pid := range s.activators() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	s.eventually("the function is served again", func() bool { return s.dir.PID() > 0 })
	s.parked()
	answers(false)

	s.parked()
	s.deploy(0)
	s.settle()
	http.DefaultClient.CloseIdleConnections()
	answers(false)
	s.parked()
	s.post(t.Context(), echoPath+"/rollback", map[string]any{})
	s.wanted = 1 // whose code is that of revision 3
	s.eventually("the function is rolled back", func() bool {
		status, err := s.client.Status(context.Background())
		return err == nil && len(status.Routes) == 1 && status.Routes[0].Revision == 3
	})
	answers(false)

	s.parked()
	address := s.own()
	s.remove() // and nothing is left over
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("something listens at the address of the deleted function")
	}
	s.judge()
}

// parked waits until the function has no process, and its last one has ended.
func (s *storm) parked() {
	s.t.Helper()
	s.eventually("the function is parked", func() bool {
		if !s.dir.Parked() || len(s.activators()) != 1 {
			return false
		}
		for _, line := range s.processes() {
			if strings.Contains(line, " processor ") {
				return false
			}
		}
		return true
	})
}

func (s *storm) activators() (out []int) {
	for pid, line := range s.processes() {
		if strings.Contains(line, " activator ") {
			out = append(out, pid)
		}
	}
	return out
}

// parkings is how often the function has been parked.
func (s *storm) parkings() int {
	said, err := os.ReadFile(filepath.Join(s.dir.Path, "processor.log"))
	if err != nil {
		s.t.Error(err)
	}
	return strings.Count(string(said), "msg=parked")
}

func (s *storm) eventually(what string, done func() bool) {
	s.t.Helper()
	for range 1200 {
		if done() {
			return
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
	s.t.Fatalf("after a minute: not so that %s; it is %v", what, at(s.get(echoPath), "status"))
}
