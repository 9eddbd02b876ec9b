package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/env"
	"github.com/millrace/millrace/internal/fault"
)

func TestEnvironments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	manager, err := env.New(env.Config{Dir: filepath.Join(dir, "envs"), CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	name := strings.Repeat("0a", 16)
	folder := filepath.Join(dir, "envs", name)
	marker := `{"interpreter":{"executable":"/usr/bin/python3","version":{"major":3,"minor":11,"patch":7}},"lock":["six==1.16.0"],"lock_digest":"sha256:ab","bytes":7,"built":"2024-01-02T03:04:05Z"}`
	for path, content := range map[string]string{"bin/python": "", "millrace-env.json": marker} {
		path = filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := environments{manager: manager}
	docs, err := all.EnvironmentList(t.Context())
	if err != nil || len(docs) != 1 {
		t.Fatalf("%v, %v", docs, err)
	}
	decoded, err := document.DecodeObject(document.Encode(docs[0]))
	if err != nil {
		t.Fatal(err)
	}
	if got := document.String(decoded, "metadata", "name"); got != name {
		t.Errorf("name %s", got)
	}
	if got := document.String(decoded, "spec", "python"); got != "3.11.7" {
		t.Errorf("python %s", got)
	}
	lease, err := env.Use(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := all.EnvironmentDelete(t.Context(), name); !fault.Is(err, fault.CodeConflict) {
		t.Errorf("deleted while in use: %v", err)
	}
	if err := lease.Close(); err != nil {
		t.Fatal(err)
	}
	if err := all.EnvironmentDelete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{name, "..", "locks"} {
		if err := all.EnvironmentDelete(t.Context(), gone); !fault.Is(err, fault.CodeNotFound) {
			t.Errorf("deleting %s: %v", gone, err)
		}
	}
}
