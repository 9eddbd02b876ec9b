package activator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/filelock"
	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/template"
)

// Parking is a function that is handed over.
type Parking struct {
	Dir  realtime.Dir
	Lock *filelock.Lock
	// The function's sockets, from which nobody accepts. Own is nil without an own address.
	Control, HTTP, Own net.Listener
	Listen             string          // what Own was asked to listen on
	VirtualEnvs        []string        // that have to stay while it is parked
	Templates          []template.Spec // from which its workers will be forked
}

// request is the line that follows the descriptors.
type request struct {
	Dir         string          `json:"dir"`
	Listen      string          `json:"listen,omitempty"`
	Command     []string        `json:"command"` // that serves Dir
	Environ     []string        `json:"environ"`
	VirtualEnvs []string        `json:"virtual_envs,omitempty"`
	Templates   []template.Spec `json:"templates,omitempty"`
}

const (
	version    = 1 // the byte with which the descriptors come
	maxRequest = 4 << 20
	readyWord  = "ready"
	goWord     = "go"
	doneWord   = "done"
)

// send sends the first part of handing over: descriptors and request.
func send(conn *net.UnixConn, p *Parking, r *request) error {
	fds := []int{int(p.Lock.File().Fd())}
	for _, l := range []net.Listener{p.Control, p.HTTP, p.Own} {
		if l == nil {
			continue
		}
		// Not by File, which would have one descriptor more to close, nor by Fd of that.
		raw, err := l.(syscall.Conn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
		if err != nil {
			return fmt.Errorf("send the sockets: %w", err)
		}
	}
	if _, _, err := conn.WriteMsgUnix([]byte{version}, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("send the sockets: %w", err)
	}
	line, err := json.Marshal(r)
	if err == nil {
		_, err = conn.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("send what is parked: %w", err)
	}
	return nil
}

// receive is the other side of send. The files are the caller's, also with an error.
func receive(conn *net.UnixConn) (r request, files []*os.File, lines *bufio.Scanner, err error) {
	var first [1]byte
	rights := make([]byte, unix.CmsgSpace(8*4))
	n, nrights, flags, _, err := conn.ReadMsgUnix(first[:], rights)
	if err != nil {
		return r, nil, nil, fmt.Errorf("receive the sockets: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:nrights])
	if err != nil {
		return r, nil, nil, fmt.Errorf("receive the sockets: %w", err)
	}
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err != nil {
			return r, files, nil, fmt.Errorf("receive the sockets: %w", err)
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	switch {
	case n == 0:
		return r, files, nil, errors.New("the function was not sent")
	case first[0] != version:
		return r, files, nil, fmt.Errorf("the function is handed over by version %d, this is %d", first[0], version)
	case flags&unix.MSG_CTRUNC != 0:
		return r, files, nil, errors.New("there are no descriptors left for another function's sockets")
	}
	lines = bufio.NewScanner(conn)
	lines.Buffer(nil, maxRequest)
	if !lines.Scan() {
		return r, files, nil, errors.Join(errors.New("what is parked was not sent"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
		return r, files, nil, fmt.Errorf("what is parked cannot be read: %w", err)
	}
	want := 3
	if r.Listen != "" {
		want = 4
	}
	if len(files) != want || r.Dir == "" || len(r.Command) == 0 {
		return r, files, nil, fmt.Errorf("%d descriptors came with the function %s; it has %d", len(files), r.Dir, want)
	}
	return r, files, lines, nil
}

// Inherited is what a processor takes over that the activator has started.
type Inherited struct {
	Lock               *filelock.Lock
	Control, HTTP, Own net.Listener // Own is nil without an own address
	Listen             string       // what Own was asked to listen on

	serves *os.File
}

// The descriptors that a started processor has, in this order from firstFile on. The last
// name is what the own address was asked to listen on, if there is one.
var fileNames = []string{"serves", "lock", realtime.ControlSocket, realtime.HTTPSocket}

const firstFile = 3

// namesOf is what a processor is told that it inherits.
func namesOf(listen string) string {
	names := slices.Clone(fileNames)
	if listen != "" {
		names = append(names, listen)
	}
	return strings.Join(names, ",")
}

// Inherit takes what the activator has left open for this process, by the names that it
// was told.
func Inherit(names string) (*Inherited, error) {
	list := strings.Split(names, ",")
	n := len(fileNames)
	if len(list) < n || len(list) > n+1 || !slices.Equal(list[:n], fileNames) {
		return nil, fmt.Errorf("what is inherited is %q; this version knows %s and an address", names, strings.Join(fileNames, ","))
	}
	files := make([]*os.File, len(list))
	for i, name := range list {
		syscall.CloseOnExec(firstFile + i)
		files[i] = os.NewFile(uintptr(firstFile+i), name)
	}
	in := &Inherited{serves: files[0]}
	var err error
	if in.Lock, err = filelock.Inherit(files[1]); err != nil {
		return nil, err
	}
	if err := in.Lock.Sign(); err != nil {
		return nil, err
	}
	listeners := []*net.Listener{&in.Control, &in.HTTP, &in.Own}
	for i, file := range files[2:] {
		*listeners[i], err = net.FileListener(file)
		file.Close() // the listener has a descriptor of its own
		if err != nil {
			return nil, fmt.Errorf("inherit %s: %w", file.Name(), err)
		}
	}
	if len(list) > n {
		in.Listen = list[n]
	}
	return in, nil
}

// Serves tells the activator that this process serves the function now. Whether it is
// still there makes no difference.
func (in *Inherited) Serves() {
	_, _ = in.serves.Write([]byte{1})
	in.serves.Close()
}
