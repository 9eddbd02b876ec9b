// Package datastore moves bytes between places that are named by URL: local files,
// object stores, web servers and the memory of this process.
//
// What is written becomes visible whole or not at all: a reader never sees the
// beginning of an object whose writer was killed, ran out of space or lost its
// connection. Memory is bounded whatever the size of an object. Everything that is
// written is summed on its way (SHA-256, SHA-1 and CRC-64/NVME, as asked for).
//
// A store:// URL names an artifact; a Resolver turns it into the URL of its content.
// Errors that the caller can do something about carry a fault code.
package datastore

import (
	"context"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// Lookup returns the value of a secret or environment variable, "" when there is
// none.
type Lookup func(name string) string

// Resolver returns the document of the artifact that a store:// URI names.
type Resolver interface {
	Artifact(ctx context.Context, uri string) (document.Object, error)
}

// Record is an artifact that is to be recorded.
type Record struct {
	Project string
	Key     string // of the record: the db key
	Iter    int
	Doc     document.Object
}

// Results are what a run says of itself.
type Results struct {
	Project, UID string
	Iter         int
	Results      document.Object
	Artifacts    document.Object // URIs by key
}

// Recorder records what runs make.
type Recorder interface {
	// Record records an artifact.
	Record(ctx context.Context, r Record) error
	// RecordResults adds to the record of a run; nothing when there is none.
	RecordResults(ctx context.Context, r Results) error
}

// Options are what Stores need to know; every field may be left empty.
type Options struct {
	Lookup   Lookup                    // credentials; nil means none
	Permit   func(scheme string) error // asked before a bucket is opened; nil allows all
	Resolver Resolver                  // nil refuses store:// URLs
	Recorder Recorder                  // nil records no artifacts
	Named    map[string]Named          // data_stores: what //name/path stands for
	Confined bool                      // refuse local files that are not below Roots
	Roots    []string                  // absolute
	Schemes  []string                  // refuse others; files are a matter of Confined; nil allows all
	Dir      string                    // where relative paths begin; "" is the working folder
	State    string                    // folder for notes of unfinished uploads, made when needed; "" keeps none
}

// Named is a store that has a name of its own.
type Named struct {
	URL    string // what the name stands for
	Prefix string // its credentials are called <prefix>_<name>; "" for none
}

// Info is what is known about an object without reading it.
type Info struct {
	URL         string
	Size        int64 // -1 when the store does not tell
	Modified    time.Time
	ContentType string
	Digest      string // sha256:<hex>, "" when the store does not know it
	ETag        string // quoted as in HTTP, changes with the content; "" when the store has none
	Dir         bool
}

// Entry is one name in a listing, relative to what was listed.
type Entry struct {
	Name     string
	Size     int64
	Modified time.Time
	Dir      bool
}

// Written is what was stored.
type Written struct {
	URL    string
	Size   int64
	Digest string // sha256:<hex>
	SHA1   string // hex
	CRC64  string // hex, CRC-64/NVME
}

// Range selects bytes of an object; the zero value is all of it.
type Range struct {
	Offset int64
	Length int64  // 0 means to the end
	ETag   string // fail with fault.CodePrecondition when the object is another; "" does not ask
}

// bucket is one place; keys are relative to it and begin with no slash, except
// for files, where they are absolute paths.
type bucket interface {
	// open returns the bytes of r. A missing object is fault.CodeNotFound. Info.Size
	// is the size of the whole object.
	open(ctx context.Context, key string, r Range) (io.ReadCloser, Info, error)
	stat(ctx context.Context, key string) (Info, error)
	// put stores what body gives. When it returns an error, or is killed, what was
	// stored before is still there.
	put(ctx context.Context, key string, body io.Reader, c content) error
	// walk calls yield for everything below key, which is a folder; without
	// recursive only for its direct children. fault.CodeNotFound when there is none.
	walk(ctx context.Context, key string, recursive bool, yield func(Entry) error) error
	// remove deletes an object; a missing one is no error.
	remove(ctx context.Context, key string) error
}

// content is what a put knows beforehand.
type content struct {
	size   int64  // -1 when it is not known
	digest string // "" when it is not known
	resume bool   // see PutOptions
}

// Stores opens places by URL and keeps them open. It is safe for concurrent use.
type Stores struct {
	options Options
	mu      sync.Mutex
	open    map[string]bucket
}

// New returns stores for options.
func New(options Options) *Stores {
	if options.Lookup == nil {
		options.Lookup = func(string) string { return "" }
	}
	options.Named = maps.Clone(options.Named)
	return &Stores{options: options, open: map[string]bucket{}}
}

// With returns stores of the same places for which the credentials among secrets
// come before the others. A session token belongs to the keys that it came with.
func (s *Stores) With(secrets map[string]string) *Stores {
	options, below := s.options, s.options.Lookup
	options.Lookup = func(name string) string {
		if value := secrets[name]; value != "" {
			return value
		}
		if name == "AWS_SESSION_TOKEN" && secrets["AWS_ACCESS_KEY_ID"] != "" {
			return ""
		}
		return below(name)
	}
	return New(options)
}

// Artifact returns the document of an artifact by its store:// URI.
func (s *Stores) Artifact(ctx context.Context, uri string) (document.Object, error) {
	if s.options.Resolver == nil {
		return nil, fault.Invalid("%s: artifacts cannot be looked up here; give the URL of the content", uri)
	}
	return s.options.Resolver.Artifact(ctx, uri)
}

// Record records an artifact.
func (s *Stores) Record(ctx context.Context, r Record) error {
	if s.options.Recorder == nil {
		return fault.Invalid("the artifact %s is not recorded: a run records its artifacts by itself", r.Key)
	}
	return s.options.Recorder.Record(ctx, r)
}

// RecordResults adds to the record of a run.
func (s *Stores) RecordResults(ctx context.Context, r Results) error {
	if s.options.Recorder == nil {
		return fault.Invalid("the results of %s are not recorded: a run records its results by itself", r.UID)
	}
	return s.options.Recorder.RecordResults(ctx, r)
}

// Secret returns a value by its name and whether there is one.
func (s *Stores) Secret(name string) (string, bool) {
	value := s.options.Lookup(name)
	return value, value != ""
}

// Resolve returns the URL of the content that rawURL stands for: store:// URIs and
// named stores are looked up, everything else stays as it is.
func (s *Stores) Resolve(ctx context.Context, rawURL string) (string, error) {
	rawURL, _, err := s.named(rawURL)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(rawURL, "store://") {
		return rawURL, nil
	}
	doc, err := s.Artifact(ctx, rawURL)
	if err != nil {
		return "", err
	}
	target := document.String(doc, "spec", "target_path")
	if target == "" {
		target = document.String(doc, "target_path")
	}
	if target == "" || strings.HasPrefix(target, "store://") {
		return "", fault.NotFound("the artifact %s has no content of its own: its spec.target_path is empty", rawURL)
	}
	return target, nil
}

// named replaces the name of a store by its URL and returns the lookup of its
// credentials.
func (s *Stores) named(rawURL string) (string, Lookup, error) {
	rest, ok := strings.CutPrefix(rawURL, "//")
	if !ok {
		return rawURL, s.options.Lookup, nil
	}
	name, path, _ := strings.Cut(rest, "/")
	store, ok := s.options.Named[name]
	switch {
	case !ok:
		return "", nil, fault.Invalid("%s: there is no data store called %q; name it in data_stores", rawURL, name)
	case strings.HasPrefix(store.URL, "//"):
		return "", nil, fault.Invalid("data store %s: its URL %s has no scheme", name, store.URL)
	}
	lookup := s.options.Lookup
	if store.Prefix != "" {
		lookup = func(key string) string { return s.options.Lookup(store.Prefix + "_" + key) }
	}
	return strings.TrimRight(store.URL, "/") + "/" + path, lookup, nil
}

// place is a URL taken apart.
type place struct {
	bucket bucket
	key    string
	url    string
}

// Scheme returns the scheme of a URL in lower case, "file" for a path.
func Scheme(rawURL string) string {
	scheme, _, ok := strings.Cut(rawURL, "://")
	if !ok || strings.ContainsAny(scheme, "/?#") || len(scheme) < 2 {
		return "file"
	}
	return strings.ToLower(scheme)
}

func (s *Stores) place(ctx context.Context, rawURL string) (place, error) {
	if rawURL == "" || strings.ContainsRune(rawURL, 0) {
		return place{}, fault.Invalid("the URL %q names nothing; give a path or a URL such as s3://bucket/key", rawURL)
	}
	target, lookup, err := s.named(rawURL)
	if err != nil {
		return place{}, err
	}
	own := "" // stores with credentials of their own are kept apart
	if target != rawURL {
		own, _, _ = strings.Cut(strings.TrimPrefix(rawURL, "//"), "/")
	}
	if target, err = s.Resolve(ctx, target); err != nil {
		return place{}, err
	}
	scheme := Scheme(target)
	if scheme == "file" {
		return s.file(target)
	}
	if s.options.Schemes != nil && !slices.Contains(s.options.Schemes, scheme) {
		return place{}, fault.Forbidden("%s: content at %s:// URLs is not handed out here; read it with a client", target, scheme)
	}
	// A key may hold any character, '?' and '#' too, so it is cut out by hand.
	_, rest, _ := strings.Cut(target, "://")
	host, key, _ := strings.Cut(rest, "/")
	if scheme == "http" || scheme == "https" {
		parsed, err := url.Parse(target)
		if err != nil || parsed.Host == "" {
			return place{}, fault.Invalid("%s is not the URL of a web server", target)
		}
		b, err := s.bucket(own+" "+scheme, func() (bucket, error) { return &web{lookup: lookup}, nil })
		return place{bucket: b, key: target, url: target}, err
	}
	if scheme == "memory" {
		return place{bucket: memory, key: strings.Trim(rest, "/"), url: target}, nil
	}
	opener, ok := openers[scheme]
	if !ok {
		return place{}, fault.Invalid("%s: there is no store for %s:// URLs; use a path, %s", target, scheme, schemeList)
	}
	if host == "" {
		return place{}, fault.Invalid("%s names no bucket; write %s://BUCKET/KEY", target, scheme)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == ".." || segment == "." {
			return place{}, fault.Invalid("%s: the key has a %q segment; write the key out", target, segment)
		}
	}
	b, err := s.bucket(own+" "+scheme+"://"+host, func() (bucket, error) {
		if s.options.Permit != nil {
			if err := s.options.Permit(scheme); err != nil {
				return nil, err
			}
		}
		return opener(host, opening{lookup, s.options.State})
	})
	return place{bucket: b, key: key, url: target}, err
}

// file is the place of a path or file:// URL.
func (s *Stores) file(target string) (place, error) {
	path := target
	if rest, ok := cutScheme(target, "file"); ok {
		host, below, _ := strings.Cut(rest, "/")
		if host != "" && host != "localhost" {
			return place{}, fault.Invalid("%s is on another machine, %s; file URLs look like file:///path", target, host)
		}
		path = "/" + below
	}
	if !filepath.IsAbs(path) {
		base, err := filepath.Abs(s.options.Dir)
		if err != nil {
			return place{}, err
		}
		path = filepath.Join(base, path)
	}
	return place{bucket: files{roots: s.options.Roots, confined: s.options.Confined}, key: filepath.Clean(path), url: target}, nil
}

func cutScheme(rawURL, scheme string) (string, bool) {
	if len(rawURL) < len(scheme)+3 || !strings.EqualFold(rawURL[:len(scheme)+3], scheme+"://") {
		return rawURL, false
	}
	return rawURL[len(scheme)+3:], true
}

// opening is what a store is opened with.
type opening struct {
	lookup Lookup
	state  string // see Options
}

// openers make the stores of the schemes whose host is a bucket.
var openers = map[string]func(name string, o opening) (bucket, error){
	"s3": openS3, "gs": openGCS, "gcs": openGCS, "az": openAzure, "wasb": openAzure, "wasbs": openAzure,
}

const schemeList = "s3://, gs://, az://, http(s)://, memory:// or store://"

func (s *Stores) bucket(name string, open func() (bucket, error)) (bucket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.open[name]; ok {
		return b, nil
	}
	b, err := open()
	if err != nil {
		return nil, err
	}
	s.open[name] = b
	return b, nil
}
