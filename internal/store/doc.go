// Package store keeps projects, functions, runs, artifacts, background tasks and
// executions, in a SQLite file or in PostgreSQL. It is one concrete type; those
// who use it declare the small interfaces that they need. What a change means is
// decided by the domain packages (run.Replace, artifact.Stored, …); the store
// sees to it that the change is applied to the latest document, is durable when
// the call returns, and is found again quickly.
//
// # Documents and columns
//
// A document is one JSON text, as document.Encode writes it. The columns beside
// it repeat what lists filter and sort by; nothing is only in a column that
// belongs into the document. Executions are the exception: they are the server's
// own, so they are columns throughout. Times are microseconds since 1970.
//
// # Transactions
//
// Every write goes through Tx. On SQLite one goroutine runs what is waiting and
// commits it together (see writer), another one waits for the disk before anybody
// is told (see walSync); several processes may have the file open and take turns by
// its write lock (WAL, BEGIN IMMEDIATE, synchronous=NORMAL). On
// PostgreSQL transactions run side by side at read committed: rows about to be
// changed are locked when they are read, an advisory lock on the project keeps it
// from being deleted under a write, and whoever loses a race is run again. So a
// function given to Tx, RunMutate or ExecutionUpdate can be called more than once.
//
// Reads outside of transactions see what was committed; each list is one
// statement and so one state of the database.
//
// # Errors
//
// What a caller did wrong, and what is not there, is a fault.Error. Anything else
// is a failure of the database, wrapped with what was being done.
//
// # Migrations
//
// Numbered files in migrations/, applied in order, each in a transaction with its
// row in schema_versions. A library (goose) was considered: it locks nothing on
// SQLite, where several processes may meet on a new file, and opening an up to
// date database has to cost no more than one query. What is left is a loop.
//
// # The SQLite driver
//
// modernc.org/sqlite and ncruces/go-sqlite3 were measured beside each other on two
// cores with the statements of a stored run (a row with a UNIQUE and three more
// indices, five labels, a document of 1.3 kB):
//
//	                            modernc 1.62   ncruces 0.37
//	open and read the version         0.4 ms         0.8 ms
//	insert, a commit for each        2,500/s        1,950/s
//	insert, a commit for 32         10,300/s        9,600/s
//	update, a commit for 32         11,900/s       10,900/s
//	first page of 20                13,500/s       13,100/s
//	binary                           10.1 MB        13.4 MB
//
// Where an append of the same document and its fsync went at 3,000/s. Hence the
// former.
package store
