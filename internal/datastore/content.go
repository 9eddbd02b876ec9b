package datastore

import (
	"context"
	"errors"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// PutByContent stores what open returns below folder, under its SHA-1 and suffix,
// so that equal content is stored once. Where a store cannot rename, open is
// called twice. It is as whole as Put is.
func (s *Stores) PutByContent(ctx context.Context, folder, suffix string, open func() (io.ReadCloser, error), options PutOptions) (written Written, err error) {
	if strings.ContainsAny(suffix, "/\\\x00") {
		return Written{}, fault.Invalid("the suffix %q cannot be part of a name", suffix)
	}
	at, err := s.place(ctx, strings.TrimRight(folder, "/")+"/content")
	if err != nil {
		return Written{}, err
	}
	if options.Sums != 0 {
		options.Sums |= SHA1
	}
	f, ok := at.bucket.(files)
	if !ok {
		return s.putTwice(ctx, folder, suffix, open, options)
	}
	body, err := open()
	if err != nil {
		return Written{}, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	name := func(w Written) string { return filepath.Join(filepath.Dir(at.key), w.SHA1+suffix) }
	written, err = put(ctx, place{bucket: renaming{f, name}, key: at.key, url: at.url}, body, options)
	written.URL = name(written)
	return written, err
}

// renaming puts a file under a name that is known when it is written.
type renaming struct {
	files
	name func(Written) string
}

func (r renaming) put(_ context.Context, path string, body io.Reader, _ content) error {
	return r.putNamed(path, body, func() string { return r.name(body.(*checkedReader).written) })
}

func (s *Stores) putTwice(ctx context.Context, folder, suffix string, open func() (io.ReadCloser, error), options PutOptions) (Written, error) {
	first, err := open()
	if err != nil {
		return Written{}, err
	}
	read, err := Sum(ctx, first, 0, nil)
	if err = errors.Join(err, first.Close()); err != nil {
		return Written{}, err
	}
	target := strings.TrimRight(folder, "/") + "/" + path.Base(read.SHA1+suffix)
	if info, err := s.Stat(ctx, target); err == nil && info.Size == read.Size && !info.Dir {
		if options.Progress != nil {
			options.Progress(read.Size)
		}
		read.URL = target
		return read, nil
	}
	body, err := open()
	if err != nil {
		return Written{}, err
	}
	options.Size, options.Digest = read.Size, read.Digest
	written, err := s.Put(ctx, target, body, options)
	return written, errors.Join(err, body.Close())
}

// Sum reads body to its end and tells its length and those sums; progress, which
// may be nil, is told what passes.
func Sum(ctx context.Context, body io.Reader, which Sums, progress func(int64)) (Written, error) {
	sums := newSummer(which)
	defer sums.stop()
	reader := &checkedReader{ctx: ctx, from: body, sums: sums, want: -1, progress: progress}
	if _, err := reader.WriteTo(io.Discard); err != nil {
		return Written{}, err
	}
	return reader.written, nil
}

// SumReader sums what is read through it. Stop it.
type SumReader struct{ reader checkedReader }

// NewSumReader reads body, which has size bytes; progress, which may be nil, is
// told what passes.
func NewSumReader(ctx context.Context, body io.Reader, size int64, sums Sums, progress func(int64)) *SumReader {
	return &SumReader{checkedReader{ctx: ctx, from: body, sums: newSummer(sums), want: size, progress: progress}}
}

func (r *SumReader) Read(p []byte) (int, error) { return r.reader.Read(p) }

// Stop ends the summing; Finish is not called afterwards.
func (r *SumReader) Stop() { r.reader.sums.stop() }

// Finish tells the sums once everything was read; an error when there is more.
func (r *SumReader) Finish() (Written, error) {
	if _, err := r.reader.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fault.Invalid("the content is longer than was said")
		}
		return Written{}, err
	}
	return r.reader.written, nil
}
