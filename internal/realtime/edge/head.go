package edge

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// head is what was understood of the head of a request. Its strings are parts of one.
type head struct {
	method, target, host string
	length               int64
	url                  url.URL
	header               http.Header
	values               []string // what header's slices are made of
}

// parse takes in a head with its empty line. It returns false for everything that is not
// ordinary, be it wrong or only rare: net/http knows what to do with that, and what it
// would understand otherwise, or refuse, must never be accepted here.
func (h *head) parse(text string) bool {
	line, rest, ok := strings.Cut(text, "\r\n")
	if !ok {
		return false
	}
	if h.method, line, ok = strings.Cut(line, " "); !ok {
		return false
	}
	switch h.method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return false
	}
	if h.target, ok = strings.CutSuffix(line, " HTTP/1.1"); !ok || !h.locate() {
		return false
	}
	if h.header == nil {
		h.header = http.Header{}
	}
	clear(h.header)
	h.values, h.host, h.length = h.values[:0], "", 0
	hosts, lengths := 0, 0
	for rest != "\r\n" {
		if line, rest, ok = strings.Cut(rest, "\r\n"); !ok {
			return false
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) {
			return false
		}
		value = strings.Trim(value, " \t")
		if !isValue(value) {
			return false
		}
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Host":
			hosts++
			h.host = value
			if !isHost(value) {
				return false
			}
			continue
		case "Content-Length":
			lengths++
			var err error
			if h.length, err = strconv.ParseInt(value, 10, 63); err != nil || value[0] < '0' || value[0] > '9' {
				return false
			}
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return false
			}
		case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Pragma", "Http2-Settings", "Proxy-Connection", "Keep-Alive":
			return false
		}
		if before := h.header[name]; before != nil {
			h.header[name] = append(before[:len(before):len(before)], value)
			continue
		}
		h.values = append(h.values, value)
		at := len(h.values) - 1
		h.header[name] = h.values[at : at+1 : at+1]
	}
	return hosts == 1 && lengths <= 1
}

// locate takes in the target.
func (h *head) locate() bool {
	if h.target == "" || h.target[0] != '/' {
		return false
	}
	simple := true
	for i := range len(h.target) {
		switch c := h.target[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return false
		case c == '?':
			query := h.target[i+1:]
			for j := range len(query) {
				if c := query[j]; c <= ' ' || c >= 0x7f || c == '#' {
					return false
				}
			}
			if simple {
				h.url = url.URL{Path: h.target[:i], RawQuery: query, ForceQuery: query == ""}
				return true
			}
			return h.locateOther()
		case !plain[c]:
			simple = false
		}
	}
	if simple {
		h.url = url.URL{Path: h.target}
		return true
	}
	return h.locateOther()
}

func (h *head) locateOther() bool {
	parsed, err := url.ParseRequestURI(h.target)
	if err != nil {
		return false
	}
	h.url = *parsed
	return true
}

// plain are the bytes of paths that stand for themselves, decoded or not.
var plain = func() (out [256]bool) {
	for c := range 256 {
		out[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c != 0 && strings.IndexByte("/-_.~$&+,:;=@", byte(c)) >= 0
	}
	return out
}()

// tokens are the bytes of methods and of names of headers.
var tokens = func() (out [256]bool) {
	for c := range 256 {
		out[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0 && c != 0
	}
	return out
}()

func isToken(s string) bool {
	for i := range len(s) {
		if !tokens[s[i]] {
			return false
		}
	}
	return s != ""
}

func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isHost(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c < '0' && c != '.' && c != '-' || c > ':' && c < 'A' || c > 'z' || c > '[' && c < 'a' && c != ']' && c != '_' {
			return false
		}
	}
	return s != ""
}
