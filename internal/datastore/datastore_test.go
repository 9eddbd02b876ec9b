package datastore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/minio/crc64nvme"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/fault"
)

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	return data
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func read(t *testing.T, s *datastore.Stores, url string, r datastore.Range) []byte {
	t.Helper()
	body, _, err := s.Open(context.Background(), url, r)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// suite is what every store that can be written keeps, at a base URL of its own.
func suite(t *testing.T, s *datastore.Stores, base string, sizes ...int) {
	t.Helper()
	ctx := context.Background()
	for _, size := range append([]int{0, 1, 1000, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, 1<<20 + 1, 3 << 20}, sizes...) {
		data := random(size)
		for _, known := range []int64{int64(size), -1} {
			written, err := s.Put(ctx, base+"/dir/a.bin", bytes.NewReader(data), datastore.PutOptions{Size: known})
			if err != nil || written.Size != int64(size) || written.Digest != digest(data) {
				t.Fatalf("%d bytes, %d known: %+v, %v", size, known, written, err)
			}
			if got := read(t, s, base+"/dir/a.bin", datastore.Range{}); !bytes.Equal(got, data) {
				t.Fatalf("%d bytes came back as %d others", size, len(got))
			}
		}
	}
	data := []byte("0123456789")
	if _, err := s.Put(ctx, base+"/dir/sub/b.txt", bytes.NewReader(data), datastore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for r, want := range map[datastore.Range]string{{Offset: 3}: "3456789", {Offset: 3, Length: 2}: "34", {Offset: 8, Length: 100}: "89"} {
		if got := read(t, s, base+"/dir/sub/b.txt", r); string(got) != want {
			t.Errorf("%+v is %q", r, got)
		}
	}
	if _, _, err := s.Open(ctx, base+"/dir/sub/b.txt", datastore.Range{Offset: 1, ETag: `"other"`}); !fault.Is(err, fault.CodePrecondition) {
		t.Errorf("another entity tag: %v", err)
	}
	names := func(recursive bool) string {
		var out []string
		err := s.Walk(ctx, base+"/dir", recursive, func(e datastore.Entry) error {
			if !recursive || !e.Dir {
				out = append(out, e.Name)
			}
			return nil
		})
		return strings.Join(out, " ") + errText(err)
	}
	if got := names(false); got != "a.bin sub" {
		t.Errorf("children: %s", got)
	}
	if got := names(true); got != "a.bin sub/b.txt" {
		t.Errorf("all: %s", got)
	}
	// Whatever is wrong with new content leaves the old in place, and nothing beside it.
	for what, put := range map[string]struct {
		body    io.Reader
		options datastore.PutOptions
	}{
		"broken off":   {io.MultiReader(bytes.NewReader(random(100)), broken{}), datastore.PutOptions{}},
		"short":        {bytes.NewReader(data[:3]), datastore.PutOptions{Size: 10}},
		"long":         {bytes.NewReader(data), datastore.PutOptions{Size: 3}},
		"other digest": {bytes.NewReader(data[:3]), datastore.PutOptions{Digest: digest(data)}},
	} {
		if _, err := s.Put(ctx, base+"/dir/sub/b.txt", put.body, put.options); err == nil {
			t.Errorf("%s: accepted", what)
		}
		if got := read(t, s, base+"/dir/sub/b.txt", datastore.Range{}); string(got) != string(data) {
			t.Errorf("%s: it is %q now", what, got)
		}
	}
	if got := names(true); got != "a.bin sub/b.txt" {
		t.Errorf("after failures: %s", got)
	}
	copied, err := s.Copy(ctx, base+"/dir", base+"/copy", true, nil)
	if err != nil || copied.Files != 2 {
		t.Fatalf("copy: %+v, %v", copied, err)
	}
	if got := read(t, s, base+"/copy/sub/b.txt", datastore.Range{}); string(got) != string(data) {
		t.Errorf("the copy is %q", got)
	}
	if err := s.Delete(ctx, base+"/copy", true); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Delete(ctx, base+"/dir/sub/b.txt", false); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	for _, url := range []string{base + "/copy/sub/b.txt", base + "/dir/sub/b.txt"} {
		if _, err := s.Stat(ctx, url); !fault.Is(err, fault.CodeNotFound) {
			t.Errorf("%s after its end: %v", url, err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return " " + err.Error()
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the wire was cut") }

func TestFiles(t *testing.T) {
	t.Parallel()
	suite(t, datastore.New(datastore.Options{}), t.TempDir())
	suite(t, datastore.New(datastore.Options{}), "file://"+t.TempDir())
}

func TestConfinedFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	suite(t, datastore.New(datastore.Options{Confined: true, Roots: []string{root}}), root)
}

func TestMemory(t *testing.T) {
	t.Parallel()
	suite(t, datastore.New(datastore.Options{}), "memory://"+t.Name())
}

// TestConfinement tries ways out of the folder that is handed out.
func TestConfinement(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, "artifacts")
	for name, content := range map[string]string{"secret": "s", "artifacts/ok": "o", "artifacts-more/x": "x"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"file": "../secret", "folder": "..", "absolute": filepath.Join(dir, "secret")} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := datastore.New(datastore.Options{Confined: true, Roots: []string{root}, Dir: "/", Schemes: []string{"s3"}})
	ctx := context.Background()
	for _, url := range []string{
		dir + "/secret", root + "/../secret", "file://" + root + "/../secret", root + "/file", root + "/folder/secret", root + "/absolute",
		dir + "/artifacts-more/x", "secret", "../../etc/passwd", "/etc/passwd", "http://127.0.0.1/", "memory://x", "FILE:///etc/passwd",
	} {
		if _, _, err := s.Open(ctx, url, datastore.Range{}); !fault.Is(err, fault.CodeForbidden) {
			t.Errorf("read %s: %v", url, err)
		}
		if _, err := s.Put(ctx, url, strings.NewReader("bad"), datastore.PutOptions{}); err == nil && !strings.HasSuffix(url, "/absolute") && !strings.HasSuffix(url, "/file") {
			t.Errorf("wrote %s", url)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "secret")); err != nil || string(raw) != "s" {
		t.Errorf("the secret is %q, %v", raw, err)
	}
	if got := read(t, s, root+"/ok", datastore.Range{}); string(got) != "o" {
		t.Errorf("%q", got)
	}
}

// TestDownloadGoesOn breaks a download off at every request and counts what is
// sent again.
func TestDownloadGoesOn(t *testing.T) {
	t.Parallel()
	data, version := random(3<<20), `"1"`
	sent, cut := 0, 1<<20
	var mu sync.Mutex // of these
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked, _, err := datastore.ParseRange(r.Header.Get("Range"))
		if err != nil || r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != version {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		body := data[asked.Offset:]
		w.Header().Set("ETag", version)
		w.Header().Set("Content-Length", itoa(len(body)))
		if asked.Offset > 0 {
			w.Header().Set("Content-Range", "bytes "+itoa(int(asked.Offset))+"-"+itoa(len(data)-1)+"/"+itoa(len(data)))
			w.WriteHeader(http.StatusPartialContent)
		}
		n, _ := w.Write(body[:min(cut, len(body))])
		if sent += n; n < len(body) {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	s := datastore.New(datastore.Options{})
	dest := filepath.Join(t.TempDir(), "got")
	open := func(ctx context.Context, r datastore.Range) (io.ReadCloser, datastore.Info, error) {
		return s.Open(ctx, server.URL, r)
	}
	attempts := 0
	for {
		attempts++
		mu.Lock()
		want := digest(data)
		mu.Unlock()
		written, err := datastore.Download(context.Background(), open, dest, datastore.DownloadOptions{Digest: want})
		mu.Lock()
		if err == nil {
			if written.Digest != digest(data) {
				t.Error(written)
			}
			mu.Unlock()
			break
		}
		if _, stat := os.Stat(dest); stat == nil {
			mu.Unlock()
			t.Fatal("the file is visible before it is whole")
		}
		if attempts == 2 { // another object of the same length: what is there is of no use
			data, version = append([]byte{}, random(3<<20-1)...), `"2"`
			sent, cut = 0, len(data)
		}
		mu.Unlock()
		if attempts > 10 {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(dest)
	mu.Lock()
	if err != nil || !bytes.Equal(raw, data) || sent != len(data) || attempts != 3 {
		t.Errorf("%d bytes sent for %d in %d attempts, %v", sent, len(data), attempts, err)
	}
	mu.Unlock()
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dest), ".*")); len(left) > 0 {
		t.Errorf("left over: %s", left)
	}
	_, err = datastore.Download(context.Background(), open, dest+"2", datastore.DownloadOptions{SHA1: strings.Repeat("0", 40)})
	if _, stat := os.Stat(dest + "2"); !fault.Is(err, fault.CodePrecondition) || stat == nil {
		t.Errorf("a wrong sum: %v", err)
	}
	for want, code := range map[string]fault.Code{crc64(data): "", strings.Repeat("0", 16): fault.CodePrecondition} {
		_, err := datastore.Download(context.Background(), open, dest+"3", datastore.DownloadOptions{CRC64: want, Sums: datastore.NoSums})
		if (err != nil || code != "") && !fault.Is(err, code) {
			t.Errorf("CRC-64 %s: %v", want, err)
		}
		if err := os.Remove(dest + "3"); (err == nil) != (code == "") {
			t.Errorf("CRC-64 %s: the file is there: %t", want, err == nil)
		}
	}
}

func crc64(data []byte) string { return fmt.Sprintf("%016x", crc64nvme.Checksum(data)) }

func itoa(n int) string { return strconv.Itoa(n) }

// TestInbox sends an upload in pieces, with a break.
func TestInbox(t *testing.T) {
	t.Parallel()
	ctx, data := context.Background(), random(2<<20)
	dir := t.TempDir()
	in := datastore.NewInbox(datastore.New(datastore.Options{}), filepath.Join(dir, "in"))
	u := datastore.Upload{Token: strings.Repeat("ab", 16), Folder: filepath.Join(dir, "out"), Suffix: ".bin", Length: int64(len(data))}
	if _, err := in.Receive(ctx, u, io.MultiReader(bytes.NewReader(data[:1<<20]), broken{})); !fault.Is(err, fault.CodeInvalid) {
		t.Fatal(err)
	}
	if _, err := os.Stat(u.Folder); err == nil {
		t.Error("something is visible")
	}
	have, err := in.Have(u.Token)
	if err != nil || have != 1<<20 {
		t.Fatal(have, err)
	}
	u.Offset = have + 1
	if _, err := in.Receive(ctx, u, nil); !fault.Is(err, fault.CodeConflict) {
		t.Errorf("a gap: %v", err)
	}
	u.Offset, u.Length = have, int64(len(data))-have
	written, err := in.Receive(ctx, u, bytes.NewReader(data[have:]))
	if err != nil || written.CRC64 != crc64(data) || filepath.Base(written.URL) != written.SHA1+".bin" {
		t.Fatalf("%+v, %v", written, err)
	}
	elsewhere := datastore.Upload{Token: strings.Repeat("cd", 16), Folder: "memory://inbox", Length: -1}
	if got, err := in.Receive(ctx, elsewhere, bytes.NewReader(data)); err != nil || got.SHA1 != written.SHA1 || got.CRC64 != written.CRC64 || got.URL != "memory://inbox/"+got.SHA1 {
		t.Errorf("into another store: %+v, %v", got, err)
	}
	if raw, err := os.ReadFile(written.URL); err != nil || !bytes.Equal(raw, data) {
		t.Error(err)
	}
	for _, token := range []string{"", "../../x", strings.Repeat("A", 32), strings.Repeat("0", 65)} {
		if _, err := in.Have(token); !fault.Is(err, fault.CodeInvalid) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

// TestServe asks for a file, and for one that gets shorter while it is sent.
func TestServe(t *testing.T) {
	t.Parallel()
	file, data := filepath.Join(t.TempDir(), "file"), random(64<<20)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	stores := datastore.New(datastore.Options{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := stores.Serve(w, r, file); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	get := func(header string, meanwhile func()) ([]byte, error) {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Range", header)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		meanwhile()
		return io.ReadAll(response.Body)
	}
	for header, want := range map[string][]byte{"": data, "bytes=5-9": data[5:10], "bytes=-7": data[len(data)-7:], "bytes=1048577-": data[1<<20+1:]} {
		if got, err := get(header, func() {}); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, not %d; %v", header, len(got), len(want), err)
		}
	}
	got, err := get("", func() {
		if err := os.Truncate(file, 1<<20); err != nil {
			t.Fatal(err)
		}
	})
	if err == nil {
		t.Errorf("a file that got shorter was sent with %d bytes and no error", len(got))
	}
}
