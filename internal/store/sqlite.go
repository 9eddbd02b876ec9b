package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite" // registers the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/millrace/millrace/internal/fault"
)

// busyTimeout is how long a transaction waits for another process that writes to
// the same file.
const busyTimeout = 10 * time.Second

// readers is how many connections read at once.
const readers = 4

var sqliteDialect = &dialect{
	labels: "json_each(%s.labels)",
	keys: func(n int) string {
		return "(SELECT column1 AS n, column2 AS a, column3 AS b, column4 AS c FROM (VALUES " + strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?), ", n), ", ") + ")) k"
	},
	rewrite: forSQLite,
	values:  func(args []any) []any { return args },
}

// forSQLite makes a statement that writes keep, when it fails, what it did before. Any
// failure undoes the whole transaction here, so SQLite need not keep a journal
// of each statement besides, which costs a tenth of the time of a write.
//
// A limit becomes an expression: SQLite would look at the value when it plans, and so
// prepare the statement again each time that a value is bound.
func forSQLite(query string) string {
	if rest, ok := strings.CutPrefix(query, "INSERT INTO "); ok && !strings.Contains(rest, "ON CONFLICT") {
		return "INSERT OR FAIL INTO " + rest
	}
	if rest, ok := strings.CutPrefix(query, "UPDATE "); ok {
		return "UPDATE OR FAIL " + rest
	}
	return strings.ReplaceAll(query, "LIMIT ?", "LIMIT ?+0")
}

// sqliteEngine has one connection that writes, owned by the writer's goroutine,
// and a pool of connections that read.
type sqliteEngine struct {
	writer *writer
	pool   *sql.DB
	cache  *statements
	once   sync.Once
	err    error
}

func openSQLite(ctx context.Context, opts Options) (engine, error) {
	e, err := openSQLiteWith(ctx, opts, dataSync)
	return e, noRoom(opts.Path, err)
}

// noRoom says of an error that the disk of the database is full, when that is what it
// means.
func noRoom(path string, err error) error {
	var e *sqlite.Error
	if fault.CodeOf(err) != fault.CodeInternal || !errors.As(err, &e) || e.Code() != sqlite3.SQLITE_FULL && e.Code() != sqlite3.SQLITE_IOERR_SHMSIZE {
		return err
	}
	return fault.Unavailable("there is no room for the database %s: %w; free some space on its disk", path, err)
}

