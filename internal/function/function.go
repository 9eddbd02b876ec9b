// Package function is the function object: code, operational spec, interface and
// metadata under one name, versioned by the hash of its content.
//
// A Function is a view on a document (internal/document). The document is the
// truth and is kept as it was received, unknown keys included; the methods here
// read what the engine needs from it.
package function

import (
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Kind says how a function executes.
type Kind string

// The kinds. KindDefault (the empty string) is the reference's "handler when
// there is no command, local when there is one".
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

// Function is one function object. Doc has the top-level keys kind, metadata,
// spec, status and verbose; metadata and spec are always objects.
type Function struct {
	Doc document.Object
}

// Parse checks the document of a function: the types of all modelled fields and
// the kind. It keeps doc (no copy) and creates metadata and spec when absent.
// Errors carry fault.CodeInvalid and name the field.
func Parse(doc document.Object) (*Function, error) {
	for _, key := range []string{"metadata", "spec"} {
		if _, err := document.Want[document.Object](doc, key); err != nil {
			return nil, err
		}
		document.Ensure(doc, key)
	}
	f := &Function{Doc: doc}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	return f, nil
}

// Kind returns the function's kind.
func (f *Function) Kind() Kind { return Kind(document.String(f.Doc, "kind")) }

// Name returns metadata.name.
func (f *Function) Name() string { return document.String(f.Doc, "metadata", "name") }

// Project returns metadata.project, "" when it is not set.
func (f *Function) Project() string { return document.String(f.Doc, "metadata", "project") }

// Tag returns metadata.tag.
func (f *Function) Tag() string { return document.String(f.Doc, "metadata", "tag") }

// EnvVar is one entry of spec.env that has a plain value.
type EnvVar struct{ Name, Value string }

// Retry is what spec.retry asks for: Count more attempts after the first, with
// BaseDelay (a duration such as "30s") before the first of them, doubled for
// each further one.
type Retry struct {
	Count     int
	BaseDelay string
}

// Spec is the typed view of the fields of spec that execution needs.
type Spec struct {
	Command        string
	Args           []string
	Image          string
	Mode           string // "" or "pass"
	Workdir        string
	DefaultHandler string
	PythonPath     string // ':'-separated
	PythonVersion  string // our own field python_version, such as "3.11"; "" means any
	Env            []EnvVar
	Requests       map[string]string // spec.resources.requests: cpu, memory, nvidia.com/gpu, …
	Limits         map[string]string
	Thresholds     map[string]string // spec.state_thresholds
	Retry          Retry
	Code           []byte // spec.build.functionSourceCode decoded, nil when absent
	OriginFilename string
	Source         string // spec.build.source
	Requirements   []string
	Commands       []string
	BaseImage      string
}

// Validate checks the types of all modelled fields; see Parse.
func (f *Function) Validate() error {
	if _, err := document.Want[string](f.Doc, "kind"); err != nil {
		return err
	}
	if _, err := f.Spec(); err != nil {
		return err
	}
	return nil
}

// Spec reads the typed view. Errors carry fault.CodeInvalid and name the field.
func (f *Function) Spec() (Spec, error) {
	return Spec{}, fault.NotSupported("function.Spec is not written yet")
}
