package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Bundles keeps the code of folders, each bundle under a name that is the digest of
// its content: sha256-<hex>.
type Bundles interface {
	// Path returns the file of a bundle; fault.CodeNotFound when it is not here.
	Path(name string) (string, error)
	// Put stores a bundle and reports whether it was new; nothing is to be seen of it
	// until it is whole and its digest found right.
	Put(name string, from io.Reader) (fresh bool, err error)
}

// bundleTime is how long one piece of an upload may take to arrive.
const bundleTime = time.Minute

func bundleRoutes() []*route {
	const named = "/millrace/bundles/{digest}"
	return []*route{
		v1("getBundle", "GET", named, "A bundle of code; HEAD says whether it is here", bundleGet, bytesAnswer(200, "application/gzip")),
		v1("putBundle", "PUT", named, "Store a bundle of code under sha256-<digest of its bytes>", bundlePut,
			rawBody("application/gzip"), answers(200, "Object"), answers(201, "Object")),
	}
}

func (c *call) bundles() (Bundles, error) {
	if c.s.opts.Bundles == nil {
		return nil, fault.NotSupported("this server keeps no bundles of code")
	}
	return c.s.opts.Bundles, nil
}

func bundleGet(c *call) error {
	bundles, err := c.bundles()
	if err != nil {
		return err
	}
	path, err := bundles.Path(c.path("digest"))
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read bundle: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("read bundle: %w", err)
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/gzip")
	h.Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	h.Set("Etag", strconv.Quote(c.path("digest")))
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(c.w, file); err != nil {
		panic(abortResponse)
	}
	return nil
}

func bundlePut(c *call) error {
	bundles, err := c.bundles()
	if err != nil {
		return err
	}
	body := &bundleBody{Reader: c.r.Body, control: http.NewResponseController(c.w)}
	fresh, err := bundles.Put(c.path("digest"), body)
	if body.err != nil {
		return fault.Invalid("the request ended before the bundle did: %v", body.err)
	}
	if err != nil {
		return err
	}
	status := http.StatusOK
	if fresh {
		status = http.StatusCreated
	}
	return c.json(status, document.Object{"digest": c.path("digest"), "stored": fresh})
}

// bundleBody remembers what went wrong with the caller, and gives each piece time
// of its own.
type bundleBody struct {
	io.Reader
	control *http.ResponseController
	err     error
}

func (b *bundleBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(bundleTime))
	n, err := b.Reader.Read(p)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{})
		if !errors.Is(err, io.EOF) {
			b.err = err
		}
	}
	return n, err
}
