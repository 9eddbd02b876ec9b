package datachannel

import (
	"net/http"
	"strconv"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

func getObject(w http.ResponseWriter, r *http.Request, stores *datastore.Stores) error {
	return stores.Serve(w, r, r.URL.Query().Get("url"))
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
