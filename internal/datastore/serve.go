package datastore

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
)

// Serve answers a GET or HEAD request with the object at rawURL, or with the bytes
// of it that the Range header asks for; If-Match refuses an object that has
// changed. An error means that nothing was answered yet. An object that cannot be
// read to its end breaks the connection, so that nobody takes a part for the whole.
func (s *Stores) Serve(w http.ResponseWriter, r *http.Request, rawURL string) error {
	asked, partial, err := ParseRange(r.Header.Get("Range"))
	if err != nil {
		return err
	}
	asked.ETag = r.Header.Get("If-Match")
	if r.Method == http.MethodHead || asked.Offset < 0 {
		info, err := s.Stat(r.Context(), rawURL)
		if err != nil {
			return err
		}
		if r.Method == http.MethodHead {
			describe(w.Header(), info, info.Size)
			w.WriteHeader(http.StatusOK)
			return nil
		}
		asked.Offset = max(info.Size+asked.Offset, 0)
	}
	body, info, err := s.Open(r.Context(), rawURL, asked)
	if err != nil {
		return err
	}
	defer body.Close()
	length := info.Size
	if info.Size >= 0 {
		if length -= asked.Offset; asked.Length > 0 {
			length = min(length, asked.Length)
		}
	}
	describe(w.Header(), info, length)
	status, total := http.StatusOK, strconv.FormatInt(info.Size, 10)
	switch {
	case partial && info.Size >= 0 && length <= 0:
		w.Header().Set("Content-Range", "bytes */"+total)
		w.Header().Set("Content-Length", "0")
		status = http.StatusRequestedRangeNotSatisfiable
	case partial && info.Size >= 0:
		w.Header().Set("Content-Range", "bytes "+strconv.FormatInt(asked.Offset, 10)+"-"+strconv.FormatInt(asked.Offset+length-1, 10)+"/"+total)
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	if status == http.StatusRequestedRangeNotSatisfiable {
		return nil
	}
	if err := give(w, body, length); err != nil && context.Cause(r.Context()) == nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// give writes length bytes of body, all of it below 0: a file that grows meanwhile
// gives what was announced. A file goes to the connection as such, so that the
// kernel can send it.
func give(w io.Writer, body io.Reader, length int64) error {
	if length < 0 {
		return Pump(w, body)
	}
	file, ok := body.(*os.File)
	if !ok {
		return Pump(w, &exact{from: body, left: length})
	}
	_, err := io.CopyN(w, file, length)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// exact gives left bytes, and io.ErrUnexpectedEOF when there are fewer.
type exact struct {
	from io.Reader
	left int64
}

func (e *exact) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.from.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 { //nolint:errorlint // readers return it as it is
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func describe(h http.Header, info Info, length int64) {
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	if info.ContentType != "" {
		h.Set("Content-Type", info.ContentType)
	}
	if length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	if !info.Modified.IsZero() {
		h.Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	}
	if info.ETag != "" {
		h.Set("ETag", info.ETag)
	}
	if info.Digest != "" {
		h.Set("X-Millrace-Digest", info.Digest)
	}
	if info.Dir {
		h.Set("X-Millrace-Dir", "1")
	}
}
