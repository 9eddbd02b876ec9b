package function

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/lazyregexp"
)

// Code is what a function executes, apart from where it is kept and what it is
// called. See CodeOf.
type Code struct {
	parts   document.Object
	outside []string
	partial bool
}

// CodeOf reads what doc executes:
//
//   - the bytes of the embedded code, and whether they are Python or a script;
//   - language, mode, command, args, default handler and build commands; of a
//     command the path of a code file does not count, only that there is one;
//   - the environment variables, and from where those come that have no value here;
//   - whether a source (folder or bundle) or a code file beside the document is
//     part of it; its content is given to Digest.
//
// Name, tag, project, labels, description, image, resources, limits, placement,
// times and the file's own name are no part of it, neither are the requirements:
// what they resolve to is recorded with each run as its environment. Equal code
// under two names, tags or paths is equal here.
func CodeOf(doc document.Object) (Code, error) {
	f := &Function{Doc: doc}
	spec, err := f.Spec()
	if err != nil {
		return Code{}, err
	}
	c := Code{}
	parts := document.Object{
		"language": spec.Language, "mode": spec.Mode, "handler": spec.DefaultHandler,
		"args": texts(spec.Args), "commands": texts(spec.Commands),
	}
	command := spec.Command
	if spec.Code != nil {
		sum := sha256.Sum256(spec.Code)
		parts["code"] = hex.EncodeToString(sum[:])
		parts["script"] = path.Ext(spec.OriginFilename) == ".sh"
		first, rest, _ := strings.Cut(command, " ")
		if base := path.Base(spec.OriginFilename); first != "" && (path.Base(filepath.ToSlash(first)) == base || strings.HasSuffix(first, ".py")) {
			command = strings.TrimSpace("{file} " + rest)
		}
	} else if first, rest, _ := strings.Cut(command, " "); filepath.IsAbs(first) && strings.HasSuffix(first, ".py") {
		command = strings.TrimSpace("{file} " + rest)
	}
	parts["command"] = command
	sourced := spec.Source != "" && spec.Source != "." && spec.Source != "./"
	parts["source"] = sourced
	c.parts, c.partial = parts, sourced || spec.Code == nil
	var variables []any
	for _, item := range document.List(doc, "spec", "env") {
		if entry, ok := item.(document.Object); ok {
			variables = append(variables, pick(entry, "name", "value", "valueFrom"))
		}
	}
	parts["env"] = variables
	if spec.PythonPath != "" {
		c.outside = append(c.outside, "spec.pythonpath")
	}
	if filepath.IsAbs(spec.Workdir) {
		c.outside = append(c.outside, "spec.workdir")
	} else {
		parts["workdir"] = spec.Workdir
	}
	return c, nil
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, text := range list {
		out[i] = text
	}
	return out
}

// Outside names the fields that bring in code which no digest covers: folders on
// the machine from which modules are imported. Empty when all code is covered.
func (c Code) Outside() []string { return c.outside }

// Embedded reports whether the document holds all of the code, so that Digest needs
// no other content.
func (c Code) Embedded() bool { return !c.partial && len(c.outside) == 0 }

// Digest is the code digest: "sha256:" and 64 hexadecimal digits of the SHA-256
// over the canonical form of what CodeOf lists. content is the digest of the code
// that the document only points at (its source, or the file of its command), ""
// when it points at none.
func (c Code) Digest(content string) string {
	parts := document.Object{"millrace code": 1, "content": content}
	for key, value := range c.parts {
		parts[key] = value
	}
	sum := sha256.Sum256(document.Canonical(parts))
	return "sha256:" + hex.EncodeToString(sum[:])
}

var bundleName = lazyregexp.New(`\Asha256-([0-9a-f]{64})\.tar\.gz\z`)

// BundleDigest returns the digest that a bundle's path carries in its name, ""
// when it carries none.
func BundleDigest(file string) string {
	if m := bundleName.FindStringSubmatch(filepath.Base(file)); m != nil {
		return "sha256:" + m[1]
	}
	return ""
}
