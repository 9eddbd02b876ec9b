// Package datachannel gives the processes of a run or deployed function access to
// data that it cannot reach by itself: objects in other stores, artifacts by their
// address, secrets by their name. It is HTTP on a unix socket that only their user can open; see
// docs/protocol.md for its routes.
package datachannel

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Variable is the environment variable that holds the path of the socket.
const Variable = "MILLRACE_DATA_SOCKET"

// maxPath is how long the path of a unix socket may be; the kernel's limit is 107
// bytes on Linux and 103 elsewhere.
const maxPath = 100

// maxRequests bounds the requests in progress; more wait.
const maxRequests = 32

// secretsHeader carries credentials that come before the others for one request: a
// JSON object of texts, in base64.
const secretsHeader = "X-Millrace-Secrets"

// maxGiven is of how many sets of credentials from requests the stores are kept.
const maxGiven = 16

// Channel is a listening socket. Close it.
type Channel struct {
	path    string
	folder  string // made for the socket, "" when it stands in a given one
	link    string // to folder, "" without one
	stores  func() *datastore.Stores
	given   map[string]*datastore.Stores // by the header with their credentials
	mu      sync.Mutex                   // of given
	server  http.Server
	serving sync.WaitGroup
	slots   chan struct{}
	end     context.CancelFunc
}

