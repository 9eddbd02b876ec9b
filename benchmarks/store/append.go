package main

import (
	"errors"
	"os"
	"sync"
)

// appender is the bare measure: records appended to a file by one goroutine that
// takes what is waiting, writes it at once and syncs once.
type appender struct {
	file  *os.File
	queue chan request
	done  sync.WaitGroup
}

type request struct {
	data  []byte
	reply chan error
}

func newAppender(path string) (*appender, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	a := &appender{file: file, queue: make(chan request, 256)}
	a.done.Go(a.loop)
	return a, nil
}

// append returns when data is on the disk.
func (a *appender) append(data []byte) error {
	reply := make(chan error, 1)
	a.queue <- request{data, reply}
	return <-reply
}

func (a *appender) loop() {
	for first := range a.queue {
		group := []request{first}
		buffer := append([]byte(nil), first.data...)
		for more := true; more; {
			select {
			case next, ok := <-a.queue:
				if more = ok; ok {
					group = append(group, next)
					buffer = append(buffer, next.data...)
				}
			default:
				more = false
			}
		}
		_, err := a.file.Write(buffer)
		err = errors.Join(err, a.file.Sync())
		for _, r := range group {
			r.reply <- err
		}
	}
}

// close ends the goroutine; no append may be under way.
func (a *appender) close() error {
	close(a.queue)
	a.done.Wait()
	return errors.Join(a.file.Close(), os.Remove(a.file.Name()))
}
