package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// lostWith is what the caller of an event is told whose worker was killed: the one
// failure that is allowed.
const lostWith = "before it had answered this event"

// system is a server with one deployed function.
type system struct {
	binary, data, url string
	server            *exec.Cmd
	dir               realtime.Dir
	client            *realtime.Client
	redeploys         int
}

// held measures what clients see of a constant load, half of what the function can
// do, while revisions change, workers are killed and the server is.
func (b *bench) held(during time.Duration) error {
	s := &system{binary: filepath.Join(b.dir, "millrace"), data: filepath.Join(b.dir, "data")}
	build := exec.Command("go", "build", "-o", s.binary, "./cmd/millrace")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build millrace (run this from the root of the repository): %w", err)
	}
	if err := s.start(); err != nil {
		return err
	}
	defer s.end()
	if err := s.deploy(b); err != nil {
		return err
	}
	s.dir = realtime.DirOf(s.data, "default", "held")
	s.client = realtime.NewClient(s.dir)
	status, err := s.client.Status(context.Background())
	if err != nil {
		return err
	}
	most, err := closed(status.Address, "/", b.connections, 100, b.during)
	if err != nil {
		return err
	}
	rate := int(most.rate() / 2)
	fmt.Printf("constant load: %d requests/s, half of %.0f/s, for %s\n", rate, most.rate(), during)
	ctx, cancel := context.WithTimeout(context.Background(), during)
	defer cancel()
	done := make(chan *outcome)
	go func() { done <- open(ctx, status.Address, "/", rate, 4*b.connections, 100) }()
	kills, servers, err := s.disturb(ctx, b, during)
	out := <-done
	if err != nil {
		return err
	}
	lost, failed := 0, 0
	for text, n := range out.failures {
		if strings.Contains(text, lostWith) {
			lost += n
		} else {
			failed += n
			fmt.Printf("  %d × %s\n", n, text)
		}
	}
	fmt.Printf("  meanwhile: %d redeploys, %d workers killed, %d servers killed\n", s.redeploys-1, kills, servers)
	fmt.Printf("  answered %d (%.0f /s), lost with killed workers %d, failed %d\n", out.requests, out.rate(), lost, failed)
	fmt.Printf("  p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, most %.2f ms\n\n", ms(out.at(.5)), ms(out.at(.99)), ms(out.at(.999)), ms(out.at(1)))
	if failed > 0 {
		return fmt.Errorf("%d requests failed that should not have", failed)
	}
	return nil
}

// disturb does to the function what happens to functions, until ctx ends.
func (s *system) disturb(ctx context.Context, b *bench, during time.Duration) (kills, servers int, err error) {
	redeploy, kill := time.NewTicker(during/6), time.NewTicker(during/9)
	defer redeploy.Stop()
	defer kill.Stop()
	half := time.After(during / 2)
	for {
		select {
		case <-ctx.Done():
			return kills, servers, nil
		case <-redeploy.C:
			err = s.deploy(b)
		case <-kill.C:
			if s.killWorker() {
				kills++
			}
		case <-half:
			servers++
			_ = s.server.Process.Kill()
			_ = s.server.Wait()
			err = s.start()
		}
		if err != nil {
			return kills, servers, err
		}
	}
}

// start starts a server and waits until it is ready.
func (s *system) start() error {
	s.server = exec.Command(s.binary, "server", "--listen", "127.0.0.1:0", "--data-dir", s.data, "--log-level", "error")
	s.server.Stderr = os.Stderr
	s.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := s.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.server.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server does not start: %w", err)
	}
	for _, word := range strings.Fields(line) {
		if _, err := url.Parse(word); err == nil && strings.HasPrefix(word, "http") {
			s.url = word
		}
	}
	return nil
}

// end deletes the function, which ends its process, and the server.
func (s *system) end() {
	if err := s.command("delete", "deployment", "held"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if s.client != nil {
			_ = s.client.Drain(context.Background())
		}
	}
	_ = s.server.Process.Signal(syscall.SIGTERM)
	_ = s.server.Wait()
}

// deploy deploys the next revision and waits until it serves.
func (s *system) deploy(b *bench) error {
	s.redeploys++
	file := filepath.Join(b.dir, "held.py")
	code := fmt.Sprintf("REVISION = %d\n\ndef handler(context, event):\n    return event.body\n", s.redeploys)
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		return err
	}
	return s.command("deploy", file, "--name", "held", "--handler", "handler", "--workers", strconv.Itoa(b.workers), "--quiet")
}

func (s *system) command(args ...string) error {
	cmd := exec.Command(s.binary, append(args, "--server", s.url)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("millrace %s: %w: %s", args[0], err, out)
	}
	return nil
}

// killWorker kills one of the Python processes of the function.
func (s *system) killWorker() bool {
	status, err := s.client.Status(context.Background())
	if err != nil {
		return false
	}
	children, err := childrenOf(status.PID)
	if err != nil || len(children) == 0 {
		return false
	}
	return syscall.Kill(children[rand.IntN(len(children))], syscall.SIGKILL) == nil
}

func childrenOf(pid int) ([]int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var out []int
	for _, path := range tasks {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that has ended
		}
		for word := range strings.FieldsSeq(string(raw)) {
			if child, err := strconv.Atoi(word); err == nil {
				out = append(out, child)
			}
		}
	}
	return out, nil
}
