package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// Server serves an Edge on one listener. Limits of heads and of idle connections,
// and TLS, hold for connections that are made after they were set; connections that
// exist keep theirs, so that no request is lost.
//
// Goroutines: one accepts, one for each generation of limits serves, and one each
// direct connection; Shutdown waits for them.
type Server struct {
	edge     *Edge
	listener net.Listener
	logger   *slog.Logger
	running  sync.WaitGroup

	mu          sync.Mutex
	current     *generation
	generations []*generation // that have connections, or are current
	tls         *certificate  // nil without
	over        bool
	directs     map[*direct]bool
	accepted    uint64        // connections
	resume      chan struct{} // closed by Resume; nil when it is not paused
	ending      atomic.Bool   // over, for directs
	paused      chan struct{} // accept says that it takes no connections
}

// generation serves the connections that were made under the same limits.
type generation struct {
	server *http.Server
	limits realtime.Limits
	conns  chan net.Conn
	closed chan struct{}
	shut   sync.Once
	addr   net.Addr
	open   int // connections; guarded by Server.mu
}

// Serve begins to serve edge on listener, which the Server closes. encrypt is nil for plain
// text; the certificate has to be readable.
func Serve(listener net.Listener, edge *Edge, encrypt *realtime.TLS, logger *slog.Logger) (*Server, error) {
	s := &Server{edge: edge, listener: listener, logger: logger, directs: map[*direct]bool{}, paused: make(chan struct{})}
	if err := s.Apply(encrypt); err != nil {
		return nil, err
	}
	s.running.Go(s.accept)
	return s, nil
}

// Apply takes over the edge's limits and the certificate for new connections. With
// an error, that of the certificate, nothing has changed.
func (s *Server) Apply(encrypt *realtime.TLS) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	next := s.tls
	switch {
	case encrypt == nil:
		next = nil
	case s.tls == nil || s.tls.files != *encrypt:
		var err error
		if next, err = loadCertificate(*encrypt, s.logger); err != nil {
			return err
		}
	}
	s.tls = next
	limits := *s.edge.Limits()
	limits.Body = 0 // that is the edge's alone
	if s.current != nil && s.current.limits == limits {
		return nil
	}
	old := s.current
	s.current = s.begin(limits)
	if old != nil && old.open == 0 {
		s.retire(old)
	}
	return nil
}

// begin makes the generation of limits; s.mu is held.
func (s *Server) begin(limits realtime.Limits) *generation {
	g := &generation{limits: limits, conns: make(chan net.Conn), closed: make(chan struct{}), addr: s.listener.Addr()}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // over TLS
	g.server = &http.Server{
		Handler:           s.edge,
		ReadHeaderTimeout: limits.Slow,
		IdleTimeout:       limits.Idle,
		MaxHeaderBytes:    max(limits.Headers-slack, 1),
		Protocols:         protocols,
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateHijacked:
				if c, ok := c.(*conn); ok {
					c.hijacked.Store(true)
				}
				s.left(g)
			case http.StateClosed:
				s.left(g)
			}
		},
	}
	s.generations = append(s.generations, g)
	s.running.Go(func() {
		if err := g.server.Serve(g); !errors.Is(err, http.ErrServerClosed) {
			s.logger.Error("serve", "address", g.addr.String(), "error", err)
		}
	})
	return g
}

// slack is what net/http allows over MaxHeaderBytes.
const slack = 4096

// left counts a connection out; an old generation ends with its last one.
func (s *Server) left(g *generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.open--
	if g.open == 0 && g != s.current && !s.over {
		s.retire(g)
	}
}

// retire ends a generation without connections; s.mu is held.
func (s *Server) retire(g *generation) {
	for i, other := range s.generations {
		if other == g {
			s.generations = append(s.generations[:i:i], s.generations[i+1:]...)
		}
	}
	s.running.Go(func() { g.server.Close() })
}

// accept hands connections to the current generation until the listener closes.
func (s *Server) accept() {
	pause := time.Duration(0)
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if s.rest() {
				continue
			}
			// Descriptors may be scarce for a moment.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logger.Error("accept", "address", s.listener.Addr().String(), "error", err, "again_in", pause)
			time.Sleep(pause)
			continue
		}
		pause = 0
		s.mu.Lock()
		g, certificate := s.current, s.tls
		g.open++
		s.accepted++
		s.mu.Unlock()
		switch {
		case certificate != nil:
			g.take(s, tls.Server(c, certificate.config))
		case s.edge.isDirect():
			s.running.Go(func() { s.serve(g, c) })
		default:
			g.take(s, &conn{Conn: c})
		}
	}
}

// Pause takes no more connections until Resume, and returns how many are open; those
// that come meanwhile wait in the listener's queue. It is not called when it is
// paused, nor after Shutdown.
func (s *Server) Pause() (open int) {
	resume := make(chan struct{})
	s.mu.Lock()
	s.resume = resume
	s.mu.Unlock()
	s.deadline(time.Unix(1, 0))
	<-s.paused
	open, _ = s.Connections()
	return open
}

// Listener is where connections come from.
func (s *Server) Listener() net.Listener { return s.listener }

// Resume ends a Pause; without one it does nothing.
func (s *Server) Resume() {
	s.mu.Lock()
	resume := s.resume
	s.resume = nil
	s.mu.Unlock()
	if resume != nil {
		s.deadline(time.Time{})
		close(resume)
	}
}

// deadline interrupts accept, or does so no more. All listeners that are served know it.
func (s *Server) deadline(at time.Time) {
	if listener, ok := s.listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = listener.SetDeadline(at) // it is closed, and accept has ended
	}
}

// rest waits while the server is paused; false if it is not.
func (s *Server) rest() bool {
	s.mu.Lock()
	resume := s.resume
	s.mu.Unlock()
	if resume == nil {
		return false
	}
	s.paused <- struct{}{}
	<-resume
	return true
}

// Connections returns how many connections are open, and how many there have been.
func (s *Server) Connections() (open int, accepted uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.generations {
		open += g.open
	}
	return open, s.accepted
}

// take gives a connection to net/http.
func (g *generation) take(s *Server, c net.Conn) {
	select {
	case g.conns <- c:
	case <-g.closed:
		c.Close()
		s.left(g)
	}
}

// Shutdown takes no more connections and requests, lets those in progress finish
// until ctx ends, and returns when nothing is served any more. Upgraded connections
// are their handler's.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.over = true
	generations := s.generations
	s.endDirect()
	s.mu.Unlock()
	s.listener.Close()
	s.Resume() // accept ends; while it was paused the listener may have become another's
	defer context.AfterFunc(ctx, s.closeDirect)()
	var each sync.WaitGroup
	for _, g := range generations {
		each.Go(func() {
			if g.server.Shutdown(ctx) != nil {
				g.server.Close()
			}
		})
	}
	each.Wait()
	s.running.Wait()
}

// Accept, Close and Addr make a generation the listener of its server.
func (g *generation) Accept() (net.Conn, error) {
	select {
	case c := <-g.conns:
		return c, nil
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

// Close is called by the server when it ends.
func (g *generation) Close() error {
	g.shut.Do(func() { close(g.closed) })
	return nil
}

// Addr is that of the listener behind all generations.
func (g *generation) Addr() net.Addr { return g.addr }
