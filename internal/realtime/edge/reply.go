package edge

import (
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// gathered is how much of an answer is kept until it is written: its head and a body
// that is not longer leave together.
const gathered = 4 << 10

// reply is the http.ResponseWriter of a direct connection. It keeps to what net/http
// does, and sends no 1xx and no trailers, for which no direct handler asks.
type reply struct {
	direct  *direct
	header  http.Header
	out     []byte // not written yet; its capacity stays small
	body    []byte // of an answer of unknown length, until it is known or too much
	status  int    // 0 until the handler has said it
	framed  bool   // the head is complete
	chunked bool
	length  int64 // as the handler says, -1 if it does not
	written int64
	last    bool // the connection ends with this answer
	failed  error
}

func (p *reply) begin() {
	if p.header == nil {
		p.header = http.Header{}
	}
	clear(p.header)
	p.out, p.body, p.status, p.framed, p.chunked = p.out[:0], p.body[:0], 0, false, false
	p.length, p.written, p.last, p.failed = -1, 0, false, nil
}

// Header implements http.ResponseWriter.
func (p *reply) Header() http.Header { return p.header }

// SetReadDeadline and SetWriteDeadline are used by http.ResponseController.
func (p *reply) SetReadDeadline(at time.Time) error {
	p.direct.armed = at
	return p.direct.conn.SetReadDeadline(at)
}

// SetWriteDeadline bounds what is written from now on.
func (p *reply) SetWriteDeadline(at time.Time) error { return p.direct.conn.SetWriteDeadline(at) }

// WriteHeader implements http.ResponseWriter: what the headers are is settled now.
func (p *reply) WriteHeader(status int) {
	if p.status != 0 || status < 200 {
		return
	}
	p.status = status
	p.out = append(p.out, "HTTP/1.1 "...)
	p.out = strconv.AppendInt(p.out, int64(status), 10)
	p.out = append(p.out, ' ')
	if text := http.StatusText(status); text != "" {
		p.out = append(p.out, text...)
	} else {
		p.out = strconv.AppendInt(append(p.out, "status code "...), int64(status), 10)
	}
	p.out = append(p.out, '\r', '\n')
	if p.header["Date"] == nil {
		p.out = append(append(append(p.out, "Date: "...), date()...), '\r', '\n')
	}
	if length := p.header["Content-Length"]; len(length) == 1 {
		if n, err := strconv.ParseInt(length[0], 10, 64); err == nil && n >= 0 {
			p.length = n
		}
	}
	for name, values := range p.header {
		switch name {
		case "Content-Length", "Transfer-Encoding", "Trailer":
			continue // the first is written by frame, the others are not the handler's
		case "Connection":
			p.last = p.last || len(values) > 0 && strings.EqualFold(values[0], "close")
			continue
		case "Content-Type":
			if status == http.StatusNotModified {
				continue
			}
		}
		if !isToken(name) || strings.HasPrefix(name, http.TrailerPrefix) {
			continue
		}
		for _, value := range values {
			p.out = append(append(p.out, name...), ": "...)
			p.out = appendValue(p.out, value)
			p.out = append(p.out, '\r', '\n')
		}
	}
}

// appendValue appends the value of a header, which is one line whatever it was.
func appendValue(out []byte, value string) []byte {
	if strings.ContainsAny(value, "\r\n") {
		value = strings.NewReplacer("\n", " ", "\r", " ").Replace(value)
	}
	return append(out, textproto.TrimString(value)...)
}

// frame completes the head before the first bytes of the body; size is that of the
// whole body, -1 if it is not known.
func (p *reply) frame(first []byte, size int64) {
	p.framed = true
	_, typed := p.header["Content-Type"]
	if allowed := p.allowsBody(); allowed {
		if !typed && p.header["Content-Encoding"] == nil && len(first) > 0 {
			p.out = append(append(append(p.out, "Content-Type: "...), http.DetectContentType(first)...), '\r', '\n')
		}
		if size >= 0 {
			p.out = append(strconv.AppendInt(append(p.out, "Content-Length: "...), size, 10), '\r', '\n')
		} else {
			p.chunked = true
			p.out = append(p.out, "Transfer-Encoding: chunked\r\n"...)
		}
	}
	p.last = p.last || p.direct.unread() || p.direct.server.ending.Load()
	if p.last {
		p.out = append(p.out, "Connection: close\r\n"...)
	}
	p.out = append(p.out, '\r', '\n')
}

func (p *reply) allowsBody() bool {
	return p.status != http.StatusNoContent && p.status != http.StatusNotModified
}

// Write implements http.ResponseWriter.
func (p *reply) Write(data []byte) (int, error) {
	if p.status == 0 {
		p.WriteHeader(http.StatusOK)
	}
	switch {
	case len(data) == 0:
		return 0, p.failed
	case !p.allowsBody():
		return 0, http.ErrBodyNotAllowed
	}
	if p.written += int64(len(data)); p.length >= 0 && p.written > p.length {
		return 0, http.ErrContentLength // and the connection ends
	}
	if !p.framed {
		if p.length < 0 && len(p.body)+len(data) <= gathered/2 { // it may be all
			p.body = append(p.body, data...)
			return len(data), nil
		}
		p.begun(data)
	}
	p.put(data)
	if p.failed != nil {
		return 0, p.failed
	}
	return len(data), nil
}

// begun completes the head of a body that begins with what is kept, or else with data.
func (p *reply) begun(data []byte) {
	if len(p.body) > 0 {
		p.frame(p.body, p.length)
		p.put(p.body)
		p.body = p.body[:0]
		return
	}
	p.frame(data, p.length)
}

// put writes a part of the body, or keeps it if it is short.
func (p *reply) put(data []byte) {
	if p.chunked {
		p.out = append(strconv.AppendInt(p.out, int64(len(data)), 16), '\r', '\n')
	}
	if len(p.out)+len(data) <= gathered {
		p.out = append(p.out, data...)
		data = nil
	}
	if p.chunked && data == nil {
		p.out = append(p.out, '\r', '\n')
	}
	if data == nil || p.failed != nil {
		return
	}
	parts := net.Buffers{p.out, data}
	if p.chunked {
		parts = append(parts, crlf)
	}
	_, p.failed = parts.WriteTo(p.direct.conn)
	p.out = p.out[:0]
}

var crlf = []byte("\r\n")

// Flush implements http.Flusher.
func (p *reply) Flush() { _ = p.FlushError() }

// FlushError sends what there is.
func (p *reply) FlushError() error {
	if p.status == 0 {
		p.WriteHeader(http.StatusOK)
	}
	if !p.framed {
		p.begun(nil)
	}
	p.send()
	return p.failed
}

func (p *reply) send() {
	if len(p.out) > 0 && p.failed == nil {
		_, p.failed = p.direct.conn.Write(p.out)
	}
	p.out = p.out[:0]
}

// end completes the answer; false if the client could not be given all of it.
func (p *reply) end() bool {
	if p.status == 0 {
		p.WriteHeader(http.StatusOK)
	}
	if !p.framed {
		size := p.length
		if size < 0 {
			size = int64(len(p.body))
		}
		p.frame(p.body, size)
		p.out = append(p.out, p.body...)
	} else if p.chunked {
		p.out = append(p.out, "0\r\n\r\n"...)
	}
	p.send()
	whole := p.failed == nil && (p.length < 0 || p.length == p.written || !p.allowsBody())
	if cap(p.out) > 2*gathered {
		p.out = nil
	}
	return whole
}

// today is the date as headers have it, made once a second.
var today atomic.Pointer[dated]

type dated struct {
	second int64
	text   string
}

func date() string {
	now := time.Now()
	d := today.Load()
	if d == nil || d.second != now.Unix() {
		d = &dated{second: now.Unix(), text: now.UTC().Format(http.TimeFormat)}
		today.Store(d)
	}
	return d.text
}
