package datastore

import (
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// Open returns the bytes that r selects of the object at rawURL; the caller closes
// them. Info.Size is that of the whole object.
func (s *Stores) Open(ctx context.Context, rawURL string, r Range) (io.ReadCloser, Info, error) {
	at, err := s.place(ctx, rawURL)
	if err != nil {
		return nil, Info{}, err
	}
	if r.Offset < 0 || r.Length < 0 {
		return nil, Info{}, fault.Invalid("%s: the range %d+%d is negative", rawURL, r.Offset, r.Length)
	}
	body, info, err := at.bucket.open(ctx, at.key, r)
	info.URL = at.url
	return body, info, err
}

// Stat tells what is at rawURL; fault.CodeNotFound when nothing is.
func (s *Stores) Stat(ctx context.Context, rawURL string) (Info, error) {
	at, err := s.place(ctx, rawURL)
	if err != nil {
		return Info{}, err
	}
	info, err := at.bucket.stat(ctx, at.key)
	info.URL = at.url
	return info, err
}

// PutOptions say what the writer knows about the content.
type PutOptions struct {
	Size   int64  // length of the body; 0 or less when it is not known
	Digest string // sha256:<hex> that the content has to have; "" does not ask
	Sums   Sums   // what Written has to tell; a Digest is compared in any case
	// Resume allows to go on with what an earlier, broken Put of the same content to
	// the same URL has left in the store, and to leave it there in turn.
	Resume bool
	// Progress is told how many bytes have been taken, as they are; may be nil.
	Progress func(n int64)
}

// Put stores what body gives at rawURL, in place of what was there. Nothing is
// visible before it is complete; a body that ends early, is longer or has another
// digest than was said is refused with fault.CodeInvalid, and nothing is stored.
func (s *Stores) Put(ctx context.Context, rawURL string, body io.Reader, options PutOptions) (Written, error) {
	at, err := s.place(ctx, rawURL)
	if err != nil {
		return Written{}, err
	}
	return put(ctx, at, body, options)
}

func put(ctx context.Context, at place, body io.Reader, options PutOptions) (Written, error) {
	size := options.Size
	if size <= 0 {
		size = -1
	}
	if options.Digest != "" && options.Sums != 0 {
		options.Sums |= SHA256
	}
	sums := newSummer(options.Sums)
	defer sums.stop()
	checked := &checkedReader{ctx: ctx, from: body, sums: sums, want: size, digest: options.Digest, progress: options.Progress}
	if err := at.bucket.put(ctx, at.key, checked, content{size: size, digest: options.Digest, resume: options.Resume}); err != nil {
		if checked.err != nil && !errors.Is(checked.err, io.EOF) {
			return Written{}, checked.err // what the reader said is the cause
		}
		return Written{}, err
	}
	if checked.err == nil { // the store took what it was told there is
		if _, err := checked.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			return Written{}, fault.Invalid("%s: the content is longer than the %d bytes that were said", at.url, size)
		}
	}
	written := checked.written
	written.URL = at.url
	return written, nil
}

// checkedReader sums what passes, and fails in place of its end when the content
// is not what was said, so that a store never completes it.
type checkedReader struct {
	ctx      context.Context
	from     io.Reader
	sums     *summer
	want     int64
	digest   string
	progress func(int64)
	read     int64
	written  Written
	err      error
}

func (r *checkedReader) Read(p []byte) (int, error) {
	if r.broken() {
		return 0, r.err
	}
	n, err := r.from.Read(p)
	r.sums.write(p[:n])
	return r.passed(n, err)
}

// WriteTo reads into the memory that is summed, and writes from there.
func (r *checkedReader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for !r.broken() {
		n := r.fill()
		written, err := w.Write(n)
		if total += int64(written); err != nil {
			return total, err
		}
	}
	if errors.Is(r.err, io.EOF) {
		return total, nil
	}
	return total, r.err
}

// fill reads until a block is full or nothing more comes, and returns what came.
func (r *checkedReader) fill() []byte {
	left := int64(-1)
	if r.want >= 0 {
		left = max(r.want-r.read, 0)
	}
	room := r.sums.room(left)
	have := 0
	for have < len(room) && !r.broken() {
		n, err := r.from.Read(room[have:])
		r.sums.advance(n)
		_, _ = r.passed(n, err)
		have += n
	}
	return room[:have]
}

// skip sums the first n bytes, which are where they belong already.
func (r *checkedReader) skip(n int64) error {
	buffer := make([]byte, min(n, blockSize))
	for r.read < n {
		if _, err := r.Read(buffer[:min(int64(len(buffer)), n-r.read)]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// broken tells whether nothing more is to be read; r.err says why.
func (r *checkedReader) broken() bool {
	if r.err == nil {
		r.err = context.Cause(r.ctx)
	}
	return r.err != nil
}

// passed counts n bytes that have been read and summed, and looks at err.
func (r *checkedReader) passed(n int, err error) (int, error) {
	if n > 0 {
		r.read += int64(n)
		if r.progress != nil {
			r.progress(int64(n))
		}
		if r.want >= 0 && r.read > r.want {
			r.err = fault.Invalid("the content is longer than the %d bytes that were said", r.want)
			return 0, r.err
		}
	}
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		r.err = err
		return n, err
	case r.want >= 0 && r.read != r.want:
		r.err = fault.Invalid("the content ended after %d of %d bytes; send it again", r.read, r.want)
		return n, r.err
	}
	r.written.Size = r.read
	r.written.Digest, r.written.SHA1, r.written.CRC64 = r.sums.sum()
	if r.digest != "" && r.digest != r.written.Digest {
		r.err = fault.Invalid("the content has the digest %s, not %s; send it again", r.written.Digest, r.digest)
		return n, r.err
	}
	r.err = io.EOF
	return n, io.EOF
}

// Walk calls yield for everything below the folder rawURL, in no order that can be
// relied on; without recursive for its direct children alone. An error of yield
// ends it and is returned.
func (s *Stores) Walk(ctx context.Context, rawURL string, recursive bool, yield func(Entry) error) error {
	at, err := s.place(ctx, rawURL)
	if err != nil {
		return err
	}
	return at.bucket.walk(ctx, at.key, recursive, func(entry Entry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		return yield(entry)
	})
}

// Delete removes the object at rawURL; with recursive everything below it as well.
// A missing object is no error.
func (s *Stores) Delete(ctx context.Context, rawURL string, recursive bool) error {
	at, err := s.place(ctx, rawURL)
	if err != nil {
		return err
	}
	if recursive {
		if strings.Trim(at.key, "/") == "" {
			return fault.Invalid("%s is a whole store; name what is to be deleted in it", rawURL)
		}
		if f, ok := at.bucket.(files); ok {
			return f.removeAll(at.key)
		}
		err := at.bucket.walk(ctx, at.key, true, func(entry Entry) error {
			if entry.Dir {
				return nil
			}
			return at.bucket.remove(ctx, path.Join(at.key, entry.Name))
		})
		if err != nil && !fault.Is(err, fault.CodeNotFound) {
			return err
		}
	}
	return at.bucket.remove(ctx, at.key)
}

// Pump copies body to w with a buffer that suits large transfers.
func Pump(w io.Writer, body io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, body, make([]byte, 256<<10))
	return err
}
