package edge

import (
	"bufio"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

var heads = []string{
	"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /a/b.c?q=1&r=%20 HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 12\r\ncontent-type:  text/plain; a=b \r\nAccept: a\r\nAccept: b\r\naccept: c\r\n\r\n",
	"GET /%41%2Fb?x HTTP/1.1\r\nhost: x\r\n\r\n", "GET /a|b'!*()^` HTTP/1.1\r\nHost: x\r\n\r\n", "GET //host/p HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET /a? HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a?b?c HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a%zz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a?%zz HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET http://y/p HTTP/1.1\r\nHost: x\r\n\r\n", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
	"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "get / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: x y\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
	"GET / HTTP/1.1\r\n Host: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: x\r\nA: grün \xff\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nA:\r\nB: \t \r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 007\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999999999\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nCookie: a=b; c=d\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nPragma: no-cache\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n",
	"GET / HTTP/1.1\rHost: x\r\n\r\n", "GET /\r\nHost: x\r\n\r\n", "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n", "GET /gr\xc3\xbcn HTTP/1.1\r\nHost: x\r\n\r\n",
}

// FuzzHead: what is accepted, net/http accepts, and understands in the same way.
func FuzzHead(f *testing.F) {
	for _, text := range heads {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, _ := headSize([]byte(text))
		if size == 0 {
			return
		}
		text = text[:size]
		var h head
		if !h.parse(text) {
			return
		}
		want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + strings.Repeat("x", int(min(h.length, 100))))))
		if err != nil {
			t.Fatalf("%q is accepted; net/http: %v", text, err)
		}
		if h.method != want.Method || h.target != want.RequestURI || h.host != want.Host || h.length != want.ContentLength ||
			!reflect.DeepEqual(&h.url, want.URL) || !reflect.DeepEqual(h.header, want.Header) || want.Close || len(want.TransferEncoding) > 0 {
			t.Fatalf("%q\n%+v\nnet/http:\n%+v %+v", text, h, want, want.URL)
		}
	})
}

func TestHead(t *testing.T) {
	for i, ordinary := range map[int]bool{0: true, 1: true, 2: true, 5: true, 23: true, 29: true, 12: false, 15: false, 19: false, 26: false, 33: false, 37: false} {
		var h head
		if got := h.parse(heads[i]); got != ordinary {
			t.Errorf("%q: %v", heads[i], got)
		}
	}
	var h head
	if n := testing.AllocsPerRun(100, func() { h.parse(heads[0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
