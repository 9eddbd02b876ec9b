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

// bucket is the bucket "data" of an S3 server, which keeps all versions of what is in it.
type bucket struct {
	*minio.Client
	t   *testing.T
	env []string // what lets commands reach it
}

func newBucket(t *testing.T) *bucket {
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
	if err := client.EnableVersioning(t.Context(), "data"); err != nil {
		t.Fatal(err)
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
	s3 := newBucket(t)
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
