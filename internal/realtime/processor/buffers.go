package processor

import (
	"math/bits"
	"sync"
)

// buffer is memory for a body that is used again. Without that, most of what the
// collector has to do under load is to find bodies.
type buffer struct {
	bytes []byte
	class int
}

const (
	leastBits = 12 // of the size of the smallest buffers that are worth it
	mostBits  = 20
)

var buffers [mostBits - leastBits + 1]sync.Pool // of *buffer

// takeBuffer returns memory of at least size bytes, nil if it is better made as it is
// needed.
func takeBuffer(size int) *buffer {
	if size < 1<<leastBits || size > 1<<mostBits {
		return nil
	}
	class := bits.Len(uint(size-1)) - leastBits
	if b, ok := buffers[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{bytes: make([]byte, 1<<(class+leastBits)), class: class}
}

// release gives the memory of an event's bodies back. Nobody may look at them any more:
// the worker has answered, so that it has read what it was sent.
func (e *event) release() {
	for _, b := range []*buffer{e.received, e.replied} {
		if b != nil {
			buffers[b.class].Put(b)
		}
	}
	e.received, e.replied, e.request.Body, e.body = nil, nil, nil, nil
}
