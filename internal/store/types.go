package store

import (
	"time"

	"github.com/millrace/millrace/internal/artifact"
	"github.com/millrace/millrace/internal/document"
)

// Page is one page of a list: Offset and Size are counted in items; Size 0 means
// everything. More says whether items follow.
type Page struct {
	Offset, Size int
}

// LabelFilter is one condition on labels; all of those given have to match.
type LabelFilter struct {
	Key, Value                 string
	HasValue                   bool // "k=v"; otherwise the key only has to exist
	KeyContains, ValueContains bool // "~": case-insensitive substring
}

// NameFilter matches a name: exactly, or with Contains as a case-insensitive
// substring in which no character is special. The zero filter matches all.
type NameFilter struct {
	Value    string
	Contains bool
}

// FunctionPut says what FunctionPut stores: the document (not changed by the
// call), under which name, tag ("" means the document's, else latest) and whether
// as an immutable version or in the tag's mutable slot.
type FunctionPut struct {
	Project, Name, Tag string
	Versioned          bool
	Untagged           bool // of a version: no tag is moved to it, it is found by its hash only
	Doc                document.Object
}

// FunctionFilter selects functions; zero fields do not filter. Tag "*" means any
// tagged record.
type FunctionFilter struct {
	Project      string
	Name         NameFilter
	Tag          string
	Labels       []LabelFilter
	Hash         string
	Kind         string
	States       []string
	Since, Until time.Time // of the last update, inclusive
	Page         Page
}

// RunFilter selects runs; zero fields do not filter. Project "*" spans projects.
type RunFilter struct {
	Project                string
	Name                   NameFilter
	UIDs                   []string
	Labels                 []LabelFilter
	States                 []string
	WithChildren           bool // otherwise iteration 0 only
	StartFrom, StartTo     time.Time
	UpdatedFrom, UpdatedTo time.Time
	EndFrom, EndTo         time.Time
	Unsorted               bool // otherwise by start time, newest first
	Partition              *RunPartition
	Limit                  int // 0: no limit; applies before Page
	Page                   Page
}

// RunPartition keeps, of each group of runs, the first Rows by the sort field.
type RunPartition struct {
	ByProject     bool // by project and name, otherwise by name alone
	SortByUpdated bool // otherwise by start time
	Ascending     bool
	Rows          int // at least 1
	Max           int // 0: all; otherwise the Max partitions with the newest value
}

// ArtifactPut says what ArtifactPut stores. Key is the db key.
type ArtifactPut struct {
	Project, Key, Tag, Tree, UID string
	Iter                         int
	HasIter                      bool
	CreateOnly                   bool
	Doc                          document.Object
}

// ArtifactFilter selects artifacts; zero fields do not filter.
type ArtifactFilter struct {
	Project      string
	Name         NameFilter
	Tag          string
	Labels       []LabelFilter
	Kinds        []string
	Category     string // one of artifact.Categories
	Iter         *int
	BestOnly     bool
	Tree         string
	UID          string
	ProducerURI  string
	Parent       *artifact.URI // children of what it names, without a project in that of the filter
	Since, Until time.Time
	Partition    *ArtifactPartition
	Limit        int
	Page         Page
}

// ArtifactPartition keeps, of the artifacts of each key of a project, the first
// Rows by the sort field.
type ArtifactPartition struct {
	SortByCreated bool // otherwise by last change
	Ascending     bool
	Rows          int // at least 1
}

// tagged reports whether the filter selects by a tag.
func (f ArtifactFilter) tagged() bool { return f.Tag != "" && f.Tag != "*" }

// ProjectFilter selects projects; zero fields do not filter.
type ProjectFilter struct {
	Owner  string
	State  string
	Labels []LabelFilter
}

// TaskFilter selects background tasks; an empty Project means global ones.
type TaskFilter struct {
	Project                string
	State, Kind            string
	CreatedFrom, CreatedTo time.Time
	UpdatedFrom, UpdatedTo time.Time
}

// Execution is the server's own record of one attempt at a run: what the control
// loop wants, how far it is, and where the backend keeps it. It is never part of
// the run's document, so no client can overwrite it.
type Execution struct {
	ID                                  string // <uid>-<attempt>
	Project                             string
	UID                                 string
	Attempt                             int    // from 1
	Phase                               string // queued, preparing, starting, running, finished
	Abort                               bool   // an abort was asked for
	AbortText                           string // status_text to set with it
	Plan                                document.Object
	Backend                             string
	Offset                              int64     // bytes of the journal already applied
	NotBefore                           time.Time // a retry waits until then
	Created, Started, Finished, Updated time.Time
	Outcome                             document.Object // state, reason, error of a finished attempt
}
