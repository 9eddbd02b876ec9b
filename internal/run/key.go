package run

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// MaxName is how many characters a run's name, its uid, a label's key and a
// label's value may have: what databases index.
const MaxName = 255

// URI is a parsed run URI, <project>@<uid>#<iteration>[:<tag>].
type URI struct {
	Key
	Tag string
}

func (u URI) String() string {
	s := u.Project + "@" + u.UID + "#" + strconv.Itoa(u.Iter)
	if u.Tag != "" {
		s += ":" + u.Tag
	}
	return s
}

var uriPattern = lazyregexp.New(`^(.+)@(.+)#(\d+)(?::(.+))?$`)

// ParseURI reads a run URI; "#<iteration>" has to be there. Errors carry
// fault.CodeInvalid.
func ParseURI(s string) (URI, error) {
	m := uriPattern.FindStringSubmatch(s)
	if m == nil {
		return URI{}, fault.Invalid("%q is not a run URI; write <project>@<uid>#<iteration>[:<tag>]", clip(s))
	}
	iter, err := strconv.ParseInt(m[3], 10, 32)
	if err != nil {
		return URI{}, fault.Invalid("the iteration %q of the run URI is out of range", clip(m[3]))
	}
	return URI{Key: Key{Project: m[1], UID: m[2], Iter: int(iter)}, Tag: m[4]}, nil
}

// String names the run in messages: project/uid, with -iter for a child.
func (k Key) String() string {
	s := k.Project + "/" + k.UID
	if k.Iter != 0 {
		s += "-" + strconv.Itoa(k.Iter)
	}
	return s
}

// Validate checks that the key can address a run. Errors carry
// fault.CodeInvalid.
func (k Key) Validate() error {
	if k.Project == "" {
		return fault.Invalid("the run %q needs a project", clip(k.UID))
	}
	if err := checkText("uid", k.UID); err != nil {
		return err
	}
	if strings.ContainsAny(k.UID, "/\\") || k.UID == "." || k.UID == ".." {
		return fault.Invalid("uid %q may not contain '/' or '\\' or be a folder name", clip(k.UID))
	}
	if k.Iter < 0 || k.Iter > 1<<31-1 {
		return fault.Invalid("iter %d is out of range; it is 0 for a run and 1 to %d for its children", k.Iter, 1<<31-1)
	}
	return nil
}

// ValidateName checks a run's name: one to MaxName characters, none of them a
// control character. Stricter forms (what a Kubernetes label takes) are asked for
// where they are needed, at submission. Errors carry fault.CodeInvalid.
func ValidateName(name string) error { return checkText("metadata.name", name) }

func checkText(field, text string) error {
	switch {
	case text == "":
		return fault.Invalid("%s is required and may not be empty", field)
	case utf8.RuneCountInString(text) > MaxName:
		return fault.Invalid("%s has %d characters; at most %d are allowed", field, utf8.RuneCountInString(text), MaxName)
	case !utf8.ValidString(text):
		return fault.Invalid("%s %q is not valid UTF-8", field, clip(text))
	case strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return fault.Invalid("%s %q may not contain control characters", field, clip(text))
	}
	return nil
}
