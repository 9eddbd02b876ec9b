package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/datastore/s3test"
	"github.com/millrace/millrace/internal/fault"
)

// startS3 starts a server with the bucket "data", for as long as the test runs.
func startS3(t *testing.T) *s3test.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // it may have to be built
	defer cancel()
	server, err := s3test.Start(ctx, filepath.Join(t.TempDir(), "s3"))
	if errors.Is(err, s3test.ErrNone) && os.Getenv("MILLRACE_TEST_REQUIRE") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(filepath.Join(server.Root, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	return server
}

func s3Stores(server *s3test.Server, changes map[string]string) *datastore.Stores {
	return datastore.New(datastore.Options{Lookup: func(name string) string {
		if value, ok := changes[name]; ok {
			return value
		}
		return map[string]string{"S3_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": s3test.Key, "AWS_SECRET_ACCESS_KEY": s3test.Secret}[name]
	}})
}

func TestS3(t *testing.T) {
	t.Parallel()
	server := startS3(t)
	suite(t, s3Stores(server, nil), "s3://data/base", 16<<20-1, 16<<20, 16<<20+1, 40<<20)

	ctx := context.Background()
	for what, c := range map[string]struct {
		changes map[string]string
		url     string
		code    fault.Code
	}{
		"wrong secret":   {map[string]string{"AWS_SECRET_ACCESS_KEY": "no"}, "s3://data/x", fault.CodeUnauthorized},
		"unknown key":    {map[string]string{"AWS_ACCESS_KEY_ID": "no"}, "s3://data/x", fault.CodeUnauthorized},
		"half a key":     {map[string]string{"AWS_SECRET_ACCESS_KEY": ""}, "s3://data/x", fault.CodeInvalid},
		"anonymous":      {map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "s3://data/x", fault.CodeForbidden},
		"missing bucket": {nil, "s3://nothing/x", fault.CodeNotFound},
		"no bucket":      {nil, "s3:///x", fault.CodeInvalid},
		"no key":         {nil, "s3://data/", fault.CodeInvalid},
		"dots in key":    {nil, "s3://data/../other/x", fault.CodeInvalid},
		"not an address": {map[string]string{"S3_ENDPOINT_URL": "nowhere"}, "s3://data/x", fault.CodeInvalid},
	} {
		s := s3Stores(server, c.changes)
		for _, size := range []int{10, 17 << 20} {
			if _, err := s.Put(ctx, c.url, bytes.NewReader(random(size)), datastore.PutOptions{}); !fault.Is(err, c.code) {
				t.Errorf("%s, put of %d bytes: %v", what, size, err)
			}
		}
	}
	if _, _, err := s3Stores(server, nil).Open(ctx, "s3://nothing/x", datastore.Range{}); !fault.Is(err, fault.CodeNotFound) {
		t.Errorf("read from a missing bucket: %v", err)
	}
}

// uploadVariable makes the test binary an uploader that is killed.
const uploadVariable = "MILLRACE_TEST_S3_UPLOAD"

// TestKilledUpload kills a process in the middle of an upload: nothing is visible,
// and the next upload sends only what is missing.
func TestKilledUpload(t *testing.T) {
	const size, url = 80 << 20, "s3://data/killed.bin"
	data := random(size)
	if address := os.Getenv(uploadVariable); address != "" {
		// All but the last part is sent, then it hangs until it is killed.
		body := io.MultiReader(bytes.NewReader(data[:64<<20]), hang{})
		_, err := s3Stores(&s3test.Server{URL: address}, nil).Put(context.Background(), url, body, datastore.PutOptions{Size: size, Resume: true})
		t.Fatal(err)
	}
	server := startS3(t)
	s := s3Stores(server, nil)
	ctx := context.Background()
	child := exec.Command(os.Args[0], "-test.run=^TestKilledUpload$")
	child.Env = append(os.Environ(), uploadVariable+"="+server.URL)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len(hanging))); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if _, err := s.Stat(ctx, url); !fault.Is(err, fault.CodeNotFound) {
		t.Fatalf("visible after the kill: %v", err)
	}
	counted := startCounting(t, server.URL)
	written, err := s3Stores(&s3test.Server{URL: counted.url}, nil).Put(ctx, url, bytes.NewReader(data), datastore.PutOptions{Size: size, Resume: true})
	if err != nil || written.Digest != digest(data) {
		t.Fatalf("%+v, %v", written, err)
	}
	if got := read(t, s, url, datastore.Range{}); !bytes.Equal(got, data) {
		t.Error("it is another object")
	}
	// Two parts may have been on their way when it was killed.
	if sent := counted.sent.Load(); sent > 49<<20 {
		t.Errorf("the second upload sent %d of %d bytes", sent, size)
	}
}

const hanging = "hanging\n"

type hang struct{}

func (hang) Read([]byte) (int, error) {
	_, _ = os.Stdout.WriteString(hanging)
	select {}
}
