package application

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/worker"
)

const (
	leastPause = 100 * time.Millisecond // between an end and the next start
	mostPause  = 30 * time.Second
	wellAfter  = 10 * time.Second // a replica that lived so long is started again at once
)

// replica is one process of the program, again and again.
type replica struct {
	app  *App
	left chan struct{} // closed when it is off the list

	// Guarded by app.mu.
	ready   bool
	open    int // requests in progress
	carrier *http.Transport
	leaving bool
	until   context.Context // of leaving
}

// leave lets the replica finish its requests until ctx ends and then end; app.mu is held.
func (r *replica) leave(ctx context.Context) {
	if !r.leaving || r.until.Err() == nil {
		r.leaving, r.until = true, ctx
		r.app.change()
	}
}

// live starts the program until it shall not run any more.
func (r *replica) live() {
	a := r.app
	defer a.gone(r)
	for pause := time.Duration(0); ; {
		began := time.Now()
		again, err := r.once()
		if !again {
			return
		}
		if time.Since(began) >= wellAfter {
			pause = 0
		}
		a.counters.Restarts.Add(1)
		a.Logger.Warn("the program ended and is started again", "error", err, "after", pause)
		if !r.sleep(pause) {
			return
		}
		pause = min(max(2*pause, leastPause), mostPause)
	}
}

// sleep waits, or returns false as soon as the replica shall leave.
func (r *replica) sleep(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		moved, leaving := r.watch()
		if leaving {
			return false
		}
		select {
		case <-timer.C:
			return true
		case <-moved:
		}
	}
}

func (r *replica) watch() (moved <-chan struct{}, leaving bool) {
	r.app.mu.Lock()
	defer r.app.mu.Unlock()
	return r.app.moved, r.leaving
}

// once runs the program one time. again is false when it shall not be started anew.
func (r *replica) once() (again bool, err error) {
	address, reserved, process, err := r.start()
	defer reserved.free()
	for err == nil {
		if err = r.await(process, &address); err != nil {
			break
		}
		if r.serve(process, address) {
			return false, nil
		}
		select {
		case <-process.Done():
			err = fmt.Errorf("the program %s", process.Wait())
		default: // it lives, and does not listen any more
		}
	}
	if process != nil {
		_, _ = process.Terminate(time.Second) // it is gone in any case
	}
	if _, leaving := r.watch(); leaving {
		return false, nil
	}
	r.fail(err)
	return true, err
}

// serve lets requests come to the program until it does not take them any more, or
// the replica has left: then the program is ended, and the answer is true.
func (r *replica) serve(process *worker.Process, address string) (left bool) {
	a := r.app
	transport := newTransport(address, a.Revision.EventTimeout)
	defer transport.CloseIdleConnections()
	a.mu.Lock()
	r.ready, r.carrier = true, transport
	a.served, a.late, a.trouble = true, false, nil
	a.change()
	a.mu.Unlock()
	a.Changed()
	left = r.drained(process)
	a.mu.Lock()
	r.ready = false
	until := r.until
	a.mu.Unlock()
	if left {
		_, _ = process.Terminate(grace(until, a.Revision.Grace)) // it is gone in any case
	}
	return left
}

// grace is how long a program may take to end itself: what is left of the time for
// its requests, and a moment at least.
func grace(until context.Context, most time.Duration) time.Duration {
	left := time.Second
	if deadline, ok := until.Deadline(); ok {
		left = max(left, time.Until(deadline))
	}
	return min(left, max(most, time.Second))
}

// fail notes why the program does not run.
func (r *replica) fail(err error) {
	a := r.app
	a.mu.Lock()
	r.ready = false
	a.trouble = err
	a.change()
	a.mu.Unlock()
	a.Changed()
}

// drained waits until the replica shall leave and has no requests any more (or no
// time for them); false if the program has ended or does not listen any more.
func (r *replica) drained(process *worker.Process) bool {
	a := r.app
	for {
		a.mu.Lock()
		moved, leaving, open, ready, until := a.moved, r.leaving, r.open, r.ready, r.until
		a.mu.Unlock()
		if leaving && open == 0 {
			return true
		}
		if !ready && !leaving {
			return false
		}
		var over <-chan struct{}
		if leaving {
			over = until.Done()
		}
		select {
		case <-process.Done():
			return leaving
		case <-over:
			return true
		case <-moved:
		}
	}
}

