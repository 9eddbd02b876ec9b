package app

import (
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/datastore"
)

// content is the API's access to the bytes of artifacts.
type content struct {
	artifactFiles
	app   *App
	inbox func() *datastore.Inbox
}

func (a *App) newContent() *content {
	c := &content{artifactFiles: artifactFiles{root: artifactRoot(a.options.ArtifactPath)}, app: a}
	c.inbox = sync.OnceValue(func() *datastore.Inbox {
		return datastore.NewInbox(c.Stores("", true), filepath.Join(a.dir, "cache", "uploads"))
	})
	return c
}

// handedOut are the schemes of stores that clients may read through the server.
// Web servers are not among them: clients reach those themselves, and the server
// would be a way into the network around it.
var handedOut = []string{"s3", "gs", "gcs", "az", "wasb", "wasbs"}

// Stores implements api.Content.
func (c *content) Stores(project string, secrets bool) *datastore.Stores {
	options := datastore.Options{Confined: true, Roots: c.app.artifactRoots(), Schemes: handedOut, Dir: "/", Resolver: resolve(c.app.find).in(project)}
	if secrets {
		options.Lookup, options.Permit = c.credentials(project)
	}
	return datastore.New(options)
}

// Folder implements api.Content.
func (c *content) Folder(project string) string {
	folder, _, _ := strings.Cut(strings.ReplaceAll(c.app.options.ArtifactPath, "{{project}}", project), "{{")
	return strings.TrimRight(folder, "/")
}

// Inbox implements api.Content.
func (c *content) Inbox() *datastore.Inbox { return c.inbox() }

// artifactRoots are the folders that hold artifacts and nothing else: the default
// artifact path up to its first placeholder, and the one of the data directory.
func (a *App) artifactRoots() []string {
	roots := []string{filepath.Join(a.dir, "artifacts")}
	if path := strings.TrimPrefix(a.options.ArtifactPath, "file://"); filepath.IsAbs(path) {
		path, _, _ = strings.Cut(path, "{{")
		path = filepath.Clean(path)
		// A folder around the data directory would hand out the database.
		if below, err := filepath.Rel(path, a.dir); err != nil || !filepath.IsLocal(below) {
			roots = append(roots, path)
		}
	}
	return roots
}

// uploadAge is how long an upload that does not go on is kept.
const uploadAge = 7 * 24 * time.Hour
