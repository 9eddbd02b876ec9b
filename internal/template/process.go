package template

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tagRoom is how many bytes a child has for the entry by which its processes are
// found; see _template.py.
const tagRoom = 512

// process is a template that was started.
type process struct {
	cmd     *exec.Cmd
	stdin   *os.File // its end retires the template
	verdict *os.File // what it says about itself
	said    *os.File // what its imports wrote, a file without a name
	gone    chan struct{}
	err     error // set before gone is closed
}

// keep is the life of one template, from its start until its process is gone.
func (p *Pool) keep(e *entry) {
	select {
	case p.turn <- struct{}{}:
	case <-p.ctx.Done():
		p.fail(e, "no more templates are started", 0)
		return
	}
	began := time.Now()
	child, err := start(p.options.Dir, e)
	if err == nil {
		err = child.hear(p.ctx.Done())
	}
	<-p.turn
	if err != nil {
		_ = os.Remove(e.socket) // one that was killed may have got so far
		pause := time.Duration(0)
		var unfit *unfitError
		if errors.As(err, &unfit) {
			pause = lastPause
		}
		p.fail(e, err.Error(), pause)
		return
	}
	p.ready(e, child.cmd.Process.Pid, time.Since(began))
	p.attend(e, child)
}

// ready lets e be used, unless it needs too much memory.
func (p *Pool) ready(e *entry, pid int, took time.Duration) {
	memory := proportional(pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(e.known)
	e.pid, e.memory, e.since = pid, memory, time.Now()
	if memory > p.options.MaxMemory {
		e.state, e.until = failed, time.Now().Add(lastPause)
		e.reason = fmt.Sprintf("its template needs %d MiB of memory, and all together may have %d", memory>>20, p.options.MaxMemory>>20)
		e.leaving = true
		close(e.retire)
		return
	}
	e.state = ready
	total := memory
	for _, other := range p.entries {
		if other != e && other.state == ready {
			total += other.memory
		}
	}
	for total > p.options.MaxMemory {
		other := p.oldest(e)
		total -= other.memory
		p.release(other, "memory for another one")
	}
	p.options.Logger.Debug("template ready", "pid", pid, "interpreter", e.spec.Interpreter, "modules", len(e.spec.Modules), "took", took, "memory", memory)
}

// fail notes why there is no template; after pause, or a longer time for each
// failure in a row if that is 0, another one is tried.
func (p *Pool) fail(e *entry, reason string, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.failures++
	if pause == 0 {
		pause = min(firstPause<<min(e.failures-1, 20), lastPause)
	}
	wasStarting := e.state == starting
	e.state, e.reason, e.until, e.pid, e.memory = failed, reason, time.Now().Add(pause), 0, 0
	p.options.Logger.Debug("no template", "interpreter", e.spec.Interpreter, "modules", len(e.spec.Modules), "reason", reason, "for", pause)
	if wasStarting {
		close(e.known)
	}
}

// attend waits for the end of a template, and makes it go when it is idle,
// released or the pool closes.
func (p *Pool) attend(e *entry, child *process) {
	timer := time.NewTimer(p.options.Idle)
	defer timer.Stop()
	closing := p.ctx.Done()
	retire := e.retire
	for {
		select {
		case <-child.gone:
			child.close()
			_ = os.Remove(e.socket) // a killed one leaves it
			if retire != nil && closing != nil {
				p.died(e, child)
			}
			return
		case <-retire:
			retire = nil
			child.stdin.Close()
		case <-closing:
			closing = nil
			child.stdin.Close()
		case <-timer.C:
			p.mu.Lock()
			left := p.options.Idle - time.Since(e.used)
			if left <= 0 {
				p.release(e, "idle")
				left = time.Hour
			}
			p.mu.Unlock()
			timer.Reset(left)
		}
	}
}

// outdated is the exit status of a template whose packages are others by now.
const outdated = 4

// died notes the end of a template that nobody wanted to go. One that had worked
// for a while may be replaced soon, an outdated one at once.
func (p *Pool) died(e *entry, child *process) {
	p.mu.Lock()
	if child.cmd.ProcessState.ExitCode() == outdated {
		p.release(e, "packages were installed or removed")
		p.mu.Unlock()
		return
	}
	if time.Since(e.since) > lastPause {
		e.failures = 0
	}
	p.mu.Unlock()
	p.options.Logger.Warn("a template ended", "pid", child.cmd.Process.Pid, "interpreter", e.spec.Interpreter, "how", child.cmd.ProcessState.String())
	p.fail(e, "its template ended: "+child.cmd.ProcessState.String(), 0)
}

// unfitError says that what was imported cannot be forked.
type unfitError struct{ reason string }

func (e *unfitError) Error() string { return e.reason }

// start executes the interpreter of a template.
func start(dir string, e *entry) (_ *process, err error) {
	child := &process{gone: make(chan struct{})}
	var theirs []*os.File
	defer func() {
		for _, file := range theirs {
			file.Close()
		}
		if err != nil {
			child.close()
			err = fmt.Errorf("start a template: %w", err)
		}
	}()
	if child.said, err = os.CreateTemp(dir, "said-"); err != nil {
		return nil, err
	}
	if err := os.Remove(child.said.Name()); err != nil {
		return nil, err
	}
	stdin, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	child.stdin = ours
	theirs = append(theirs, stdin)
	verdict, their, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	child.verdict = verdict
	theirs = append(theirs, their)
	list, err := os.CreateTemp(dir, "modules-")
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, list)
	if err := os.Remove(list.Name()); err != nil {
		return nil, err
	}
	if _, err := list.WriteString(strings.Join(e.spec.Modules, "\n")); err != nil {
		return nil, err
	}
	if _, err := list.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	cmd := exec.Command(e.spec.Interpreter, "-S", filepath.Join(e.spec.RuntimeDir, "boot.py"), "template", e.socket)
	cmd.Env = append([]string{"MILLRACE_TAG=" + strings.Repeat("-", tagRoom)}, e.spec.Env...)
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, child.said, child.said
	cmd.ExtraFiles = []*os.File{their, list}
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	child.cmd = cmd
	go func() { // ends with the process, which keep waits for
		child.err = cmd.Wait()
		close(child.gone)
	}()
	return child, nil
}

