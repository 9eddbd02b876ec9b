package datastore

import (
	"crypto/sha1" //nolint:gosec // names content that clients address by it
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"
)

// summer takes both sums of a stream, each on a goroutine of its own, because one
// after the other they are slower than a disk. Writes below its block size cost a
// copy. sum ends it, stop ends it without a sum; one of them has to be called.
type summer struct {
	sha256, sha1 hash.Hash
	to           [2]chan *block
	free         chan *block
	current      *block
	working      sync.WaitGroup
	done         bool
}

type block struct {
	data []byte
	left sync.WaitGroup
}

const (
	blockSize   = 512 << 10
	blocksAhead = 4
)

func newSummer() *summer {
	return &summer{sha256: sha256.New(), sha1: sha1.New()} //nolint:gosec // see the import
}

// start begins the goroutines: what fits into one block needs none.
func (s *summer) start() {
	s.free = make(chan *block, blocksAhead)
	for range blocksAhead - 1 {
		s.free <- &block{data: make([]byte, 0, blockSize)}
	}
	for i, h := range []hash.Hash{s.sha256, s.sha1} {
		to := make(chan *block, blocksAhead)
		s.to[i] = to
		s.working.Go(func() {
			for b := range to {
				_, _ = h.Write(b.data)
				b.left.Done()
			}
		})
	}
}

func (s *summer) write(p []byte) {
	for len(p) > 0 {
		if s.current == nil {
			s.current = &block{data: make([]byte, 0, min(max(len(p), 4<<10), blockSize))}
		}
		room := blockSize - len(s.current.data)
		n := min(room, len(p))
		s.current.data = append(s.current.data, p[:n]...)
		if p = p[n:]; len(s.current.data) == blockSize {
			s.flush()
		}
	}
}

func (s *summer) flush() {
	if s.free == nil {
		s.start()
	}
	b := s.current
	b.left.Add(2)
	for _, to := range s.to {
		to <- b
	}
	// The oldest block becomes free first, for both take them in order.
	s.free <- b
	next := <-s.free
	next.left.Wait()
	next.data = next.data[:0]
	s.current = next
}

// sum ends the summing.
func (s *summer) sum() (digest, sha1Hex string) {
	s.stop()
	if s.current != nil {
		_, _ = s.sha256.Write(s.current.data)
		_, _ = s.sha1.Write(s.current.data)
		s.current = nil
	}
	return "sha256:" + hex.EncodeToString(s.sha256.Sum(nil)), hex.EncodeToString(s.sha1.Sum(nil))
}

func (s *summer) stop() {
	if s.done {
		return
	}
	s.done = true
	if s.free != nil {
		close(s.to[0])
		close(s.to[1])
		s.working.Wait()
	}
}
