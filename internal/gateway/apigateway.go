package gateway

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	weighted "math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/deployment"
	"github.com/millrace/millrace/internal/fault"
)

// Front is an API gateway: an address of its own in front of functions.
type Front struct {
	Project, Name string
	Address       string // HOST:PORT to listen on
	Host          string // name under which the server's own address serves it as well; "" for none
	Path          string // what paths begin with
	Username      string // asked of clients with Secret; "" for nobody in particular
	Secret        string // see Seal
	Upstreams     []Upstream
}

// Upstream is a function behind an API gateway.
type Upstream struct {
	Key    deployment.Key
	Weight int // percent
}

// Fronts listens for API gateways. Create it with NewFronts; Start and Stop it once.
type Fronts struct {
	gateway *Gateway
	list    func(context.Context) ([]Front, error)
	logger  *slog.Logger
	wake    chan chan struct{}
	stop    context.CancelFunc
	work    sync.WaitGroup // the loop
	servers sync.WaitGroup

	mu     sync.Mutex
	served map[string]*front // PROJECT/NAME → what is served; guarded by mu
}

// front is an API gateway that is served, or why it is not.
type front struct {
	Front
	gateway *Gateway
	server  *http.Server
	err     error
	trusted sync.Map // digests of passwords that were found right, since checking one takes long
}

// NewFronts returns API gateways that forward through gateway. list says which
// there should be.
func NewFronts(gateway *Gateway, list func(context.Context) ([]Front, error), logger *slog.Logger) *Fronts {
	return &Fronts{gateway: gateway, list: list, logger: logger, wake: make(chan chan struct{}), served: map[string]*front{}}
}

// syncEvery is how often what is served is compared with what should be.
const syncEvery = 5 * time.Second

// Start serves in the background until Stop.
func (f *Fronts) Start(ctx context.Context) {
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	f.work.Go(func() {
		ticker := time.NewTicker(syncEvery)
		defer ticker.Stop()
		var asked chan struct{}
		for {
			if err := f.sync(ctx); err != nil && ctx.Err() == nil {
				f.logger.ErrorContext(ctx, "API gateways", "error", err)
			}
			if asked != nil {
				close(asked)
			}
			asked = nil
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case asked = <-f.wake:
			}
		}
	})
}

// Stop closes all addresses.
func (f *Fronts) Stop() {
	if f.stop != nil {
		f.stop()
	}
	f.work.Wait()
	f.mu.Lock()
	for key, one := range f.served {
		one.close()
		delete(f.served, key)
	}
	f.mu.Unlock()
	f.servers.Wait()
}

// Sync makes what is served follow what should be, now.
func (f *Fronts) Sync(ctx context.Context) {
	done := make(chan struct{})
	select {
	case f.wake <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// State reports whether an API gateway is served, and if not why.
func (f *Fronts) State(project, name string) (ready bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.served[project+"/"+name]
	if one == nil {
		return false, nil
	}
	return one.err == nil, one.err
}

// ByHost is the API gateway that the server's own address serves under a host
// name; nil when there is none.
func (f *Fronts) ByHost(host string) http.Handler {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.served {
		if one.Host != "" && strings.EqualFold(one.Host, host) {
			return one
		}
	}
	return nil
}

func (f *Fronts) sync(ctx context.Context) error {
	list, err := f.list(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := map[string]bool{}
	for _, want := range list {
		key := want.Project + "/" + want.Name
		wanted[key] = true
		if one := f.served[key]; one != nil {
			if one.err == nil && one.same(want) {
				continue
			}
			one.close()
		}
		f.served[key] = f.open(want)
	}
	for key, one := range f.served {
		if !wanted[key] {
			one.close()
			delete(f.served, key)
		}
	}
	return nil
}

func (f *front) same(other Front) bool { return fmt.Sprint(f.Front) == fmt.Sprint(other) }

// open begins to serve.
func (f *Fronts) open(want Front) *front {
	one := &front{Front: want, gateway: f.gateway}
	listener, err := net.Listen("tcp", want.Address)
	if err != nil {
		one.err = fault.Unavailable("cannot listen on %s: %w", want.Address, err)
		return one
	}
	one.server = &http.Server{
		Handler: one, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 1 << 20,
		ErrorLog: slog.NewLogLogger(f.logger.Handler(), slog.LevelDebug),
	}
	f.servers.Go(func() {
		if err := one.server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			f.logger.Error("API gateway", "name", want.Name, "error", err)
		}
	})
	return one
}

// close lets requests in progress go on for a moment.
func (f *front) close() {
	if f.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if f.server.Shutdown(ctx) != nil {
		_ = f.server.Close()
	}
}

// ServeHTTP forwards to one of the functions.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.Username != "" && !f.authentic(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="`+f.Name+`", charset="UTF-8"`)
		answer(w, fault.Unauthorized("the API gateway %s asks for a user name and a password", f.Name))
		return
	}
	path := r.URL.EscapedPath()
	if base := strings.TrimRight(f.Path, "/"); path != base && !strings.HasPrefix(path, base+"/") {
		answer(w, fault.NotFound("the API gateway %s serves paths below %s", f.Name, f.Path))
		return
	}
	if f.Username != "" {
		r.Header.Del("Authorization") // the password is the gateway's, no function's
	}
	f.gateway.Forward(w, r, f.choose(), path, "")
}

// choose picks a function by weight.
func (f *front) choose() deployment.Key {
	left := weighted.IntN(100)
	for _, up := range f.Upstreams {
		if left -= up.Weight; left < 0 {
			return up.Key
		}
	}
	return f.Upstreams[len(f.Upstreams)-1].Key
}

func (f *front) authentic(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	if !ok || subtle.ConstantTimeCompare([]byte(user), []byte(f.Username)) != 1 {
		return false
	}
	digest := sha256.Sum256([]byte(password))
	if _, known := f.trusted.Load(digest); known {
		return true
	}
	if !unseals(f.Secret, password) {
		return false
	}
	f.trusted.Store(digest, true)
	return true
}

// rounds make guessing a password from what is stored expensive.
const rounds = 100_000

// Seal turns a password into what it can be checked against and not read from.
func Seal(password string) (string, error) {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	key, err := pbkdf2.Key(sha256.New, password, salt[:], rounds, sha256.Size)
	return hex.EncodeToString(salt[:]) + "$" + hex.EncodeToString(key), err
}

func unseals(secret, password string) bool {
	salt, key, _ := strings.Cut(secret, "$")
	rawSalt, err1 := hex.DecodeString(salt)
	rawKey, err2 := hex.DecodeString(key)
	if err1 != nil || err2 != nil {
		return false
	}
	got, err := pbkdf2.Key(sha256.New, password, rawSalt, rounds, sha256.Size)
	return err == nil && subtle.ConstantTimeCompare(got, rawKey) == 1
}
