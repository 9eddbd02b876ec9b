package artifact

import (
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// URI is the address of an artifact:
//
//	store://<artifacts|models|datasets|documents|llm-prompts>/<project>/<db key>[#<iter>][:<tag>][@<tree>][^<uid>]
type URI struct {
	Prefix  string // artifacts, models, datasets, documents or llm-prompts
	Project string
	Key     string // the db key
	Iter    int
	HasIter bool
	Tag     string
	Tree    string
	UID     string // of one version; recent clients name it
}

const scheme = "store://"

// Prefix returns the first part of the URI of an artifact of that kind. Documents
// have that of plain artifacts, as in the client; documents is read only.
func Prefix(kind string) string {
	switch kind {
	case KindModel:
		return "models"
	case KindDataset:
		return "datasets"
	case KindPrompt:
		return "llm-prompts"
	}
	return "artifacts"
}

// URIOf returns the address of doc; project is used when doc does not say one.
func URIOf(doc document.Object, project string) URI {
	uri := URI{Prefix: Prefix(document.String(doc, "kind")), Project: project, Key: DBKey(doc), Tree: Tree(doc), Tag: document.String(doc, "metadata", "tag")}
	if own := document.String(doc, "metadata", "project"); own != "" {
		uri.Project = own
	}
	uri.Iter, uri.HasIter = Iter(doc)
	return uri
}

func (u URI) String() string {
	var b strings.Builder
	b.WriteString(scheme + u.Prefix + "/")
	if u.Project != "" {
		b.WriteString(u.Project + "/")
	}
	b.WriteString(u.Key)
	if u.HasIter {
		b.WriteString("#" + strconv.Itoa(u.Iter))
	}
	if u.Tag != "" {
		b.WriteString(":" + u.Tag)
	}
	if u.Tree != "" {
		b.WriteString("@" + u.Tree)
	}
	if u.UID != "" {
		b.WriteString("^" + u.UID)
	}
	return b.String()
}

var uriPattern = lazyregexp.New(`^(?:(.+)/)?([^/#:@^]+)(?:#(\d+))?(?::([^#@^]*))?(?:@([^#:@^]*))?(?:\^([^#:@^]*))?$`)

// ParseURI reads an artifact's address. The prefix may be missing (artifacts) and
// so may the project (""); the suffixes stand in the order #iter, :tag, @tree, ^uid.
// Errors carry fault.CodeInvalid.
func ParseURI(s string) (URI, error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return URI{}, fault.Invalid("%q is not the address of an artifact; it has to begin with %s", clip(s), scheme)
	}
	uri := URI{Prefix: "artifacts"}
	for _, prefix := range []string{"artifacts", "models", "datasets", "documents", "llm-prompts"} {
		if cut, ok := strings.CutPrefix(rest, prefix+"/"); ok {
			uri.Prefix, rest = prefix, cut
			break
		}
	}
	m := uriPattern.FindStringSubmatch(rest)
	if m == nil {
		return URI{}, fault.Invalid("%q is not the address of an artifact; write store://<artifacts|models|datasets|documents|llm-prompts>/<project>/<key>[#<iter>][:<tag>][@<tree>][^<uid>]", clip(s))
	}
	uri.Project, uri.Key, uri.Tag, uri.Tree, uri.UID = m[1], m[2], m[4], m[5], m[6]
	if m[3] != "" {
		n, err := strconv.ParseInt(m[3], 10, 32)
		if err != nil {
			return URI{}, fault.Invalid("the iteration %q in %q is out of range", clip(m[3]), clip(s))
		}
		uri.Iter, uri.HasIter = int(n), true
	}
	return uri, nil
}

// ParseParent reads how a list names a parent: by an address, or as key[:tag].
// Errors carry fault.CodeInvalid.
func ParseParent(s string) (URI, error) {
	if strings.HasPrefix(s, scheme) {
		return ParseURI(s)
	}
	uri, err := ParseURI(scheme + "artifacts/" + s)
	if err != nil || uri.Project != "" {
		return URI{}, fault.Invalid("%q names no artifact; write its address, or its key and tag as key:tag", clip(s))
	}
	return uri, nil
}

// clip shortens what a client wrote so that it can stand in a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
