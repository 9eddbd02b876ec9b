package function

import (
	"slices"
	"strings"

	"github.com/millrace/millrace/internal/fault"
)

// Kind says how a function executes.
type Kind string

// The kinds. KindDefault (the empty string) is "handler when there is no
// command, local when there is one".
const (
	KindDefault     Kind = ""
	KindHandler     Kind = "handler"
	KindLocal       Kind = "local"
	KindJob         Kind = "job"
	KindDask        Kind = "dask"
	KindSpark       Kind = "spark"
	KindRemoteSpark Kind = "remote-spark"
	KindMPIJob      Kind = "mpijob"
	KindDatabricks  Kind = "databricks"
	KindNuclio      Kind = "nuclio"
	KindRemote      Kind = "remote"
	KindServing     Kind = "serving"
	KindApplication Kind = "application"
)

// traits is what differs between kinds as far as the object goes.
type traits struct {
	kind      Kind
	pod       bool   // has the pod fields of the spec
	remote    bool   // run() of a client goes to the API
	nuclio    bool   // served by the real-time engine
	abortable bool   // its runs can be aborted
	image     string // default image
}

var kinds = []traits{
	{kind: KindDefault, abortable: true},
	{kind: KindHandler, abortable: true},
	{kind: KindLocal, abortable: true},
	{kind: KindJob, pod: true, remote: true, abortable: true, image: "mlrun/mlrun"},
	{kind: KindMPIJob, pod: true, remote: true, abortable: true, image: "mlrun/mlrun"},
	{kind: KindSpark, pod: true, remote: true, abortable: true},
	{kind: KindRemoteSpark, pod: true, remote: true, abortable: true},
	{kind: KindDask, pod: true, image: "mlrun/ml-base"},
	{kind: KindDatabricks, pod: true, remote: true, abortable: true},
	{kind: KindNuclio, pod: true, nuclio: true, image: "mlrun/mlrun"},
	{kind: KindRemote, pod: true, nuclio: true, image: "mlrun/mlrun"},
	{kind: KindServing, pod: true, nuclio: true, image: "mlrun/mlrun"},
	{kind: KindApplication, pod: true, nuclio: true, image: "python:3.9"},
}

// Kinds lists all kinds except the default one.
func Kinds() []Kind {
	var out []Kind
	for _, k := range kinds[1:] {
		out = append(out, k.kind)
	}
	return out
}

func (k Kind) traits() traits {
	for _, t := range kinds {
		if t.kind == k {
			return t
		}
	}
	return traits{}
}

// Known reports whether k is a kind; spelling and case count.
func (k Kind) Known() bool {
	return slices.ContainsFunc(kinds, func(t traits) bool { return t.kind == k })
}

// KnownKind is Kind.Known.
func KnownKind(k Kind) bool { return k.Known() }

// Remote reports whether a client's run() of this kind goes to the API.
func (k Kind) Remote() bool { return k.traits().remote }

// Local reports whether runs of this kind are always processes of the machine
// that was asked: handler, local and the default kind.
func (k Kind) Local() bool { return k.Known() && !k.traits().pod }

// Pod reports whether the spec has the fields of a pod (resources, volumes, …).
func (k Kind) Pod() bool { return k.traits().pod }

// Nuclio reports whether functions of this kind are deployed and invoked, not run.
func (k Kind) Nuclio() bool { return k.traits().nuclio }

// Abortable reports whether runs of this kind can be aborted.
func (k Kind) Abortable() bool { return k.traits().abortable }

// DefaultImage returns the image of a function that names none, "" when the kind
// has no fixed one.
func (k Kind) DefaultImage() string { return k.traits().image }

func (k Kind) check() error {
	if k.Known() {
		return nil
	}
	names := make([]string, 0, len(kinds))
	for _, known := range Kinds() {
		names = append(names, string(known))
	}
	return fault.Invalid("kind %q is not known; use one of %s", cut(string(k)), strings.Join(names, ", "))
}