// Listen opens a socket in folder, which only its user can enter, or in one made
// for it when its path would be too long. stores is asked at the first request.
func Listen(folder string, stores func() *datastore.Stores, logger *slog.Logger) (*Channel, error) {
	c := &Channel{path: filepath.Join(folder, "data.sock"), stores: sync.OnceValue(stores), slots: make(chan struct{}, maxRequests)}
	if len(c.path) > maxPath {
		temp := os.TempDir()
		if len(temp) > maxPath/2 {
			temp = "/tmp"
		}
		var err error
		if c.folder, err = os.MkdirTemp(temp, "millrace-"); err != nil {
			return nil, fmt.Errorf("open data channel: %w", err)
		}
		if err := c.note(c.path); err != nil {
			return nil, errors.Join(fmt.Errorf("open data channel: %w", err), c.removeFolder())
		}
		c.path = filepath.Join(c.folder, "data.sock")
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an owner that was killed
		return nil, errors.Join(fmt.Errorf("open data channel: %w", err), c.removeFolder())
	}
	listener, err := net.Listen("unix", c.path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open data channel: %w", err), c.removeFolder())
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.end = cancel
	c.server = http.Server{
		Handler: c.routes(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	c.serving.Go(func() {
		if err := c.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("data channel", "error", err)
		}
	})
	return c, nil
}

// note leaves a link to the folder made for the socket where the socket would be,
// and removes the folder of an owner that was killed.
func (c *Channel) note(link string) error {
	if left, err := os.Readlink(link); err == nil && strings.HasPrefix(filepath.Base(left), "millrace-") {
		if err := os.RemoveAll(left); err != nil {
			return err
		}
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.link = link
	return os.Symlink(c.folder, link)
}

// Path is that of the socket.
func (c *Channel) Path() string { return c.path }

// Environment is what a process needs to find the channel, as KEY=VALUE.
func (c *Channel) Environment() string { return Variable + "=" + c.path }

// Close ends the requests in progress, waits for them and removes the socket.
func (c *Channel) Close() error {
	c.end()
	wait, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := c.server.Shutdown(wait)
	if err != nil {
		err = c.server.Close()
	}
	c.serving.Wait()
	for range maxRequests { // every handler has gone
		c.slots <- struct{}{}
	}
	return errors.Join(err, c.removeFolder())
}

func (c *Channel) removeFolder() error {
	if c.folder == "" {
		return nil
	}
	err := os.RemoveAll(c.folder)
	if c.link == "" {
		return err
	}
	if gone := os.Remove(c.link); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// handler answers a request, or returns the error to answer with.
type handler func(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error

func (c *Channel) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]handler{
		"GET /v1/object": getObject, "PUT /v1/object": putObject, "DELETE /v1/object": deleteObject,
		"POST /v1/copy": copyObject, "GET /v1/list": list, "GET /v1/artifact": getArtifact, "PUT /v1/artifact": putArtifact, "PUT /v1/results": putResults, "GET /v1/secret": getSecret,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			select {
			case c.slots <- struct{}{}:
			case <-r.Context().Done():
				return
			}
			defer func() { <-c.slots }()
			stores, err := c.storesFor(r.Header.Get(secretsHeader))
			if err == nil {
				err = handle(w, r, stores)
			}
			if err != nil {
				fail(w, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, fault.NotFound("the data channel has no route %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// storesFor returns the stores with the credentials in a request's header first.
func (c *Channel) storesFor(header string) (*datastore.Stores, error) {
	if header == "" {
		return c.stores(), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if stores, ok := c.given[header]; ok {
		return stores, nil
	}
	var secrets map[string]string
	raw, err := base64.StdEncoding.DecodeString(header)
	if err == nil {
		err = json.Unmarshal(raw, &secrets)
	}
	if err != nil {
		return nil, fault.Invalid("the header %s is not a JSON object of texts in base64", secretsHeader)
	}
	if len(c.given) >= maxGiven || c.given == nil {
		c.given = map[string]*datastore.Stores{}
	}
	c.given[header] = c.stores().With(secrets)
	return c.given[header], nil
}

var statuses = map[fault.Code]int{
	fault.CodeInvalid: 400, fault.CodeUnauthorized: 401, fault.CodeForbidden: 403, fault.CodeNotFound: 404, fault.CodeConflict: 409,
	fault.CodePrecondition: 412, fault.CodeTooLarge: 413, fault.CodeNotSupported: 501, fault.CodeUnavailable: 503,
}

// fail answers with err. The code's own process asks, so internal errors are told too.
func fail(w http.ResponseWriter, err error) {
	status, ok := statuses[fault.CodeOf(err)]
	if !ok {
		status = http.StatusInternalServerError
	}
	answer(w, status, document.Object{"error": err.Error()})
}

func answer(w http.ResponseWriter, status int, doc document.Object) {
	raw := document.Encode(doc)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}

func getSecret(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	key := r.URL.Query().Get("key")
	value, ok := stores.Secret(key)
	if !ok {
		return fault.NotFound("there is no secret or environment variable %q", key)
	}
	answer(w, http.StatusOK, document.Object{"value": value})
	return nil
}

func getArtifact(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	doc, err := stores.Artifact(r.Context(), r.URL.Query().Get("uri"))
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, doc)
	return nil
}

// maxRecord bounds an artifact's document, which may carry its content.
const maxRecord = 32 << 20

// putArtifact records an artifact of a run that the process executes.
func putArtifact(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	said, err := object(w, r, maxRecord, "the record of an artifact")
	if err != nil {
		return err
	}
	iter, _ := document.Int(said, "iter")
	record := datastore.Record{Project: document.String(said, "project"), Key: document.String(said, "doc", "spec", "db_key"), Iter: int(iter), Doc: document.Map(said, "doc")}
	if record.Key == "" {
		record.Key = document.String(said, "key")
	}
	if record.Project == "" || record.Key == "" || record.Doc == nil {
		return fault.Invalid("the record of an artifact needs project, key and doc")
	}
	if err := stores.Record(r.Context(), record); err != nil {
		return err
	}
	answer(w, http.StatusOK, document.Object{})
	return nil
}

// putResults adds to the record of a run that the process executes.
func putResults(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	said, err := object(w, r, maxRecord, "the results of a run")
	if err != nil {
		return err
	}
	iter, _ := document.Int(said, "iter")
	results := datastore.Results{
		Project: document.String(said, "project"), UID: document.String(said, "uid"), Iter: int(iter),
		Results: document.Map(said, "results"), Artifacts: document.Map(said, "artifacts"),
	}
	if results.Project == "" || results.UID == "" {
		return fault.Invalid("the results of a run need project and uid")
	}
	if err := stores.RecordResults(r.Context(), results); err != nil {
		return err
	}
	answer(w, http.StatusOK, document.Object{})
	return nil
}

// object reads the body of a request, which what names.
func object(w http.ResponseWriter, r *http.Request, limit int64, what string) (document.Object, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, fault.Invalid("%s cannot be read: %w", what, err)
	}
	doc, err := document.DecodeObject(raw)
	if err != nil {
		return nil, fault.Invalid("%s is not a JSON object: %w", what, err)
	}
	return doc, nil
}

const maxBody = 1 << 20

func copyObject(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	doc, err := object(w, r, maxBody, "the body of a copy")
	if err != nil {
		return err
	}
	copied, err := stores.Copy(r.Context(), document.String(doc, "from"), document.String(doc, "to"), document.Bool(doc, "recursive"), nil)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, document.Object{"files": copied.Files, "size": copied.Size, "digest": copied.Digest, "sha1": copied.SHA1})
	return nil
}
