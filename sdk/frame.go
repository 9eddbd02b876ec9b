package sdk

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Frames of the worker protocol, version 1: docs/protocol.md of Millrace.
const (
	version    = 1
	headerSize = 16
	maxFrame   = 64 << 20
	readSize   = 256 << 10

	typeHello    = 1
	typeLoad     = 2
	typeLoaded   = 3
	typeCancel   = 7
	typeDrain    = 8
	typeFailure  = 9
	typeEvent    = 10
	typeResponse = 11
	typePiece    = 12

	flagFailed   = 0x01
	flagMore     = 0x02 // of a response or piece
	flagBatch    = 0x04 // of an event
	flagCapture  = 0x08 // of an event
	flagOptional = 0x80
)

type frame struct {
	kind, flags byte
	call        uint32
	head, body  []byte
}

// protocolError is a violation by the host: nothing that follows can be trusted.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return e.text }

// reader reads frames.
type reader struct{ in *bufio.Reader }

func newReader(in io.Reader) reader { return reader{bufio.NewReaderSize(in, readSize)} }

// next returns the next frame, whose memory is its own; io.EOF between two frames.
func (r reader) next() (frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r.in, header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return frame{}, &protocolError{"the pipe ended within a frame"}
		}
		return frame{}, err
	}
	size, head := binary.LittleEndian.Uint32(header[0:]), binary.LittleEndian.Uint32(header[12:])
	switch {
	case size > maxFrame:
		return frame{}, &protocolError{fmt.Sprintf("a frame of %d bytes is over the limit of %d", size, maxFrame)}
	case head > size:
		return frame{}, &protocolError{"the head of a frame is longer than the frame"}
	case header[6] != 0 || header[7] != 0:
		return frame{}, &protocolError{"the reserved bytes of a frame are set"}
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r.in, data); err != nil {
		return frame{}, &protocolError{"the pipe ended within a frame"}
	}
	return frame{kind: header[4], flags: header[5], call: binary.LittleEndian.Uint32(header[8:]), head: data[:head:head], body: data[head:]}, nil
}

// writer writes frames of many goroutines. Who comes while somebody writes leaves
// the frame with that one, up to maxUnwritten bytes; then it waits.
type writer struct {
	out io.Writer

	mu        sync.Mutex
	room      *sync.Cond
	unwritten []byte
	spare     []byte
	busy      bool
	err       error
}

const maxUnwritten = 4 << 20

func newWriter(out io.Writer) *writer {
	w := &writer{out: out}
	w.room = sync.NewCond(&w.mu)
	return w
}

func (w *writer) write(f frame) error {
	size := len(f.head) + len(f.body)
	if size > maxFrame {
		return fmt.Errorf("%d bytes are more than the %d that one message may have", size, maxFrame)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.unwritten) > maxUnwritten && w.err == nil {
		w.room.Wait()
	}
	if w.err != nil {
		return w.err
	}
	var header [headerSize]byte
	binary.LittleEndian.PutUint32(header[0:], uint32(size))
	header[4], header[5] = f.kind, f.flags
	binary.LittleEndian.PutUint32(header[8:], f.call)
	binary.LittleEndian.PutUint32(header[12:], uint32(len(f.head)))
	w.unwritten = append(append(append(w.unwritten, header[:]...), f.head...), f.body...)
	if w.busy {
		return nil
	}
	w.busy = true
	for len(w.unwritten) > 0 && w.err == nil {
		data := w.unwritten
		w.unwritten = w.spare[:0]
		w.mu.Unlock()
		_, err := w.out.Write(data)
		w.mu.Lock()
		if w.err = err; cap(data) <= maxUnwritten {
			w.spare = data[:0]
		}
		w.room.Broadcast()
	}
	w.busy = false
	w.room.Broadcast()
	return w.err
}

// flush waits until everything is written.
func (w *writer) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.busy {
		w.room.Wait()
	}
}

func (w *writer) writeJSON(kind byte, call uint32, head any) error {
	raw, err := json.Marshal(head)
	if err != nil {
		return err
	}
	return w.write(frame{kind: kind, call: call, head: raw})
}
