package api

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/url"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/store"
)

// maxPageSize bounds one page; larger requests are cut to it, since clients do
// not mind how many items a page holds.
const maxPageSize = 10000

// restChunk is how many items of an unbounded answer are held at once.
const restChunk = 1000

// pageRequest is what a list call asks for.
type pageRequest struct {
	number int // from 1; 0 when everything is asked for
	size   int // 0 when everything is asked for
	filter url.Values
	list   string // what is listed, so that a token only fits its own list
}

// pageToken is the part of a list that a token carries: the filters of the first
// request and the page to read next.
//
// The token is URL-safe base64 of a checksum and "list\nnumber\nsize\nfilters".
// The checksum tells a mangled token from a good one; it is no signature, because
// a token says nothing that its holder could not ask for directly.
func pageToken(p pageRequest) string {
	body := strings.Join([]string{p.list, strconv.Itoa(p.number), strconv.Itoa(p.size), p.filter.Encode()}, "\n")
	raw := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(body)))
	return base64.RawURLEncoding.EncodeToString(append(raw, body...))
}

// parsePageToken reads a token for list; anything else than a token made for it
// is not found, which ends a client's paging.
func parsePageToken(list, token string) (pageRequest, error) {
	unknown := fault.NotFound("page token %q is unknown or made for another list; start again without page-token", clip(token))
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < 4 || crc32.ChecksumIEEE(raw[4:]) != binary.BigEndian.Uint32(raw) {
		return pageRequest{}, unknown
	}
	parts := strings.SplitN(string(raw[4:]), "\n", 4)
	if len(parts) != 4 || parts[0] != list {
		return pageRequest{}, unknown
	}
	p := pageRequest{list: list}
	if p.number, err = strconv.Atoi(parts[1]); err != nil || p.number < 1 {
		return pageRequest{}, unknown
	}
	if p.size, err = strconv.Atoi(parts[2]); err != nil || p.size < 1 || p.size > maxPageSize {
		return pageRequest{}, unknown
	}
	if p.filter, err = url.ParseQuery(parts[3]); err != nil {
		return pageRequest{}, unknown
	}
	return p, nil
}

// maxPageNumber keeps offsets far from overflow.
const maxPageNumber = 1 << 31

// page reads the paging parameters of a list call and, when there is a token,
// makes the filters that it carries those of the call.
func (c *call) page() (pageRequest, error) {
	list := c.route.id + "/" + c.path("project")
	number, err := c.int("page", 0)
	if err != nil {
		return pageRequest{}, err
	}
	if number > maxPageNumber {
		return pageRequest{}, fault.Invalid("parameter page must be at most %d, got %d", maxPageNumber, number)
	}
	size, err := c.int("page-size", 0)
	if err != nil {
		return pageRequest{}, err
	}
	if token := c.str("page-token"); token != "" {
		p, err := parsePageToken(list, token)
		if err != nil {
			return p, err
		}
		if number > 0 {
			p.number = int(number)
		}
		c.values = p.filter
		return p, nil
	}
	p := pageRequest{list: list, filter: url.Values{}}
	for key, values := range c.query() {
		if key != "page" && key != "page-size" && c.route.param(key) != nil {
			p.filter[key] = values
		}
	}
	if number == 1 && c.clientBefore(1, 8) {
		return p, nil // everything; see the package comment
	}
	if size > 0 || number > 0 {
		p.number = max(1, int(number))
		p.size = min(max(int(size), 0), maxPageSize)
		if p.size == 0 {
			p.size = 20
		}
	}
	return p, nil
}

// window is the part of the list that page p covers.
func (p pageRequest) window() store.Page {
	if p.size == 0 {
		return store.Page{}
	}
	return store.Page{Offset: (p.number - 1) * p.size, Size: p.size}
}

// info is the pagination object of an answer with count items, after which more
// may follow.
func (p pageRequest) info(count int, more bool) document.Object {
	if p.size == 0 || count == 0 {
		return document.Object{"page": nil, "page-size": nil, "page-token": nil}
	}
	out := document.Object{"page": p.number, "page-size": p.size, "page-token": nil}
	if more {
		next := p
		next.number++
		out["page-token"] = pageToken(next)
	}
	return out
}

// lister reads one window of a list and says whether items follow.
type lister func(window store.Page) (items []document.Object, more bool, err error)

// writePage answers a list call under key: the page asked for, or everything,
// which is read and written piece by piece so that its size does not matter.
func (c *call) writePage(key string, p pageRequest, read lister) error {
	window := p.window()
	endless := p.size == 0
	if endless {
		window.Size = restChunk
	}
	items, more, err := read(window)
	if err != nil {
		return err
	}
	if !endless || !more {
		return c.json(200, document.Object{key: items, "pagination": p.info(len(items), more)})
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	c.start(200)
	buffer.b = append(append(append(buffer.b, `{"`...), key...), `":[`...)
	for {
		for i, item := range items {
			if i > 0 || window.Offset > 0 {
				buffer.b = append(buffer.b, ',')
			}
			buffer.b = document.Append(buffer.b, item)
		}
		if !more {
			break
		}
		if _, err := c.w.Write(buffer.b); err != nil {
			return nil // the client left
		}
		buffer.b = buffer.b[:0]
		window.Offset += len(items)
		if items, more, err = read(window); err != nil {
			c.fail(err)
			panic(abortResponse) // the answer has begun: breaking the connection is the only honest end
		}
	}
	buffer.b = append(buffer.b, `],"pagination":`...)
	buffer.b = append(document.Append(buffer.b, p.info(0, false)), '}')
	_, _ = c.w.Write(buffer.b)
	return nil
}
