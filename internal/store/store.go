package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Options says which database to open. One of Path and DatabaseURL is required;
// DatabaseURL wins.
type Options struct {
	// Path is the SQLite file; it is created, readable by its owner only, when it is
	// not there. Its folder has to exist.
	Path string
	// DatabaseURL is a PostgreSQL connection string, postgres://….
	DatabaseURL string
	// Logger gets what no caller can be told; nil discards it.
	Logger *slog.Logger
	// Clock is the time of every write; nil means time.Now.
	Clock func() time.Time
}

// engine is what differs between the databases: how a transaction comes about.
type engine interface {
	// transact runs fn in a transaction and returns when it is durable, or with the
	// error that undid it. fn may be called several times.
	transact(ctx context.Context, fn func(*Tx) error) error
	// reader is where reads outside of transactions go.
	reader() view
	// snapshot has fn read one state of the database, once. On SQLite that also makes
	// many small reads a third cheaper: they share the locks. fn should be short.
	snapshot(ctx context.Context, fn func(view) error) error
	// close waits for transactions under way.
	close() error
}

// Store keeps everything. It is safe for use by several goroutines, and several
// processes may open the same database.
type Store struct {
	engine engine
	read   view
	clock  func() time.Time
}

// Open opens the database, creating or migrating it as needed; a database that a
// newer version has migrated is refused with fault.CodePrecondition. A new
// database has the project "default".
func Open(ctx context.Context, opts Options) (*Store, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	var e engine
	var err error
	switch {
	case opts.DatabaseURL != "":
		e, err = openPostgres(ctx, opts)
	case opts.Path != "":
		e, err = openSQLite(ctx, opts)
	default:
		err = fault.Invalid("the store needs the path of a SQLite file or the URL of a PostgreSQL database")
	}
	if err != nil {
		return nil, err
	}
	return &Store{engine: e, read: e.reader(), clock: opts.Clock}, nil
}

// Close waits for the writes under way and closes the database. Later calls of
// other methods fail; a second Close does nothing.
func (s *Store) Close() error { return s.engine.close() }

// Tx runs fn in one transaction: all of what it wrote becomes durable together
// before Tx returns nil, or nothing of it when fn or the database fails. An error
// of fn is returned as it is.
//
// fn is called again when the database asks for it (another transaction came
// between, or one that shared a commit failed), so it must not change anything
// but its results, and it should be short: on SQLite there is one writer. ctx
// ends the wait for a turn, not a transaction that has begun.
func (s *Store) Tx(ctx context.Context, fn func(*Tx) error) error {
	return s.engine.transact(ctx, fn)
}

// Tx is a transaction; it is valid until the function it was handed to returns
// and belongs to that function's goroutine. The context that its methods take is
// there for uniformity with those of Store; the transaction's own decides.
type Tx struct {
	view
	ctx   context.Context
	now   time.Time
	wrote bool
	// known are the projects seen to exist. It may be shared by the transactions of
	// one commit, since nobody else can delete a project before its end.
	known map[string]bool
	held  string // the project last held
}

// querier is a connection, a pool or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// view is a place to read from, and what the SQL of its database is like.
type view struct {
	q       querier
	dialect *dialect
}

// dialect is how the two databases differ where one statement cannot serve both.
type dialect struct {
	postgres bool
	// lock ends a SELECT whose rows are about to be changed. SQLite has one writer.
	lock string
	// labels is a table expression with the columns key and value over the labels
	// column of %s.
	labels string
	// keys is a table expression over 4*n arguments: k with the columns n, a number, and
	// a, b, c, text.
	keys func(n int) string
	// rewrite turns the placeholders ? into those of the database.
	rewrite func(string) string
	// values makes arguments that the database can take of any.
	values func([]any) []any
}

// target is the condition that an artifact's content is at a place, which is given
// twice; its form lets the database use its index.
func (d *dialect) target() string {
	if d.postgres {
		return `md5(target) = md5(?) AND target = ? AND target <> ''`
	}
	return `target = ? AND target = ? AND target <> ''`
}

