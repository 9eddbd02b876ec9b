// Package harness starts the real thing for the suites under test/: it builds
// the millrace command and starts servers. A suite that cannot run on a machine
// says so through Skip; with MILLRACE_TEST_REQUIRE=1 that is a failure.
package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Required reports whether every suite has to run.
func Required() bool { return os.Getenv("MILLRACE_TEST_REQUIRE") == "1" }

// Skip ends the test because of what this machine lacks: as skipped, or as
// failed where every suite has to run.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if Required() {
		t.Fatalf("MILLRACE_TEST_REQUIRE=1, but "+format, args...)
	}
	t.Skipf(format, args...)
}

// Root returns the top folder of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// built is the command that Binary made, guarded by its mutex.
var built struct {
	sync.Mutex
	binary string
	err    error
}

// Binary returns a freshly built millrace command, built once a test process.
// MILLRACE_TEST_BINARY names one to use instead.
func Binary(t testing.TB) string {
	t.Helper()
	if binary := os.Getenv("MILLRACE_TEST_BINARY"); binary != "" {
		return binary
	}
	built.Lock()
	defer built.Unlock()
	if built.binary == "" && built.err == nil {
		built.binary, built.err = build()
	}
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.binary
}

func build() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-test-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "millrace")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/millrace")
	cmd.Dir = Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("go build: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return binary, nil
}

// Main runs the tests, removes what Binary built and exits; TestMain calls it.
func Main(m *testing.M) {
	code := m.Run()
	built.Lock()
	if built.binary != "" {
		_ = os.RemoveAll(filepath.Dir(built.binary))
	}
	os.Exit(code)
}

// Server is a running `millrace server`.
type Server struct {
	URL     string
	DataDir string
	PID     int
	log     string
	killed  bool // by Kill
}

// StartServer starts a server on a free port with its own data folder and
// returns when it is ready. It is ended when the test is over; its log is shown
// if the test failed.
func StartServer(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{DataDir: t.TempDir()}
	s.log = filepath.Join(s.DataDir, "server.log")
	address := freeAddress(t)
	s.URL = "http://" + address
	logFile, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	cmd := exec.Command(Binary(t), append([]string{"server", "--listen", address, "--data-dir", s.DataDir}, args...)...)
	cmd.Dir = s.DataDir
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.PID = cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { s.stop(t, cmd, ended) })
	if err := s.ready(ended); err != nil {
		text, _ := os.ReadFile(s.log)
		t.Fatalf("the server did not start: %v\n%s", err, text)
	}
	return s
}

// Kill ends the server as a crash does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.killed = true
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) stop(t testing.TB, cmd *exec.Cmd, ended chan error) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if err != nil && !s.killed {
			t.Errorf("the server ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
		t.Error("the server did not end within 30 s of SIGTERM")
	}
	if t.Failed() {
		text, _ := os.ReadFile(s.log)
		if len(text) > 20000 {
			text = text[len(text)-20000:]
		}
		t.Logf("the server's log:\n%s", text)
	}
}

// ready polls the health route; a server that ended already is an error at once.
func (s *Server) ready(ended chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/v1/healthz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("it ended: %w", errors.Join(err, errors.New("before it was ready")))
		case <-ctx.Done():
			return errors.New("not ready within 30 s")
		case <-tick.C:
		}
	}
}

// freeAddress returns a loopback address whose port was free a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
