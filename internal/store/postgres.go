package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/millrace/millrace/internal/fault"
)

// connections is how many connections to PostgreSQL one store uses at most.
const connections = 16

// attempts is how often a transaction is run that lost against another.
const attempts = 20

// migrationLock is the key of the advisory lock under which servers migrate.
const migrationLock = 0x6d696c6c72616365

var postgresDialect = &dialect{
	postgres: true,
	lock:     " FOR UPDATE",
	labels:   "jsonb_each_text(%s.labels::jsonb)",
	keys: func(n int) string {
		return "(VALUES " + strings.TrimSuffix(strings.Repeat("(?::integer, ?::text, ?::text, ?::text), ", n), ", ") + ") k (n, a, b, c)"
	},
	rewrite: numbered,
	values:  presentable,
}

// presentable replaces what PostgreSQL takes for malformed text, so that somebody
// who looks for it finds nothing, as on SQLite. What is stored is checked before.
func presentable(args []any) []any {
	for i, arg := range args {
		if text, ok := arg.(string); ok && (strings.ContainsRune(text, 0) || !utf8.ValidString(text)) {
			args[i] = strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd")
		}
	}
	return args
}

// rewritten keeps the texts that numbered made.
var rewritten sync.Map

// numbered turns ? into $1, $2, …; no statement of this package has a ? elsewhere.
func numbered(query string) string {
	if text, ok := rewritten.Load(query); ok {
		return text.(string)
	}
	var b strings.Builder
	n := 0
	for i := range len(query) {
		if query[i] != '?' {
			b.WriteByte(query[i])
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	if n < 100 { // longer ones are lists of ids, each of its own length
		rewritten.Store(query, b.String())
	}
	return b.String()
}

// postgresEngine runs each transaction on its own connection. Rows that are
// changed are locked when they are read; a transaction that lost a race (a
// deadlock, or a row that somebody else inserted first) is run again.
type postgresEngine struct {
	db     *sql.DB
	clock  func() time.Time
	mu     sync.Mutex
	closed bool           // guarded by mu
	active sync.WaitGroup // transactions; no Add after closed
}

func openPostgres(ctx context.Context, opts Options) (engine, error) {
	config, err := pgx.ParseConfig(opts.DatabaseURL)
	if err != nil {
		// The cause may quote the URL, and with it the password.
		return nil, fault.Invalid("the database URL can not be read; write postgres://user:password@host:port/database")
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	if err := preparePostgres(ctx, db, config.Database, opts.Clock); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &postgresEngine{db: db, clock: opts.Clock}, nil
}

func preparePostgres(ctx context.Context, db *sql.DB, name string, clock func() time.Time) error {
	steps := migrations("postgres")
	current, err := versionOf(ctx, db)
	var missing *pgconn.PgError
	switch {
	case errors.As(err, &missing) && missing.Code == "42P01": // undefined_table
		current = 0
	case err != nil:
		return fmt.Errorf("open database %s: %w", name, err)
	}
	for {
		if current > len(steps) {
			return newer(name, current, len(steps))
		}
		if current == len(steps) {
			return nil
		}
		if current, err = stepPostgres(ctx, db, steps, clock); err != nil {
			return fmt.Errorf("migrate database %s: %w", name, err)
		}
	}
}

// stepPostgres applies the next migration in a transaction with its version row
// and returns the version then.
func stepPostgres(ctx context.Context, db *sql.DB, steps []migration, clock func() time.Time) (current int, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d)`, migrationLock)); err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, versionTable); err != nil {
		return 0, err
	}
	if current, err = versionOf(ctx, tx); err != nil {
		return 0, err
	}
	if current < len(steps) {
		next := steps[current]
		if _, err := tx.ExecContext(ctx, next.sql); err != nil {
			return 0, fmt.Errorf("%s: %w", next.name, err)
		}
		if err := next.record(ctx, tx, postgresDialect, clock()); err != nil {
			return 0, fmt.Errorf("%s: %w", next.name, err)
		}
		current = next.version
	}
	return current, tx.Commit()
}

func (e *postgresEngine) reader() view { return view{q: e.db, dialect: postgresDialect} }

func (e *postgresEngine) snapshot(ctx context.Context, fn func(view) error) error {
	tx, err := e.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // it has changed nothing
	return fn(view{q: tx, dialect: postgresDialect})
}

func (e *postgresEngine) transact(ctx context.Context, fn func(*Tx) error) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return errClosed
	}
	e.active.Add(1)
	e.mu.Unlock()
	defer e.active.Done()
	var err error
	for attempt := range attempts {
		if err = e.once(ctx, fn); !lostRace(err) {
			return err
		}
		// A random wait, longer each time, takes those that collide apart.
		wait := time.Duration(rand.Int64N(int64(time.Millisecond) << min(attempt, 7)))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	return fmt.Errorf("after %d attempts: %w", attempts, err)
}

func (e *postgresEngine) once(ctx context.Context, fn func(*Tx) error) (err error) {
	sqlTx, err := e.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	done := false
	defer func() {
		if !done { // fn failed or panicked
			_ = sqlTx.Rollback() // the connection is dropped when it cannot
		}
	}()
	tx := &Tx{
		view: view{q: sqlTx, dialect: postgresDialect}, ctx: ctx,
		now: e.clock().UTC().Truncate(time.Microsecond), known: map[string]bool{},
	}
	if err := fn(tx); err != nil {
		return err
	}
	done = true
	if err := sqlTx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// lostRace reports whether running the transaction again can help.
func lostRace(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01", "23505", "23503": // serialization failure, deadlock, unique and foreign key violation
		return true
	}
	return false
}

func (e *postgresEngine) close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.active.Wait()
	return e.db.Close()
}
