package datachannel

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

func getObject(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	return Serve(w, r, stores, r.URL.Query().Get("url"))
}

func headObject(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	return Serve(w, r, stores, r.URL.Query().Get("url"))
}

// Serve answers a GET or HEAD request with the object at url, or the bytes of it
// that the Range header asks for. An error means that nothing was answered yet.
func Serve(w http.ResponseWriter, r *http.Request, stores *datastore.Stores, url string) error {
	asked, partial, err := ParseRange(r.Header.Get("Range"))
	if err != nil {
		return err
	}
	asked.ETag = r.Header.Get("If-Match")
	if r.Method == http.MethodHead {
		info, err := stores.Stat(r.Context(), url)
		if err != nil {
			return err
		}
		describe(w.Header(), info)
		if info.Size >= 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(info.Size, 10))
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if asked.Offset < 0 { // the last bytes
		info, err := stores.Stat(r.Context(), url)
		if err != nil {
			return err
		}
		asked.Offset = max(info.Size+asked.Offset, 0)
	}
	body, info, err := stores.Open(r.Context(), url, asked)
	if err != nil {
		return err
	}
	defer body.Close()
	describe(w.Header(), info)
	length := info.Size
	if info.Size >= 0 {
		length -= asked.Offset
		if asked.Length > 0 {
			length = min(length, asked.Length)
		}
		w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	}
	status := http.StatusOK
	if partial && info.Size >= 0 {
		if length <= 0 {
			w.Header().Del("Content-Length")
			w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(info.Size, 10))
			answer(w, http.StatusRequestedRangeNotSatisfiable, document.Object{"error": "the object has " + strconv.FormatInt(info.Size, 10) + " bytes; there is none in the range"})
			return nil
		}
		status = http.StatusPartialContent
		first, last := strconv.FormatInt(asked.Offset, 10), strconv.FormatInt(asked.Offset+length-1, 10)
		w.Header().Set("Content-Range", "bytes "+first+"-"+last+"/"+strconv.FormatInt(info.Size, 10))
	}
	w.WriteHeader(status)
	if err := datastore.Pump(w, body); err != nil && context.Cause(r.Context()) == nil {
		panic(http.ErrAbortHandler) // the only way to say that the answer is not whole
	}
	return nil
}

func describe(h http.Header, info datastore.Info) {
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	if info.ContentType != "" {
		h.Set("Content-Type", info.ContentType)
	}
	if !info.Modified.IsZero() {
		h.Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	}
	if info.ETag != "" {
		h.Set("ETag", info.ETag)
	}
	if info.Digest != "" {
		h.Set("X-Millrace-Digest", info.Digest)
	}
	if info.Dir {
		h.Set("X-Millrace-Dir", "1")
	}
}

// putObject stores the request's body. A body that breaks off is an error of its
// reader, so nothing of it is kept.
func putObject(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	written, err := stores.Put(r.Context(), r.URL.Query().Get("url"), r.Body, datastore.PutOptions{Size: r.ContentLength, Digest: r.Header.Get("X-Millrace-Digest")})
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, document.Object{"url": written.URL, "size": written.Size, "digest": written.Digest, "sha1": written.SHA1})
	return nil
}

func deleteObject(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	recursive, err := flag(r, "recursive")
	if err != nil {
		return err
	}
	if err := stores.Delete(r.Context(), r.URL.Query().Get("url"), recursive); err != nil {
		return err
	}
	answer(w, http.StatusOK, document.Object{})
	return nil
}

func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, fault.Invalid("parameter %s must be 0 or 1, got %q", name, text)
	}
	return value, nil
}

// list streams its answer, so that a folder of any size needs no memory.
func list(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	recursive, err := flag(r, "recursive")
	if err != nil {
		return err
	}
	began := false
	buffer := []byte(`{"entries":[`)
	err = stores.Walk(r.Context(), r.URL.Query().Get("url"), recursive, func(entry datastore.Entry) error {
		if began {
			buffer = append(buffer, ',')
		}
		began = true
		doc := document.Object{"name": entry.Name, "size": entry.Size, "dir": entry.Dir, "modified": nil}
		if !entry.Modified.IsZero() {
			doc["modified"] = float64(entry.Modified.UnixNano()) / float64(time.Second)
		}
		buffer = document.Append(buffer, doc)
		if len(buffer) < 32<<10 {
			return nil
		}
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write(buffer)
		buffer = buffer[:0]
		return err
	})
	switch {
	case err != nil && w.Header().Get("Content-Type") == "":
		return err
	case err != nil:
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(buffer, `]}`...))
	return nil
}
