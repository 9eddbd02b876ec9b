package datastore

import (
	"crypto/sha1" //nolint:gosec // names content that clients address by it
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"

	"github.com/minio/crc64nvme"
)

// Sums selects the sums that are taken of content on its way; the zero value takes
// all there are.
type Sums uint8

// The sums that can be selected.
const (
	SHA256 Sums = 1 << iota
	SHA1
	CRC64  // CRC-64/NVME: finds what was damaged, not what was forged, at six times the speed of SHA-1
	NoSums // those alone that something is compared with
)

// summer takes sums of a stream, each on a goroutine of its own, because one after
// the other they are slower than a disk. The bytes are in a ring of blocks: write
// copies into them; room and advance let a reader fill them itself. sum ends it,
// stop ends it without a sum; one of them has to be called.
type summer struct {
	sha256, sha1, crc64 hash.Hash // nil for one that is not taken
	to                  []chan *block
	free                chan *block // in the order in which they become free
	current             *block
	working             sync.WaitGroup
	done                bool
}

type block struct {
	data []byte
	left sync.WaitGroup // sums that have not seen it yet
}

// Blocks are small because they are what is written at once: where one write takes
// many pages in a row, a virtual machine often has to ask its host for them.
const (
	blockSize   = 128 << 10
	blocksAhead = 16
	firstBlock  = 4 << 10
)

func newSummer(sums Sums) *summer {
	s := &summer{}
	if sums == 0 || sums&SHA256 != 0 {
		s.sha256 = sha256.New()
	}
	if sums == 0 || sums&SHA1 != 0 {
		s.sha1 = sha1.New() //nolint:gosec // see the import
	}
	if sums == 0 || sums&CRC64 != 0 {
		s.crc64 = crc64nvme.New()
	}
	return s
}

// hashes are those that are taken.
func (s *summer) hashes() []hash.Hash {
	var all []hash.Hash
	for _, h := range []hash.Hash{s.sha256, s.sha1, s.crc64} {
		if h != nil {
			all = append(all, h)
		}
	}
	return all
}

// start begins the goroutines: what fits into one block needs none.
func (s *summer) start() {
	s.free = make(chan *block, blocksAhead)
	for range blocksAhead - 1 {
		s.free <- &block{}
	}
	for _, h := range s.hashes() {
		to := make(chan *block, blocksAhead)
		s.to = append(s.to, to)
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
		b := s.filling(min(max(len(p), firstBlock), blockSize))
		n := min(blockSize-len(b.data), len(p))
		b.data = append(b.data, p[:n]...)
		if p = p[n:]; len(b.data) == blockSize {
			s.hand()
		}
	}
}

// room is memory that the next bytes of the stream may be read into; it and what
// was put there stay as they are until the next call. size is how many are
// expected, below 0 when that is not known.
func (s *summer) room(size int64) []byte {
	capacity := blockSize
	if size >= 0 && size < blockSize {
		capacity = int(size) + 1 // so that the end is seen too
	}
	b := s.filling(capacity)
	if len(b.data) == cap(b.data) {
		b.data = append(make([]byte, 0, blockSize), b.data...)
	}
	return b.data[len(b.data):min(cap(b.data), blockSize)]
}

// advance takes n bytes that were put where room said.
func (s *summer) advance(n int) {
	b := s.current
	if b.data = b.data[:len(b.data)+n]; len(b.data) == blockSize {
		s.hand()
	}
}

// filling is the block that takes the next bytes.
func (s *summer) filling(capacity int) *block {
	switch {
	case s.current != nil:
	case s.free == nil:
		s.current = &block{data: make([]byte, 0, capacity)}
	default:
		s.current = <-s.free
		s.current.left.Wait()
		if s.current.data = s.current.data[:0]; cap(s.current.data) == 0 {
			s.current.data = make([]byte, 0, blockSize)
		}
	}
	return s.current
}

// hand gives the full block to the sums.
func (s *summer) hand() {
	if s.free == nil {
		s.start()
	}
	b := s.current
	s.current = nil
	b.left.Add(len(s.to))
	for _, to := range s.to {
		to <- b
	}
	s.free <- b
}

// sum ends the summing; a sum that is not taken is "".
func (s *summer) sum() (digest, sha1Hex, crc64Hex string) {
	s.stop()
	if s.current != nil {
		for _, h := range s.hashes() {
			_, _ = h.Write(s.current.data)
		}
		s.current = nil
	}
	if s.sha256 != nil {
		digest = "sha256:" + hex.EncodeToString(s.sha256.Sum(nil))
	}
	if s.sha1 != nil {
		sha1Hex = hex.EncodeToString(s.sha1.Sum(nil))
	}
	if s.crc64 != nil {
		crc64Hex = hex.EncodeToString(s.crc64.Sum(nil))
	}
	return digest, sha1Hex, crc64Hex
}

func (s *summer) stop() {
	if s.done {
		return
	}
	s.done = true
	for _, to := range s.to {
		close(to)
	}
	s.working.Wait()
}
