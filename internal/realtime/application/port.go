package application

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
)

// The ports of replicas lie below those that the kernel gives away by itself, and
// below those of the functions' own addresses.
const (
	firstPort = 20000
	lastPort  = 29999
)

// reservation keeps other processors of this machine from giving the same port to
// their programs while ours has not begun to listen on it, or has just ended. It ends
// with this process.
type reservation struct{ io.Closer }

func (r *reservation) free() {
	if r != nil {
		r.Close()
	}
}

// reservePort finds a port that nobody listens on, nor is about to.
func reservePort() (int, *reservation, error) {
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		r, err := reserve(port)
		if err != nil {
			continue
		}
		listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			r.free()
			continue
		}
		if err := listener.Close(); err != nil {
			r.free()
			return 0, nil, err
		}
		return port, r, nil
	}
	return 0, nil, fmt.Errorf("no port from %d to %d is free", firstPort, lastPort)
}

// reserve takes a name that one process at a time can have, in the same network
// namespace as the port. Systems other than Linux have none, and take the chance.
func reserve(port int) (*reservation, error) {
	if runtime.GOOS != "linux" {
		return nil, nil
	}
	name, err := net.Listen("unix", "@millrace-port-"+strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	return &reservation{name}, nil
}
