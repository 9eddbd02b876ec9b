package edge

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/realtime"
)

// What web pages may do where nothing is said, as users of Nuclio know it.
var (
	defaultMethods = []string{"HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
	defaultHeaders = []string{"Accept", "Content-Length", "Content-Type", "Authorization", "X-API-Key", "X-Nuclio-Log-Level"}
)

const defaultMaxAge = 5 * time.Second

// cors answers web pages of other origins. The values of headers are made once.
type cors struct {
	any         bool
	origins     []string // lower case
	methods     []string
	headers     []string // lower case
	anyHeader   bool
	credentials bool

	allowMethods, allowHeaders, expose, maxAge []string
}

func newCORS(c *realtime.CORS) *cors {
	if c == nil {
		return nil
	}
	out := &cors{any: len(c.Origins) == 0 || slices.Contains(c.Origins, "*"), methods: c.Methods, credentials: c.Credentials}
	for _, origin := range c.Origins {
		out.origins = append(out.origins, strings.ToLower(strings.TrimSuffix(origin, "/")))
	}
	if len(out.methods) == 0 || slices.Contains(out.methods, "*") {
		out.methods = defaultMethods
	}
	headers := c.Headers
	if len(headers) == 0 {
		headers = defaultHeaders
	}
	for _, name := range headers {
		out.anyHeader = out.anyHeader || name == "*"
		out.headers = append(out.headers, strings.ToLower(name))
	}
	age := c.MaxAge
	if age == 0 {
		age = defaultMaxAge
	}
	out.allowMethods = []string{strings.Join(out.methods, ", ")}
	out.allowHeaders = []string{strings.Join(headers, ", ")}
	out.maxAge = []string{strconv.FormatInt(int64(age/time.Second), 10)}
	if len(c.Expose) > 0 {
		out.expose = []string{strings.Join(c.Expose, ", ")}
	}
	return out
}

var trueValue = []string{"true"}

// admit adds what the answer tells a web page. It returns false when it has
// answered itself: preflights, which the function never sees, and origins that may
// not send. Whoever names no origin is no web page and passes.
func (c *cors) admit(w http.ResponseWriter, r *http.Request) bool {
	header := w.Header()
	header["Vary"] = append(header["Vary"], "Origin")
	origin := r.Header["Origin"]
	if len(origin) == 0 {
		return true
	}
	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	if preflight {
		header["Vary"] = append(header["Vary"], "Access-Control-Request-Method", "Access-Control-Request-Headers")
	}
	if !c.allows(origin[0], r.Host) {
		Problem(w, http.StatusForbidden, "web pages of "+strconv.Quote(origin[0])+" may not send events to this function")
		return false
	}
	header["Access-Control-Allow-Origin"] = origin[:1]
	if c.credentials {
		header["Access-Control-Allow-Credentials"] = trueValue
	}
	if preflight {
		c.preflight(w, r)
		return false
	}
	if c.expose != nil {
		header["Access-Control-Expose-Headers"] = c.expose
	}
	return true
}

func (c *cors) allows(origin, host string) bool {
	if c.any {
		return true
	}
	origin = strings.ToLower(origin)
	_, own, ok := strings.Cut(origin, "://")
	return slices.Contains(c.origins, origin) || ok && strings.EqualFold(own, host)
}

func (c *cors) preflight(w http.ResponseWriter, r *http.Request) {
	method := r.Header.Get("Access-Control-Request-Method")
	if !slices.Contains(c.methods, method) {
		Problem(w, http.StatusBadRequest, "web pages may not use the method "+strconv.Quote(method)+" here")
		return
	}
	header := w.Header()
	header["Access-Control-Allow-Headers"] = c.allowHeaders
	if asked := r.Header.Values("Access-Control-Request-Headers"); len(asked) > 0 {
		for name := range strings.SplitSeq(strings.Join(asked, ","), ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !c.anyHeader && !slices.Contains(c.headers, name) {
				Problem(w, http.StatusBadRequest, "web pages may not send the header "+strconv.Quote(name)+" here")
				return
			}
		}
		if c.anyHeader { // with credentials a star would be taken for a name
			header["Access-Control-Allow-Headers"] = asked
		}
	}
	header["Access-Control-Allow-Methods"] = c.allowMethods
	header["Access-Control-Max-Age"] = c.maxAge
	w.WriteHeader(http.StatusOK)
}
