package worker_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/millrace/millrace/internal/worker"
)

func mustFrame(t testing.TB, f worker.Frame) []byte {
	t.Helper()
	data, err := worker.AppendFrame(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFrameLayout(t *testing.T) {
	t.Parallel()
	got := mustFrame(t, worker.Frame{Type: worker.TypeCall, Flags: 0x81, Call: 0x01020304, Head: []byte(`{}`), Body: []byte("abc")})
	want := []byte{5, 0, 0, 0, 4, 0x81, 0, 0, 4, 3, 2, 1, 2, 0, 0, 0, '{', '}', 'a', 'b', 'c'}
	if !bytes.Equal(got, want) {
		t.Errorf("frame = % x, want % x", got, want)
	}
}

func TestAppendFrameRefusesTooMuch(t *testing.T) {
	t.Parallel()
	data, err := worker.AppendFrame([]byte("before"), worker.Frame{Type: worker.TypeCall, Body: make([]byte, worker.MaxFrame+1)})
	var violation *worker.ProtocolError
	if !errors.As(err, &violation) || string(data) != "before" {
		t.Errorf("AppendFrame = %q, %v", data, err)
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("x"), 3<<20)
	var stream []byte
	var want []worker.Frame
	for i, body := range [][]byte{nil, []byte("a"), large, []byte("b"), large[:1<<18], nil} {
		f := worker.Frame{Type: worker.TypeEmit, Call: uint32(i), Head: []byte(`{"n":1}`), Body: body}
		want = append(want, f)
		stream = append(stream, mustFrame(t, f)...)
	}
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream),
		"half":  iotest.HalfReader(bytes.NewReader(stream)),
		"eof":   iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			reader := worker.NewReader(r)
			for _, f := range want {
				got, err := reader.Next()
				if err != nil || got.Call != f.Call || !bytes.Equal(got.Body, f.Body) || !bytes.Equal(got.Head, f.Head) {
					t.Fatalf("frame %d: %d bytes, %v", f.Call, len(got.Body), err)
				}
			}
			if _, err := reader.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("after the last: %v, want EOF", err)
			}
		})
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	whole := mustFrame(t, worker.Frame{Type: worker.TypeEmit, Head: []byte(`{}`)})
	change := func(at int, value byte) []byte {
		data := bytes.Clone(whole)
		data[at] = value
		return data
	}
	cases := map[string][]byte{
		"cut in the header":   whole[:7],
		"cut in the head":     whole[:17],
		"over the limit":      change(3, 0x7f),
		"head over the frame": change(12, 3),
		"reserved bytes":      change(6, 1),
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := worker.NewReader(bytes.NewReader(data)).Next()
			var violation *worker.ProtocolError
			if !errors.As(err, &violation) {
				t.Errorf("Next: %v, want a violation of the protocol", err)
			}
		})
	}
}

// FuzzReader checks that frames read one byte at a time, and all at once by
// DecodeFrame, are the same, and that what was read writes the same bytes again.
func FuzzReader(f *testing.F) {
	one := mustFrame(f, worker.Frame{Type: worker.TypeAnswer, Call: 7, Head: []byte(`{"state":"completed"}`), Body: []byte("body")})
	f.Add(one)
	f.Add(append(bytes.Clone(one), one...))
	f.Add(one[:20])
	f.Add(binary.LittleEndian.AppendUint32(nil, 1<<31))
	f.Fuzz(func(t *testing.T, data []byte) {
		reader := worker.NewReader(iotest.OneByteReader(bytes.NewReader(data)))
		rest := data
		for {
			got, err := reader.Next()
			want, size, decodeErr := worker.DecodeFrame(rest)
			if err != nil {
				if decodeErr == nil {
					t.Fatalf("Next: %v, but there is a frame", err)
				}
				if errors.Is(err, io.EOF) != (len(rest) == 0) {
					t.Fatalf("Next: %v with %d bytes left", err, len(rest))
				}
				return
			}
			if decodeErr != nil {
				t.Fatalf("DecodeFrame: %v, but Next found a frame", decodeErr)
			}
			again, err := worker.AppendFrame(nil, got)
			if err != nil || !bytes.Equal(again, rest[:size]) || !bytes.Equal(got.Body, want.Body) {
				t.Fatalf("% x became % x (%v)", rest[:size], again, err)
			}
			rest = rest[size:]
		}
	})
}
