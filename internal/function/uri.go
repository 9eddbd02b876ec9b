package function

import (
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// SchemeDB is the prefix of a URI that names a stored function.
const SchemeDB = "db://"

// URI names a stored function: [project/]name[:tag][@hash]. Empty parts are not
// given; an empty Project means the default one, with neither Tag nor Hash the
// tag latest is meant.
type URI struct {
	Project, Name, Tag, Hash string
}

// ParseURI reads a URI, with or without the db:// prefix. The text is cut at the
// first '/', then at the first ':', and what is left before that at the first
// '@'; so name@hash:tag has both, while name:tag@hash has the tag "tag@hash". It
// takes any text; see Check.
func ParseURI(text string) URI {
	u := URI{Name: TrimScheme(text)}
	if project, rest, ok := strings.Cut(u.Name, "/"); ok {
		u.Project, u.Name = project, rest
	}
	u.Name, u.Tag, _ = strings.Cut(u.Name, ":")
	u.Name, u.Hash, _ = strings.Cut(u.Name, "@")
	return u
}

// Check examines the parts of a URI that somebody wrote: project and tag may be
// empty, the name may not.
func (u URI) Check() error {
	if u.Name == "" {
		return fault.Invalid("function URI %q has no name; write it as [project/]name[:tag][@hash]", cut(u.String()))
	}
	if err := ValidateName("the name of the function URI", u.Name); err != nil {
		return err
	}
	if u.Project != "" {
		if err := ValidateProjectName("the project of the function URI", u.Project); err != nil {
			return err
		}
	}
	if strings.ContainsFunc(u.Hash, badHashRune) {
		return fault.Invalid("the hash %q of the function URI is not a hash: use the letters and digits that millrace get functions --versions shows", cut(u.Hash))
	}
	return ValidateTag("the tag of the function URI", u.Tag)
}

func badHashRune(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

// TrimScheme removes a leading db://.
func TrimScheme(text string) string { return strings.TrimPrefix(text, SchemeDB) }

// String writes project/name@hash when there is a hash, else project/name:tag;
// parts that are empty are left out.
func (u URI) String() string {
	text := u.Name
	if u.Project != "" {
		text = u.Project + "/" + text
	}
	switch {
	case u.Hash != "":
		text += "@" + u.Hash
	case u.Tag != "":
		text += ":" + u.Tag
	}
	return text
}

// DB is String with the db:// prefix.
func (u URI) DB() string { return SchemeDB + u.String() }

// SchemeBundle is the prefix of a spec.build.source that refers to a bundle of code
// by its digest, wherever it is kept: millrace+bundle://sha256-<hex>.
const SchemeBundle = "millrace+bundle://"
