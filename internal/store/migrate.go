package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/fault"
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