// exec runs a statement that writes and returns how many rows it touched.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	result, err := tx.write(query, args)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (tx *Tx) write(query string, args []any) (sql.Result, error) {
	tx.wrote = true
	return tx.q.ExecContext(tx.ctx, tx.dialect.rewrite(query), tx.dialect.values(args)...)
}

// insert runs an INSERT of one row and returns its id.
func (tx *Tx) insert(query string, args ...any) (id int64, err error) {
	if tx.dialect.postgres {
		tx.wrote = true
		_, err = tx.row(tx.ctx, []any{&id}, query+" RETURNING id", args...)
		return id, err
	}
	result, err := tx.write(query, args)
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// row reads the first row of a query into dest and reports whether there was one.
func (v view) row(ctx context.Context, dest []any, query string, args ...any) (bool, error) {
	rows, err := v.q.QueryContext(ctx, v.dialect.rewrite(query), v.dialect.values(args)...)
	if err != nil {
		return false, err
	}
	defer func() { _ = rows.Close() }() // an error of it is in rows.Err too
	if !rows.Next() {
		return false, rows.Err()
	}
	if err := rows.Scan(dest...); err != nil {
		return false, err
	}
	return true, rows.Close()
}

// each reads all rows of a query; scan is called for each.
func (v view) each(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := v.q.QueryContext(ctx, v.dialect.rewrite(query), v.dialect.values(args)...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // an error of it is in rows.Err too
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// strings reads a query of one text column.
func (v view) strings(ctx context.Context, query string, args ...any) ([]string, error) {
	var out []string
	err := v.each(ctx, func(rows *sql.Rows) error {
		var s string
		err := rows.Scan(&s)
		out = append(out, s)
		return err
	}, query, args...)
	return out, err
}

// decode reads a document that this package wrote.
func decode(text []byte) (document.Object, error) {
	doc, err := document.DecodeObject(text)
	if err != nil {
		return nil, fmt.Errorf("stored document: %s", err)
	}
	return doc, nil
}

// encode renders a document for its column.
func encode(doc document.Object) string { return string(document.Encode(doc)) }

// micros is how times are stored; the zero time is NULL.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// moment is the reverse of micros.
func moment(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return time.UnixMicro(us.Int64).UTC()
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// wrap names what failed for an error of the database; domain errors, and those
// of a context, stay as they are.
func wrap(err error, format string, args ...any) error {
	var domain *fault.Error
	if err == nil || errors.As(err, &domain) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// clip shortens what a client wrote so that it can stand in a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

// marks returns n placeholders.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// requireProject fails with fault.CodeNotFound when the project does not exist,
// and makes sure that it goes on existing until the transaction ends.
func (tx *Tx) requireProject(name string) error {
	if tx.known[name] {
		return nil
	}
	if err := tx.holdProject(name, shared); err != nil {
		return err
	}
	var one int
	found, err := tx.row(tx.ctx, []any{&one}, `SELECT 1 FROM projects WHERE name = ?`, name)
	if err != nil {
		return wrap(err, "look up project %s", clip(name))
	}
	if !found {
		return fault.NotFound("Project %s does not exist", clip(name))
	}
	tx.known[name] = true
	return nil
}

// How holdProject holds.
const (
	shared    = "pg_advisory_xact_lock_shared"
	exclusive = "pg_advisory_xact_lock"
)

// holdProject keeps others from deleting the project (shared) or from writing
// into it (exclusive) until the transaction ends. An advisory lock, because
// whoever waits for it gets it in turn: a deletion that wants the row itself
// waits for ever while others keep sharing it. On SQLite there is one writer
// anyway.
func (tx *Tx) holdProject(name, how string) error {
	if !tx.dialect.postgres || tx.held == name {
		return nil
	}
	if how == shared {
		tx.held = name
	}
	return tx.advise(how, "project "+name)
}

// advise takes an advisory lock of PostgreSQL on what is called name.
func (tx *Tx) advise(lock, name string) error {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(name)) // never fails
	var none string
	_, err := tx.row(tx.ctx, []any{&none}, `SELECT '' FROM (SELECT `+lock+`(?)) l`, int64(hash.Sum64()))
	return wrap(err, "lock %s", clip(name))
}
