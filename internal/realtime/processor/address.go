package processor

import (
	"context"
	"fmt"
	"net"

	"github.com/millrace/millrace/internal/realtime"
	"github.com/millrace/millrace/internal/realtime/edge"
)

// ownAddress is the address beside the socket.
type ownAddress struct {
	wanted, actual string
	encrypted      bool
	server         *edge.Server
}

func (o *ownAddress) stop(ctx context.Context) {
	if o != nil {
		o.server.Shutdown(ctx)
	}
}

// listenAgain opens the own address if something else had it; true if it has now.
func (p *processor) listenAgain() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own != nil || p.desired.Listen == "" || p.listen(p.desired) != nil {
		return false
	}
	p.message = ""
	return true
}

// listen opens or changes the own address, and lets its limits and those of the
// socket hold for new connections.
func (p *processor) listen(desired realtime.Desired) error {
	if p.socket != nil {
		if err := p.socket.Apply(nil); err != nil {
			return err
		}
	}
	if p.own != nil && p.own.wanted == desired.Listen {
		if err := p.own.server.Apply(desired.TLS); err != nil {
			return err
		}
		p.own.encrypted = desired.TLS != nil
		return nil
	}
	if old := p.own; old != nil {
		p.own = nil
		p.retired.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), realtime.DefaultGrace)
			defer cancel()
			old.stop(ctx)
		})
	}
	listener := p.inherited(desired.Listen)
	if desired.Listen == "" {
		return nil
	}
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", desired.Listen); err != nil {
			return fmt.Errorf("the function's address cannot be served: %w", err)
		}
	}
	server, err := edge.Serve(listener, p.edge, desired.TLS, p.logger)
	if err != nil {
		listener.Close()
		return err
	}
	p.own = &ownAddress{wanted: desired.Listen, actual: listener.Addr().String(), encrypted: desired.TLS != nil, server: server}
	return nil
}

// inherited takes what is inherited of an own address: the listener, if it listens where
// it shall, else nil.
func (p *processor) inherited(listen string) net.Listener {
	in := p.options.Inherited
	if in == nil || in.Own == nil {
		return nil
	}
	listener := in.Own
	in.Own = nil
	if in.Listen == listen {
		return listener
	}
	listener.Close()
	return nil
}
