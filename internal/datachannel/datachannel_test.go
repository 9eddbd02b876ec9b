package datachannel_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/datachannel"
	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/internal/fault"
)

// TestChannel speaks to the channel as a worker does, with a socket path that is
// short enough and with one that is not.
func TestChannel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var recorded records
	for _, folder := range []string{dir, filepath.Join(dir, strings.Repeat("long", 30))} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		stores := datastore.New(datastore.Options{Dir: dir, Lookup: func(name string) string { return map[string]string{"K": "v"}[name] }, Recorder: &recorded})
		channel, err := datachannel.Listen(folder, func() *datastore.Stores { return stores }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, socket, _ := strings.Cut(channel.Environment(), "=")
		client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
		for _, c := range []struct {
			method, path, body string
			status             int
			want               string
			secrets            string
		}{
			{"PUT", "object?url=a/x.txt", "hello", 200, `"size":5`, ""},
			{"GET", "object?url=a/x.txt", "", 200, "hello", ""},
			{"HEAD", "object?url=a/x.txt", "", 200, "", ""},
			{"POST", "copy", `{"from":"a","to":"b","recursive":true}`, 200, `"files":1`, ""},
			{"GET", "list?url=b", "", 200, `"name":"x.txt"`, ""},
			{"GET", "list?url=nowhere", "", 404, `"error":"there is no file`, ""},
			{"GET", "secret?key=K", "", 200, `{"value":"v"}`, ""},
			{"GET", "secret?key=L", "", 404, `"error"`, ""},
			{"GET", "artifact?uri=store://artifacts/p/k", "", 400, `"error"`, ""},
			{"PUT", "artifact", `{"project":"p","iter":2,"key":"k","doc":{"spec":{"db_key":"n_k"}}}`, 200, "{}", ""},
			{"PUT", "artifact", `{"project":"p","key":"k"}`, 400, "needs project, key and doc", ""},
			{"PUT", "artifact", `[]`, 400, "not a JSON object", ""},
			{"PUT", "artifact", `{"project":"full","key":"k","doc":{}}`, 503, "no server", ""},
			{"PUT", "results", `{"project":"p","uid":"u","iter":2,"results":{"a":1}}`, 200, "{}", ""},
			{"PUT", "results", `{"project":"p"}`, 400, "need project and uid", ""},
			{"DELETE", "object?url=b&recursive=1", "", 200, "{}", ""},
			{"GET", "object?url=b/x.txt", "", 404, `"error"`, ""},
			{"GET", "object?url=", "", 400, `"error"`, ""},
			{"POST", "copy", `[]`, 400, `"error"`, ""},
			{"GET", "nothing", "", 404, `"error"`, ""},
			{"GET", "secret?key=K", "", 200, `{"value":"w"}`, `{"K":"w"}`},
			{"GET", "secret?key=K", "", 200, `{"value":"v"}`, `{"K":"","L":"l"}`},
			{"GET", "secret?key=K", "", 400, `not a JSON object of texts`, `{"K":1}`},
		} {
			request, err := http.NewRequest(c.method, "http://channel/v1/"+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if c.secrets != "" {
				request.Header.Set("X-Millrace-Secrets", base64.StdEncoding.EncodeToString([]byte(c.secrets)))
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != c.status || !strings.Contains(string(raw), c.want) {
				t.Errorf("%s %s: %d %s, %v", c.method, c.path, response.StatusCode, raw, err)
			}
		}
		client.CloseIdleConnections()
		if err := channel.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(socket); err == nil {
			t.Error("the socket is left")
		}
	}
	want := datastore.Record{Project: "p", Key: "n_k", Iter: 2, Doc: document.Object{"spec": document.Object{"db_key": "n_k"}}}
	results := datastore.Record{Project: "p", Key: "u", Iter: 2, Doc: document.Object{"a": json.Number("1")}}
	if diff := cmp.Diff(records{want, results, want, results}, recorded); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// records are those that were made.
type records []datastore.Record

func (r *records) Record(_ context.Context, one datastore.Record) error {
	if one.Project == "full" {
		return fault.Unavailable("there is no server")
	}
	*r = append(*r, one)
	return nil
}

func (r *records) RecordResults(_ context.Context, one datastore.Results) error {
	*r = append(*r, datastore.Record{Project: one.Project, Key: one.UID, Iter: one.Iter, Doc: one.Results})
	return nil
}

// TestChannelOfAKilledOwner: neither its socket nor the folder made for one is left
// once the next owner has opened a channel in the same place.
func TestChannelOfAKilledOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, folder := range []string{filepath.Join(dir, "f"), filepath.Join(dir, strings.Repeat("long", 30))} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		stores := func() *datastore.Stores { return datastore.New(datastore.Options{Dir: dir}) }
		killed, err := datachannel.Listen(folder, stores, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = killed.Close() }) // its socket is gone
		next, err := datachannel.Listen(folder, stores, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Dir(next.Path()))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the socket's folder: %v, %v", info, err)
		}
		if _, err := os.Stat(killed.Path()); killed.Path() != next.Path() && err == nil {
			t.Errorf("%s is left", killed.Path())
		}
		conn, err := net.Dial("unix", next.Path())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if err := next.Close(); err != nil {
			t.Error(err)
		}
		if entries, err := os.ReadDir(folder); err != nil || len(entries) > 0 {
			t.Errorf("left in the folder: %v, %v", entries, err)
		}
	}
}
