package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the version of the protocol that both ends have to speak.
const Version = 1

// MaxFrame is how many bytes may follow a frame's header.
const MaxFrame = 64 << 20

const headerSize = 16

// Type says what a frame means; see docs/protocol.md.
type Type uint8

// The types of frames. Hello, Loaded, Answer, Emit, Failure, Response and
// Piece come from the worker, the others from the host.
const (
	TypeHello Type = iota + 1
	TypeLoad
	TypeLoaded
	TypeCall
	TypeAnswer
	TypeEmit
	TypeCancel
	TypeDrain
	TypeFailure
	TypeEvent
	TypeResponse
	TypePiece
	TypeHold // optional
	TypeGoOn // optional
)

// TypeNote is a frame of the worker's that a host may ignore.
const TypeNote Type = 16

// Flags of a frame.
const (
	FlagFailed   = 0x01 // of an answer: the call did not complete
	FlagOptional = 0x80 // whoever does not know the frame's type ignores it
)

// Frame is one message. Head is JSON or empty, Body is raw.
type Frame struct {
	Type  Type
	Flags uint8
	Took  uint16 // of a response: the handler's time in µs, 65535 is that or more, 0 not known
	Call  uint32
	Head  []byte
	Body  []byte
}

// ErrShort means that the bytes at hand are the beginning of a frame.
var ErrShort = errors.New("the frame is not complete")

// ProtocolError is a violation of the protocol by the other end. Nothing that
// follows it can be trusted.
type ProtocolError struct{ Text string }

func (e *ProtocolError) Error() string { return "worker protocol: " + e.Text }

func violation(format string, args ...any) error {
	return &ProtocolError{Text: fmt.Sprintf(format, args...)}
}

// AppendFrame appends f to dst. A frame over MaxFrame is an error and leaves dst
// as it is.
func AppendFrame(dst []byte, f Frame) ([]byte, error) {
	size := len(f.Head) + len(f.Body)
	if size > MaxFrame {
		return dst, violation("a message of %d bytes is over the limit of %d", size, MaxFrame)
	}
	var header [headerSize]byte
	binary.LittleEndian.PutUint32(header[0:], uint32(size))
	header[4] = byte(f.Type)
	header[5] = f.Flags
	binary.LittleEndian.PutUint32(header[8:], f.Call)
	binary.LittleEndian.PutUint32(header[12:], uint32(len(f.Head)))
	dst = append(dst, header[:]...)
	dst = append(dst, f.Head...)
	return append(dst, f.Body...), nil
}

// DecodeFrame reads the first frame of data and returns it, as slices of data,
// with how many bytes it takes. ErrShort asks for more bytes; any other error is
// a *ProtocolError.
func DecodeFrame(data []byte) (Frame, int, error) {
	if len(data) < headerSize {
		return Frame{}, 0, ErrShort
	}
	size, head, err := checkHeader(data)
	if err != nil {
		return Frame{}, 0, err
	}
	if len(data) < headerSize+size {
		return Frame{}, 0, ErrShort
	}
	end := headerSize + size
	return Frame{
		Type:  Type(data[4]),
		Flags: data[5],
		Took:  binary.LittleEndian.Uint16(data[6:]),
		Call:  binary.LittleEndian.Uint32(data[8:]),
		Head:  data[headerSize : headerSize+head : headerSize+head],
		Body:  data[headerSize+head : end : end],
	}, end, nil
}

func checkHeader(data []byte) (size, head int, err error) {
	length := binary.LittleEndian.Uint32(data)
	headLength := binary.LittleEndian.Uint32(data[12:])
	switch {
	case length > MaxFrame:
		return 0, 0, violation("a frame of %d bytes is over the limit of %d", length, MaxFrame)
	case headLength > length:
		return 0, 0, violation("a frame of %d bytes has a head of %d", length, headLength)
	case (data[6] != 0 || data[7] != 0) && Type(data[4]) != TypeResponse:
		return 0, 0, violation("the reserved bytes of a frame are not zero")
	}
	return int(length), int(headLength), nil
}

// Reader reads frames from a stream, as many as there are with one read.
type Reader struct {
	r          io.Reader
	buf        []byte
	start, end int
	small      int    // frames since one that did not fit into readSize
	large      func() // called at the first frame of over pipeSize bytes, if it is set
}

const (
	readSize = 256 << 10
	growSize = 2 << 20  // that a buffer may grow to because a header says so
	keepFor  = 64       // small frames that come before a grown buffer shrinks
	pipeSize = 64 << 10 // that a pipe holds
)

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r, buf: make([]byte, readSize)} }

// Next returns the next frame; its slices are valid until the call after. The
// end of the stream is io.EOF between frames and a *ProtocolError within one.
func (r *Reader) Next() (Frame, error) {
	for {
		frame, size, err := DecodeFrame(r.buf[r.start:r.end])
		if err == nil {
			r.start += size
			return frame, nil
		}
		if !errors.Is(err, ErrShort) {
			return Frame{}, err
		}
		if err := r.fill(); err != nil {
			return Frame{}, err
		}
	}
}

// Buffered reports whether Next has a whole frame without reading.
func (r *Reader) Buffered() bool {
	_, _, err := DecodeFrame(r.buf[r.start:r.end])
	return err == nil
}

// fill reads once, after making room for the rest of the frame at hand.
func (r *Reader) fill() error {
	have := r.end - r.start
	want := headerSize
	if have >= headerSize {
		want += int(binary.LittleEndian.Uint32(r.buf[r.start:])) // checked by DecodeFrame
	}
	if r.start > 0 {
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, have
	}
	if want > pipeSize && r.large != nil {
		r.large()
		r.large = nil
	}
	switch {
	case want > len(r.buf):
		// Grow with what really arrives: a header alone must not allocate 64 MiB.
		if have == len(r.buf) || want <= growSize {
			grown := make([]byte, min(max(2*len(r.buf), growSize), want))
			copy(grown, r.buf[:have])
			r.buf = grown
		}
		r.small = 0
	case want > readSize:
		r.small = 0
	case len(r.buf) > readSize && have <= readSize:
		if r.small++; r.small > keepFor {
			smaller := make([]byte, readSize)
			copy(smaller, r.buf[:have])
			r.buf = smaller
		}
	}
	n, err := r.r.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if errors.Is(err, io.EOF) && have > 0 {
		return violation("the stream ends within a frame")
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}
