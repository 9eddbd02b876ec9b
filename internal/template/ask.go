package template

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Environ is the environment of a template for code that runs with env (KEY=VALUE)
// on top of base: what an interpreter reads at its start, and where its own
// environment is if venv is not "". Variables of this program, which belong to one
// execution or function, are not in it, so that others with the same can share it.
func Environ(base, env []string, venv string) []string {
	environ := map[string]string{}
	for _, entry := range base {
		if name, value, ok := strings.Cut(entry, "="); ok && !strings.HasPrefix(name, "MILLRACE_") {
			environ[name] = value
		}
	}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PYTHON") && name != "PYTHONPATH" || venv != "" && (name == "VIRTUAL_ENV" || name == "PATH") {
			environ[name] = value
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		out = append(out, name+"="+environ[name])
	}
	return out
}

// Other processes ask for templates by the socket askName in the pool's folder: one
// line of JSON with a Spec, one with the answer, and so on.
const (
	askName  = "ask.sock"
	movedTo  = "at" // a link to the folder that was made in place of one with too long a path
	maxAsked = 4 << 20
	maxAsks  = 64 // connections at once
	askTime  = 2 * time.Second
)

type asked struct {
	Socket string `json:"socket,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Listen lets other processes of the same user ask for the pool's templates, until
// Close.
func (p *Pool) Listen() error {
	listener, err := net.Listen("unix", filepath.Join(p.options.Dir, askName))
	if err != nil {
		return fmt.Errorf("listen for who asks for templates: %w", err)
	}
	stop := context.AfterFunc(p.ctx, func() { listener.Close() })
	p.asking.Go(func() {
		defer stop()
		var each sync.WaitGroup
		defer each.Wait()
		slots := make(chan struct{}, maxAsks)
		for {
			conn, err := listener.Accept()
			if err != nil {
				if p.ctx.Err() != nil {
					return
				}
				time.Sleep(10 * time.Millisecond) // no descriptors are left
				continue
			}
			slots <- struct{}{}
			each.Go(func() {
				defer func() { conn.Close(); <-slots }()
				p.answer(conn)
			})
		}
	})
	return nil
}

// answer serves one connection. A client that takes its time is let go.
func (p *Pool) answer(conn net.Conn) {
	stop := context.AfterFunc(p.ctx, func() { conn.Close() })
	defer stop()
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxAsked)
	for conn.SetDeadline(time.Now().Add(askTime)) == nil && lines.Scan() {
		var spec Spec
		if json.Unmarshal(lines.Bytes(), &spec) != nil {
			return
		}
		var answer asked
		answer.Socket, answer.Reason = p.Socket(spec)
		raw, err := json.Marshal(answer)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(raw, '\n')); err != nil {
			return
		}
	}
}

// Client asks the pool of another process. Dir is that pool's Options.Dir.
type Client struct{ Dir string }

// Socket is Pool.Socket of the other process. When that cannot be asked the reason
// says so.
func (c Client) Socket(ctx context.Context, spec Spec) (socket, reason string) {
	answer, err := c.ask(ctx, spec)
	if err != nil {
		return "", "the owner of templates cannot be asked: " + err.Error()
	}
	return answer.Socket, answer.Reason
}

func (c Client) ask(ctx context.Context, spec Spec) (answer asked, err error) {
	dir := c.Dir
	if moved, err := os.Readlink(filepath.Join(dir, movedTo)); err == nil {
		dir = moved
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return answer, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, askName))
	if err != nil {
		var inner *os.SyscallError
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return answer, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(askTime)); err != nil {
		return answer, err
	}
	if _, err := conn.Write(append(raw, '\n')); err != nil {
		return answer, err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(line, &answer)
}
