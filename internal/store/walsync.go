package store

import (
	"fmt"
	"os"
	"sync"

	"github.com/millrace/millrace/internal/fault"
)

// maxUnsynced is how many commits may wait for the disk while the next one is
// made; when that many do, the writer waits too.
const maxUnsynced = 4

// walSync makes commits durable beside the writer. SQLite runs with
// synchronous=NORMAL: a commit is appended to the WAL file but not synced. This
// goroutine syncs that file and only then are the transactions told that they
// succeeded, so while the disk works the writer already executes the next batch,
// and one sync serves all the commits that came before it.
//
// What is acknowledged is durable because:
//
//   - a commit's frames are in the file before it is handed over, and a sync of the
//     file covers everything that was written to it before, by whatever process;
//   - recovery takes all frames up to the last commit whose checksums chain from the
//     header; a batch is only acknowledged when those before it are on the disk too;
//   - a checkpoint, of this or another process, syncs the WAL before it copies to the
//     database, and syncs the database before the WAL is begun anew; so frames that
//     are gone from the WAL are durable in the database. A WAL begun anew has its
//     header synced before frames follow (both hold from NORMAL on).
//
// A transaction may see what an earlier one wrote before that is durable; its own
// acknowledgement comes after the other's, so nobody is told of what could be lost.
type walSync struct {
	sync   func(*os.File) error
	queue  chan synced
	closed chan struct{} // closed by the goroutine as its last act
	idle   sync.WaitGroup

	mu     sync.Mutex
	failed error // guarded by mu; the first failure, which stays
}

// synced is a commit that waits for the disk. wal stays open until idle.
type synced struct {
	wal *os.File
	ops []*write
}

func startWALSync(sync func(*os.File) error) *walSync {
	s := &walSync{sync: sync, queue: make(chan synced, maxUnsynced), closed: make(chan struct{})}
	go s.loop()
	return s
}

// add hands over the transactions of a commit; they are told its outcome.
func (s *walSync) add(wal *os.File, ops []*write) {
	s.idle.Add(1)
	s.queue <- synced{wal, ops}
}

// wait returns when everything handed over was told its outcome.
func (s *walSync) wait() { s.idle.Wait() }

// stop ends the goroutine; nothing may be handed over any more.
func (s *walSync) stop() {
	close(s.queue)
	<-s.closed
}

// err is the failure after which nothing can be made durable any more.
func (s *walSync) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *walSync) loop() {
	defer close(s.closed)
	var commits []synced
	for first := range s.queue {
		commits = append(commits[:0], first)
		for more := true; more; {
			select {
			case next, ok := <-s.queue:
				if more = ok; ok {
					commits = append(commits, next)
				}
			default:
				more = false
			}
		}
		err := s.durable(commits[len(commits)-1].wal)
		for _, commit := range commits {
			for _, op := range commit.ops {
				if err != nil && op.wrote && op.err == nil {
					op.err = err
				}
				close(op.done)
			}
			s.idle.Done()
		}
		clear(commits)
	}
}

// durable syncs the file. After a failure the system may have forgotten what it
// could not write, and a later sync would succeed without it: so the first failure
// is final, until the database is opened again and SQLite reads what is there.
func (s *walSync) durable(wal *os.File) error {
	if err := s.err(); err != nil {
		return err
	}
	err := s.sync(wal)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = fault.Unavailable("the database could not be written to its disk, so nothing more is accepted; see to the disk and start again: %w",
		fmt.Errorf("sync %s: %w", wal.Name(), err))
	return s.failed
}
