package datastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// openEnd answers a range that begins where the object ends, which object stores
// refuse; other refusals stay.
func openEnd(ctx context.Context, b bucket, key string, r Range, refused error) (io.ReadCloser, Info, error) {
	if !fault.Is(refused, fault.CodeInvalid) || r.Offset == 0 && r.Length == 0 {
		return nil, Info{}, refused
	}
	info, err := b.stat(ctx, key)
	if err != nil || info.Size != r.Offset || r.ETag != "" && r.ETag != info.ETag {
		return nil, Info{}, refused
	}
	return http.NoBody, info, nil
}

// statFolder is what is known of a key that is no object: it is a folder when
// something is below it, and missing otherwise.
func statFolder(ctx context.Context, b bucket, key string, missing error) (Info, error) {
	found := errors.New("found")
	if b.walk(ctx, key, false, func(Entry) error { return found }) == found { //nolint:errorlint // it is returned as it is
		return Info{Dir: true}, nil
	}
	return Info{}, missing
}

// folderPrefix is what the keys of everything below a folder begin with.
func folderPrefix(key string) string {
	if key = strings.TrimRight(key, "/"); key == "" {
		return ""
	}
	return key + "/"
}

// rangeHeader is the Range header of r, "" when it is all of an object.
func rangeHeader(r Range) string {
	switch {
	case r.Length > 0:
		return fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1)
	case r.Offset > 0:
		return fmt.Sprintf("bytes=%d-", r.Offset)
	}
	return ""
}

// summed fails in place of its end when the bytes that passed have not the sum that
// the store gave for them.
type summed struct {
	io.ReadCloser
	sum  hash.Hash
	want []byte
	name string
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	_, _ = s.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && !bytes.Equal(s.sum.Sum(nil), s.want) {
		return n, fault.Unavailable("%s has arrived damaged: its bytes have another sum than the store keeps for it; read it again", s.name)
	}
	return n, err
}
