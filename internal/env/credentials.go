package env

import (
	"strings"

	"github.com/millrace/millrace/internal/lazyregexp"
)

var userInfo = lazyregexp.New(`(://)[^/@\s]+@`)

// redact hides the user and password of every URL in text.
func redact(text string) string { return userInfo.ReplaceAllString(text, "$1****@") }

// redactURL drops the user and password of one URL.
func redactURL(url string) string { return userInfo.ReplaceAllString(url, "$1") }

// withCredentials puts the user information that a request's lines give for a
// host back into url, which came out of a lock. It returns url unchanged when
// no line has any for the same address.
func withCredentials(url string, packages []requirement) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	host, _, _ := strings.Cut(rest, "/")
	for _, p := range packages {
		if !strings.Contains(p.url, "://") {
			continue
		}
		theirScheme, theirs, _ := strings.Cut(p.url, "://")
		authority, _, _ := strings.Cut(theirs, "/")
		if user, theirHost, ok := strings.Cut(authority, "@"); ok && theirHost == host && theirScheme == scheme {
			return scheme + "://" + user + "@" + rest
		}
	}
	return url
}
