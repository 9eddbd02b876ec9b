package robustness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// answers are what web servers say that break off, lie or never end.
var answers = map[string]string{
	"breaks off":           "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1000),
	"a negative length":    "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
	"a loop":               "HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n",
	"no HTTP":              "\x00\x01\x02\r\n\r\n",
	"a header of 20 MiB":   "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 20<<20) + "\r\n\r\n",
	"says nothing":         "",
	"an error of its own":  "HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nabc",
	"chunks that are none": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}

// wrong is a server that gives the same answer to everybody and closes.
func wrong(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 64<<10))
				_, _ = io.WriteString(conn, answer)
			}()
		}
	}()
	return listener.Addr().String()
}

// TestStoresThatAreWrong: whatever a web server or object store answers, a command
// fails with one sentence, soon, and leaves nothing that looks like the object.
func TestStoresThatAreWrong(t *testing.T) {
	t.Parallel()
	binary, data := harness.Binary(t), t.TempDir()
	for name, answer := range answers {
		address := wrong(t, answer)
		for scheme, c := range map[string]struct{ url, environ string }{
			"http": {"http://" + address + "/file", "A=b"},
			"s3":   {"s3://data/file", "S3_ENDPOINT_URL=http://" + address},
			"gs":   {"gs://data/file", "STORAGE_EMULATOR_HOST=" + address},
			"az": {"az://data/file", "AZURE_STORAGE_CONNECTION_STRING=DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint=http://" +
				address + "/a"},
		} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				target := filepath.Join(t.TempDir(), "out")
				cmd := exec.CommandContext(ctx, binary, "artifact", "get", c.url, target)
				cmd.Env = append(os.Environ(), "MILLRACE_DATA_DIR="+data, c.environ)
				out, err := cmd.CombinedOutput()
				text := strings.TrimSpace(string(out))
				if err == nil || ctx.Err() != nil || strings.Count(text, "\n") > 0 || !strings.HasPrefix(text, "millrace: ") || len(text) > 1000 {
					t.Errorf("%v, %.2000s", err, text)
				}
				if _, err := os.Stat(target); err == nil {
					t.Error("there is a file")
				}
			})
		}
	}
}

// TestArtifactsThatAreWrong: records and contents that no client makes are refused, and
// nothing is read or written outside of where artifacts are.
func TestArtifactsThatAreWrong(t *testing.T) {
	t.Parallel()
	s := harness.StartServer(t)
	const own, artifacts = "/api/v1/millrace/projects/default", "/api/v2/projects/default/artifacts"
	token, folder := strings.Repeat("a", 32), strings.Repeat("b", 40)
	doc := func(key, more string) string {
		return fmt.Sprintf(`{"kind":"artifact","metadata":{"key":%q,"project":"default","tree":"t"},"spec":{"db_key":%q,"target_path":"/x"%s}}`, key, key, more)
	}
	secret := filepath.Join(s.DataDir, "millrace.db")
	if err := os.MkdirAll(filepath.Join(s.DataDir, "artifacts", "default"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(s.DataDir, filepath.Join(s.DataDir, "artifacts", "default", "link")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ method, path, body string }{
		"a key that leads out":               {"POST", artifacts, doc("../../x", "")},
		"a key with a slash":                 {"POST", artifacts, doc("a/b", "")},
		"an empty key":                       {"POST", artifacts, doc("", "")},
		"a key of 10 kB":                     {"POST", artifacts, doc(strings.Repeat("k", 10_000), "")},
		"a number that is none":              {"POST", artifacts, doc("a", `,"metrics":{"x":nan}`)},
		"nested without end":                 {"POST", artifacts, doc("a", `,"x":`+strings.Repeat("[", 100_000))},
		"a tag that leads out":               {"POST", artifacts, strings.Replace(doc("a", ""), `"tree":"t"`, `"tree":"t","tag":"../x"`, 1)},
		"a token that leads out":             {"PUT", own + "/content?upload=..%2F..%2Fx", "content"},
		"a suffix that leads out":            {"PUT", own + "/content?upload=" + token + "&suffix=.%2F..%2Fx", "content"},
		"a name that leads out":              {"PUT", own + "/content?upload=" + token + "&folder=" + folder + "&name=..%2F..%2Fx", "content"},
		"an absolute name":                   {"PUT", own + "/content?upload=" + token + "&folder=" + folder + "&name=%2Fetc%2Fx", "content"},
		"a folder that leads out":            {"PUT", own + "/content?upload=" + token + "&folder=..&name=x", "content"},
		"an offset past what has come":       {"PUT", own + "/content?upload=" + token + "&offset=5", "content"},
		"an offset below zero":               {"PUT", own + "/content?upload=" + token + "&offset=-5", "content"},
		"other content than was said":        {"PUT", own + "/content?upload=" + token + "&sha1=" + folder, "content"},
		"the database":                       {"GET", own + "/content?url=" + secret, ""},
		"the database, from where artifacts": {"GET", own + "/content?url=" + s.DataDir + "/artifacts/default/../../millrace.db", ""},
		"the database, through a link":       {"GET", own + "/content?url=" + s.DataDir + "/artifacts/default/link/millrace.db", ""},
		"a file of the system":               {"GET", "/api/v1/projects/default/files?path=/etc/passwd", ""},
		"the network behind the server":      {"GET", own + "/content?url=" + s.URL + "/api/v1/healthz", ""},
		"a list through a link":              {"GET", own + "/content-list?url=" + s.DataDir + "/artifacts/default/link/", ""},
		"a key with dots":                    {"GET", own + "/content?url=s3://data/a/../b", ""},
		"a store that is none":               {"GET", own + "/content?url=ftp://host/file", ""},
		"a range that is none":               {"GET", "/api/v1/projects/default/files?path=/x&offset=-1", ""},
		"a piece that is too large":          {"GET", "/api/v1/projects/default/files?path=" + s.DataDir + "/artifacts/x&size=99999999999", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, c.method, s.URL+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			raw, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode/100 != 4 || len(raw) > 2000 || !bytes.Contains(raw, []byte("detail")) {
				t.Errorf("%s %.500s %v", response.Status, raw, err)
			}
		})
	}
	var list struct{ Artifacts []any }
	get(t, s.URL+artifacts+"?tag=*", &list)
	left, err := filepath.Glob(filepath.Join(s.DataDir, "artifacts", "default", "*"))
	if len(list.Artifacts) > 0 || len(left) > 1 || err != nil {
		t.Errorf("%d artifacts are listed, %q is there, %v", len(list.Artifacts), left, err)
	}
}
