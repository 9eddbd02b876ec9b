package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/store/storetest"
)

// undo takes a schema back to that of version 2: what the later steps add goes,
// with all that is in it.
func undo(database string) []string {
	names, below := "run_latest", []string(nil)
	if database == "postgres" {
		names, below = "run_names", []string{`DROP INDEX artifacts_below`}
	}
	return append(slices.Concat(orphaned, below),
		`DROP TABLE `+names, `DROP TABLE artifact_labels`,
		`DROP INDEX artifacts_kind`, `DROP INDEX artifacts_updated`, `CREATE INDEX artifacts_updated ON artifacts (project, updated)`,
		`DROP INDEX artifact_tags_name`, `ALTER TABLE artifact_tags DROP COLUMN updated`, `CREATE INDEX artifact_tags_name ON artifact_tags (project, tag)`,
		`DROP TABLE bundle_parts`, `DROP TABLE bundles`, `DROP TABLE content_removals`, `DROP TABLE servers`, `DROP TABLE api_gateways`, `DROP TABLE deployment_revisions`, `DROP TABLE deployments`, `DROP TABLE cache`, `DROP TABLE run_uses`,
		`DELETE FROM schema_versions WHERE version > 2`)
}

// orphaned takes the schema back to that of version 11, in which artifacts had no parents.
var orphaned = []string{`DROP INDEX artifacts_parent`, `ALTER TABLE artifacts DROP COLUMN parent_id`}

// unread takes the schema back to that of version 10, which did not note what was read at
// a path.
var unread = []string{
	orphaned[0], orphaned[1],
	`DROP INDEX run_uses_artifact`, `ALTER TABLE run_uses DROP COLUMN artifact`, `DELETE FROM schema_versions WHERE version > 10`,
	`UPDATE run_uses SET used = 'data:file://' || substr(used, 6) WHERE used LIKE 'data:/%'`,
}

// derived are the tables, and columns of tables, that migrations fill from others.
func derived(database string) []string {
	names := `run_latest`
	if database == "postgres" {
		names = `run_names`
	}
	return []string{
		`SELECT * FROM ` + names, `SELECT * FROM artifact_labels`, `SELECT * FROM run_uses`,
		`SELECT project, tag, artifact_id, updated FROM artifact_tags`,
	}
}

// TestMigrateSQLite: what migrations make of an old database that is full is what
// the same records would have become in a new one.
func TestMigrateSQLite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "millrace.db")
	migrated(t, "sqlite", path, store.Options{Path: path})
}

func TestMigratePostgres(t *testing.T) {
	t.Parallel()
	server, err := storetest.StartPostgres(t.Context())
	storetest.Require(t, err)
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	url, _, err := server.Database(t.Context(), fmt.Sprintf("millrace_test_%d_%d", os.Getpid(), databases.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	migrated(t, "pgx", url, store.Options{DatabaseURL: url})
}

func migrated(t *testing.T, driver, source string, options store.Options) {
	database := map[string]string{"sqlite": "sqlite", "pgx": "postgres"}[driver]
	options.Clock = storetest.NewClock().Now
	within(t, options, func(s *store.Store) { fill(t, s) })
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var want [][]string
	for _, query := range derived(database) {
		rows := dump(t, db, query)
		if len(rows) == 0 {
			t.Fatalf("%s: nothing to compare", query)
		}
		want = append(want, rows)
	}
	for _, old := range [][]string{unread, undo(database)} {
		for _, statement := range old {
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		within(t, options, func(s *store.Store) {
			if _, err := s.RunGet(t.Context(), run.Key{Project: "default", UID: "u3"}); err != nil {
				t.Error(err)
			}
		})
		for i, query := range derived(database) {
			if got := dump(t, db, query); !slices.Equal(got, want[i]) {
				t.Errorf("%s: after the migration\n%s\nbefore\n%s", query, strings.Join(got, "\n"), strings.Join(want[i], "\n"))
			}
		}
	}
}

func within(t *testing.T, options store.Options, do func(*store.Store)) {
	t.Helper()
	s, err := store.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	do(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill stores runs of few names, with iterations, equal and missing starts, inputs
// and updates, and artifacts with labels and tags that have moved. Inputs name a
// version: of one that names the latest, an old database does not tell which it was.
func fill(t *testing.T, s *store.Store) {
	ctx := context.Background()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	day := time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC)
	for i := range 60 {
		uid := fmt.Sprint("u", i)
		doc := document.Object{
			"metadata": document.Object{"name": fmt.Sprint("n", i%7), "labels": document.Object{"i": fmt.Sprint(i)}},
			"spec": document.Object{
				"function": fmt.Sprintf("default/f%d@0a", i%3),
				"inputs":   document.Object{"raw": fmt.Sprint("s3://lake/", i%5), "made": fmt.Sprintf("store://artifacts/default/a%d@u%d", i%4, i-4)},
			},
		}
		if i%4 == 0 { // began when it was stored
			document.Set(doc, fmt.Sprint("file:///files/u", i-2), "spec", "inputs", "file")
		} else {
			doc["status"] = document.Object{"start_time": day.Add(time.Duration(i*37%11) * time.Hour).Format(time.RFC3339Nano)}
		}
		must(s.RunPut(ctx, run.Key{Project: "default", UID: uid}, doc))
		if i%5 == 0 {
			must(s.RunPut(ctx, run.Key{Project: "default", UID: uid, Iter: 1}, doc))
		}
		long := strings.Repeat("é", 252) // longer than what the index keeps
		must(s.ArtifactPut(ctx, store.ArtifactPut{Project: "default", Key: fmt.Sprint("a", i%4), Tag: fmt.Sprint("t", i%2), Tree: uid, Doc: document.Object{
			"kind":     "model",
			"metadata": document.Object{"key": fmt.Sprint("a", i%4), "tree": uid, "labels": document.Object{"i": fmt.Sprint(i), long: long, "empty": ""}},
			"spec":     document.Object{"target_path": "/files/" + uid, "producer": document.Object{"kind": "run", "uri": "default/" + uid}},
		}}))
	}
	for i := 0; i < 60; i += 9 {
		must(s.RunUpdate(ctx, run.Key{Project: "default", UID: fmt.Sprint("u", i)}, document.Object{"status.state": "completed"}))
	}
}

// dump returns the rows of a query as text, sorted.
func dump(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(values...))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}
