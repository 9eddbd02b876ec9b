package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
)

// crashEnv makes this test binary the process that is killed.
const crashEnv = "MILLRACE_TEST_CRASH_DB"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		if err := writeForEver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeForEver stores runs and updates of them from many goroutines, each row
// told on standard output once it is acknowledged.
func writeForEver(path string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Path: path})
	if err != nil {
		return err
	}
	errs := make(chan error)
	var out sync.Mutex
	for worker := range 16 {
		go func() {
			for n := 0; ; n++ {
				key := run.Key{Project: "default", UID: fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, n)}
				if _, err := s.RunPut(ctx, key, document.Object{"metadata": document.Object{"name": "n", "labels": document.Object{"w": fmt.Sprint(worker)}}}); err != nil {
					errs <- err
				}
				if _, err := s.RunUpdate(ctx, key, document.Object{"status.state": "completed"}); err != nil {
					errs <- err
				}
				out.Lock()
				_, err := fmt.Println(key.UID)
				out.Unlock()
				if err != nil {
					errs <- err
				}
			}
		}()
	}
	return <-errs
}

// TestKill kills a process with SIGKILL while it writes, again and again, and
// looks for every write that it had acknowledged.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "millrace.db")
	rng := rand.New(rand.NewPCG(5, 8))
	var acknowledged []string
	for range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		killAt := 50 + rng.IntN(300)
		for n := 0; lines.Scan(); n++ {
			acknowledged = append(acknowledged, lines.Text())
			if n == killAt {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
			t.Fatalf("the writer ended by itself: %v\n%s", err, stderr.String())
		}
		s, err := store.Open(t.Context(), store.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		for _, uid := range acknowledged {
			doc, err := s.RunGet(t.Context(), run.Key{Project: "default", UID: uid})
			if err != nil || run.StateOf(doc) != run.Completed {
				t.Fatalf("an acknowledged write is lost: %v, %v", doc, err)
			}
		}
		// Rows, and the index of labels beside them, agree.
		runs, _, err := s.RunList(t.Context(), store.RunFilter{Project: "default"})
		if err != nil {
			t.Fatal(err)
		}
		labelled := 0
		for worker := range 16 {
			docs, _, err := s.RunList(t.Context(), store.RunFilter{Project: "default", Labels: []store.LabelFilter{{Key: "w", Value: fmt.Sprint(worker), HasValue: true}}})
			if err != nil {
				t.Fatal(err)
			}
			labelled += len(docs)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if len(runs) < len(acknowledged) || labelled != len(runs) {
			t.Fatalf("%d acknowledged, %d stored, %d by label", len(acknowledged), len(runs), labelled)
		}
	}
	check(t, path)
}

// check has SQLite check the whole file.
func check(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	var verdict string
	if err := errors.Join(db.QueryRow("PRAGMA integrity_check").Scan(&verdict), db.Close()); err != nil || verdict != "ok" {
		t.Fatalf("%s, %v", verdict, err)
	}
}

func TestFileBelongsToItsOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "a.db")})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "a.db*"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDatabasesThatAreRefused(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	open := func(name string) error {
		s, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, name)})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	if err := open("newer.db"); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "newer.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(ctx, `INSERT INTO schema_versions VALUES (999, 'from the future', 0)`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := open("newer.db"); !fault.Is(err, fault.CodePrecondition) || !strings.Contains(err.Error(), "schema version 999") {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "text.db"), []byte(strings.Repeat("no database\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open("text.db"); !fault.Is(err, fault.CodeInvalid) || !strings.Contains(err.Error(), "is not a database") {
		t.Error(err)
	}
	if err := open("missing/a.db"); err == nil {
		t.Error("a folder was made")
	}
	if _, err := store.Open(ctx, store.Options{}); !fault.Is(err, fault.CodeInvalid) {
		t.Error(err)
	}
	if _, err := store.Open(ctx, store.Options{DatabaseURL: "postgres://user:s3cret@host:notaport/db"}); !fault.Is(err, fault.CodeInvalid) || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}
