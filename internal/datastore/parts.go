package datastore

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/millrace/millrace/internal/fault"
)

// How an object is cut into parts. S3 takes at most 10,000 of them, so the parts of
// an object above 160 GB are larger than minPart; those of a stream whose length is
// not known grow.
const (
	minPart   = 16 << 20
	maxParts  = 10_000
	partsOnce = 3 // in flight, each in memory
)

func partSize(size int64, number int) int64 {
	if size < 0 {
		return minPart << min((number-1)/1000, 5)
	}
	const mib = 1 << 20
	return max(minPart, (size/(maxParts-1)+mib)/mib*mib)
}

// firstPart reads the first part of a body; io.EOF says that it is all of it.
func firstPart(body io.Reader, size int64) ([]byte, error) {
	first := partSize(size, 1)
	if size >= 0 {
		first = min(first, size+1) // one more finds the end
	}
	return readPart(body, nil, first)
}

// readPart fills a buffer with the next part; io.EOF with what there is says that
// it is the last.
func readPart(body io.Reader, buffer []byte, size int64) ([]byte, error) {
	if int64(cap(buffer)) < size {
		buffer = make([]byte, size)
	}
	n, err := io.ReadFull(body, buffer[:size])
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return buffer[:n], err
}

// partSender stores one part, which is numbered from 1; it is called from several
// goroutines.
type partSender func(ctx context.Context, number int, data []byte) error

// sendParts gives data, which is the first part, and all that follows in body to
// send. A few parts are on their way at once; none is when it returns.
func sendParts(ctx context.Context, name string, data []byte, body io.Reader, size int64, send partSender) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	buffers := make(chan []byte, partsOnce)
	for range partsOnce - 1 {
		buffers <- nil
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	last := error(nil)
	for number := 1; ; number++ {
		if number > maxParts {
			return fault.TooLarge("%s: the content is larger than a stream to an object store may be; write it to a file first", name)
		}
		if len(data) > 0 {
			part := data // data is the next one before this is sent
			sending.Go(func() {
				if err := send(ctx, number, part); err != nil {
					cancel(err) // the first one counts
				}
				buffers <- part[:cap(part)]
			})
		}
		if errors.Is(last, io.EOF) {
			sending.Wait()
			return context.Cause(ctx)
		}
		var buffer []byte
		select {
		case buffer = <-buffers:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if data, last = readPart(body, buffer, partSize(size, number+1)); last != nil && !errors.Is(last, io.EOF) {
			return last
		}
	}
}
