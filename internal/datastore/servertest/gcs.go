package servertest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/millrace/millrace/test/pyenv"
)

const (
	gcsModule   = "github.com/fsouza/fake-gcs-server"
	gcsVersion  = "v1.56.1"
	gcsEmulator = "gcp-storage-emulator==2026.7.19"
)

// GCS starts fake-gcs-server, which keeps its buckets in memory. It knows no
// question about an upload session; see GCSSessions.
func GCS(ctx context.Context) (*Server, error) {
	binary, err := goInstalled(ctx, gcsModule, gcsVersion)
	if err != nil {
		return nil, err
	}
	address, port, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, address, "/_internal/healthcheck", binary, "-scheme", "http", "-host", "127.0.0.1", "-port", port,
		"-backend", "memory", "-external-url", "http://"+address, "-log-level", "error")
	if err != nil {
		return nil, err
	}
	if err := post(ctx, s.URL+"/storage/v1/b?project=test", `{"name":"data"}`); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// GCSSessions starts gcp-storage-emulator, which tells how much of an upload session
// has arrived.
func GCSSessions(ctx context.Context) (*Server, error) {
	all := pyenv.Interpreters()
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: %w: there is no Python 3.9 or newer", gcsEmulator, ErrNone)
	}
	python, err := pyenv.Venv(ctx, all[len(all)-1], gcsEmulator)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", gcsEmulator, ErrNone, err)
	}
	address, port, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return start(ctx, address, "/", filepath.Join(filepath.Dir(python), "gcp-storage-emulator"), "start",
		"--host", "127.0.0.1", "--port", port, "--default-bucket", "data", "--in-memory", "--quiet")
}
