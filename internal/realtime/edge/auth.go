package edge

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/realtime"
)

// gate knows who may send events. It keeps digests of keys and of "user:password",
// which have one length, so that comparing them tells nothing.
type gate struct {
	keys       [][sha256.Size]byte
	users      [][sha256.Size]byte
	challenges []string
}

// newGate returns nil when everybody may send.
func newGate(realm string, auth *realtime.Auth) *gate {
	if auth.Open() {
		return nil
	}
	g := &gate{}
	for _, key := range auth.Keys {
		g.keys = append(g.keys, sha256.Sum256([]byte(key)))
	}
	for user, password := range auth.Basic {
		g.users = append(g.users, sha256.Sum256([]byte(user+":"+password)))
	}
	realm = strconv.QuoteToASCII(realm)
	if len(g.keys) > 0 {
		g.challenges = append(g.challenges, "Bearer realm="+realm)
	}
	if len(g.users) > 0 {
		g.challenges = append(g.challenges, "Basic realm="+realm+`, charset="UTF-8"`)
	}
	return g
}

// admit says whether a request shows credentials, and takes those that let it in
// away, for they are not meant for the function.
func (g *gate) admit(r *http.Request) bool {
	if key := r.Header.Get("X-Api-Key"); key != "" && known(g.keys, []byte(key)) {
		r.Header.Del("X-Api-Key")
		return true
	}
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	rest = strings.TrimSpace(rest)
	ok := false
	switch {
	case rest == "":
	case strings.EqualFold(scheme, "Bearer"):
		ok = known(g.keys, []byte(rest))
	case strings.EqualFold(scheme, "Basic"):
		pair, err := base64.StdEncoding.DecodeString(rest)
		ok = err == nil && known(g.users, pair)
	}
	if ok {
		r.Header.Del("Authorization")
	}
	return ok
}

// known compares with all of them, whichever fits.
func known(digests [][sha256.Size]byte, shown []byte) bool {
	digest := sha256.Sum256(shown)
	found := 0
	for i := range digests {
		found |= subtle.ConstantTimeCompare(digests[i][:], digest[:])
	}
	return found == 1
}

func (g *gate) refuse(w http.ResponseWriter) {
	w.Header()["Www-Authenticate"] = g.challenges
	Problem(w, http.StatusUnauthorized, "this function asks for credentials: "+g.remedy())
}

func (g *gate) remedy() string {
	switch {
	case len(g.users) == 0:
		return `send a key as "Authorization: Bearer KEY" or as "X-API-Key: KEY"`
	case len(g.keys) == 0:
		return "send a user name and a password (basic authentication)"
	}
	return `send a key as "Authorization: Bearer KEY" or as "X-API-Key: KEY", or a user name and a password (basic authentication)`
}
