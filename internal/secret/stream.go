package secret

import (
	"io"
	"math"
)

// Stream masks a text that comes in pieces.
type Stream struct {
	masker *Masker
	write  func(text []byte, masked bool) error
	held   []byte // not shown yet, not masked
}

// Stream returns a stream that passes on masked text, and whether there was
// something to mask in it.
func (m *Masker) Stream(write func(text []byte, masked bool) error) *Stream {
	return &Stream{masker: m, write: write}
}

// Write takes the next piece. What may be the beginning of a value is kept back
// until more comes.
func (s *Stream) Write(text []byte) (int, error) {
	if s.masker == nil {
		return len(text), s.write(text, false)
	}
	s.held = append(s.held, text...)
	spans := s.masker.find(s.held)
	return len(text), s.emit(s.masker.ready(s.held, spans), spans)
}

func (s *Stream) emit(n int, spans []span) error {
	if n == 0 {
		return nil
	}
	masked := false
	for _, found := range spans {
		masked = masked || found.From < n
	}
	star(s.held[:n], spans)
	err := s.write(s.held[:n], masked)
	s.held = append(s.held[:0], s.held[n:]...)
	return err
}

// Close passes on what was kept back: the text ends here.
func (s *Stream) Close() error {
	if s.masker == nil {
		return nil
	}
	return s.emit(len(s.held), s.masker.find(s.held))
}

// Reader returns the bytes [offset, offset+n) of a text of size bytes that may
// still grow, masked. A last part that may be the beginning of a value is masked
// too.
func (m *Masker) Reader(text io.ReaderAt, size, offset, n int64) io.Reader {
	margin := int64(m.Longest())
	from, to := max(offset-margin, 0), min(offset+n+margin, size)
	return &maskedReader{masker: m, source: io.NewSectionReader(text, from, to-from), skip: offset - from, left: n}
}

// Held is how many bytes at the end of a text of that size cannot be shown while it may
// grow: they may be the beginning of a value.
func (m *Masker) Held(text io.ReaderAt, size int64) (int64, error) {
	end := make([]byte, min(size, 4*int64(m.Longest())))
	if _, err := text.ReadAt(end, size-int64(len(end))); err != nil {
		return 0, err
	}
	return int64(len(end) - m.ready(end, m.find(end))), nil
}

// Whole returns a text that comes to an end, masked.
func (m *Masker) Whole(text io.Reader) io.Reader {
	if m == nil {
		return text
	}
	return &maskedReader{masker: m, source: text, left: math.MaxInt64}
}

// maskedReader reads source through a masker, without its first skip bytes.
type maskedReader struct {
	masker     *Masker
	source     io.Reader
	skip, left int64
	held, out  []byte
	ended      bool
}

// Read implements io.Reader.
func (r *maskedReader) Read(into []byte) (int, error) {
	for len(r.out) == 0 {
		if r.ended || r.left <= 0 {
			return 0, io.EOF
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(into, r.out)
	r.out = r.out[n:]
	return n, nil
}

// fill moves masked bytes from source to out.
func (r *maskedReader) fill() error {
	buffer := make([]byte, 64<<10)
	n, err := r.source.Read(buffer)
	r.held = append(r.held, buffer[:n]...)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader says so
		return err
	}
	spans := r.masker.find(r.held)
	ready := r.masker.ready(r.held, spans)
	if err == io.EOF { //nolint:errorlint // io.Reader says so
		r.ended = true
		spans = append(spans, span{len(r.held) - r.masker.pending(r.held), len(r.held)})
		ready = len(r.held)
	}
	out := r.held[:ready:ready]
	star(out, spans)
	r.held = append([]byte(nil), r.held[ready:]...)
	cut := min(r.skip, int64(len(out)))
	r.skip -= cut
	out = out[cut:]
	out = out[:min(int64(len(out)), r.left)]
	r.left -= int64(len(out))
	r.out = out
	return nil
}
