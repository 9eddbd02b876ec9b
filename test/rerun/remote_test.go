package rerun

import (
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/millrace/millrace/internal/datastore/servertest"
	"github.com/millrace/millrace/internal/document"
	"github.com/millrace/millrace/test/harness"
)

// bucket is the bucket "data" of an S3 server.
type bucket struct {
	*minio.Client
	t   *testing.T
	env []string // what lets commands reach it
}

func newBucket(t *testing.T, versions bool) *bucket {
	t.Helper()
	server, err := servertest.S3(t.Context(), t.TempDir())
	if err != nil {
		harness.Skip(t, "no S3 server: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := minio.New(strings.TrimPrefix(server.URL, "http://"), &minio.Options{Creds: credentials.NewStaticV4(servertest.S3Key, servertest.S3Secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	if versions { // each object keeps all of its
		if err := client.EnableVersioning(t.Context(), "data"); err != nil {
			t.Fatal(err)
		}
	}
	return &bucket{Client: client, t: t, env: []string{"S3_ENDPOINT_URL=" + server.URL, "AWS_ACCESS_KEY_ID=" + servertest.S3Key, "AWS_SECRET_ACCESS_KEY=" + servertest.S3Secret}}
}

func (b *bucket) put(key, text string) {
	b.t.Helper()
	if _, err := b.PutObject(b.t.Context(), "data", key, strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bucket) remove(key string) {
	b.t.Helper()
	if err := b.RemoveObject(b.t.Context(), "data", key, minio.RemoveObjectOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// TestVerdictsOfRemoteInputs: objects of a bucket with versions, and artifacts, that
// have changed or gone.
func TestVerdictsOfRemoteInputs(t *testing.T) {
	t.Parallel()
	s3 := newBucket(t, true)
	server := harness.StartServer(t)
	m := &machine{binary: harness.Binary(t), dir: t.TempDir(), env: append(s3.env, "MILLRACE_URL="+server.URL)}
	m.write(t, "code.py", code)
	var secrets []string
	for _, setting := range s3.env {
		name, value, _ := strings.Cut(setting, "=")
		m.write(t, "value", value)
		if _, log, status := m.millrace(t, "secret", "set", name, "--from-file", "value"); status != 0 {
			t.Fatal(log)
		}
		secrets = append(secrets, "--secret", name)
	}
	made := func(text string) {
		t.Helper()
		if _, log, status := m.millrace(t, "run", "code.py", "--handler", "named", "--name", "made", "-p", "text="+text); status != 0 {
			t.Fatal(log)
		}
	}
	deleted := func() {
		if status, answer := ask(t, http.MethodDelete, server.URL+"/api/v2/projects/default/artifacts/made_text?deletion_strategy=metadata-only", nil); status != http.StatusNoContent {
			t.Fatalf("delete: %d %v", status, answer)
		}
	}
	const artifact = "store://artifacts/default/made_text"
	for _, s := range []struct {
		name, input, handler string
		before, change       func()
		equal                bool
		cause, says          string
	}{
		{name: "the same object", input: "s3://data/a", handler: "size", before: func() { s3.put("a", "one") }, equal: true},
		{name: "stored again", input: "s3://data/b", handler: "size", before: func() { s3.put("b", "one") }, change: func() { s3.put("b", "one") }, equal: true},
		{
			name: "overwritten", input: "s3://data/c", handler: "size", cause: "input", says: "the content of the input data (s3://data/c) has changed",
			before: func() { s3.put("c", "one") }, change: func() { s3.put("c", "other") },
		},
		{
			name: "overwritten, of no account", input: "s3://data/d", handler: "size", equal: true, says: "although the content of the input data (s3://data/d)",
			before: func() { s3.put("d", "one") }, change: func() { s3.put("d", "two") },
		},
		{
			name: "deleted", input: "s3://data/e", handler: "size", cause: "input", says: "the input data is not at s3://data/e any more",
			before: func() { s3.put("e", "one") }, change: func() { s3.remove("e") },
		},
		{
			name: "deleted, not read", input: "s3://data/f", handler: "ignores", equal: true, says: "although the input data is not at",
			before: func() { s3.put("f", "one") }, change: func() { s3.remove("f") },
		},
		{name: "artifact made anew", input: artifact, handler: "size", before: func() { made("one") }, change: func() { made("other") }, cause: "input", says: "the content of the input data"},
		{name: "artifact deleted", input: artifact, handler: "size", before: func() { made("one") }, change: deleted, cause: "input", says: "the input data is not at " + artifact + " any more"},
	} {
		t.Run(s.name, func(t *testing.T) {
			s.before()
			out, log, _ := m.millrace(t, append([]string{"run", "code.py", "--handler", s.handler, "--input", "data=" + s.input, "-o", "name", "--quiet"}, secrets...)...)
			uid := strings.TrimSpace(out)
			if s.change != nil {
				s.change()
			}
			out, more, _ := m.millrace(t, "rerun", uid, "-o", "json")
			verdict, err := document.DecodeObject([]byte(out))
			if err != nil {
				t.Fatalf("no verdict: %v\n%s%s%s", err, out, log, more)
			}
			if document.Bool(verdict, "equal") != s.equal || document.String(verdict, "cause") != s.cause || !strings.Contains(document.String(verdict, "sentence"), s.says) {
				t.Errorf("%s\nwant equal %t, cause %q, and %q in it", document.Encode(verdict), s.equal, s.cause, s.says)
			}
		})
	}
}

// TestCacheOnS3: an object that was overwritten, in whatever way, is another input; what
// was made there cannot be looked at for nothing, so it is made again.
func TestCacheOnS3(t *testing.T) {
	t.Parallel()
	for name, versions := range map[string]bool{"versions": true, "no versions": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cacheOnS3(t, newBucket(t, versions), versions)
		})
	}
}

func cacheOnS3(t *testing.T, s3 *bucket, versions bool) {
	m := &machine{binary: harness.Binary(t), dir: t.TempDir(), env: s3.env}
	m.write(t, "code.py", surroundings)
	run := func(what, want string, taken bool, args ...string) {
		t.Helper()
		if got, from := m.cached(t, append([]string{"code.py"}, args...)...); got != want || (from != "") != taken {
			t.Errorf("%s: result %q, want %q; taken from %q, want %v", what, got, want, from, taken)
		}
	}
	read := append(handler("content"), "--input", "data=s3://data/in.txt")
	s3.put("in.txt", "one")
	run("first", "one", false, read...)
	run("again", "one", true, read...)
	s3.put("in.txt", "one")
	run("the same bytes, a new version", "one", true, read...)
	s3.put("in.txt", "two")
	run("other bytes, as many", "two", false, read...)
	s3.put("in.txt", "one")
	run("the old bytes", "one", true, read...)
	s3.put("copy.txt", "two")
	run("a copy elsewhere", "two", false, append(handler("content"), "--input", "data=s3://data/copy.txt")...)
	s3.remove("in.txt")
	if out, _, status := m.millrace(t, append([]string{"run", "code.py", "--cache", "-o", "json"}, read...)...); status != 1 || strings.Contains(out, "cached_from") {
		t.Errorf("a deleted input: status %d\n%s", status, out)
	}
	if !versions {
		s3.put("in.txt", "one")
		run("an input that is there again", "one", true, read...)
	}

	// The server is not reached: nothing is known, so nothing is taken.
	read[3] = "data=s3://data/copy.txt"
	away := *m
	away.env = []string{"S3_ENDPOINT_URL=http://127.0.0.1:1", s3.env[1], s3.env[2]}
	if out, _, status := away.millrace(t, append([]string{"run", "code.py", "--cache", "-o", "json"}, read...)...); status != 1 || strings.Contains(out, "cached_from") {
		t.Errorf("a server that is away: status %d\n%s", status, out)
	}

	if versions {
		return // this server does not find what is stored in the place of a deleted object that has versions
	}
	keeps := append(handler("keeps"), "--artifact-path", "s3://data/out")
	run("artifact", "kept", false, keeps...)
	run("artifact on S3", "kept", false, keeps...)
	for object := range s3.ListObjects(t.Context(), "data", minio.ListObjectsOptions{Prefix: "out/", Recursive: true}) {
		s3.remove(object.Key)
	}
	run("artifact that was deleted", "kept", false, keeps...)
	if found := <-s3.ListObjects(t.Context(), "data", minio.ListObjectsOptions{Prefix: "out/", Recursive: true}); found.Size != 3 {
		t.Errorf("the artifact was not written again: %+v", found)
	}
}
