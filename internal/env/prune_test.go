package env

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

func tarball(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	zipped := gzip.NewWriter(&buf)
	w := tar.NewWriter(zipped)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPrune(t *testing.T) {
	t.Parallel()
	x := newPackageIndex(t)
	m := newTestManager(t, t.TempDir())
	ctx := context.Background()
	envs := map[string]Environment{}
	used := time.Now().Add(-5 * time.Hour)
	for _, name := range []string{"milla", "millb", "millc", "milld"} { // last used an hour apart
		x.add(t, name, "1.0")
		env, err := m.Ensure(ctx, request(t, fromIndex(x, name)...), nil)
		if err != nil {
			t.Fatal(err)
		}
		envs[name] = env
		if err := os.Chtimes(filepath.Join(env.Path, markerFile), used, used); err != nil {
			t.Fatal(err)
		}
		used = used.Add(time.Hour)
	}
	there := func(name string) bool {
		_, err := os.Stat(envs[name].Path)
		return err == nil
	}
	stored, err := m.List(ctx)
	if err != nil || len(stored) != 4 || stored[0].Path != envs["milla"].Path || stored[0].Bytes == 0 {
		t.Fatalf("list: %+v, %v", stored, err)
	}
	// A leased one stays, whatever its age; the lease notes the use, so put the
	// age back.
	lease, err := Use(envs["milla"].Path)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-5 * time.Hour)
	if err := os.Chtimes(filepath.Join(envs["milla"].Path, markerFile), old, old); err != nil {
		t.Fatal(err)
	}
	half := m.folder("0123456789abcdef0123456789abcdef")
	if err := os.MkdirAll(filepath.Join(half, "lib"), 0o700); err != nil {
		t.Fatal(err)
	}
	done, err := m.Prune(ctx, PrunePolicy{MaxAge: 210 * time.Minute})
	if err != nil || done.Environments != 1 || done.HalfBuilt != 1 || !there("milla") || there("millb") || !there("millc") {
		t.Errorf("by age: %+v, %v", done, err)
	}
	if _, err := Use(envs["millb"].Path); !fault.Is(err, fault.CodePrecondition) {
		t.Errorf("a removed environment can be used: %v", err)
	}
	if err := lease.Close(); err != nil || lease.Close() != nil {
		t.Error(err)
	}
	done, err = m.Prune(ctx, PrunePolicy{MaxBytes: stored[0].Bytes + stored[0].Bytes/2})
	if err != nil || done.Environments != 2 || there("milla") || there("millc") || !there("milld") {
		t.Errorf("by size: %+v, %v", done, err)
	}
	// Just used: protected by the grace alone.
	if _, err := m.Ensure(ctx, request(t, fromIndex(x, "milld")...), nil); err != nil {
		t.Fatal(err)
	}
	if done, err = m.Prune(ctx, PrunePolicy{MaxBytes: 1}); err != nil || done.Environments != 0 {
		t.Errorf("within the grace: %+v, %v", done, err)
	}
	// A pruned one comes back with the same lock.
	again, err := m.Ensure(ctx, request(t, fromIndex(x, "millb")...), nil)
	if err != nil || again.Path != envs["millb"].Path || again.LockDigest != envs["millb"].LockDigest {
		t.Errorf("rebuilt: %+v, %v", again, err)
	}
}

func TestPruneEmpty(t *testing.T) {
	t.Parallel()
	m := newTestManager(t, t.TempDir())
	if done, err := m.Prune(context.Background(), PrunePolicy{MaxAge: 1}); err != nil || done != (Pruned{}) {
		t.Errorf("got %+v, %v", done, err)
	}
}
