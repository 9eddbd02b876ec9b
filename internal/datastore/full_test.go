package datastore_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/fault"
)

// fullVariable makes the test binary a writer whose files may not grow.
const fullVariable = "MILLRACE_TEST_FULL"

// TestNoRoom: a write that does not fit leaves what was there, and fits later.
func TestNoRoom(t *testing.T) {
	ctx, data := context.Background(), random(2<<20)
	s := datastore.New(datastore.Options{})
	if path := os.Getenv(fullVariable); path != "" {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(ctx, path, bytes.NewReader(data), datastore.PutOptions{}); !fault.Is(err, fault.CodeUnavailable) {
			t.Fatalf("a full disk: %v", err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestNoRoom$")
	child.Env = append(os.Environ(), fullVariable+"="+path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "old" {
		t.Fatalf("%q, %v", raw, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Fatalf("beside it: %v, %v", entries, err)
	}
	if written, err := s.Put(ctx, path, bytes.NewReader(data), datastore.PutOptions{}); err != nil || written.Digest != digest(data) {
		t.Fatal(written, err)
	}
}