// hear waits for the verdict. After an error the process is gone.
func (c *process) hear(stop <-chan struct{}) error {
	line := make(chan string, 1)
	go func() { // ends with the process at the latest
		text, _ := bufio.NewReader(c.verdict).ReadString('\n')
		line <- strings.TrimSpace(text)
	}()
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	said, reason := "", ""
	select {
	case said = <-line:
	case <-timer.C:
		reason = fmt.Sprintf("its imports take longer than %v", startTimeout)
	case <-stop:
		reason = "no more templates are started"
	}
	if said == "ready" {
		return nil
	}
	_ = c.cmd.Process.Kill() // it has no workers
	<-c.gone
	defer c.close()
	if unfit, ok := strings.CutPrefix(said, "unfit: "); ok {
		return &unfitError{unfit}
	}
	if reason == "" {
		reason = "its template ended before it was ready: " + c.cmd.ProcessState.String()
		if last := c.lastLine(); last != "" {
			reason += ": " + last
		}
	}
	return errors.New(reason)
}

// lastLine is the last line of what the imports wrote.
func (c *process) lastLine() string {
	const most = 4 << 10
	info, err := c.said.Stat()
	if err != nil {
		return ""
	}
	text := make([]byte, most)
	n, _ := c.said.ReadAt(text, max(0, info.Size()-most))
	lines := bytes.Split(bytes.TrimSpace(text[:n]), []byte("\n"))
	return string(lines[len(lines)-1])
}

func (c *process) close() {
	for _, file := range []*os.File{c.stdin, c.verdict, c.said} {
		if file != nil {
			file.Close()
		}
	}
}
