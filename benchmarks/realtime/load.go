package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// client is one connection that sends the same request again and again. It reads
// no more of an answer than it has to, so that most of what is measured is the
// server.
type client struct {
	address string
	request []byte
	conn    net.Conn
	reader  *bufio.Reader
}

func newClient(address, path string, payload int) *client {
	var request bytes.Buffer
	method := "GET"
	if payload > 0 {
		method = "POST"
	}
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: function\r\n", method, path)
	if payload > 0 {
		fmt.Fprintf(&request, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", payload)
	}
	request.WriteString("\r\n")
	request.Write(bytes.Repeat([]byte("x"), payload))
	return &client{address: address, request: request.Bytes()}
}

// do sends one request and reads its answer; it connects first if it has to.
func (c *client) do() (status, size int, err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.address, 5*time.Second); err != nil {
			c.conn = nil
			return 0, 0, err
		}
		c.reader = bufio.NewReaderSize(c.conn, 64<<10)
	}
	status, size, again, err := c.exchange()
	if status == 0 || !again {
		c.close()
	}
	return status, size, err
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client) exchange() (status, size int, again bool, err error) {
	if _, err = c.conn.Write(c.request); err != nil {
		return 0, 0, false, err
	}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, 0, false, err
	}
	if len(line) < 12 {
		return 0, 0, false, fmt.Errorf("the answer begins with %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, false, err
	}
	length, again := -1, true
	for {
		if line, err = c.reader.ReadSlice('\n'); err != nil {
			return 0, 0, false, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == 14 && bytes.EqualFold(name, []byte("content-length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, 0, false, err
			}
		case len(name) == 10 && bytes.EqualFold(name, []byte("connection")):
			again = !bytes.EqualFold(bytes.TrimSpace(value), []byte("close"))
		}
	}
	if length < 0 {
		return status, 0, false, errors.New("the answer has no length")
	}
	if status/100 != 2 {
		said := make([]byte, min(length, 300))
		if _, err = io.ReadFull(c.reader, said); err == nil {
			_, err = c.reader.Discard(length - len(said))
		}
		return status, length, again, errors.Join(fmt.Errorf("status %d: %s", status, bytes.TrimSpace(said)), err)
	}
	_, err = c.reader.Discard(length)
	return status, length, again, err
}

// outcome is what a load came to.
type outcome struct {
	requests int
	took     time.Duration
	waits    []time.Duration // sorted
	failures map[string]int
}

func (o *outcome) rate() float64 { return float64(o.requests) / o.took.Seconds() }

// at is the wait that a share of the requests did not exceed.
func (o *outcome) at(share float64) time.Duration {
	if len(o.waits) == 0 {
		return 0
	}
	return o.waits[min(int(share*float64(len(o.waits))), len(o.waits)-1)]
}

// closed keeps n connections busy for a time: each sends when it has its answer.
func closed(address, path string, n, payload int, during time.Duration) (*outcome, error) {
	out := &outcome{failures: map[string]int{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	begin := time.Now()
	end := begin.Add(during)
	for range n {
		all.Go(func() {
			c := newClient(address, path, payload)
			defer c.close()
			waits := make([]time.Duration, 0, 1<<16)
			failures := map[string]int{}
			for at := time.Now(); at.Before(end); {
				_, size, err := c.do()
				now := time.Now()
				if err == nil && payload > 0 && size != payload {
					err = fmt.Errorf("%d bytes came back of %d", size, payload)
				}
				if err != nil {
					failures[err.Error()]++
				} else {
					waits = append(waits, now.Sub(at))
				}
				at = now
			}
			mu.Lock()
			defer mu.Unlock()
			out.waits = append(out.waits, waits...)
			for text, count := range failures {
				out.failures[text] += count
			}
		})
	}
	all.Wait()
	out.took = time.Since(begin)
	out.requests = len(out.waits)
	slices.Sort(out.waits)
	if out.requests == 0 {
		return out, fmt.Errorf("%s answered nothing: %v", address, out.failures)
	}
	return out, nil
}

// open sends rate requests a second whatever becomes of them, until ctx ends. The
// wait of each counts from when it should have been sent, so that a server that
// stands still is charged for all that it kept waiting.
func open(ctx context.Context, address, path string, rate, most, payload int) *outcome {
	out := &outcome{failures: map[string]int{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	due := make(chan time.Time, rate*60)
	begin := time.Now()
	for range most {
		all.Go(func() {
			c := newClient(address, path, payload)
			defer c.close()
			for at := range due {
				_, _, err := c.do()
				if errors.Is(err, io.EOF) { // an idle connection may be closed at any time: a client tries again
					_, _, err = c.do()
				}
				wait := time.Since(at)
				mu.Lock()
				if err != nil {
					out.failures[err.Error()]++
				} else {
					out.waits = append(out.waits, wait)
				}
				mu.Unlock()
			}
		})
	}
	sent := 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-tick.C:
			for ; sent < int(float64(rate)*now.Sub(begin).Seconds()); sent++ {
				due <- begin.Add(time.Duration(float64(sent) / float64(rate) * float64(time.Second)))
			}
		}
	}
	out.took = time.Since(begin)
	close(due)
	all.Wait()
	out.requests = len(out.waits)
	slices.Sort(out.waits)
	return out
}
