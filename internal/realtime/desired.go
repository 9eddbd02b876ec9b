package realtime

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// Desired is what a processor shall bring about. The server writes it whole; the
// processor compares it with what is, so that the same Desired twice does nothing.
type Desired struct {
	Project string  `json:"project"`
	Name    string  `json:"name"`
	Routes  []Route `json:"routes"`
	// Listen is an address beside http.sock that serves events, "" for none. Port 0
	// takes a free one, which then stays the same for the processor's life.
	Listen string `json:"listen,omitempty"`
	Auth   *Auth  `json:"auth,omitempty"`
	CORS   *CORS  `json:"cors,omitempty"`
	Limits Limits `json:"limits"`
	TLS    *TLS   `json:"tls,omitempty"`
}

// Route sends a share of the events to a revision.
type Route struct {
	Revision int `json:"revision"`
	// Weight is the share in percent; those of routes that are no shadows sum to 100.
	Weight int `json:"weight"`
	// Shadow gives the revision copies of Weight percent of the events. What it
	// answers is counted and dropped.
	Shadow bool `json:"shadow,omitempty"`
}

// Auth says who may send events. Without any entry everybody may.
type Auth struct {
	// Keys are accepted in "Authorization: Bearer K" and in "X-API-Key: K".
	Keys []string `json:"keys,omitempty"`
	// Basic are user names and passwords.
	Basic map[string]string `json:"basic,omitempty"`
}

// CORS says which web pages may send events.
type CORS struct {
	Origins     []string      `json:"origins,omitempty"` // empty or "*": any
	Methods     []string      `json:"methods,omitempty"`
	Headers     []string      `json:"headers,omitempty"`
	Expose      []string      `json:"expose,omitempty"`
	Credentials bool          `json:"credentials,omitempty"`
	MaxAge      time.Duration `json:"max_age,omitempty"` // of an answered preflight; 0 is 5 s
}

// Limits bound what a client may cost. Zero is the stated default.
type Limits struct {
	Body    int64         `json:"body,omitempty"`    // bytes of a request's body; 32 MiB, at most 60 MiB
	Headers int           `json:"headers,omitempty"` // bytes of a request's head; 16 KiB
	Slow    time.Duration `json:"slow,omitempty"`    // a head has to arrive within; 10 s. A body must not stop for longer either
	Idle    time.Duration `json:"idle,omitempty"`    // an unused connection is closed; 2 min
}

// MaxBody leaves room for an event's head in a frame.
const MaxBody = 60 << 20

// WithDefaults returns the limits with the values that hold where they say nothing.
func (l Limits) WithDefaults() Limits {
	orDefault(&l.Body, 32<<20)
	orDefault(&l.Headers, 16<<10)
	orDefault(&l.Slow, 10*time.Second)
	orDefault(&l.Idle, 2*time.Minute)
	l.Body = min(l.Body, MaxBody)
	return l
}

// TLS are the PEM files that the own address serves with; http.sock never does.
type TLS struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// Digest tells Desireds apart.
func (d *Desired) Digest() (string, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("encode desired: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// Check refuses what cannot be brought about, naming the field.
func (d *Desired) Check() error {
	total, seen := 0, map[int]bool{}
	for _, route := range d.Routes {
		if route.Weight < 0 || route.Weight > 100 {
			return fault.Invalid("the route to revision %d has the weight %d; weights are percent", route.Revision, route.Weight)
		}
		if seen[route.Revision] {
			return fault.Invalid("revision %d has two routes", route.Revision)
		}
		seen[route.Revision] = true
		if !route.Shadow {
			total += route.Weight
		}
	}
	if len(d.Routes) > 0 && total != 100 {
		return fault.Invalid("the weights of the routes sum to %d; it has to be 100", total)
	}
	if d.Limits.Body < 0 || d.Limits.Headers < 0 || d.Limits.Slow < 0 || d.Limits.Idle < 0 {
		return fault.Invalid("a limit of requests is negative")
	}
	if d.Listen != "" {
		host, _, err := net.SplitHostPort(d.Listen)
		if err != nil {
			return fault.Invalid("listen %q is no HOST:PORT", d.Listen)
		}
		if address, err := netip.ParseAddr(strings.Trim(host, "[]")); (err != nil || !address.IsLoopback()) && host != "localhost" && d.Auth.Open() {
			return fault.Precondition("listen %q would serve beyond this machine and everybody may send events: set auth", d.Listen)
		}
	}
	if d.CORS != nil {
		if err := d.CORS.Check(); err != nil {
			return err
		}
	}
	if d.TLS != nil && (d.TLS.Certificate == "" || d.TLS.Key == "") {
		return fault.Invalid("tls needs both a certificate and a key")
	}
	return nil
}

// Open says whether everybody may send events.
func (a *Auth) Open() bool { return a == nil || len(a.Keys) == 0 && len(a.Basic) == 0 }

// Check refuses what would let every web page act for whoever visits it.
func (c *CORS) Check() error {
	if c.Credentials && (len(c.Origins) == 0 || slices.Contains(c.Origins, "*")) {
		return fault.Invalid("cors allows credentials and any origin: name the origins whose pages may send with their visitors' credentials")
	}
	if c.MaxAge < 0 {
		return fault.Invalid("the max age of cors is negative")
	}
	return nil
}
