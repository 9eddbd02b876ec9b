package api

import (
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// authenticate checks the request's credentials.
func (s *Server) authenticate(r *http.Request) error {
	if s.opts.Token == "" {
		return nil
	}
	got := bearer(r.Header.Get("Authorization"))
	if got == "" {
		got = sessionToken(r.Header["Cookie"])
	}
	if got == "" {
		return fault.Unauthorized("this server needs a token: set MLRUN_HTTPDB__TOKEN (or MILLRACE_TOKEN) to the one it was started with")
	}
	if subtle.ConstantTimeCompare([]byte(got), []byte(s.opts.Token)) != 1 {
		return fault.Unauthorized("the token is not the one of this server")
	}
	return nil
}

func bearer(header string) string {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// sessionToken finds the token in a cookie of the form session=j:{"sid": "…"}.
// Clients put longer tokens with a hyphen there. The value has quotes and a blank
// in it, which cookie parsers refuse, so the header is read as it is.
func sessionToken(cookies []string) string {
	for _, header := range cookies {
		for pair := range strings.SplitSeq(header, ";") {
			value, ok := strings.CutPrefix(strings.TrimSpace(pair), "session=")
			if !ok {
				continue
			}
			if strings.Contains(value, "%") {
				if plain, err := url.PathUnescape(value); err == nil {
					value = plain
				}
			}
			if strings.HasPrefix(value, `"`) { // quoted as a whole
				var plain string
				if json.Unmarshal([]byte(value), &plain) == nil {
					value = plain
				}
			}
			var session struct {
				SID string `json:"sid"`
			}
			if json.Unmarshal([]byte(strings.TrimPrefix(value, "j:")), &session) == nil && session.SID != "" {
				return session.SID
			}
		}
	}
	return ""
}

// checkOrigin protects an open server from pages in the user's browser, which
// can send requests to loopback: writes from another origin are refused, and on
// loopback so is every host name that is not one of this machine, since that is
// how a foreign page would read answers. A token makes both unnecessary.
func (s *Server) checkOrigin(r *http.Request) error {
	if s.opts.Token != "" {
		return nil
	}
	if err := s.origin.Check(r); err != nil {
		return fault.Forbidden("a page of another origin may not write here; start the server with a token to allow it")
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || !loopbackAddress(local.String()) {
		return nil
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if loopbackName(host) {
		return nil
	}
	return fault.Forbidden("host %q is not this machine; use localhost or 127.0.0.1, or start the server with a token", clip(host))
}

func loopbackAddress(address string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Addr().Unmap().IsLoopback()
}

func loopbackName(host string) bool {
	host = strings.ToLower(strings.Trim(strings.TrimSuffix(host, "."), "[]"))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	at, err := netip.ParseAddr(host)
	return err == nil && at.Unmap().IsLoopback()
}

// CheckExposure reports whether a server may listen on the address (host:port)
// with the token: without one only on loopback, unless open says that whoever
// reaches the address may do everything.
func CheckExposure(address, token string, open bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fault.Invalid("listen address %q must be HOST:PORT, such as 127.0.0.1:8080", address)
	}
	if token != "" || open || host != "" && loopbackName(host) {
		return nil
	}
	return fault.Invalid("listening on %s without a token would let everybody on the network run code here; "+
		"set a token, listen on 127.0.0.1, or say explicitly that the server shall be open", address)
}
