package api

import (
	"context"
	"io"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/lineage"
	"github.com/millrace/millrace/internal/run"
	"github.com/millrace/millrace/internal/secret"
	"github.com/millrace/millrace/internal/store"
	"github.com/millrace/millrace/internal/tune"
)

// Store is everything that the API reads and writes; *store.Store is one. Its
// areas are interfaces of their own, so that each handler file shows what it
// uses. Errors carry fault codes: not found, conflict, invalid. Documents handed
// in belong to the store afterwards, documents handed out to the caller.
type Store interface {
	Projects
	Functions
	Runs
	Artifacts
	Tags
	Tasks
	Lineages
}

// Projects keeps projects.
type Projects interface {
	// ProjectCreate stores a new project; fault.CodeConflict when it exists.
	ProjectCreate(ctx context.Context, doc document.Object) (document.Object, error)
	// ProjectPut creates or replaces the project called name.
	ProjectPut(ctx context.Context, name string, doc document.Object) (document.Object, error)
	// ProjectPatch merges patch into the project deeply; with additive, lists are
	// concatenated instead of replaced.
	ProjectPatch(ctx context.Context, name string, patch document.Object, additive bool) (document.Object, error)
	ProjectGet(ctx context.Context, name string) (document.Object, error)
	ProjectList(ctx context.Context, filter store.ProjectFilter) ([]document.Object, error)
	// ProjectContents names the kinds of things that the project still holds.
	ProjectContents(ctx context.Context, name string) ([]string, error)
	// ProjectSummary counts what the project holds, in the document that clients read.
	ProjectSummary(ctx context.Context, name string) (document.Object, error)
}

// Functions keeps function versions and their tags.
type Functions interface {
	// FunctionPut stores a version or fills a tag's slot and returns the hash of
	// the content.
	FunctionPut(ctx context.Context, put store.FunctionPut) (hash string, err error)
	// FunctionGet returns the function by tag, or by hash when tag is "" and hash is
	// not; both empty means the tag latest.
	FunctionGet(ctx context.Context, project, name, tag, hash string) (document.Object, error)
	FunctionList(ctx context.Context, filter store.FunctionFilter) ([]document.Object, bool, error)
	// FunctionDelete deletes all versions; a missing function is no error.
	FunctionDelete(ctx context.Context, project, name string) error
}

// Runs keeps runs.
type Runs interface {
	// RunPut stores a run's whole document and returns it as stored.
	RunPut(ctx context.Context, key run.Key, doc document.Object) (document.Object, error)
	// RunUpdate applies dotted updates.
	RunUpdate(ctx context.Context, key run.Key, updates document.Object) (document.Object, error)
	RunGet(ctx context.Context, key run.Key) (document.Object, error)
	RunList(ctx context.Context, filter store.RunFilter) ([]document.Object, bool, error)
	// RunIterations yields iterations of the run that key names and says whether more
	// follow; fault.CodeNotFound when there is no such run.
	RunIterations(ctx context.Context, key run.Key, filter store.IterationFilter, yield func(document.Object) error) (bool, error)
}

// Artifacts keeps artifacts.
type Artifacts interface {
	ArtifactPut(ctx context.Context, put store.ArtifactPut) (document.Object, error)
	ArtifactGet(ctx context.Context, filter store.ArtifactFilter) (document.Object, error)
	ArtifactList(ctx context.Context, filter store.ArtifactFilter) ([]document.Object, bool, error)
	// ArtifactDelete deletes what matches the filter and returns how many.
	ArtifactDelete(ctx context.Context, filter store.ArtifactFilter) (int, error)
	// ArtifactDeleteData deletes what matches, record by record; release deletes the
	// content of one, and its error keeps the record.
	ArtifactDeleteData(ctx context.Context, filter store.ArtifactFilter, force bool, release func(store.Removal) error) (int, error)
	// ArtifactsOfRun lists what a run produced, one element for each tag.
	ArtifactsOfRun(ctx context.Context, key run.Key) ([]document.Object, error)
}

// Tags keeps the tags of artifacts.
type Tags interface {
	// ArtifactTags lists the tags in use; category may be "".
	ArtifactTags(ctx context.Context, project, category string) ([]string, error)
	// TagAppend gives a tag to the artifacts named, TagReplace takes their others
	// away as well, TagDelete takes it away. Each returns how many were named.
	TagAppend(ctx context.Context, project, tag string, ids []store.ArtifactIdentifier) (int, error)
	TagReplace(ctx context.Context, project, tag string, ids []store.ArtifactIdentifier) (int, error)
	TagDelete(ctx context.Context, project, tag string, ids []store.ArtifactIdentifier) (int, error)
}

// Tasks keeps background tasks; project "" means global ones.
type Tasks interface {
	TaskGet(ctx context.Context, project, name string) (document.Object, error)
	TaskList(ctx context.Context, filter store.TaskFilter) ([]document.Object, error)
}

