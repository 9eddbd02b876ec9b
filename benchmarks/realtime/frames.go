package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/worker"
)

// frames measures events into one worker without HTTP.
func (b *bench) frames() error {
	w, err := b.start(context.Background())
	if err != nil {
		return err
	}
	defer func() { _ = w.Kill(); w.Wait() }()
	request := &worker.Request{
		ID: "00000000-0000-4000-8000-000000000000", Method: "POST", Path: "/", ContentType: "text/plain", Timestamp: time.Now(),
		Headers: [][2]string{{"Host", "function"}, {"Content-Type", "text/plain"}}, Body: make([]byte, 100),
	}
	fmt.Println("frames into one worker, echo of 100 bytes")
	for _, window := range []int{1, 32, 256} {
		best, host, python := 0.0, 0.0, 0.0
		for range b.rounds {
			before, all := cpuOf(w.PID()), cpuOf(os.Getpid())
			n, took, err := flow(w, request, window, b.during/2)
			if err != nil {
				return err
			}
			if rate := float64(n) / took.Seconds(); rate > best {
				used := cpuOf(w.PID()) - before
				best, python = rate, float64(used)/1e3/float64(n)
				host = float64(cpuOf(os.Getpid())-all-used) / 1e3 / float64(n)
			}
		}
		name := fmt.Sprintf("%d in flight", window)
		if window == 1 {
			name = "lock step"
		}
		fmt.Printf("  %-40s %9.0f /s   CPU %5.1f µs Python, %5.1f µs host an event\n", name, best, python, host)
	}
	fmt.Println()
	return nil
}

// flow keeps window events in flight and returns how many were answered.
func flow(w *worker.Worker, request *worker.Request, window int, during time.Duration) (int64, time.Duration, error) {
	f := &flight{worker: w, request: request}
	begin := time.Now()
	f.end = begin.Add(during)
	f.open.Add(window)
	for range window {
		if err := w.Begin(request, f); err != nil {
			return 0, 0, err
		}
	}
	f.open.Wait()
	if err, ok := f.err.Load().(error); ok {
		return 0, 0, err
	}
	return f.answered.Load(), time.Since(begin), nil
}

// flight sends an event for each that is answered.
type flight struct {
	worker   *worker.Worker
	request  *worker.Request
	end      time.Time
	answered atomic.Int64
	open     sync.WaitGroup
	err      atomic.Value
}

// Reply implements worker.Sink.
func (f *flight) Reply(r *worker.Reply, err error) {
	if err == nil && r.Status != 200 {
		err = fmt.Errorf("status %d: %s", r.Status, r.Body)
	}
	if err != nil {
		f.err.Store(err)
		f.open.Done()
		return
	}
	if f.answered.Add(1); time.Now().After(f.end) {
		f.open.Done()
		return
	}
	if err := f.worker.Begin(f.request, f); err != nil {
		f.err.Store(err)
		f.open.Done()
	}
}
