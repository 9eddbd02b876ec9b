// Package servertest starts real object stores for tests, on loopback: Versity's
// gateway for S3, fake-gcs-server and gcp-storage-emulator for Google's, Azurite for
// Azure's. Each is installed once, at a fixed version, and kept in the user's cache.
package servertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNone says that a server cannot be installed on this machine.
var ErrNone = errors.New("this server cannot be installed here")

// Server is a running object store with the bucket "data".
type Server struct {
	URL string // where it is reached

	process *exec.Cmd
	exited  chan error
}

// freeAddress returns an address of loopback that nobody listens on.
func freeAddress() (address, port string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	address = listener.Addr().String()
	_, port, _ = net.SplitHostPort(address)
	return address, port, listener.Close()
}

// start runs command, which listens on address, and waits until it answers at path
// with anything at all.
func start(ctx context.Context, address, path, command string, args ...string) (*Server, error) {
	s := &Server{URL: "http://" + address, process: exec.Command(command, args...), exited: make(chan error, 1)}
	s.process.Stderr = os.Stderr
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	go func() { s.exited <- s.process.Wait() }()
	for {
		if response, err := http.Get(s.URL + path); err == nil {
			return s, response.Body.Close()
		}
		select {
		case err := <-s.exited:
			return nil, fmt.Errorf("%s ended: %w", filepath.Base(command), err)
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.Stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server and waits for it.
func (s *Server) Stop() error {
	err := s.process.Process.Kill()
	<-s.exited
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// installed returns the folder called name in the cache; install fills a new one
// when it is not there.
func installed(ctx context.Context, name string, install func(ctx context.Context, dir string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "millrace-test", name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".building-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	if err := install(ctx, temp); err != nil {
		return "", fmt.Errorf("%s: %w: %w", name, ErrNone, err)
	}
	if err := os.Rename(temp, dir); err != nil {
		if _, stat := os.Stat(dir); stat != nil { // another process was faster
			return "", err
		}
	}
	return dir, nil
}

// goInstalled returns the binary of a Go command.
func goInstalled(ctx context.Context, module, version string) (string, error) {
	name := filepath.Base(module)
	dir, err := installed(ctx, name+"-"+version, func(ctx context.Context, dir string) error {
		install := exec.CommandContext(ctx, "go", "install", "-ldflags", "-s -w", module+"@"+version)
		install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
		install.Dir = dir
		return output(install)
	})
	return filepath.Join(dir, name), err
}

// output runs a command; its error says what the command said.
func output(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// post sends a small request that has to succeed.
func post(ctx context.Context, url, body string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		err = fmt.Errorf("POST %s: %s", url, response.Status)
	}
	return errors.Join(err, response.Body.Close())
}
