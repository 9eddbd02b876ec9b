// Package s3test starts a real S3 server for tests: Versity's gateway over a
// folder, built once and kept in the user's cache.
package s3test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	module  = "github.com/versity/versitygw/cmd/versitygw"
	version = "v1.8.0"
)

// Key and Secret are the credentials that the server accepts.
const Key, Secret = "millrace-test", "millrace-secret"

// ErrNone says that the server could not be built on this machine.
var ErrNone = errors.New("the S3 server " + module + "@" + version + " cannot be built here")

// Server is a running S3 server.
type Server struct {
	URL  string
	Root string // its folder; a folder in it is a bucket

	server *exec.Cmd
	exited chan error
}

// Start builds the server if needed, and starts it on the folder root. ErrNone when
// it cannot be built.
func Start(ctx context.Context, root string) (*Server, error) {
	binary, err := build(ctx)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return nil, err
	}
	meta := filepath.Join(filepath.Dir(root), "meta-of-"+filepath.Base(root))
	s := &Server{URL: "http://" + address, Root: root, exited: make(chan error, 1)}
	s.server = exec.Command(binary, "--port", address, "--access", Key, "--secret", Secret, "--quiet", "--health", "/health", "posix", "--sidecar", meta, root)
	s.server.Stderr = os.Stderr
	for _, dir := range []string{root, meta} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := s.server.Start(); err != nil {
		return nil, err
	}
	go func() { s.exited <- s.server.Wait() }()
	for {
		if response, err := http.Get(s.URL + "/health"); err == nil {
			return s, response.Body.Close()
		}
		select {
		case err := <-s.exited:
			return nil, fmt.Errorf("the S3 server ended: %w", err)
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.Stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server and waits for it.
func (s *Server) Stop() error {
	err := s.server.Process.Kill()
	<-s.exited
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// build returns the server's binary, which is named by its version.
func build(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "millrace-test", "versitygw-"+version)
	binary := filepath.Join(dir, "versitygw")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".building-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	install := exec.CommandContext(ctx, "go", "install", "-ldflags", "-s -w", module+"@"+version)
	install.Env = append(os.Environ(), "GOBIN="+temp, "GOFLAGS=")
	install.Dir = temp
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %w\n%s", ErrNone, err, out)
	}
	if err := os.Rename(temp, dir); err != nil {
		if _, stat := os.Stat(binary); stat != nil {
			return "", err
		}
	}
	return binary, nil
}
