package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/project"
)

// migrationFiles are the steps of the schema, <number>_<name>.sql without gaps
// from 0001. A file that was released never changes.
//
//go:embed migrations
var migrationFiles embed.FS

// migration is one step.
type migration struct {
	version int
	name    string
	sql     string
}

// versionTable holds a row for each step that was applied.
const versionTable = `CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied BIGINT NOT NULL)`

// migrations returns the steps for a database in order. It panics when the
// embedded files are not numbered as they have to be; a test calls it.
func migrations(database string) []migration {
	files, err := fs.ReadDir(migrationFiles, "migrations/"+database)
	if err != nil {
		panic(err)
	}
	var steps []migration
	for i, file := range files {
		number, _, _ := strings.Cut(file.Name(), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			panic(fmt.Sprintf("migration %s of %s should have the number %04d", file.Name(), database, i+1))
		}
		text, err := migrationFiles.ReadFile("migrations/" + database + "/" + file.Name())
		if err != nil {
			panic(err)
		}
		steps = append(steps, migration{version: version, name: strings.TrimSuffix(file.Name(), ".sql"), sql: string(text)})
	}
	return steps
}

// record notes, in the transaction of the step, that it was applied. The first
// one also makes the project that clients expect to be there, so that nobody sees
// a database without it.
func (m migration) record(ctx context.Context, q querier, d *dialect, now time.Time) error {
	if m.version == 1 {
		doc, err := project.New(document.Object{"metadata": document.Object{"name": project.Default}}, now)
		if err != nil {
			return err
		}
		owner, state, labels, text := projectColumns(doc)
		if _, err := q.ExecContext(ctx, d.rewrite(projectInsert), project.Default, owner, state, labels, now.UnixMicro(), text); err != nil {
			return err
		}
	}
	if m.version == 11 {
		if err := fillUses(ctx, q, d); err != nil {
			return err
		}
	}
	_, err := q.ExecContext(ctx, d.rewrite(`INSERT INTO schema_versions (version, name, applied) VALUES (?, ?, ?)`), m.version, m.name, now.UnixMicro())
	return err
}

// queryer is what versionOf reads from.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// versionOf returns the number of the last step applied; an error when there is
// no version table.
func versionOf(ctx context.Context, db queryer) (int, error) {
	var version int
	err := db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_versions`).Scan(&version)
	return version, err
}

func newer(database string, has, knows int) error {
	return fault.Precondition("the database %s has schema version %d and this program knows versions up to %d; use the newer program that wrote it", database, has, knows)
}
