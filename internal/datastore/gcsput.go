package datastore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// put stores small objects in one request, others through an upload session, whose
// pieces become the object with the last one.
func (b *gcs) put(ctx context.Context, key string, body io.Reader, c content) error {
	if key == "" || strings.HasSuffix(key, "/") {
		return fault.Invalid("%s names no object; add a name to the URL", b.url(key))
	}
	data, err := firstPart(body, c.size)
	switch {
	case errors.Is(err, io.EOF):
		return b.missingBucket(b.putWhole(ctx, key, data))
	case err != nil:
		return err
	}
	s := &gcsSession{gcs: b, key: key, note: b.notes.of(b.url(key), c)}
	return b.missingBucket(s.run(ctx, data, body))
}

// missingBucket is what a write to nowhere means.
func (b *gcs) missingBucket(err error) error {
	if fault.Is(err, fault.CodeNotFound) {
		return b.noBucket()
	}
	return err
}

func contentTypeOf(key string) string {
	if found := mime.TypeByExtension(path.Ext(key)); found != "" {
		return found
	}
	return "application/octet-stream"
}

func crcText(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

// putWhole stores an object in one request, with its sum, which the service checks.
func (b *gcs) putWhole(ctx context.Context, key string, data []byte) error {
	kind, boundary := contentTypeOf(key), rand.Text()
	record := document.Encode(document.Object{"name": key, "contentType": kind, "crc32c": crcText(crc32.Checksum(data, castagnoli()))})
	head := "--" + boundary + "\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n" + string(record) +
		"\r\n--" + boundary + "\r\nContent-Type: " + kind + "\r\n\r\n"
	tail := "\r\n--" + boundary + "--\r\n"
	response, err := b.do(ctx, key, gcsRequest{
		method: http.MethodPost, url: b.api("/upload", "", url.Values{"uploadType": {"multipart"}}),
		header: map[string]string{"Content-Type": "multipart/related; boundary=" + boundary},
		body: func() io.Reader {
			return io.MultiReader(strings.NewReader(head), bytes.NewReader(data), strings.NewReader(tail))
		},
		size: int64(len(head) + len(data) + len(tail)),
	})
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// gcsSession is an upload in pieces. Its address allows everybody who knows it to
// go on, so it is noted for nobody else to read, and only for content whose digest
// is known beforehand: the service does not tell what it has got.
type gcsSession struct {
	*gcs
	key  string
	note string // file, "" for none
	uri  string
	have int64 // bytes that the service has
	crc  uint32
}

func (s *gcsSession) run(ctx context.Context, data []byte, body io.Reader) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	err := s.send(ctx, data, body)
	if err == nil {
		return s.forget()
	}
	if s.note == "" || fault.Is(err, fault.CodeInvalid) {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		s.abort(after)
		err = errors.Join(err, s.forget())
	}
	return err
}

// begin takes over the session that was noted, or makes one.
func (s *gcsSession) begin(ctx context.Context) error {
	if s.note != "" {
		if raw, err := os.ReadFile(s.note); err == nil && strings.HasPrefix(string(raw), s.base+"/") {
			s.uri = string(raw)
			if done, err := s.ask(ctx, false); err == nil && !done {
				return nil
			} else if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.have = 0 // it is over, or lost
		}
	}
	record := document.Encode(document.Object{"name": s.key, "contentType": contentTypeOf(s.key)})
	response, err := s.do(ctx, s.key, gcsRequest{
		method: http.MethodPost, url: s.api("/upload", "", url.Values{"uploadType": {"resumable"}, "name": {s.key}}),
		header: map[string]string{"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Type": contentTypeOf(s.key)},
		body:   func() io.Reader { return bytes.NewReader(record) }, size: int64(len(record)),
	})
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if s.uri = response.Header.Get("Location"); s.uri == "" {
		return fault.Unavailable("%s: Google Cloud Storage has opened no session for the upload; try again", s.url(s.key))
	}
	if s.note == "" {
		return nil
	}
	return s.notes.write(s.note, s.uri)
}

func (s *gcsSession) forget() error {
	if s.note == "" {
		return nil
	}
	return ignoreMissing(os.Remove(s.note))
}

// abort makes the service forget the pieces; it does so by itself after a week.
func (s *gcsSession) abort(ctx context.Context) {
	if response, err := s.once(ctx, s.key, gcsRequest{method: http.MethodDelete, url: s.uri}); err == nil {
		_ = response.Body.Close()
	}
}

// send uploads data and all that follows. A piece is sent when the next one is
// known, because the last has to say that it is.
func (s *gcsSession) send(ctx context.Context, data []byte, body io.Reader) error {
	var spare []byte
	for offset := int64(0); ; {
		next, err := readPart(body, spare, minPart)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		last := err != nil && len(next) == 0
		s.crc = crc32.Update(s.crc, castagnoli(), data)
		if err := s.piece(ctx, offset, data, last); err != nil || last {
			return err
		}
		offset += int64(len(data))
		data, spare = next, data
	}
}

// piece sends what the service does not have of data, which begins at offset.
func (s *gcsSession) piece(ctx context.Context, offset int64, data []byte, last bool) error {
	end := offset + int64(len(data))
	for attempt := 1; last || s.have < end; {
		if s.have < offset || s.have > end && last {
			return fault.Unavailable("%s: Google Cloud Storage has lost a part of the upload; try again", s.url(s.key))
		}
		before := s.have
		done, err := s.transmit(ctx, data[s.have-offset:], end, last)
		switch {
		case done:
			return err
		case err == nil && s.have > before:
			attempt = 1
			continue
		case err != nil && !fault.Is(err, fault.CodeUnavailable), attempt == gcsAttempts:
			if err == nil {
				err = fault.Unavailable("%s: Google Cloud Storage takes no more of the upload; try again", s.url(s.key))
			}
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
		attempt++
		if done, err = s.ask(ctx, last); err != nil || done {
			return err
		}
	}
	return nil
}

// transmit sends one piece, from have to end. done tells that the object is there.
func (s *gcsSession) transmit(ctx context.Context, data []byte, end int64, last bool) (done bool, err error) {
	total, span := "*", "*"
	header := map[string]string{}
	if last {
		total = strconv.FormatInt(end, 10)
		header["X-Goog-Hash"] = "crc32c=" + crcText(s.crc)
	}
	if len(data) > 0 {
		span = fmt.Sprintf("%d-%d", s.have, end-1)
	}
	header["Content-Range"] = "bytes " + span + "/" + total
	return s.exchange(ctx, gcsRequest{
		method: http.MethodPut, url: s.uri, header: header, body: func() io.Reader { return bytes.NewReader(data) }, size: int64(len(data)),
	}, last)
}

// ask finds out how much the service has; last tells whether it should be all.
func (s *gcsSession) ask(ctx context.Context, last bool) (done bool, err error) {
	return s.exchange(ctx, gcsRequest{method: http.MethodPut, url: s.uri, header: map[string]string{"Content-Range": "bytes */*"}}, last)
}

func (s *gcsSession) exchange(ctx context.Context, r gcsRequest, last bool) (done bool, err error) {
	response, err := s.once(ctx, s.key, r)
	if err != nil {
		return false, err
	}
	if response.StatusCode == http.StatusPermanentRedirect {
		s.have = 0
		if _, end, ok := strings.Cut(response.Header.Get("Range"), "-"); ok {
			if n, err := strconv.ParseInt(end, 10, 64); err == nil {
				s.have = n + 1
			}
		}
		return false, response.Body.Close()
	}
	var object gcsObject
	if err := s.decode(s.key, response, &object); err != nil || !last {
		return true, err
	}
	if object.CRC32C == "" || object.CRC32C == crcText(s.crc) {
		return true, nil
	}
	// Not all versions of the service look at the sum that was sent along.
	query := url.Values{"ifGenerationMatch": {object.Generation}}
	response, err = s.do(ctx, s.key, gcsRequest{method: http.MethodDelete, url: s.object(s.key, query)})
	if err == nil {
		err = response.Body.Close()
	}
	return true, errors.Join(fault.Unavailable("%s has arrived damaged: the service has the CRC32C %s for it, not %s; it is deleted, send it again", s.url(s.key), object.CRC32C, crcText(s.crc)), err)
}

// sessionNotes is the folder that holds the addresses of unfinished uploads, "" for
// none.
type sessionNotes struct{ dir string }

// sessionAge is how long the service keeps a session.
const sessionAge = 7 * 24 * time.Hour

// of returns the file for the note of an upload, "" when it is not to go on later.
func (n sessionNotes) of(url string, c content) string {
	if n.dir == "" || !c.resume || c.digest == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(url + "\x00" + c.digest))
	return filepath.Join(n.dir, hex.EncodeToString(sum[:16]))
}

// write notes a session, and removes notes that are of no use any more.
func (n sessionNotes) write(path, uri string) error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return fmt.Errorf("note the upload: %w", err)
	}
	if entries, err := os.ReadDir(n.dir); err == nil {
		for _, entry := range entries {
			if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > sessionAge {
				_ = os.Remove(filepath.Join(n.dir, entry.Name()))
			}
		}
	}
	if err := os.WriteFile(path, []byte(uri), 0o600); err != nil {
		return fmt.Errorf("note the upload: %w", err)
	}
	return nil
}
