package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/datastore"
	"github.com/millrace/millrace/internal/datastore/servertest"
	"github.com/millrace/millrace/internal/fault"
)

// running is a server of servertest for as long as the test runs. Where everything
// has to run, one that cannot be installed is a failure.
func running(t *testing.T, start func(ctx context.Context) (*servertest.Server, error)) *servertest.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // it may have to be built
	defer cancel()
	server, err := start(ctx)
	if errors.Is(err, servertest.ErrNone) && os.Getenv("MILLRACE_TEST_REQUIRE") != "1" {
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
	return server
}

func startS3(t *testing.T) *servertest.Server {
	t.Helper()
	return running(t, func(ctx context.Context) (*servertest.Server, error) { return servertest.S3(ctx, t.TempDir()) })
}

func s3Secrets(address string) map[string]string {
	return map[string]string{"S3_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": servertest.S3Key, "AWS_SECRET_ACCESS_KEY": servertest.S3Secret}
}

func s3Stores(server *servertest.Server, changes map[string]string) *datastore.Stores {
	secrets := s3Secrets(server.URL)
	maps.Copy(secrets, changes)
	return storesWith("", secrets)
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
