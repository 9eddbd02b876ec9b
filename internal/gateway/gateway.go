// Package gateway brings requests to deployed functions: at /fn/PROJECT/NAME/… of
// the server's own address, and at the addresses of API gateways.
//
// Bodies stream in both directions, upgraded connections (WebSocket) pass, and a
// client that leaves is noticed by the function. A request for a function that is
// not up yet waits for it; it is handed over once, since only connecting is tried
// again.
package gateway

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/deployment"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/realtime/edge"
)

// Prefix begins the paths of functions on the server's own address.
const Prefix = "/fn/"

// Functions are where requests go.
type Functions interface {
	// Dial connects to the address of a function on which it takes requests.
	Dial(ctx context.Context, key deployment.Key) (net.Conn, error)
	// Ready waits until a function can be connected to; its errors are answers:
	// fault.CodeNotFound when there is no such function.
	Ready(ctx context.Context, key deployment.Key) error
}

// Options configure a Gateway; fields without a comment are required.
type Options struct {
	Functions Functions
	Admit     func(*http.Request) error // who may use the server's own address
	Token     string                    // of the server, which functions do not get to see; "" for none
	Hold      time.Duration             // how long a request waits for a function that is starting; 0 means 60 s
	Logger    *slog.Logger
}

// Gateway is the http.Handler of functions. Create it with New.
type Gateway struct {
	Options
	transport *http.Transport
	others    *http.Transport // to other servers
	proxy     *httputil.ReverseProxy
}

// New returns a gateway.
func New(options Options) *Gateway {
	if options.Hold == 0 {
		options.Hold = time.Minute
	}
	g := &Gateway{Options: options}
	g.transport = &http.Transport{
		DialContext: g.dial, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second, DisableCompression: true,
		MaxResponseHeaderBytes: 1 << 20,
	}
	g.others = &http.Transport{
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second,
		DisableCompression: true, MaxResponseHeaderBytes: 1 << 20,
	}
	g.proxy = &httputil.ReverseProxy{
		Transport: g.transport, FlushInterval: -1, Rewrite: g.rewrite, ErrorHandler: g.failed,
		ModifyResponse: func(response *http.Response) error {
			response.Request.Context().Value(targetKey{}).(*target).failed = response.StatusCode >= 400
			return nil
		},
		ErrorLog: slog.NewLogLogger(options.Logger.Handler(), slog.LevelDebug),
	}
	return g
}

// Close lets go of the connections to functions.
func (g *Gateway) Close() {
	g.transport.CloseIdleConnections()
	g.others.CloseIdleConnections()
}

// target is where a request goes, in its context.
type target struct {
	key    deployment.Key
	path   string // escaped, of the function
	prefix string // that was cut off
	failed bool   // it is answered with an error
	server string // another one, which has the function
}

type targetKey struct{}

// ServeHTTP serves /fn/PROJECT/NAME/….
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := g.Admit(r); err != nil {
		answer(w, err)
		return
	}
	rest := strings.TrimPrefix(r.URL.EscapedPath(), Prefix)
	project, rest, _ := strings.Cut(rest, "/")
	name, path, _ := strings.Cut(rest, "/")
	key := deployment.Key{}
	var err1, err2 error
	key.Project, err1 = url.PathUnescape(project)
	key.Name, err2 = url.PathUnescape(name)
	if err1 != nil || err2 != nil || key.Project == "" || key.Name == "" {
		answer(w, fault.NotFound("functions are at %sPROJECT/NAME", Prefix))
		return
	}
	g.Forward(w, r, key, "/"+path, Prefix+project+"/"+name)
}

// Forward hands a request to a function as one for path (escaped); prefix is what
// the client's path began with.
func (g *Gateway) Forward(w http.ResponseWriter, r *http.Request, key deployment.Key, path, prefix string) {
	// Else the server reads the whole body before it lets the first byte of an answer out.
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/2 is so anyway
	to := &target{key: key, path: path, prefix: prefix}
	r = r.WithContext(context.WithValue(r.Context(), targetKey{}, to))
	if r.ContentLength == 0 {
		if g.proxy.ServeHTTP(w, r); to.server != "" {
			g.pass(w, r, to)
		}
		return
	}
	sent := &upload{ReadCloser: r.Body}
	r.Body = sent
	defer sent.quiet(control) // also when the proxy gives up an answer by a panic
	g.proxy.ServeHTTP(w, r)
	if to.server != "" { // nothing of the body was read
		sent.closed.Store(false)
		g.pass(w, r, to)
	}
	sent.closed.Store(true)
	if to.failed && !sent.over.Load() { // before it had sent everything, which it may do before it reads
		edge.Discard(w, r, rest{sent})
	}
}

// upload is a request's body, which stays open when the proxy has closed it.
type upload struct {
	io.ReadCloser
	reading sync.Mutex
	over    atomic.Bool // nothing more comes
	closed  atomic.Bool
}

// quiet returns when nobody reads the body any more: the proxy's transport may still do
// so when it has its answer, and the connection is the server's again afterwards.
func (u *upload) quiet(control *http.ResponseController) {
	u.closed.Store(true)
	if !u.reading.TryLock() {
		_ = control.SetReadDeadline(time.Now()) // the client does not send
		u.reading.Lock()
	}
	u.reading.Unlock()
}

func (u *upload) Read(into []byte) (int, error) {
	u.reading.Lock()
	defer u.reading.Unlock()
	if u.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := u.ReadCloser.Read(into)
	if err != nil {
		u.over.Store(true)
	}
	return n, err
}

// Close leaves the body to the server.
func (u *upload) Close() error {
	u.closed.Store(true)
	return nil
}

// rest is what has not been read of a body.
type rest struct{ *upload }

