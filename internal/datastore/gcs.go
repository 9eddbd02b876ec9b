package datastore

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/millrace/millrace/internal/fault"
)

// gcs is a bucket of Google Cloud Storage, reached through its JSON API: Google's
// own client brings gRPC along, which costs every start of the program more than
// the rest of it.
type gcs struct {
	name   string
	base   string // the service, without a slash at its end
	client *http.Client
	notes  sessionNotes
}

func openGCS(name string, o opening) (bucket, error) {
	base := "https://storage.googleapis.com"
	if emulator := o.lookup("STORAGE_EMULATOR_HOST"); emulator != "" {
		if !strings.Contains(emulator, "://") {
			emulator = "http://" + emulator
		}
		parsed, err := url.Parse(emulator)
		if err != nil || parsed.Host == "" {
			return nil, fault.Invalid("STORAGE_EMULATOR_HOST %q is not the address of a server; write HOST:PORT", emulator)
		}
		base = parsed.Scheme + "://" + parsed.Host
	}
	tokens, err := gcsTokens(o.lookup)
	if err != nil {
		return nil, err
	}
	client := &http.Client{
		Transport:     webClient.Transport, // 308 is an answer here, no redirection
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if tokens != nil {
		client.Transport = &oauth2.Transport{Source: tokens, Base: webClient.Transport}
	}
	return &gcs{name: name, base: base, client: client, notes: sessionNotes{o.state}}, nil
}

func (b *gcs) url(key string) string { return "gs://" + b.name + "/" + key }

// api is the address of a part of the bucket's API.
func (b *gcs) api(prefix, rest string, query url.Values) string {
	out := b.base + prefix + "/storage/v1/b/" + url.PathEscape(b.name) + "/o" + rest
	if len(query) > 0 {
		out += "?" + query.Encode()
	}
	return out
}

func (b *gcs) object(key string, query url.Values) string {
	return b.api("", "/"+url.PathEscape(key), query)
}

// gcsRequest is one request; body is given to every attempt anew.
type gcsRequest struct {
	method, url string
	header      map[string]string
	body        func() io.Reader // nil for none
	size        int64
}

const gcsAttempts = 4

// do sends a request until it is answered with something else than a fault of the
// service that may pass. The caller closes the body.
func (b *gcs) do(ctx context.Context, key string, r gcsRequest) (*http.Response, error) {
	for attempt := 1; ; attempt++ {
		response, err := b.once(ctx, key, r)
		if err == nil || attempt == gcsAttempts || !fault.Is(err, fault.CodeUnavailable) {
			return response, err
		}
		if err := pause(ctx, attempt); err != nil {
			return nil, err
		}
	}
}

// pause waits before the next attempt, longer each time.
func pause(ctx context.Context, attempt int) error {
	select {
	case <-time.After(100 * time.Millisecond << attempt):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *gcs) once(ctx context.Context, key string, r gcsRequest) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		body = r.body()
	}
	request, err := http.NewRequestWithContext(ctx, r.method, r.url, body)
	if err != nil {
		return nil, fault.Invalid("%s: %w", b.url(key), err)
	}
	request.ContentLength = r.size
	for name, value := range r.header {
		request.Header.Set(name, value)
	}
	response, err := b.client.Do(request)
	if err != nil {
		var refused *oauth2.RetrieveError
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.As(err, &refused):
			return nil, fault.Unauthorized("%s: Google refuses the credentials (%s); check GOOGLE_APPLICATION_CREDENTIALS", b.url(key), cmp.Or(refused.ErrorCode, "no token given"))
		}
		return nil, fault.Unavailable("%s: Google Cloud Storage did not answer: %w", b.url(key), err)
	}
	if response.StatusCode < 300 || response.StatusCode == http.StatusPermanentRedirect {
		return response, nil
	}
	return nil, b.refusal(key, response)
}

// refusal reads an error of the service.
func (b *gcs) refusal(key string, response *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	text := strings.TrimSpace(string(raw))
	if json.Unmarshal(raw, &said) == nil && said.Error.Message != "" {
		text = said.Error.Message
	}
	switch {
	case response.StatusCode == http.StatusNotFound && strings.Contains(strings.ToLower(text), "bucket does not exist"):
		return b.noBucket()
	case response.StatusCode == http.StatusUnauthorized:
		return fault.Unauthorized("%s asks for credentials, or refuses those given; check GOOGLE_APPLICATION_CREDENTIALS", b.url(key))
	case response.StatusCode == http.StatusBadRequest && text != "":
		return fault.Invalid("%s: Google Cloud Storage refuses the request: %.300s", b.url(key), text)
	}
	return statusError(b.url(key), response.StatusCode)
}

func (b *gcs) noBucket() error {
	return fault.NotFound("there is no bucket %s; create it, or correct the URL", b.name)
}

// gcsObject is the record of an object.
type gcsObject struct {
	Name        string    `json:"name"`
	Size        int64     `json:"size,string"`
	Updated     time.Time `json:"updated"`
	ContentType string    `json:"contentType"`
	Generation  string    `json:"generation"`
	CRC32C      string    `json:"crc32c"`
}

// generationTag is the entity tag of a generation, which is another one whenever
// the object is written. The service's own tags change with its metadata, too.
func generationTag(generation string) string {
	if generation == "" {
		return ""
	}
	return `"` + generation + `"`
}

