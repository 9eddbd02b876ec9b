package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// result is what a measurement found.
type result struct {
	count    int
	rate     float64 // per second
	p50, p99 time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("%8.0f/s   p50 %s  p99 %s", r.rate, ms(r.p50), ms(r.p99))
}

func ms(d time.Duration) string { return fmt.Sprintf("%7.2f ms", float64(d)/float64(time.Millisecond)) }

func summarise(took []time.Duration, length time.Duration) result {
	slices.Sort(took)
	if len(took) == 0 {
		return result{}
	}
	return result{len(took), float64(len(took)) / length.Seconds(), took[len(took)/2], took[len(took)*99/100]}
}

// each runs work in n goroutines until the length is over and collects how long
// every call took.
func each(n int, length time.Duration, prepare func(client int) (work func(n int) error, done func(), err error)) (result, error) {
	var (
		mu    sync.Mutex
		all   []time.Duration
		first error
		group sync.WaitGroup
	)
	began := time.Now()
	for client := range n {
		group.Go(func() {
			var took []time.Duration
			err := func() error {
				work, done, err := prepare(client)
				if err != nil {
					return err
				}
				defer done()
				for i := 0; time.Since(began) < length; i++ {
					at := time.Now()
					if err := work(i); err != nil {
						return err
					}
					took = append(took, time.Since(at))
				}
				return nil
			}()
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			first = errors.Join(first, err)
		})
	}
	group.Wait()
	return summarise(all, time.Since(began)), first
}

// appends measures a file to which clients append: whoever comes while a sync is
// under way waits for the next one, which serves all of them.
func appends(path string, body []byte, o options) (result, error) {
	file, err := os.Create(path)
	if err != nil {
		return result{}, err
	}
	defer file.Close()
	type entry struct{ done chan error }
	queue := make(chan entry, o.clients)
	var writer sync.WaitGroup
	writer.Go(func() {
		for e := range queue {
			group := []entry{e}
			for more := true; more; {
				select {
				case next, ok := <-queue:
					if more = ok; ok {
						group = append(group, next)
					}
				default:
					more = false
				}
			}
			_, err := file.Write(bytes.Repeat(body, len(group)))
			err = errors.Join(err, file.Sync())
			for _, e := range group {
				e.done <- err
			}
		}
	})
	found, err := each(o.clients, o.length, func(int) (func(int) error, func(), error) {
		done := make(chan error, 1)
		return func(int) error {
			queue <- entry{done}
			return <-done
		}, func() {}, nil
	})
	close(queue)
	writer.Wait()
	return found, err
}

// request is one HTTP request as bytes.
type request []byte

// target is a server under load.
type target struct {
	url    string
	host   string
	token  string
	series string // begins the uids of this measurement
	close  func()
}

func newTarget(address, token, series string, closing func()) *target {
	host := address
	if u, err := url.Parse(address); err == nil {
		host = u.Host
	}
	return &target{url: strings.TrimRight(address, "/"), host: host, token: token, series: series, close: closing}
}

// request builds a request below the project.
func (t *target) request(method, path string, body []byte) request {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s /api/v1/projects/%s%s HTTP/1.1\r\nHost: %s\r\n", method, project, path, t.host)
	if t.token != "" {
		fmt.Fprintf(&out, "Authorization: Bearer %s\r\n", t.token)
	}
	fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n", len(body))
	out.Write(body)
	return out.Bytes()
}

func (t *target) ensureProject(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, "PUT", t.url+"/api/v1/projects/"+project, strings.NewReader(`{"metadata":{"name":"`+project+`"}}`))
	if err != nil {
		return err
	}
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("make project %s: %s %s", project, resp.Status, text)
	}
	return nil
}

// load sends requests over one connection a client, the next when the answer to
// the one before has come.
func (t *target) load(o options, make func(client, n int) request) (result, error) {
	return each(o.clients, o.length, func(client int) (func(int) error, func(), error) {
		c, err := t.dial()
		if err != nil {
			return nil, nil, err
		}
		return func(n int) error { return c.send(make(client, n)) }, func() { c.Close() }, nil
	})
}

// repeat sends one request several times.
func (t *target) repeat(times int, r request) (result, error) {
	c, err := t.dial()
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	var took []time.Duration
	for range times {
		at := time.Now()
		if err := c.send(r); err != nil {
			return result{}, err
		}
		took = append(took, time.Since(at))
	}
	return summarise(took, time.Second), nil
}

func (t *target) dial() (*connection, error) {
	c, err := net.Dial("tcp", t.host)
	if err != nil {
		return nil, err
	}
	return &connection{c, bufio.NewReaderSize(c, 16<<10)}, nil
}

// connection speaks just enough HTTP/1.1 to cost less than what it measures.
type connection struct {
	net.Conn
	in *bufio.Reader
}

func (c *connection) send(r request) error {
	if _, err := c.Write(r); err != nil {
		return err
	}
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	ok, said := bytes.HasPrefix(status, []byte("HTTP/1.1 200")), string(bytes.TrimSpace(status))
	length := 0
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		if key, value, _ := bytes.Cut(line, []byte(": ")); bytes.EqualFold(key, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
	if !ok {
		text, _ := io.ReadAll(io.LimitReader(c.in, int64(min(length, 500))))
		return fmt.Errorf("%s: %s", said, text)
	}
	_, err = c.in.Discard(length)
	return err
}