func (b rest) Read(into []byte) (int, error) {
	b.reading.Lock() // what the transport reads still is lost, and has an end
	defer b.reading.Unlock()
	return b.ReadCloser.Read(into)
}

// passed marks a request that another server has passed on: it goes no further.
const passed = "X-Millrace-Passed"

// pass hands a request to the gateway of the server that has the function.
func (g *Gateway) pass(w http.ResponseWriter, r *http.Request, to *target) {
	server, err := url.Parse(to.server)
	switch {
	case err != nil:
		answer(w, err)
		return
	case r.Header.Get(passed) != "":
		answer(w, fault.Unavailable("the function %s moves between servers, or the server at %s cannot be reached there; ask again in a moment", to.key, to.server))
		return
	}
	proxy := &httputil.ReverseProxy{
		Transport: g.others, FlushInterval: -1, ErrorLog: g.proxy.ErrorLog, ModifyResponse: g.proxy.ModifyResponse,
		Rewrite: func(p *httputil.ProxyRequest) {
			g.rewrite(p)
			p.Out.URL.Scheme, p.Out.URL.Host = server.Scheme, server.Host
			before := Prefix + url.PathEscape(to.key.Project) + "/" + url.PathEscape(to.key.Name)
			p.Out.URL.RawPath = before + to.path
			p.Out.URL.Path, _ = url.PathUnescape(p.Out.URL.RawPath)
			p.Out.Header.Set(passed, "1")
			if g.Token != "" { // servers on one database have one token
				p.Out.Header.Set("Authorization", "Bearer "+g.Token)
			}
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var op *net.OpError
			if errors.As(err, &op) && op.Op == "dial" {
				err = fault.Unavailable("the server at %s, which keeps the function %s, cannot be reached; if it is gone, another takes the function over in a moment", to.server, to.key)
			}
			g.failed(w, r, err)
		},
	}
	proxy.ServeHTTP(w, r)
}

func (g *Gateway) rewrite(p *httputil.ProxyRequest) {
	to := p.In.Context().Value(targetKey{}).(*target)
	p.Out.URL.Scheme, p.Out.URL.Host = "http", hostOf(to.key)
	p.Out.URL.RawPath = to.path
	p.Out.URL.Path, _ = url.PathUnescape(to.path) // it was escaped by net/url
	p.Out.Host = p.In.Host
	p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	p.SetXForwarded()
	p.Out.Header.Del(passed)
	if to.prefix != "" {
		p.Out.Header.Set("X-Forwarded-Prefix", to.prefix)
	}
	if g.Token != "" && p.Out.Header.Get("Authorization") == "Bearer "+g.Token {
		p.Out.Header.Del("Authorization")
	}
	if _, ok := p.Out.Header["User-Agent"]; !ok {
		p.Out.Header.Set("User-Agent", "") // or the transport names itself
	}
}

// hostOf and keyOf name a function as a host, so that the transport keeps its
// connections apart.
func hostOf(key deployment.Key) string {
	return hex.EncodeToString([]byte(key.Project)) + "." + hex.EncodeToString([]byte(key.Name))
}

func keyOf(address string) (deployment.Key, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return deployment.Key{}, err
	}
	project, name, _ := strings.Cut(host, ".")
	a, err := hex.DecodeString(project)
	if err != nil {
		return deployment.Key{}, err
	}
	b, err := hex.DecodeString(name)
	return deployment.Key{Project: string(a), Name: string(b)}, err
}

// dial connects to a function; one that is not up is waited for.
func (g *Gateway) dial(ctx context.Context, _, address string) (net.Conn, error) {
	key, err := keyOf(address)
	if err != nil {
		return nil, err
	}
	conn, err := g.Functions.Dial(ctx, key)
	if err == nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, g.Hold)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if err := g.Functions.Ready(ctx, key); err != nil {
			return nil, err
		}
		if conn, err = g.Functions.Dial(ctx, key); err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, fault.Unavailable("the function %s did not start within %v; ask again in a moment", key, g.Hold)
		case <-time.After(pause):
		}
	}
}

// failed answers for a function that did not.
func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, err error) {
	to := r.Context().Value(targetKey{}).(*target)
	to.failed = true
	var elsewhere *deployment.ElsewhereError
	if errors.As(err, &elsewhere) {
		to.failed, to.server = false, elsewhere.URL
		return
	}
	var domain *fault.Error
	var large *http.MaxBytesError
	switch {
	case r.Context().Err() != nil && errors.Is(err, context.Canceled):
		return // the client left
	case errors.As(err, &domain):
		answer(w, err)
	case errors.As(err, &large):
		answer(w, fault.TooLarge("the request's body is larger than %d bytes", large.Limit))
	default:
		g.Logger.WarnContext(r.Context(), "function did not answer", "function", to.key.String(), "error", err)
		write(w, http.StatusBadGateway, "the function "+to.key.String()+" broke the connection off before it answered; its log may say why")
	}
}

// statusOf is the status that an error is answered with.
func statusOf(code fault.Code) int {
	switch code {
	case fault.CodeNotFound:
		return http.StatusNotFound
	case fault.CodeUnavailable:
		return http.StatusServiceUnavailable
	case fault.CodeUnauthorized:
		return http.StatusUnauthorized
	case fault.CodeForbidden:
		return http.StatusForbidden
	case fault.CodeInvalid:
		return http.StatusBadRequest
	case fault.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusBadGateway
	}
}

// answer refuses a request with one sentence.
func answer(w http.ResponseWriter, err error) {
	status := statusOf(fault.CodeOf(err))
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	write(w, status, fault.Message(err))
}

func write(w http.ResponseWriter, status int, text string) {
	body, _ := json.Marshal(map[string]string{"error": text}) // a map of strings
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
