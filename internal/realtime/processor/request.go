package processor

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/millrace/millrace/internal/worker"
)

// readBody reads the body of a request, which the edge bounds in size and time. It may
// be in a buffer.
func readBody(r *http.Request) ([]byte, *buffer, error) {
	if r.ContentLength == 0 {
		return nil, nil, nil
	}
	if r.ContentLength > 0 && r.ContentLength <= 1<<20 {
		b := takeBuffer(int(r.ContentLength))
		var body []byte
		if b != nil {
			body = b.bytes[:r.ContentLength]
		} else {
			body = make([]byte, r.ContentLength)
		}
		_, err := io.ReadFull(r.Body, body)
		return body, b, err
	}
	var all bytes.Buffer // grows with what comes, not with what is promised
	_, err := all.ReadFrom(r.Body)
	if err == nil && r.ContentLength > 0 && int64(all.Len()) < r.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	return all.Bytes(), nil, err
}

// request makes the event of an HTTP request.
func request(into *worker.Request, r *http.Request, body []byte) {
	into.ID, into.Method, into.Path, into.Body = eventID(), r.Method, r.URL.Path, body
	into.Headers = make([][2]string, 0, len(r.Header)+1)
	if r.Host != "" {
		into.Headers = append(into.Headers, [2]string{"Host", r.Host})
	}
	for name, values := range r.Header {
		value := values[0]
		if len(values) > 1 {
			separator := ", "
			if name == "Cookie" {
				separator = "; "
			}
			value = strings.Join(values, separator)
		}
		into.Headers = append(into.Headers, [2]string{name, value})
		switch name {
		case "Content-Type":
			into.ContentType = value
			into.JSON = len(body) > 0 && isJSON(value)
		case logLevel:
			into.LogLevel = value
		}
	}
	if r.URL.RawQuery != "" {
		for name, values := range r.URL.Query() {
			into.Fields = append(into.Fields, [2]string{name, values[len(values)-1]})
		}
	}
}

// isJSON says whether a content type is JSON, with or without parameters.
func isJSON(contentType string) bool {
	if contentType == jsonType {
		return true
	}
	if len(contentType) < len("a/json") || !strings.Contains(strings.ToLower(contentType), "json") {
		return false
	}
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == jsonType || strings.HasSuffix(kind, "+json"))
}

// eventID returns a new UUID of version 4.
func eventID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // it never fails
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	var text [36]byte
	hex.Encode(text[0:8], raw[0:4])
	hex.Encode(text[9:13], raw[4:6])
	hex.Encode(text[14:18], raw[6:8])
	hex.Encode(text[19:23], raw[8:10])
	hex.Encode(text[24:36], raw[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