// Lineages tells what came from what.
type Lineages interface {
	// LineageFind returns the id of the node that somebody named.
	LineageFind(ctx context.Context, project, name string) (string, error)
	// LineageWalk answers a question.
	LineageWalk(ctx context.Context, q lineage.Question) (*lineage.Graph, error)
}

// Submission is a request to run a function.
type Submission struct {
	Project     string
	Task        document.Object // the run as the caller describes it
	Function    document.Object // stored function with the request's overlay, or inline
	FunctionURI string          // where Function came from; "" when it was inline
	AllowLocal  bool            // accept kinds that normally run with the caller
	// Names are the hyperparameters of Task in the order in which they were written;
	// nil is alphabetical.
	Names []string

	// What the request says about its caller; all may be "".
	ClientVersion, PythonVersion, RemoteUser string
}

// BuildStatus is what is known about the image or environment of a function.
type BuildStatus struct {
	State    string // ready, pending, running, error: the words clients know
	Image    string
	Function document.Object // the function as it stands after the build step
	Log      io.ReadCloser   // nil when there is none; the API closes it
}

// Controller acts on runs and projects. Errors carry fault codes.
type Controller interface {
	// Submit validates, stores and queues a run and returns its document. When it
	// returns, the run and its log can be read.
	Submit(ctx context.Context, submission Submission) (document.Object, error)
	// Abort asks for the end of a run and returns the background task that stands
	// for it, the same one while an abort is in progress. What makes an abort
	// impossible fails the task, not the call; a missing run fails the call.
	Abort(ctx context.Context, key run.Key, updates document.Object) (document.Object, error)
	// Resume continues an iterative task that was aborted, or whose runner was lost,
	// and returns the run.
	Resume(ctx context.Context, key run.Key) (document.Object, error)
	// Steer changes an iterative task that is not over.
	Steer(ctx context.Context, key run.Key, change tune.Steering) error
	// Search tells how far an iterative task is.
	Search(ctx context.Context, key run.Key) (tune.Progress, error)
	// DeleteRun deletes a run with its iterations, log and spool; a live run is
	// refused with fault.CodeInvalid, a missing one is no error.
	DeleteRun(ctx context.Context, project, uid string) error
	// DeleteProject deletes a project with all it holds, in the background; the
	// caller has checked that it may.
	DeleteProject(ctx context.Context, name string) (document.Object, error)
	// Build makes a function ready to run; force builds even what is ready.
	Build(ctx context.Context, function document.Object, force bool) (BuildStatus, error)
	// BuildStatus reports on a stored function; fault.CodeNotFound when there is none.
	BuildStatus(ctx context.Context, project, name, tag string) (BuildStatus, error)
}

// Secrets are the secrets of projects; *secret.Vault is one. Values go in and never
// come out.
type Secrets interface {
	// Set stores values by name, next to what there is; fault.CodeNotFound when the
	// project does not exist.
	Set(ctx context.Context, project string, values map[string]string) error
	// Names lists names in order.
	Names(ctx context.Context, project string) ([]string, error)
	// Delete deletes those named; all of them without names.
	Delete(ctx context.Context, project string, names []string) error
	// Rotate encrypts all with a new key and returns how many.
	Rotate(ctx context.Context) (int, error)
}

// Masks finds what has to be masked in what a run sends.
type Masks interface {
	// MaskerOfRun masks the values of the secrets that the living execution of a run
	// was given; nil when there is none.
	MaskerOfRun(uid string) *secret.Masker
}

// Content is the bytes of artifacts.
type Content interface {
	// Stores reads what callers may see: files below artifact paths and objects of
	// remote stores, never other files of this machine. secrets says whether the
	// server's credentials are used.
	Stores(project string, secrets bool) *datastore.Stores
	// Folder is where artifacts of the project are put by default.
	Folder(project string) string
	// Inbox receives uploads.
	Inbox() *datastore.Inbox
	// Remove deletes what of the removal no other record names: files below the folder that
	// this server keeps artifacts in, objects in remote stores, with secrets if there are any,
	// else with the credentials of the project or the server. What is not there is no error;
	// everything else is refused with fault.CodeNotSupported. It may be called again.
	Remove(ctx context.Context, project string, removal store.Removal, secrets map[string]string) error
	// Size is the size in bytes of the file at such a target path.
	Size(target string) (int64, error)
}

// Logs keeps the output of runs as bytes. attempt 0 means all attempts.
type Logs interface {
	// Size is the number of bytes there are.
	Size(ctx context.Context, project, uid string, attempt int) (int64, error)
	// Read returns the bytes [offset, offset+size) that exist now; a size below 0
	// means to the end. A missing log and an offset past the end read as empty.
	Read(ctx context.Context, project, uid string, attempt int, offset, size int64) (io.ReadCloser, error)
	// Append adds to the log, or replaces it with truncate.
	Append(ctx context.Context, project, uid string, data io.Reader, truncate bool) error
}
