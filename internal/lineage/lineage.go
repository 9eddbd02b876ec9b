// Package lineage answers where something came from and what it touched: it walks
// a graph of function versions, runs, artifacts and data, both ways, within limits.
//
// Edges point from what was used to what was made with it:
//
//	function ─▶ run ─▶ artifact ─▶ run ─▶ …      data ─▶ run      run ─▶ iteration, rerun
//
// Time makes the graph acyclic, but names do not: a run may read a path and
// another one write it later. So the walk visits each node once, whatever the
// edges say.
package lineage

import (
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/fault"
)

// Kind is what a node is.
type Kind string

// The kinds of nodes, which ids begin with.
const (
	Function Kind = "function" // function:PROJECT/NAME@HASH, or NAME:TAG where no version was recorded
	Run      Kind = "run"      // run:PROJECT/UID, run:PROJECT/UID#ITER
	Artifact Kind = "artifact" // artifact:PROJECT/KEY@UID, one version
	Data     Kind = "data"     // data:URL, not made by a known run
	Content  Kind = "content"  // content:DIGEST, bytes that no address was recorded for
)

// Roles say what an edge means.
const (
	RoleFunction = "function" // the code that the run executed
	RoleInput    = "input"
	RoleContent  = "content" // an input by its digest
	RoleOutput   = "output"
	RoleChild    = "child" // an iteration of the run
	RoleRerun    = "rerun" // repeats the run
	RoleCache    = "cache" // has its results from the run
)

// FunctionID is the id of a version of a function; one without a hash is named by
// its tag.
func FunctionID(project, name, hash, tag string) string {
	id := string(Function) + ":" + project + "/" + name
	switch {
	case hash != "":
		return id + "@" + hash
	case tag != "":
		return id + ":" + tag
	}
	return id
}

// RunID is the id of a run, or with iter above 0 of one of its iterations.
func RunID(project, uid string, iter int) string {
	id := string(Run) + ":" + project + "/" + uid
	if iter > 0 {
		id += "#" + strconv.Itoa(iter)
	}
	return id
}

// ArtifactID is the id of one version of an artifact.
func ArtifactID(project, key, uid string) string {
	return string(Artifact) + ":" + project + "/" + key + "@" + uid
}

// DataID is the id of what is at a URL. A path and its file:// URL are one node.
func DataID(url string) string {
	if path, ok := strings.CutPrefix(url, "file://"); ok && strings.HasPrefix(path, "/") {
		url = path
	}
	return string(Data) + ":" + url
}

// ContentID is the id of bytes with that digest.
func ContentID(digest string) string { return string(Content) + ":" + digest }

// Ref is an id taken apart. Name is what the kind calls a name: a function's name,
// a run's uid, an artifact's key, a URL, a digest.
type Ref struct {
	Kind                        Kind
	Project, Name, Version, Tag string
	Iter                        int
}

// ParseID reads an id; errors carry fault.CodeInvalid.
func ParseID(id string) (Ref, error) {
	kind, rest, ok := strings.Cut(id, ":")
	ref := Ref{Kind: Kind(kind), Name: rest}
	bad := func() (Ref, error) {
		return Ref{}, fault.Invalid("%q does not name a node; write run:PROJECT/UID[#ITER], artifact:PROJECT/KEY@UID, function:PROJECT/NAME@HASH, data:URL or content:DIGEST", clip(id))
	}
	if !ok || rest == "" {
		return bad()
	}
	switch ref.Kind {
	case Data, Content:
		return ref, nil
	case Function, Run, Artifact:
	default:
		return bad()
	}
	if ref.Project, ref.Name, ok = strings.Cut(rest, "/"); !ok || ref.Project == "" || ref.Name == "" {
		return bad()
	}
	switch ref.Kind {
	case Run:
		uid, iter, has := strings.Cut(ref.Name, "#")
		if ref.Name = uid; has {
			n, err := strconv.ParseInt(iter, 10, 32)
			if err != nil || n < 0 || uid == "" {
				return bad()
			}
			ref.Iter = int(n)
		}
	case Artifact:
		at := strings.LastIndexByte(ref.Name, '@')
		if at <= 0 || at == len(ref.Name)-1 {
			return bad()
		}
		ref.Name, ref.Version = ref.Name[:at], ref.Name[at+1:]
	default:
		if name, hash, has := strings.Cut(ref.Name, "@"); has {
			ref.Name, ref.Version = name, hash
		} else {
			ref.Name, ref.Tag, _ = strings.Cut(ref.Name, ":")
		}
	}
	return ref, nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

// Node is a thing in the graph.
type Node struct {
	ID      string
	Kind    Kind
	Title   string // a name for people: of the run, the artifact's key, …
	Type    string // kind of the artifact or function
	Version string // short: hash, uid
	State   string // of a run
	Time    time.Time
	URI     string // the address that other commands take
	Gone    bool   // something tells of it, but it is not stored (any more)
}

// Edge is a use: To was made with From, or by it.
type Edge struct {
	From, To string // ids
	Role     string
	Name     string // which input, which output
}

// Direction is which way a question goes.
type Direction string

// The directions.
const (
	Up   Direction = "up"   // what made this
	Down Direction = "down" // what did this touch
	Both Direction = "both"
)
