package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Port checks that the server can listen on its address, or does already.
type Port struct {
	Address string // host:port
}

// Name implements Check.
func (Port) Name() string { return "port" }

// Check implements Check.
func (c Port) Check(ctx context.Context) Finding {
	const remedy = "choose another with --listen"
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", c.Address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		if healthy(ctx, c.Address) {
			return ok("a server answers on %s", c.Address)
		}
		return fail(remedy, "%s is used by another program", c.Address)
	case err != nil:
		return fail(remedy, "%v", err)
	}
	if err := l.Close(); err != nil {
		return fail(remedy, "%v", err)
	}
	return ok("%s is free", c.Address)
}

func healthy(ctx context.Context, address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/api/v1/healthz", nil)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}
