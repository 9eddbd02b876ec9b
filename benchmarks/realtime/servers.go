package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/edge"
	"github.com/millrace/millrace/internal/realtime/processor"
	"github.com/millrace/millrace/internal/worker"
)

const echoHandler = "def handler(context, event):\n    return event.body\n"

const asgiApp = `
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError(scope["type"])
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    length = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain"), (b"content-length", length)]})
    await send({"type": "http.response.body", "body": body})
`

const fastAPIApp = `
from fastapi import FastAPI, Request, Response

app = FastAPI()

@app.post("/")
async def echo(request: Request):
    return Response(await request.body(), media_type="text/plain")
`

// server is a process, with those that it starts, that answers HTTP.
type server struct {
	address string
	cmd     *exec.Cmd
	f       *realtime.Client // of ours
}

// command starts argv in a session of its own and waits until it listens.
func command(address string, env []string, argv ...string) (*server, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{address: address, cmd: cmd}
	if address == "" {
		return s, nil
	}
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		c := newClient(address, "/", 4)
		_, _, err := c.do()
		c.close()
		if err == nil {
			return s, nil
		}
	}
	s.stop()
	return nil, fmt.Errorf("%s does not answer at %s", argv[0], address)
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // what is left of its session
	<-done
}

// cpu is the processor time of the server and all that it started and still runs, and
// of the process itself alone.
func (s *server) cpu() (all, own time.Duration) {
	pid := s.cmd.Process.Pid
	return cpuOf(pid), cpuOfTree(pid, true)
}

func cpuOf(root int) time.Duration { return cpuOfTree(root, false) }

func cpuOfTree(root int, alone bool) time.Duration {
	parents := map[int]int{}
	times := map[int]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range entries {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parents[pid], _ = strconv.Atoi(fields[1])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		times[pid] = user + system
	}
	total := 0
	for pid, ticks := range times {
		for at := pid; at > 1; at = parents[at] {
			if alone && at != root {
				break
			}
			if at == root {
				total += ticks
				break
			}
		}
	}
	return time.Duration(total) * (time.Second / 100)
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// ours starts a processor with an echo handler.
func (b *bench) ours(workers int) (*server, error) {
	return b.deploy(b.python, echoHandler, realtime.Trigger{Name: "http", Kind: realtime.TriggerHTTP, Workers: workers})
}

// deploy starts a processor with one trigger for the function handler of code.
func (b *bench) deploy(python, code string, trigger realtime.Trigger) (*server, error) {
	dir, err := os.MkdirTemp(b.dir, "f")
	if err != nil {
		return nil, err
	}
	d := realtime.Dir{Path: dir}
	if err := d.Create(); err != nil {
		return nil, err
	}
	err = d.WriteRevision(realtime.Revision{
		Number: 1, Project: "default", Name: "echo", Kind: "nuclio", Mode: realtime.ModeHandler, Python: python, Runtime: b.runtime,
		File: "echo.py", Handler: "handler", Replicas: realtime.Replicas{Min: 1, Max: 1},
		Triggers: []realtime.Trigger{trigger},
	}, map[string][]byte{"echo.py": []byte(code)})
	if err != nil {
		return nil, err
	}
	desired := realtime.Desired{Project: "default", Name: "echo", Routes: []realtime.Route{{Revision: 1, Weight: 100}}, Listen: "127.0.0.1:0"}
	if err := d.WriteDesired(desired); err != nil {
		return nil, err
	}
	s, err := command("", nil, b.self, "-serve", "processor:"+dir, "-profile", b.profile)
	if err != nil {
		return nil, err
	}
	s.f = realtime.NewClient(d)
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if status, err := s.f.Status(context.Background()); err == nil && status.State == realtime.StateReady {
			s.address = status.Address
			return s, nil
		}
	}
	s.stop()
	return nil, errors.New("the processor is not ready within 30 s")
}

// edge starts the server of functions' addresses with a handler in Go.
func (b *bench) edge() (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return command(address, nil, b.self, "-serve", "edge:"+address)
}

// alone starts the standard library's server with a handler in Go.
func (b *bench) alone() (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return command(address, nil, b.self, "-serve", "echo:"+address)
}

// uvicorn starts an ASGI application; requirements are in b.venv.
func (b *bench) uvicorn(code string, workers int) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "asgi")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "served.py"), []byte(code), 0o600); err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(address)
	return command(address, []string{"PYTHONPATH=" + dir}, b.venv, "-m", "uvicorn", "served:app", "--host", host, "--port", port,
		"--workers", strconv.Itoa(workers), "--no-access-log", "--log-level", "error")
}

// serve is the other side of this program: one of the servers that it starts.
func serve(what, profile string) error {
	if profile != "" {
		file, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	kind, where, _ := strings.Cut(what, ":")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch kind {
	case "processor":
		return processor.Run(ctx, realtime.Dir{Path: where}, processor.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	case "echo":
		debug.SetGCPercent(400) // as the processor does when it is busy
		server := &http.Server{Addr: where, ReadHeaderTimeout: 10 * time.Second, Handler: echo{}}
		context.AfterFunc(ctx, func() { server.Close() })
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
	if kind == "edge" {
		debug.SetGCPercent(400)
		listener, err := net.Listen("tcp", where)
		if err != nil {
			return err
		}
		server, err := edge.Serve(listener, edge.New(edge.Config{}, echo{}), nil, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		<-ctx.Done()
		server.Shutdown(ctx)
		return nil
	}
	return fmt.Errorf("nothing is served by the name %q", what)
}

// start starts a worker that serves the echo handler.
func (b *bench) start(ctx context.Context) (*worker.Worker, error) {
	file := filepath.Join(b.dir, "echo.py")
	if err := os.WriteFile(file, []byte(echoHandler), 0o600); err != nil {
		return nil, err
	}
	begun, err := os.CreateTemp(b.dir, "begun-")
	if err != nil {
		return nil, err
	}
	if _, err := begun.Write(make([]byte, 8)); err != nil {
		return nil, err
	}
	w, err := worker.Start(ctx, worker.Spec{Interpreter: b.python, RuntimeDir: b.runtime, Env: os.Environ(), Stderr: os.Stderr})
	if err != nil {
		return nil, err
	}
	load := worker.Load{Mode: worker.ModeEvent, File: file, Handler: "handler", Event: &worker.EventLoad{
		TriggerKind: "http", TriggerName: "http", Worker: "0", Begun: begun.Name(), Mark: worker.MarkOf(begun),
	}}
	if _, err := w.Load(ctx, load); err != nil {
		_ = w.Kill()
		return nil, err
	}
	return w, nil
}

// echo answers with the body of the request.
type echo struct{}

func (echo) Direct() bool { return true }

func (echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, max(r.ContentLength, 0))
	if _, err := io.ReadFull(r.Body, body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header()["Content-Type"] = []string{"text/plain"}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, _ = w.Write(body)
}
