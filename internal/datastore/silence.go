package datastore

import (
	"context"
	"net"
	"time"
)

// silence is how long a connection may pass on nothing, either way, before it is given
// up: a service that holds it open and sends no more would be waited for for ever.
const silence = time.Minute

// dial opens a connection that silence ends.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 15 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return heard{conn, silence}, nil
}

// heard is a connection that fails when nothing passes for a while.
type heard struct {
	net.Conn
	limit time.Duration
}

func (h heard) Read(p []byte) (int, error) {
	if err := h.SetReadDeadline(time.Now().Add(h.limit)); err != nil {
		return 0, err
	}
	return h.Conn.Read(p)
}

// Write puts off the end of a read, too: the other side listens.
func (h heard) Write(p []byte) (int, error) {
	if err := h.SetDeadline(time.Now().Add(h.limit)); err != nil {
		return 0, err
	}
	n, err := h.Conn.Write(p)
	if err == nil {
		err = h.SetReadDeadline(time.Now().Add(h.limit))
	}
	return n, err
}