// start starts the program; address is where it shall listen.
func (r *replica) start() (address string, reserved *reservation, process *worker.Process, err error) {
	a := r.app
	port := a.Revision.Port
	if port == 0 {
		if port, reserved, err = reservePort(); err != nil {
			return "", nil, nil, err
		}
	} else if err = r.awaitPort(port); err != nil {
		return "", nil, nil, err
	}
	text := strconv.Itoa(port)
	env := append(slices.Clone(a.Env), "PORT="+text)
	argv := make([]string, len(a.Revision.Command))
	for i, word := range a.Revision.Command {
		argv[i] = expandPort(word, text)
	}
	if argv[0], err = lookUp(argv[0], a.Dir, env); err != nil {
		return "", reserved, nil, err
	}
	process, err = worker.StartCommand(a.ctx, worker.Command{Argv: argv, Env: env, Dir: a.Dir, Stdout: a.Log, Stderr: a.Log})
	if err != nil {
		return "", reserved, nil, err
	}
	return net.JoinHostPort("127.0.0.1", text), reserved, process, a.Group.Add(process.PID())
}

// awaitPort waits until nobody listens on the port that the program insists on: an
// earlier revision may be about to leave it.
func (r *replica) awaitPort(port int) error {
	for end := time.Now().Add(r.app.Revision.ReadyTimeout); ; {
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			return listener.Close()
		}
		if time.Now().After(end) {
			return fmt.Errorf("the program's port %d is taken: %w; a program that listens on $PORT needs no port of its own", port, err)
		}
		if !r.sleep(20 * time.Millisecond) {
			return context.Canceled
		}
	}
}

// await waits until the program's port answers, by either family of addresses.
func (r *replica) await(process *worker.Process, address *string) error {
	a := r.app
	_, port, _ := net.SplitHostPort(*address) // ours
	over := time.NewTimer(a.Revision.ReadyTimeout)
	defer over.Stop()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		for _, host := range []string{"127.0.0.1", "::1"} {
			at := net.JoinHostPort(host, port)
			if c, err := net.DialTimeout("tcp", at, time.Second); err == nil {
				c.Close()
				*address = at
				return nil
			}
		}
		moved, leaving := r.watch()
		if leaving {
			return context.Canceled
		}
		select {
		case <-process.Done():
			return fmt.Errorf("the program %s before it answered on port %s", process.Wait(), port)
		case <-over.C:
			return fmt.Errorf("the program did not answer on port %s within %v", port, a.Revision.ReadyTimeout)
		case <-moved:
		case <-time.After(pause):
		}
	}
}

// expandPort puts the port in place of $PORT, ${PORT} and $(PORT), for arguments
// that no shell sees.
func expandPort(word, port string) string {
	word = strings.NewReplacer("${PORT}", port, "$(PORT)", port).Replace(word)
	for from := 0; ; {
		at := strings.Index(word[from:], "$PORT")
		if at < 0 {
			return word
		}
		at += from
		end := at + len("$PORT")
		if end < len(word) && (word[end] == '_' || word[end] >= '0' && word[end] <= '9' || word[end] >= 'A' && word[end] <= 'Z' || word[end] >= 'a' && word[end] <= 'z') {
			from = end // another variable
			continue
		}
		word = word[:at] + port + word[end:]
		from = at + len(port)
	}
}

// lookUp finds an executable by the PATH that the program itself gets.
func lookUp(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, nil
	}
	path := ""
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			path = value // the last one counts
		}
	}
	for _, folder := range filepath.SplitList(path) {
		full := filepath.Join(folder, name)
		if info, err := os.Stat(full); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 && filepath.IsAbs(full) {
			return full, nil
		}
	}
	if _, err := exec.LookPath(name); errors.Is(err, exec.ErrNotFound) || path != "" {
		return "", fmt.Errorf("the program %s is not on the PATH: install it, or name it by its path", name)
	}
	return name, nil
}

func newTransport(address string, timeout time.Duration) *http.Transport {
	var dialer net.Dialer
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		},
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        1500 * time.Millisecond, // shorter than programs keep theirs, or requests would meet closed ones
		ResponseHeaderTimeout:  timeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 1 << 20,
	}
}