func (b *gcs) open(ctx context.Context, key string, r Range) (io.ReadCloser, Info, error) {
	if key == "" {
		return nil, Info{}, fault.Invalid("%s names no object; add a name to the URL", b.url(key))
	}
	query := url.Values{"alt": {"media"}}
	if r.ETag != "" {
		query.Set("ifGenerationMatch", strings.Trim(r.ETag, `"`))
		if _, err := strconv.ParseUint(query.Get("ifGenerationMatch"), 10, 64); err != nil {
			return nil, Info{}, changed(b.url(key))
		}
	}
	// Without it, content that is kept compressed would be unpacked on its way, and
	// have neither the length nor the sum that the service tells.
	header := map[string]string{"Accept-Encoding": "gzip"}
	if text := rangeHeader(r); text != "" {
		header["Range"] = text
	}
	response, err := b.do(ctx, key, gcsRequest{method: http.MethodGet, url: b.object(key, query), header: header})
	if err != nil {
		return openEnd(ctx, b, key, r, err)
	}
	info := InfoOf(response)
	info.ETag = generationTag(response.Header.Get("X-Goog-Generation"))
	if r.ETag != "" && info.ETag != r.ETag {
		return nil, Info{}, errors.Join(changed(b.url(key)), response.Body.Close())
	}
	body := WholeBody(response.Body, b.url(key), response.ContentLength)
	if response.StatusCode == http.StatusOK {
		if want := crcOf(response.Header.Values("X-Goog-Hash")); want != nil {
			body = &summed{ReadCloser: body, sum: crc32.New(castagnoli()), want: want, name: b.url(key)}
		}
		if r.Offset > 0 || r.Length > 0 { // the whole object, though a range was asked for
			if _, err := io.CopyN(io.Discard, body, r.Offset); err != nil {
				return nil, Info{}, errors.Join(err, body.Close())
			}
			body = limited(body, r)
		}
	}
	return body, info, nil
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// crcOf finds the CRC32C in the values of an X-Goog-Hash header, nil when there is
// none.
func crcOf(values []string) []byte {
	for _, value := range values {
		for entry := range strings.SplitSeq(value, ",") {
			if text, ok := strings.CutPrefix(strings.TrimSpace(entry), "crc32c="); ok {
				if sum, err := base64.StdEncoding.DecodeString(text); err == nil && len(sum) == crc32.Size {
					return sum
				}
			}
		}
	}
	return nil
}

func (b *gcs) stat(ctx context.Context, key string) (Info, error) {
	if key == "" {
		return statFolder(ctx, b, key, fault.NotFound("there is nothing at %s", b.url(key)))
	}
	var object gcsObject
	query := url.Values{"fields": {"name,size,updated,contentType,generation,crc32c"}}
	err := b.json(ctx, key, gcsRequest{method: http.MethodGet, url: b.object(key, query)}, &object)
	switch {
	case err == nil:
		return Info{Size: object.Size, Modified: object.Updated, ContentType: object.ContentType, ETag: generationTag(object.Generation)}, nil
	case fault.Is(err, fault.CodeNotFound):
		return statFolder(ctx, b, key, err)
	}
	return Info{}, err
}

// json sends a request and decodes its answer.
func (b *gcs) json(ctx context.Context, key string, r gcsRequest, into any) error {
	response, err := b.do(ctx, key, r)
	if err != nil {
		return err
	}
	return b.decode(key, response, into)
}

func (b *gcs) decode(key string, response *http.Response, into any) error {
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, 64<<20)).Decode(into); err != nil {
		return fault.Unavailable("%s: Google Cloud Storage gave an answer that cannot be read: %w", b.url(key), err)
	}
	return nil
}

func (b *gcs) walk(ctx context.Context, key string, recursive bool, yield func(Entry) error) error {
	prefix := folderPrefix(key)
	query := url.Values{"prefix": {prefix}, "fields": {"items(name,size,updated),prefixes,nextPageToken"}}
	if !recursive {
		query.Set("delimiter", "/")
	}
	found := prefix == ""
	for {
		var page struct {
			Items         []gcsObject `json:"items"`
			Prefixes      []string    `json:"prefixes"`
			NextPageToken string      `json:"nextPageToken"`
		}
		if err := b.json(ctx, key, gcsRequest{method: http.MethodGet, url: b.api("", "", query)}, &page); err != nil {
			if fault.Is(err, fault.CodeNotFound) {
				return b.noBucket()
			}
			return err
		}
		for _, object := range page.Items {
			found = true
			name := strings.TrimPrefix(object.Name, prefix)
			if name == "" || strings.HasSuffix(name, "/") {
				continue // the mark of a folder
			}
			if err := yield(Entry{Name: name, Size: object.Size, Modified: object.Updated}); err != nil {
				return err
			}
		}
		for _, folder := range page.Prefixes {
			found = true
			if err := yield(Entry{Name: strings.TrimRight(strings.TrimPrefix(folder, prefix), "/"), Dir: true}); err != nil {
				return err
			}
		}
		if page.NextPageToken == "" {
			break
		}
		query.Set("pageToken", page.NextPageToken)
	}
	if !found {
		return fault.NotFound("there is nothing below %s", b.url(prefix))
	}
	return nil
}

func (b *gcs) remove(ctx context.Context, key string) error {
	if key == "" {
		return nil
	}
	response, err := b.do(ctx, key, gcsRequest{method: http.MethodDelete, url: b.object(key, nil)})
	if fault.Is(err, fault.CodeNotFound) && !strings.HasPrefix(err.Error(), "there is no bucket") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return response.Body.Close()
}
