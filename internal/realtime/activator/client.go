package activator

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/filelock"
	"github.com/millrace/millrace/internal/realtime"
)

// In a data directory the activator has a folder, with these files.
const (
	folderName = "activator"
	lockName   = "lock"
	socketName = "activator.sock"
	logName    = "log"
)

// PID returns the process id of the activator of a data directory, 0 without one.
func PID(dataDir string) int {
	return filelock.Holder(filepath.Join(dataDir, folderName, lockName))
}

// Client hands functions to the activator of a data directory. All fields are required.
type Client struct {
	DataDir   string
	Activator []string // the command that runs it, until it has nothing to do
	Environ   []string // of Activator; nothing in it belongs to one function
	Processor []string // the command that serves the function that is handed over
}

// How long the activator may take to answer, or to start.
const (
	answerTime = 10 * time.Second
	startTime  = 10 * time.Second
)

// Park hands the function over, and starts the activator if it does not run. After an
// error it has not been handed over, and its lock has to be signed again. Else the
// caller accepts no more connections, ends, and closes what it has got last of all:
// until then the activator starts nobody else. Where the word of the activator is
// outstanding, Park waits for it without regard to ctx.
func (c Client) Park(ctx context.Context, p Parking) (io.Closer, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	r := request{Dir: p.Dir.Path, Listen: p.Listen, Command: c.Processor, Environ: os.Environ(), VirtualEnvs: p.VirtualEnvs, Templates: p.Templates}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxRequest)
	err = send(conn, &p, &r)
	if err == nil {
		err = expect(lines, readyWord)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		_, err = io.WriteString(conn, `"`+goWord+"\"\n")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	// The function is the activator's, unless that has ended before it heard so.
	_ = conn.SetDeadline(time.Time{})
	if err := expect(lines, doneWord); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// expect reads the word that the activator has to say, or why it does not.
func expect(lines *bufio.Scanner, word string) error {
	if !lines.Scan() {
		return fmt.Errorf("the activator ended before it said %s: %w", word, errors.Join(lines.Err(), io.EOF))
	}
	var said string
	if json.Unmarshal(lines.Bytes(), &said) != nil || said != word {
		return fmt.Errorf("the activator does not take the function: %s", said)
	}
	return nil
}

// connect connects to the activator, which it starts if need be.
func (c Client) connect(ctx context.Context) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	folder := realtime.Dir{Path: filepath.Join(c.DataDir, folderName)}
	var ended chan error // of the activator that we started; nil without one
	for {
		conn, err := folder.Dial(ctx, socketName)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		if ended == nil {
			if ended, err = c.start(folder.Path); err != nil {
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the activator does not answer: %w", err)
		case err := <-ended:
			if err != nil {
				return nil, fmt.Errorf("the activator ended as soon as it was started: %w", err)
			}
			ended = nil // another one runs, or ran
			time.Sleep(pauseTime)
		case <-time.After(pauseTime):
		}
	}
}

const pauseTime = 20 * time.Millisecond // between two tries to connect

// start starts the activator, detached from this process.
func (c Client) start(folder string) (chan error, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("create the activator's folder: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(folder, logName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the activator's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(c.Activator[0], c.Activator[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = folder, c.Environ, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the activator: %w", err)
	}
	ended := make(chan error, 1)
	// This goroutine ends with the activator, which is meant to outlive this process:
	// nobody waits for it.
	go func() { ended <- cmd.Wait() }()
	return ended, nil
}
