package worker

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// forkPatience is how long a template may take until its child is up.
const forkPatience = 3 * time.Second

// forkRequest is the JSON of a request; docs/protocol.md, "Templates".
type forkRequest struct {
	Env   []string `json:"env"`
	Dir   string   `json:"dir"`
	Umask int      `json:"umask"`
	Host  [3]int   `json:"host"`
}

// forked is a worker's process that a template made: the template is its parent,
// and tells over conn how it ended.
type forked struct {
	conn     *net.UnixConn
	lines    *bufio.Reader
	lifeline *os.File // never written; when this process dies the kernel kills the child's group
	pidfd    *os.File // for when the template is killed
}

func (f *forked) close() {
	f.conn.Close()
	f.lifeline.Close()
	if f.pidfd != nil {
		f.pidfd.Close()
	}
}

// fork has the template that listens at spec.Template make the process. After an
// error nothing of it is left that could ever run user code: a child that comes up
// late finds its lifeline cut.
func fork(ctx context.Context, spec Spec, ends []*os.File, host [3]int, ended func()) (*Process, error) {
	request, err := forkRequestOf(spec, host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, forkPatience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", spec.Template)
	if err != nil {
		return nil, fmt.Errorf("reach the template: %w", err)
	}
	their, ours, err := os.Pipe()
	if err != nil {
		conn.Close()
		return nil, err
	}
	defer their.Close()
	f := &forked{conn: conn.(*net.UnixConn), lines: bufio.NewReader(conn), lifeline: ours}
	pid, err := f.begin(ctx, request, append(ends[:len(ends):len(ends)], spec.Stdout, spec.Stderr, their))
	if err != nil {
		f.close()
		return nil, err
	}
	p := &Process{pid: pid, done: make(chan struct{})}
	go p.attend(f, ended)
	return p, nil
}

func forkRequestOf(spec Spec, host [3]int) ([]byte, error) {
	if len(spec.Prefix) > 0 || len(spec.InterpreterArgs) > 0 || spec.Attr != nil {
		return nil, errors.New("the worker is to be started in a way of its own")
	}
	for _, entry := range spec.Env {
		if !utf8.ValidString(entry) {
			return nil, errors.New("the environment is not UTF-8")
		}
	}
	dir := spec.Dir
	if dir == "" {
		var err error
		if dir, err = os.Getwd(); err != nil {
			return nil, err
		}
	}
	env := spec.Env
	if env == nil {
		env = []string{}
	}
	umask, err := currentUmask()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(forkRequest{Env: env, Dir: dir, Umask: umask, Host: host})
	if err != nil {
		return nil, err
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(raw))), raw...), nil
}

// currentUmask reads the mask without setting it, which would be seen by every
// thread.
func currentUmask() (int, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if text, ok := strings.CutPrefix(line, "Umask:"); ok {
			var mask int
			_, err := fmt.Sscanf(text, "%o", &mask)
			return mask, err
		}
	}
	return 0, errors.New("the kernel does not tell the umask")
}

// begin sends the request with its descriptors and waits until the child is up.
func (f *forked) begin(ctx context.Context, request []byte, files []*os.File) (pid int, err error) {
	deadline, _ := ctx.Deadline()
	if err := f.conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	numbers := make([]int, len(files))
	for i, file := range files {
		if file == nil {
			file = null
		}
		raw, err := file.SyscallConn()
		if err != nil {
			return 0, err
		}
		if err := raw.Control(func(fd uintptr) { numbers[i] = int(fd) }); err != nil {
			return 0, err
		}
	}
	n, _, err := f.conn.WriteMsgUnix(request, unix.UnixRights(numbers...), nil)
	if err == nil && n < len(request) {
		_, err = f.conn.Write(request[n:])
	}
	if err != nil {
		return 0, fmt.Errorf("ask the template: %w", err)
	}
	line, err := f.lines.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("the template ended or did not answer: %w", err)
	}
	if reason, ok := strings.CutPrefix(line, "refused "); ok {
		return 0, fmt.Errorf("the template refused: %s", strings.TrimSpace(reason))
	}
	if _, err := fmt.Sscanf(line, "ready %d", &pid); err != nil || pid <= 1 {
		return 0, fmt.Errorf("the template's child ended before it was up (%q)", strings.TrimSpace(line))
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, fmt.Errorf("watch the template's child: %w", err)
	}
	f.pidfd = os.NewFile(uintptr(fd), "pidfd")
	if !stop() { // ctx has ended
		return 0, context.Cause(ctx)
	}
	return pid, f.conn.SetDeadline(time.Time{})
}

// attend waits for the end of a process that a template made, as supervise does
// for one that this process started.
func (p *Process) attend(f *forked, ended func()) {
	line, err := f.lines.ReadString('\n')
	told := err == nil && line == "exited\n"
	if !told { // the template is gone; the process need not be
		f.untilExited()
	}
	p.mu.Lock()
	// A template does not reap before it is asked to, so the number of the group
	// cannot be anybody else's.
	p.gone = true
	if told {
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	}
	killed := p.killed
	p.mu.Unlock()
	p.exit = Exit{Code: -1, Unknown: true}
	if told {
		p.exit = f.status()
	}
	p.exit.Killed = killed
	f.close() // whoever is left of the group is killed by this
	if ended != nil {
		ended()
	}
	close(p.done)
}

func (f *forked) untilExited() {
	poll := []unix.PollFd{{Fd: int32(f.pidfd.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, -1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// status asks the template to reap, and returns how the process ended.
func (f *forked) status() Exit {
	unknown := Exit{Code: -1, Unknown: true}
	if _, err := f.conn.Write([]byte("reap\n")); err != nil {
		return unknown
	}
	line, err := f.lines.ReadString('\n')
	if err != nil {
		return unknown
	}
	var status syscall.WaitStatus
	var user, system, rss int64
	if _, err := fmt.Sscanf(line, "status %d %d %d %d", &status, &user, &system, &rss); err != nil {
		return unknown
	}
	exit := Exit{
		Code: status.ExitStatus(), User: time.Duration(user) * time.Microsecond, System: time.Duration(system) * time.Microsecond,
		MaxRSS: rss * 1024,
	}
	if status.Signaled() {
		exit.Signal, exit.Core = status.Signal(), status.CoreDump()
	}
	return exit
}
