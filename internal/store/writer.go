package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// maxBatch is how many transactions share one commit at most; it bounds how long
// the first of them waits for the last.
const maxBatch = 256

// errClosed is what calls get after Close.
var errClosed = fault.Unavailable("the store is closed")

// writer is the one goroutine that writes to a SQLite file. It runs the
// transactions that are waiting one after the other in a single database
// transaction and commits them together. walSync waits for the disk and tells
// them, while the next batch is executed.
//
// A transaction that fails before it wrote anything is simply left out. One that
// fails after that, or a failing commit, undoes the whole batch, and each
// transaction is then run again by itself, so that one cannot hurt another.
// Nobody is told anything before the commit that decides it is durable.
//
// The queue is bounded (maxBatch); when it is full, callers wait in do.
type writer struct {
	db     *sql.DB // one connection
	path   string  // of the WAL file
	disk   *walSync
	log    *slog.Logger
	clock  func() time.Time
	queue  chan *write
	quit   chan struct{}
	closed chan struct{} // closed by the goroutine as its last act
	once   sync.Once

	// Owned by the goroutine.
	conn  *sql.Conn
	cache *statements
	wal   *os.File // open as long as conn
}

// write is one transaction on its way. state decides who has it: the caller, who
// may still give up, or the writer.
type write struct {
	fn    func(*Tx) error
	err   error
	panic any // what fn panicked with; do panics with it again
	wrote bool
	state atomic.Int32 // waiting, taken, abandoned
	done  chan struct{}
}

const (
	waiting int32 = iota
	taken
	abandoned
)

// startWriter starts the writer of the SQLite file at path, which makes the WAL
// durable by sync.
func startWriter(db *sql.DB, path string, sync func(*os.File) error, opts Options) *writer {
	w := &writer{
		db: db, path: path + "-wal", disk: startWALSync(sync), log: opts.Logger, clock: opts.Clock,
		queue: make(chan *write, maxBatch), quit: make(chan struct{}), closed: make(chan struct{}),
	}
	go w.loop()
	return w
}

// do runs fn in a transaction; see Store.Tx.
func (w *writer) do(ctx context.Context, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	op := &write{fn: fn, done: make(chan struct{})}
	select {
	case <-w.quit:
		return errClosed
	default:
	}
	select {
	case w.queue <- op:
	case <-w.quit:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-op.done:
	case <-ctx.Done():
		if op.state.CompareAndSwap(waiting, abandoned) {
			return context.Cause(ctx)
		}
	case <-w.closed:
		if op.state.CompareAndSwap(waiting, abandoned) {
			return errClosed
		}
	}
	<-op.done // it has begun; fn may be running and using what the caller gave it
	if op.panic != nil {
		panic(op.panic) // in the goroutine whose mistake it is
	}
	return op.err
}

// stop lets what is queued be written, ends the goroutine and closes the database.
func (w *writer) stop() error {
	w.once.Do(func() { close(w.quit) })
	<-w.closed
	return w.db.Close()
}

func (w *writer) loop() {
	defer close(w.closed)
	defer w.disk.stop()
	defer w.disconnect()
	for {
		select {
		case op := <-w.queue:
			w.batch(op)
		case <-w.quit:
			for op := w.next(); op != nil; op = w.next() {
				w.batch(op)
			}
			return
		}
	}
}

// next returns a waiting transaction, nil when there is none now. It gives those
// who are just being woken by the last commit the processor once, since a commit
// costs far more than that.
func (w *writer) next() *write {
	for range 2 {
		select {
		case op := <-w.queue:
			return op
		default:
			runtime.Gosched()
		}
	}
	return nil
}

// batch runs first and whatever else waits, and commits.
func (w *writer) batch(first *write) {
	if err := w.begin(); err != nil {
		if first.state.CompareAndSwap(waiting, taken) {
			first.err = err
			close(first.done)
		}
		return
	}
	var ops []*write
	known := map[string]bool{}
	clean, wrote := true, false
	for op := first; op != nil; op = w.next() {
		if !op.state.CompareAndSwap(waiting, taken) {
			continue
		}
		ops = append(ops, op)
		w.run(op, known)
		wrote = wrote || op.wrote
		if op.err != nil && op.wrote {
			clean = false
			break
		}
		if len(ops) == maxBatch {
			break
		}
	}
	if clean {
		if !wrote {
			w.rollback()
		} else if err := w.exec("COMMIT"); err != nil {
			clean = false
			w.log.Warn("a commit failed; its transactions are tried one by one", "transactions", len(ops), "error", err)
		} else {
			w.disk.add(w.wal, ops)
			return
		}
	}
	if !clean {
		w.rollback()
		for _, op := range ops {
			w.alone(op)
		}
		return
	}
	for _, op := range ops {
		close(op.done)
	}
}

// alone runs op in a transaction of its own.
func (w *writer) alone(op *write) {
	if op.err = w.begin(); op.err == nil {
		w.run(op, map[string]bool{})
		if op.err == nil && op.wrote {
			if op.err = w.exec("COMMIT"); op.err == nil {
				w.disk.add(w.wal, []*write{op})
				return
			}
			op.err = fmt.Errorf("commit: %w", op.err)
		}
		w.rollback()
	}
	close(op.done)
}

// run calls op's function. The context it works under is not the caller's: a
// caller that gives up must not undo the others in its batch.
func (w *writer) run(op *write, known map[string]bool) {
	tx := &Tx{
		view: view{q: w.cache, dialect: sqliteDialect}, ctx: context.Background(),
		now: w.clock().UTC().Truncate(time.Microsecond), known: known,
	}
	defer func() {
		op.wrote = tx.wrote
		if op.panic = recover(); op.panic != nil {
			op.err, op.wrote = fmt.Errorf("panic in a transaction: %v", op.panic), true
		}
	}()
	op.err = op.fn(tx)
}

// begin takes the write lock of the file.
func (w *writer) begin() error {
	if err := w.disk.err(); err != nil {
		return err
	}
	if w.conn == nil {
		conn, err := w.db.Conn(context.Background())
		if err != nil {
			return fmt.Errorf("open database: %w", err)
		}
		w.conn, w.cache = conn, newStatements(conn)
	}
	err := w.exec("BEGIN IMMEDIATE")
	if sqliteBusy(err) {
		return fault.Unavailable("the database is being written to by another process for more than %s; try again", busyTimeout)
	}
	if err != nil {
		w.disconnect()
		return fmt.Errorf("begin: %w", err)
	}
	if w.wal == nil { // it is there for certain once a transaction has begun
		if w.wal, err = os.OpenFile(w.path, os.O_RDWR, 0); err != nil {
			w.disconnect()
			return fmt.Errorf("open database: %w", err)
		}
	}
	return nil
}

// rollback undoes the transaction under way. A connection that cannot do so, or
// lost the transaction already (a full disk does that), is replaced.
func (w *writer) rollback() {
	if err := w.exec("ROLLBACK"); err != nil {
		w.disconnect()
	}
}

func (w *writer) exec(query string) error {
	_, err := w.cache.ExecContext(context.Background(), query)
	return err
}

func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	var err error
	if w.wal != nil {
		w.disk.wait()
		err = w.wal.Close()
	}
	err = errors.Join(err, w.cache.close())
	// The driver's word for a broken connection keeps the pool from handing it out
	// again; Raw closes it and returns that word.
	if raw := w.conn.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(raw, driver.ErrBadConn) {
		err = errors.Join(err, raw)
	}
	if err != nil {
		w.log.Warn("close a database connection", "error", err)
	}
	w.conn, w.cache, w.wal = nil, nil, nil
}