// openSQLiteWith is openSQLite with what makes the WAL durable.
func openSQLiteWith(ctx context.Context, opts Options, sync func(*os.File) error) (engine, error) {
	// SQLite would create the file with the default mode; its WAL takes over the
	// mode of the file.
	file, err := os.OpenFile(opts.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	path, err := filepath.Abs(opts.Path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	dsn := func(pragmas ...string) string {
		query := url.Values{"_pragma": append([]string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())}, pragmas...)}
		return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
	}
	// NORMAL: walSync brings commits to the disk. The checkpoint threshold is
	// larger than the default 1,000 pages so that fewer commits pay for one.
	write, err := sql.Open("sqlite", dsn("synchronous(NORMAL)", "foreign_keys(1)", "temp_store(MEMORY)", "wal_autocheckpoint(8000)", "cache_size(-16000)"))
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	write.SetMaxOpenConns(1)
	if err := prepareSQLite(ctx, write, path, opts.Clock); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	pool, err := sql.Open("sqlite", dsn("query_only(1)", "cache_size(-8000)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), write.Close())
	}
	pool.SetMaxOpenConns(readers)
	pool.SetMaxIdleConns(readers)
	return &sqliteEngine{writer: startWriter(write, path, sync, opts), pool: pool, cache: newStatements(pool)}, nil
}

// prepareSQLite checks the schema's version and migrates when it has to.
func prepareSQLite(ctx context.Context, db *sql.DB, path string, clock func() time.Time) (err error) {
	conn, err := db.Conn(ctx)
	if foreign(err) {
		return fault.Invalid("%s is not a database; move it away or name another file", path)
	}
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	steps := migrations("sqlite")
	current, err := versionOf(ctx, conn)
	if err == nil && current == len(steps) {
		return nil
	}
	if err == nil && current > len(steps) {
		return newer(path, current, len(steps))
	}
	// The change to WAL fails at once, not after the timeout, when another process
	// is doing the same; so try until it has.
	deadline := time.Now().Add(busyTimeout)
	for {
		if _, err = conn.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err == nil {
			break
		}
		if !sqliteBusy(err) || time.Now().After(deadline) {
			return fmt.Errorf("open database %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
	for {
		if done, err := stepSQLite(ctx, conn, path, steps, clock); done || err != nil {
			return err
		}
	}
}

// stepSQLite applies the next migration in a transaction with its version row;
// done says that there is none. Holding the write lock makes processes that open
// the same new file take turns.
func stepSQLite(ctx context.Context, conn *sql.Conn, path string, steps []migration, clock func() time.Time) (done bool, err error) {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return false, fmt.Errorf("migrate database %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_, rollback := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, rollback)
		}
	}()
	if _, err := conn.ExecContext(ctx, versionTable); err != nil {
		return false, fmt.Errorf("migrate database %s: %w", path, err)
	}
	current, err := versionOf(ctx, conn)
	if err != nil {
		return false, fmt.Errorf("migrate database %s: %w", path, err)
	}
	if current > len(steps) {
		return false, newer(path, current, len(steps))
	}
	if done = current == len(steps); !done {
		next := steps[current]
		if _, err := conn.ExecContext(ctx, next.sql); err != nil {
			return false, fmt.Errorf("migrate database %s with %s: %w", path, next.name, err)
		}
		if err := next.record(ctx, conn, sqliteDialect, clock()); err != nil {
			return false, fmt.Errorf("migrate database %s with %s: %w", path, next.name, err)
		}
	}
	if _, err := conn.ExecContext(ctx, "COMMIT"); err != nil {
		return false, fmt.Errorf("migrate database %s: %w", path, err)
	}
	return done, nil
}

func (e *sqliteEngine) reader() view { return view{q: e.cache, dialect: sqliteDialect} }

func (e *sqliteEngine) snapshot(ctx context.Context, fn func(view) error) error {
	tx, err := e.pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it has changed nothing
	return fn(view{q: reading{tx, e.cache}, dialect: sqliteDialect})
}

// reading is a transaction that reads with the statements of its pool. The end of
// the context ends the transaction; that each statement watches it too, with a
// goroutine of its own, would cost as much as a small read.
type reading struct {
	*sql.Tx
	cache *statements
}

func (r reading) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := r.cache.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	quiet := context.WithoutCancel(ctx)
	if stmt == nil {
		return r.Tx.QueryContext(quiet, query, args...)
	}
	return r.StmtContext(quiet, stmt).QueryContext(quiet, args...)
}

func (e *sqliteEngine) transact(ctx context.Context, fn func(*Tx) error) error {
	return noRoom(strings.TrimSuffix(e.writer.path, "-wal"), e.writer.do(ctx, fn))
}

func (e *sqliteEngine) close() error {
	e.once.Do(func() { e.err = errors.Join(e.writer.stop(), e.cache.close(), e.pool.Close()) })
	return e.err
}

// foreign reports whether the file is not one of SQLite's.
func foreign(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_NOTADB
}

// sqliteBusy reports whether another process is in the way for now.
func sqliteBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}

// preparer is what can prepare a statement.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// statements is a querier that prepares each statement once. There are few
// different ones: lists, whose text depends on their filters, stop being kept
// when there are maxStatements.
type statements struct {
	db preparer
	mu sync.RWMutex
	by map[string]*sql.Stmt // guarded by mu
}

const maxStatements = 200

func newStatements(db preparer) *statements {
	return &statements{db: db, by: map[string]*sql.Stmt{}}
}

// prepare returns nil when the statement is not to be kept.
func (s *statements) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.RLock()
	stmt, n := s.by[query], len(s.by)
	s.mu.RUnlock()
	if stmt != nil || n >= maxStatements {
		return stmt, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt := s.by[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := s.db.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.by[query] = stmt
	return stmt, nil
}

func (s *statements) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	if stmt == nil {
		return s.db.ExecContext(ctx, query, args...)
	}
	return stmt.ExecContext(ctx, args...)
}

func (s *statements) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	if stmt == nil {
		return s.db.QueryContext(ctx, query, args...)
	}
	return stmt.QueryContext(ctx, args...)
}

func (s *statements) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, stmt := range s.by {
		errs = append(errs, stmt.Close())
	}
	clear(s.by)
	return errors.Join(errs...)
}
